//! Taking: what the loop does when it was rung.
//!
//! An *ear* is what rings for a queue: an inbox, for a handler, or a watch, for those who receive.

use std::collections::HashMap;
use std::sync::Arc;

use libmq::{CancelReason, Delivery, Inbox, Next, Watch};
use napi::bindgen_prelude::{Array, BigInt, BufferSlice, Null};
use napi::{Env, Result};
use napi_derive::napi;

use crate::boundary::{ms, thrown};
use crate::environment::{Environment, lock};
use crate::limits;
use crate::runs::Run;

/// The ears of an environment, by numbers that are given once.
#[derive(Debug, Default)]
pub(crate) struct Ears {
    all: HashMap<u32, Ear>,
    last: u32,
}

/// What rings for a queue.
#[derive(Debug)]
pub(crate) enum Ear {
    /// Of the broker of this number.
    Inbox(Arc<Inbox>, u32),
    Watch(Watch),
}

impl Ears {
    /// The number of the next one.
    pub(crate) fn next_number(&mut self) -> u32 {
        self.last = self.last.wrapping_add(1);
        self.last
    }

    pub(crate) fn add(&mut self, number: u32, ear: Ear) {
        self.all.insert(number, ear);
    }

    pub(crate) fn remove(&mut self, number: u32) -> Option<Ear> {
        self.all.remove(&number)
    }

    /// The inbox of a number, and its broker's number.
    pub(crate) fn inbox(&self, number: u32) -> Option<(Arc<Inbox>, u32)> {
        match self.all.get(&number)? {
            Ear::Inbox(inbox, broker) => Some((Arc::clone(inbox), *broker)),
            Ear::Watch(_) => None,
        }
    }
}

#[napi]
impl Environment {
    /// Takes what an inbox has, up to `max`: a flat list of number, id, attempt and body. Where the inbox is to be asked
    /// again after some time, though it does not ring, those milliseconds follow.
    #[napi(catch_unwind)]
    pub fn take<'env>(&self, env: &'env Env, ear: u32, max: u32) -> Result<Array<'env>> {
        let mut list = env.create_array(0)?;
        let Some((inbox, broker)) = lock(&self.inner.ears).inbox(ear) else { return Ok(list) };
        for _ in 0..max.min(limits::TAKE_MAX) {
            match inbox.take() {
                Next::Delivery(delivery) => {
                    let run = Run { delivery, broker, inbox: Some(ear), told: false };
                    self.hand_over(env, run, &mut list)?;
                }
                Next::Nothing => break,
                Next::After(time) => {
                    list.insert(ms(time))?;
                    break;
                }
            }
        }
        Ok(list)
    }

    /// What was cancelled of an inbox's deliveries since this was asked last: a flat list of number and reason.
    #[napi(catch_unwind)]
    pub fn cancelled<'env>(&self, env: &'env Env, ear: u32) -> Result<Array<'env>> {
        let mut list = env.create_array(0)?;
        let heard =
            lock(&self.inner.ears).inbox(ear).is_some_and(|(inbox, _)| inbox.hear_cancelled());
        if heard {
            let mut runs = lock(&self.inner.runs);
            let is_news =
                |run: &mut Run| run.inbox == Some(ear) && !run.told && run.delivery.cancelled();
            for number in runs.numbers(is_news) {
                let run = runs.of(number).map_err(thrown)?;
                run.told = true;
                let reason = run.delivery.cancel_reason().map_or("", CancelReason::name);
                list.insert(number)?;
                list.insert(reason)?;
            }
        }
        Ok(list)
    }

    /// From now on a watch rings for what comes.
    #[napi(catch_unwind)]
    pub fn listen(&self, ear: u32) {
        if let Some(Ear::Watch(watch)) = lock(&self.inner.ears).all.get(&ear) {
            watch.listen();
        }
    }

    /// Takes an ear away; of an inbox, the handler.
    #[napi(catch_unwind)]
    pub fn forget(&self, ear: u32) {
        let ear = lock(&self.inner.ears).remove(ear);
        drop(ear);
    }
}

impl Environment {
    /// Writes a delivery into a flat list: number, id, attempt, body. A body that is no text though it should be is null.
    pub(crate) fn hand_over(&self, env: &Env, run: Run, list: &mut Array<'_>) -> Result<()> {
        let (id, attempt) = (run.delivery.id(), run.delivery.attempt());
        // One that there are too many of is dropped, which releases it.
        let Some(number) = lock(&self.inner.runs).add(run) else { return Ok(()) };
        list.insert(number)?;
        list.insert(BigInt::from(id))?;
        list.insert(attempt)?;
        let mut runs = lock(&self.inner.runs);
        let delivery = &runs.of(number).map_err(thrown)?.delivery;
        if !is_json(delivery) {
            return list.insert(BufferSlice::copy_from(env, delivery.body())?);
        }
        match std::str::from_utf8(delivery.body()) {
            Ok(text) => list.insert(text),
            Err(_) => list.insert(Null),
        }
    }
}

/// Whether a body is JSON, as its content type says.
fn is_json(delivery: &Delivery) -> bool {
    let content_type = delivery.content_type();
    let name = content_type.split(';').next().unwrap_or_default().trim();
    name.eq_ignore_ascii_case("application/json")
}
