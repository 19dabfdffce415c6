//! Bodies: how JavaScript is given them.
//!
//! JSON is given as text, and parsed there. Small bodies that were taken together are given as one text, which is parsed at
//! once: that costs far less than each for itself. It is the list `[body,N,body,N]`, in which N is a number that is
//! different in each environment, and that nobody learns who writes bodies. So one that is no JSON cannot pass for two, nor
//! join another: unless the list has as many values as it should, each second of them N, every body is parsed for itself.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

use libmq::Delivery;
use napi::bindgen_prelude::{BufferSlice, Null, ToNapiValue, Unknown};
use napi::{Env, Result};

/// A body that is longer is given for itself.
const TOGETHER_BYTES_MAX: usize = 2048;

/// Bits of a number that JavaScript reads as it was written.
const NUMBER_BITS: u32 = 53;

/// Bodies that are given together.
#[derive(Debug)]
pub(crate) struct Together {
    separator: String,
    text: Vec<u8>,
    /// One of them has to be given for itself.
    apart: bool,
}

impl Together {
    pub(crate) fn new() -> Self {
        let number = RandomState::new().build_hasher().finish() >> (u64::BITS - NUMBER_BITS);
        Self { separator: number.to_string(), text: Vec::new(), apart: false }
    }

    /// N.
    pub(crate) fn separator(&self) -> f64 {
        self.separator.parse().unwrap_or_default()
    }

    /// There is nothing yet.
    pub(crate) fn begin(&mut self) {
        self.text.clear();
        self.text.push(b'[');
        self.apart = false;
    }

    /// One more.
    pub(crate) fn add(&mut self, delivery: &Delivery) {
        if self.apart {
            return;
        }
        let body = delivery.body();
        self.apart = body.len() > TOGETHER_BYTES_MAX || !is_json(delivery);
        if !self.apart {
            for part in [body, b",", self.separator.as_bytes(), b","] {
                self.text.extend_from_slice(part);
            }
        }
    }

    /// All of them, if they can be given so.
    pub(crate) fn text<'env>(&mut self, env: &'env Env) -> Option<Unknown<'env>> {
        if self.apart {
            return None;
        }
        *self.text.last_mut()? = b']';
        if self.text.is_ascii() {
            return env.create_string_latin1(&self.text).ok()?.into_unknown(env).ok();
        }
        std::str::from_utf8(&self.text).ok()?.into_unknown(env).ok()
    }
}

/// A body for itself: text that is to be parsed, bytes, null for text that is none, or nothing for text that is longer than
/// any of JavaScript's strings.
pub(crate) fn body_of<'env>(env: &'env Env, delivery: &Delivery) -> Result<Unknown<'env>> {
    let body = delivery.body();
    if !is_json(delivery) {
        return BufferSlice::copy_from(env, body)?.into_unknown(env);
    }
    match std::str::from_utf8(body) {
        Ok(text) => text.into_unknown(env).or_else(|_| ().into_unknown(env)),
        Err(_) => Null.into_unknown(env),
    }
}

/// Whether a body is JSON, as its content type says.
fn is_json(delivery: &Delivery) -> bool {
    const JSON: &str = "application/json";
    let content_type = delivery.content_type();
    content_type == JSON
        || content_type.split(';').next().is_some_and(|name| name.trim().eq_ignore_ascii_case(JSON))
}
