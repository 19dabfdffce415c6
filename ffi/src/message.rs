//! Messages: what is enqueued, and the receipt for it.

use std::ffi::{c_char, c_void};
use std::ptr;
use std::time::{Duration, SystemTime};

use libmq::limits;
use libmq::{Dedup, Durability, Message, Receipt, ReceiptStatus, Result};

use crate::from_c::{Extensible, FromC, invalid};
use crate::status::LIBMQ_NONE;

/// `dedup`: the new message takes the place of a waiting one of its key. The default.
pub const LIBMQ_DEDUP_REPLACE: i32 = 1;
/// `dedup`: the old message stays, and the new one is answered with its id.
pub const LIBMQ_DEDUP_KEEP: i32 = 2;

/// `durability`: an fdatasync that covers the message has succeeded when its enqueue returns.
pub const LIBMQ_SYNC: i32 = 1;
/// `durability`: its bytes are in the kernel; it survives the death of the process, and is synced a little later.
pub const LIBMQ_OS: i32 = 2;

/// A receipt's status: a new message.
pub const LIBMQ_ACCEPTED: i32 = 1;
/// A receipt's status: a waiting message of the same key has this body and these options now.
pub const LIBMQ_REPLACED: i32 = 2;
/// A receipt's status: a message of the same key is there already; nothing was changed.
pub const LIBMQ_DUPLICATE: i32 = 3;

/// A header: a name `[A-Za-z0-9._-]{1,64}` and a value of up to 4 KiB without NUL, CR or LF.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct libmq_header {
    /// Its name.
    pub name: *const c_char,
    /// Its value.
    pub value: *const c_char,
}

/// A message to enqueue. Begin with `LIBMQ_MESSAGE_INIT`; a field left 0 is its default. Everything is copied by the call
/// that takes it.
#[repr(C)]
#[derive(Debug)]
pub struct libmq_message {
    /// `sizeof(libmq_message)`.
    pub struct_size: u32,
    /// `LIBMQ_DEDUP_REPLACE` (default) or `LIBMQ_DEDUP_KEEP`: what happens when `dedup_key` is taken. Without a key it means
    /// nothing.
    pub dedup: i32,
    /// 0 (default) to 9, higher first.
    pub priority: i32,
    /// `LIBMQ_SYNC` or `LIBMQ_OS`. Default: the broker's.
    pub durability: i32,
    /// The body; NULL only with a length of 0.
    pub body: *const c_void,
    /// Bytes of the body.
    pub body_len: usize,
    /// What the body is. Default `application/octet-stream`. 1 to 256 bytes.
    pub content_type: *const c_char,
    /// The key that makes the message one of its kind in its queue. Default none. 1 to 256 bytes.
    pub dedup_key: *const c_char,
    /// An id that follows the work from message to message. Default none. 1 to 256 bytes.
    pub correlation_id: *const c_char,
    /// One message of a group at a time, in order. Default none. 1 to 256 bytes.
    pub group: *const c_char,
    /// The headers; NULL only with a length of 0.
    pub headers: *const libmq_header,
    /// How many headers; up to 64.
    pub headers_len: usize,
    /// Not before this many milliseconds have passed. Default 0. Excludes `run_at_ms`.
    pub delay_ms: i64,
    /// Not before this moment, in milliseconds since 1970-01-01 UTC, from 1; in the past: now. Default none.
    pub run_at_ms: i64,
    /// No attempt begins after this many milliseconds: never attempted it is dropped, else a dead letter `expired`.
    /// Longer than `delay_ms`, and ending behind `run_at_ms`. Default never.
    pub expires_in_ms: i64,
    /// How long after its ack the message guards its key against `LIBMQ_DEDUP_KEEP`, in milliseconds. Default 0. Without a key
    /// it means nothing.
    pub dedup_window_ms: i64,
}

/// What became of an enqueue.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct libmq_receipt {
    /// The message's id: of the new message, or of the one that was replaced or kept. 0 on failure.
    pub id: u64,
    /// `LIBMQ_ACCEPTED`, `LIBMQ_REPLACED` or `LIBMQ_DUPLICATE`. 0 on failure.
    pub status: i32,
}

// SAFETY: repr(C), begins with a u32, and numbers and addresses may have any bits.
unsafe impl Extensible for libmq_message {
    const FIRST_SIZE: usize = 112;
}

impl libmq_receipt {
    /// The receipt for nothing.
    pub(crate) const NONE: Self = Self { id: 0, status: 0 };
}

impl libmq_header {
    pub(crate) const NONE: Self = Self { name: ptr::null(), value: ptr::null() };
}

