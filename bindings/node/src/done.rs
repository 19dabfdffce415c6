//! Done: what has come of calls that JavaScript has promises for.

use libmq::{DeadLetter, Receipt, VerifyReport};
use napi::bindgen_prelude::{Array, BigInt, Null};
use napi::{Env, Result};

use crate::boundary::text_of;
use crate::letters::letter_object;
use crate::report::report_object;

/// What became of a call, under the number of its promise.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) promise: f64,
    pub(crate) result: libmq::Result<Value>,
}

/// What a call answers.
#[derive(Debug)]
pub(crate) enum Value {
    /// It has happened.
    Nothing,
    Bool(bool),
    Count(u64),
    Receipts(Vec<Receipt>),
    /// The broker of this number was opened.
    Opened(u32),
    Letters(Vec<DeadLetter>),
    Letter(Option<DeadLetter>),
    Report(VerifyReport),
}

impl Done {
    /// Adds itself to a flat list: promise, error or null, value.
    pub(crate) fn write(self, env: &Env, list: &mut Array<'_>) -> Result<()> {
        list.insert(self.promise)?;
        match self.result {
            Err(error) => {
                list.insert(text_of(&error))?;
                list.insert(Null)
            }
            Ok(value) => {
                list.insert(Null)?;
                value.write(env, list)
            }
        }
    }
}

impl Value {
    fn write(self, env: &Env, list: &mut Array<'_>) -> Result<()> {
        match self {
            Self::Nothing => list.insert(Null),
            Self::Bool(value) => list.insert(value),
            Self::Count(count) => list.insert(count as f64),
            Self::Opened(number) => list.insert(number),
            Self::Receipts(receipts) => list.insert(receipt_list(env, receipts.into_iter())?),
            Self::Report(report) => list.insert(report_object(env, &report)?),
            Self::Letter(letter) => match letter {
                Some(letter) => list.insert(letter_object(env, &letter)?),
                None => list.insert(Null),
            },
            Self::Letters(letters) => {
                let mut all = env.create_array(0)?;
                for letter in &letters {
                    all.insert(letter_object(env, letter)?)?;
                }
                list.insert(all)
            }
        }
    }
}

/// Receipts as a flat list: id, status.
pub(crate) fn receipt_list<'env>(
    env: &'env Env,
    receipts: impl Iterator<Item = Receipt>,
) -> Result<Array<'env>> {
    let mut list = env.create_array(0)?;
    for receipt in receipts {
        list.insert(BigInt::from(receipt.id))?;
        list.insert(receipt.status.name())?;
    }
    Ok(list)
}
