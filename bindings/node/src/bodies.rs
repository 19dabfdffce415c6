//! Bodies: how JavaScript is given them.
//!
//! JSON is given as text, and parsed there. Small bodies that were taken together are given as one text, which is parsed at
//! once: that costs far less than each for itself. It is the list `[body,body]`, in which each body is whole in itself: its
//! strings and its brackets end where it ends, and no comma stands outside of them. So the list is JSON if all of them are,
//! and then they are its values; unless it is, every body is parsed for itself.

use libmq::Delivery;
use napi::bindgen_prelude::{BufferSlice, Null, ToNapiValue, Unknown};
use napi::{Env, Result};

/// The type of what JavaScript is given parsed, and of text that it gives.
pub(crate) const JSON: &str = "application/json";

/// A body that is longer is given for itself.
const TOGETHER_BYTES_MAX: usize = 2048;

/// Fewer digits side by side make no number that a double cannot hold, unless its exponent has
/// [`EXPONENT_DIGITS_MAX`] or more.
const DIGITS_MAX: usize = 200;
const EXPONENT_DIGITS_MAX: usize = 3;

/// Bodies that are given together.
#[derive(Debug, Default)]
pub(crate) struct Together {
    text: Vec<u8>,
    /// One of them has to be given for itself.
    apart: bool,
}

impl Together {
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
        self.apart = body.len() > TOGETHER_BYTES_MAX || !is_json(delivery) || !is_whole(body);
        if !self.apart {
            self.text.extend_from_slice(body);
            self.text.push(b',');
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

/// Whether what JSON makes of a body cannot depend on what stands beside it, and whether all its numbers are such that a
/// double can hold them. True of hardly any body that is no JSON, and of nearly all that are.
fn is_whole(body: &[u8]) -> bool {
    let (mut depth, mut rest) = (0u32, body);
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        match byte {
            b'"' => match behind_string(behind) {
                Some(behind) => rest = behind,
                None => return false,
            },
            b'[' | b'{' => depth += 1,
            b']' | b'}' if depth > 0 => depth -= 1,
            b']' | b'}' => return false,
            b',' if depth == 0 => return false,
            b'e' | b'E' => {
                let digits = behind.strip_prefix(b"+").unwrap_or(behind);
                rest = behind_digits(digits);
                if digits.len() - rest.len() >= EXPONENT_DIGITS_MAX {
                    return false;
                }
            }
            b'0'..=b'9' => {
                rest = behind_digits(behind);
                if behind.len() - rest.len() >= DIGITS_MAX {
                    return false;
                }
            }
            _ => {}
        }
    }
    depth == 0
}

/// What stands behind a string that has begun before; none if it does not end.
fn behind_string(mut rest: &[u8]) -> Option<&[u8]> {
    loop {
        // Eight bytes at once, none of which ends anything.
        while let Some((bytes, behind)) = rest.split_first_chunk()
            && !has_quote_or_backslash(u64::from_ne_bytes(*bytes))
        {
            rest = behind;
        }
        let at = rest.iter().position(|byte| matches!(byte, b'"' | b'\\'))?;
        match rest.get(at)? {
            b'"' => return rest.get(at + 1..),
            _ => rest = rest.get(at + 2..)?,
        }
    }
}

/// Whether one of eight bytes is `"` or `\`: it is zero when that is taken from it bit by bit, and zero is the one byte from
/// which one can be borrowed though its highest bit is not set.
fn has_quote_or_backslash(bytes: u64) -> bool {
    const EACH: u64 = u64::MAX / 255;
    let has_zero = |bytes: u64| bytes.wrapping_sub(EACH) & !bytes & (EACH << 7) != 0;
    has_zero(bytes ^ (EACH * 0x22)) || has_zero(bytes ^ (EACH * 0x5c))
}

fn behind_digits(text: &[u8]) -> &[u8] {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    text.get(digits..).unwrap_or_default()
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

/// Whether a body is JSON, as its content type says: also one whose name says that it is written so, as
/// `application/vnd.api+json`.
fn is_json(delivery: &Delivery) -> bool {
    let content_type = delivery.content_type();
    if content_type == JSON {
        return true;
    }
    let name = content_type.split(';').next().unwrap_or_default().trim();
    let suffix = name.split_once('/').and_then(|(kind, name)| {
        let is_application = kind.eq_ignore_ascii_case("application");
        name.rsplit_once('+').filter(|_| is_application)
    });
    name.eq_ignore_ascii_case(JSON)
        || suffix.is_some_and(|(_, suffix)| suffix.eq_ignore_ascii_case("json"))
}