impl libmq_message {
    /// Does something with the message for this queue. What it borrows was promised for the time of the call.
    #[inline(always)]
    pub(crate) fn with<'c, R>(
        &self,
        c: &'c FromC,
        queue: &'c str,
        work: impl FnOnce(&Message<'c>) -> Result<R>,
    ) -> Result<R> {
        let message = Message::new(queue, self.body(c)?);
        if self.is_plain() { work(&message) } else { work(&self.with_options(c, message)?) }
    }

    /// The message for this queue.
    pub(crate) fn read<'c>(&self, c: &'c FromC, queue: &'c str) -> Result<Message<'c>> {
        self.with_options(c, Message::new(queue, self.body(c)?))
    }

    #[inline]
    fn body<'c>(&self, c: &'c FromC) -> Result<&'c [u8]> {
        c.bytes("body", self.body, self.body_len, limits::MESSAGE_BYTES_MAX)
    }

    /// Whether nothing is set beside the body, as in most messages.
    #[inline]
    fn is_plain(&self) -> bool {
        let texts = self.content_type.addr()
            | self.dedup_key.addr()
            | self.correlation_id.addr()
            | self.group.addr()
            | self.headers_len;
        let words = self.dedup | self.priority | self.durability;
        let times = self.delay_ms | self.run_at_ms | self.expires_in_ms | self.dedup_window_ms;
        texts == 0 && words == 0 && times == 0
    }

    #[inline(never)]
    fn with_options<'c>(&self, c: &'c FromC, mut message: Message<'c>) -> Result<Message<'c>> {
        let text = |name, text| c.text(name, text, limits::TEXT_BYTES_MAX);
        if let Some(content_type) = text("content_type", self.content_type)? {
            message = message.content_type(content_type);
        }
        if let Some(key) = text("dedup_key", self.dedup_key)? {
            message = message.dedup_key(key);
        }
        if let Some(id) = text("correlation_id", self.correlation_id)? {
            message = message.correlation_id(id);
        }
        if let Some(group) = text("group", self.group)? {
            message = message.group(group);
        }
        for header in c.array("headers", self.headers, self.headers_len, limits::HEADERS_MAX)? {
            let name =
                c.required_text("headers' name", header.name, limits::HEADER_NAME_BYTES_MAX)?;
            let value =
                c.required_text("headers' value", header.value, limits::HEADER_VALUE_BYTES_MAX)?;
            message = message.header(name, value);
        }
        message = match self.dedup {
            0 | LIBMQ_DEDUP_REPLACE => message,
            LIBMQ_DEDUP_KEEP => message.dedup(Dedup::Keep),
            other => {
                return Err(invalid(format!(
                    "dedup is {other}, but takes LIBMQ_DEDUP_REPLACE or LIBMQ_DEDUP_KEEP"
                )));
            }
        };
        message = match self.durability {
            0 => message,
            LIBMQ_SYNC => message.durability(Durability::Sync),
            LIBMQ_OS => message.durability(Durability::Os),
            other => {
                return Err(invalid(format!(
                    "durability is {other}, but takes LIBMQ_SYNC or LIBMQ_OS"
                )));
            }
        };
        message = match self.priority {
            0 | LIBMQ_NONE => message,
            priority => {
                message.priority(u8::try_from(priority).ok().filter(|n| *n <= 9).ok_or_else(
                    || invalid(format!("priority is {priority}, but goes from 0 to 9")),
                )?)
            }
        };
        if let Some(delay) = time("delay_ms", self.delay_ms)? {
            message = message.delay(delay);
        }
        if let Some(since_epoch) = time("run_at_ms", self.run_at_ms)? {
            let moment = SystemTime::UNIX_EPOCH.checked_add(since_epoch);
            message = message
                .run_at(moment.ok_or_else(|| invalid("run_at_ms is beyond all calendars".into()))?);
        }
        if let Some(time) = time("expires_in_ms", self.expires_in_ms)? {
            message = message.expires_in(time);
        }
        if let Some(window) = time("dedup_window_ms", self.dedup_window_ms)? {
            message = message.dedup_window(window);
        }
        Ok(message)
    }
}

impl From<Receipt> for libmq_receipt {
    fn from(receipt: Receipt) -> Self {
        let status = match receipt.status {
            ReceiptStatus::Replaced => LIBMQ_REPLACED,
            ReceiptStatus::Duplicate => LIBMQ_DUPLICATE,
            _ => LIBMQ_ACCEPTED,
        };
        Self { id: receipt.id, status }
    }
}

/// A time in a struct: none for 0, and for `LIBMQ_NONE`.
pub(crate) fn time(name: &str, ms: i64) -> Result<Option<Duration>> {
    match u64::try_from(ms) {
        Ok(0) => Ok(None),
        Ok(ms) => Ok(Some(Duration::from_millis(ms))),
        Err(_) if ms == i64::from(LIBMQ_NONE) => Ok(None),
        Err(_) => Err(invalid(format!("{name} is {ms}, but goes from 0, or is LIBMQ_NONE"))),
    }
}
