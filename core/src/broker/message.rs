//! A message on its way in, and the receipt for it.

use std::borrow::Cow;
use std::fmt;
use std::time::{Duration, SystemTime};

use super::options::Durability;
use crate::clock::Moment;
use crate::error::{Error, ErrorKind, Result};
use crate::limits;

/// The header by which a trace goes from message to message.
pub(crate) const TRACEPARENT: &str = "traceparent";

/// A message to enqueue: a queue, a body, and options.
///
/// Borrows what it is given where it can; nothing is copied before the journal does.
#[derive(Clone)]
#[must_use]
pub struct Message<'a> {
    pub(crate) queue: Cow<'a, str>,
    pub(crate) body: Cow<'a, [u8]>,
    pub(crate) content_type: Option<Cow<'a, str>>,
    pub(crate) priority: u8,
    pub(crate) durability: Option<Durability>,
    /// So that a message is small which asks for nothing of that, as nearly all are.
    pub(crate) rare: Option<Box<Rare<'a>>>,
}

/// What few messages have or ask for.
#[derive(Clone, Default)]
pub(crate) struct Rare<'a> {
    pub(crate) correlation_id: Option<Cow<'a, str>>,
    pub(crate) headers: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    pub(crate) dedup_key: Option<Cow<'a, str>>,
    pub(crate) dedup: Dedup,
    pub(crate) dedup_window: Duration,
    pub(crate) delay: Option<Duration>,
    pub(crate) run_at: Option<SystemTime>,
    pub(crate) expires_in: Option<Duration>,
    pub(crate) group: Option<Cow<'a, str>>,
}

/// What happens when a message's key is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Dedup {
    /// The new message takes the waiting one's place. The default.
    #[default]
    Replace,
    /// The old message stays, and the new one is answered with its id.
    Keep,
}

/// What became of an enqueue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Receipt {
    /// The message's id: of the new message, or of the one that was replaced or kept.
    pub id: u64,
    /// Which of the three it was.
    pub status: ReceiptStatus,
}

/// The three ends of an enqueue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ReceiptStatus {
    /// A new message.
    Accepted,
    /// A waiting message of the same key has this body and these options now.
    Replaced,
    /// A message of the same key is there already; nothing was changed.
    Duplicate,
}

impl ReceiptStatus {
    /// The name used in every language.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Replaced => "replaced",
            Self::Duplicate => "duplicate",
        }
    }
}

/// Bytes that can be a body.
pub trait IntoBody<'a> {
    /// The bytes, borrowed where possible.
    fn into_body(self) -> Cow<'a, [u8]>;
}

macro_rules! into_body {
    ($($type:ty: $value:ident => $body:expr;)*) => {
        $(impl<'a> IntoBody<'a> for $type {
            fn into_body(self) -> Cow<'a, [u8]> {
                let $value = self;
                $body
            }
        })*
    };
}

into_body! {
    &'a [u8]: bytes => Cow::Borrowed(bytes);
    &'a Vec<u8>: bytes => Cow::Borrowed(bytes);
    Vec<u8>: bytes => Cow::Owned(bytes);
    Box<[u8]>: bytes => Cow::Owned(bytes.into_vec());
    &'a str: text => Cow::Borrowed(text.as_bytes());
    &'a String: text => Cow::Borrowed(text.as_bytes());
    String: text => Cow::Owned(text.into_bytes());
    Cow<'a, [u8]>: bytes => bytes;
}

impl<'a, const N: usize> IntoBody<'a> for &'a [u8; N] {
    fn into_body(self) -> Cow<'a, [u8]> {
        Cow::Borrowed(self)
    }
}

impl<'a, const N: usize> IntoBody<'a> for [u8; N] {
    fn into_body(self) -> Cow<'a, [u8]> {
        Cow::Owned(self.to_vec())
    }
}

impl<'a> Message<'a> {
    /// A message for this queue with this body and no options.
    pub fn new(queue: impl Into<Cow<'a, str>>, body: impl IntoBody<'a>) -> Self {
        Self {
            queue: queue.into(),
            body: body.into_body(),
            content_type: None,
            priority: 0,
            durability: None,
            rare: None,
        }
    }

    /// What the body is. Default `application/octet-stream`. 1 to 256 bytes.
    pub fn content_type(mut self, content_type: impl Into<Cow<'a, str>>) -> Self {
        self.content_type = Some(content_type.into());
        self
    }

    /// An id that follows the work from message to message; `ctx.enqueue` inherits it. 1 to 256 bytes.
    pub fn correlation_id(mut self, id: impl Into<Cow<'a, str>>) -> Self {
        self.rare().correlation_id = Some(id.into());
        self
    }

    /// Adds a header; a name given twice keeps both. Names `[A-Za-z0-9._-]{1,64}`, values up to 4 KiB, at most 64.
    pub fn header(mut self, name: impl Into<Cow<'a, str>>, value: impl Into<Cow<'a, str>>) -> Self {
        self.rare().headers.push((name.into(), value.into()));
        self
    }

    /// The key that makes the message one of its kind in its queue. 1 to 256 bytes.
    pub fn dedup_key(mut self, key: impl Into<Cow<'a, str>>) -> Self {
        self.rare().dedup_key = Some(key.into());
        self
    }

    /// What happens when the key is taken. Default [`Dedup::Replace`].
    pub fn dedup(mut self, dedup: Dedup) -> Self {
        self.rare().dedup = dedup;
        self
    }

    /// How long after its ack the message still guards its key against `keep`. Default 0, up to ten years.
    pub fn dedup_window(mut self, window: Duration) -> Self {
        self.rare().dedup_window = window;
        self
    }

    /// Not before this much time has passed, up to ten years. Default none; excludes `run_at`.
    pub fn delay(mut self, delay: Duration) -> Self {
        self.rare().delay = Some(delay);
        self
    }

    /// Not before this moment, at most ten years from now; in the past means now. Excludes `delay`.
    pub fn run_at(mut self, moment: SystemTime) -> Self {
        self.rare().run_at = Some(moment);
        self
    }

    /// No attempt begins after this time from its enqueue: never attempted it is dropped, else it is a dead letter
    /// `expired`. Beyond `delay` or `run_at`, up to ten years. Default never.
    pub fn expires_in(mut self, time: Duration) -> Self {
        self.rare().expires_in = Some(time);
        self
    }

    /// 0 to 9, higher first. Default 0.
    pub fn priority(mut self, priority: u8) -> Self {
        self.priority = priority;
        self
    }

    /// One message of a group at a time, in order. 1 to 256 bytes.
    pub fn group(mut self, group: impl Into<Cow<'a, str>>) -> Self {
        self.rare().group = Some(group.into());
        self
    }

    /// [`Durability::Sync`] or [`Durability::Os`] for this message. Default the broker's.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = Some(durability);
        self
    }

    /// Room for what few messages have.
    fn rare(&mut self) -> &mut Rare<'a> {
        self.rare.get_or_insert_default()
    }

    /// The same message with everything its own.
    pub(crate) fn into_owned(self) -> Message<'static> {
        Message {
            queue: Cow::Owned(self.queue.into_owned()),
            body: Cow::Owned(self.body.into_owned()),
            content_type: own(self.content_type),
            priority: self.priority,
            durability: self.durability,
            rare: self.rare.map(|rare| Box::new(rare.into_owned())),
        }
    }

    /// Bytes that count against `max_message_bytes`: the body and the headers.
    #[doc(hidden)]
    #[must_use]
    pub fn size(&self) -> usize {
        self.body.len() + self.rare.as_ref().map_or(0, |rare| rare.header_bytes())
    }

    /// Refuses what is out of range, naming the option; the queue's name apart.
    pub(crate) fn check(&self, max_message_bytes: usize) -> Result<()> {
        check_text("content_type", self.content_type.as_deref())?;
        if let Some(rare) = &self.rare {
            rare.check()?;
        }
        if self.priority > limits::PRIORITY_MAX {
            return Err(Error::invalid(format!(
                "priority is {}, but goes from 0 to {}",
                self.priority,
                limits::PRIORITY_MAX
            )));
        }
        if self.durability == Some(Durability::Memory) {
            return Err(Error::invalid("durability memory is for a broker, not for a message"));
        }
        self.check_size(max_message_bytes)
    }

    /// As far as that can be told without a broker, refuses what is out of range whatever the body is: for the bindings, where
    /// a message is made before it is enqueued.
    #[doc(hidden)]
    pub fn check_options(&self) -> Result<()> {
        self.check(usize::MAX)?;
        match self.rare.as_deref() {
            Some(rare) if rare.run_at.is_none() => {
                let now = Moment(0);
                rare.check_expiry(now, now.after(rare.delay.unwrap_or_default()))
            }
            _ => Ok(()),
        }
    }

    /// Refuses one that is too large.
    #[inline]
    pub(crate) fn check_size(&self, max_message_bytes: usize) -> Result<()> {
        if self.size() > max_message_bytes {
            return Err(Error::new(
                ErrorKind::TooLarge,
                format!(
                    "body and headers are {} bytes, but max_message_bytes is {max_message_bytes}",
                    self.size()
                ),
            ));
        }
        Ok(())
    }

    /// Whether this message is the other but for its body, as far as a look at addresses and numbers tells.
    #[inline]
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        let types = (self.content_type.as_deref(), other.content_type.as_deref());
        let has_same_type = match types {
            (None, None) => true,
            (Some(one), Some(other)) => std::ptr::eq(one, other),
            _ => false,
        };
        has_same_type
            && std::ptr::eq(&*self.queue, &*other.queue)
            && self.priority == other.priority
            && self.durability == other.durability
            && self.rare.is_none()
            && other.rare.is_none()
    }

    pub(crate) fn has_key(&self) -> bool {
        self.rare.as_ref().is_some_and(|rare| rare.dedup_key.is_some())
    }

    /// Whether it has a trace of its own.
    pub(crate) fn is_traced(&self) -> bool {
        let rare = self.rare.as_ref();
        rare.is_some_and(|rare| rare.headers.iter().any(|(name, _)| name == TRACEPARENT))
    }
}

impl Rare<'_> {
    /// The same with everything its own.
    fn into_owned(self) -> Rare<'static> {
        let headers = self.headers.into_iter();
        Rare {
            correlation_id: own(self.correlation_id),
            headers: headers
                .map(|(name, value)| {
                    (Cow::Owned(name.into_owned()), Cow::Owned(value.into_owned()))
                })
                .collect(),
            dedup_key: own(self.dedup_key),
            dedup: self.dedup,
            dedup_window: self.dedup_window,
            delay: self.delay,
            run_at: self.run_at,
            expires_in: self.expires_in,
            group: own(self.group),
        }
    }

    fn header_bytes(&self) -> usize {
        self.headers.iter().map(|(name, value)| name.len() + value.len()).sum()
    }

    /// Refuses what is out of range, naming the option.
    fn check(&self) -> Result<()> {
        check_text("correlation_id", self.correlation_id.as_deref())?;
        check_text("dedup_key", self.dedup_key.as_deref())?;
        check_text("group", self.group.as_deref())?;
        if self.headers.len() > limits::HEADERS_MAX {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!("headers are {}, but at most {}", self.headers.len(), limits::HEADERS_MAX),
            ));
        }
        for (name, value) in &self.headers {
            check_header(name, value)?;
        }
        check_time("delay", self.delay)?;
        check_time("expires_in", self.expires_in)?;
        check_time("dedup_window", Some(self.dedup_window))?;
        if self.delay.is_some() && self.run_at.is_some() {
            return Err(Error::invalid("delay and run_at exclude each other"));
        }
        Ok(())
    }

    /// Refuses one that is enqueued now and over before it is due.
    pub(crate) fn check_expiry(&self, now: Moment, due: Moment) -> Result<()> {
        if self.expires_in.is_some_and(|time| now.after(time) <= due) {
            return Err(Error::invalid("expires_in is over before the message is due"));
        }
        Ok(())
    }

    /// Whether there is a moment to start or to expire at.
    pub(crate) fn is_timed(&self) -> bool {
        self.delay.is_some() || self.run_at.is_some() || self.expires_in.is_some()
    }
}

/// Nothing of what is in it, which is nobody's affair who reads a log: its queue, its size, and what is to become of it.
impl fmt::Debug for Message<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("queue", &self.queue)
            .field("body_bytes", &self.body.len())
            .field("headers", &self.rare.as_ref().map_or(0, |rare| rare.headers.len()))
            .field("has_dedup_key", &self.has_key())
            .field("priority", &self.priority)
            .field("durability", &self.durability)
            .finish_non_exhaustive()
    }
}

fn own(text: Option<Cow<'_, str>>) -> Option<Cow<'static, str>> {
    text.map(|text| Cow::Owned(text.into_owned()))
}

/// Refuses a name that is not `[A-Za-z0-9._-]{1,128}`.
pub(crate) fn check_queue_name(name: &str) -> Result<()> {
    if limits::is_queue_name(name) {
        Ok(())
    } else {
        let wrong = match name.chars().find(|char| !limits::is_name_char(*char)) {
            Some(char) => format!("has {char:?} in it"),
            None if name.is_empty() => "is empty".into(),
            None => format!("is {} bytes long", name.len()),
        };
        Err(Error::invalid(format!("queue {wrong}, but takes 1 to 128 of A-Z a-z 0-9 . _ -")))
    }
}

fn check_time(name: &str, time: Option<Duration>) -> Result<()> {
    if time.is_some_and(|time| time > limits::DURATION_MAX) {
        return Err(Error::invalid(format!("{name} is above ten years")));
    }
    Ok(())
}

fn check_text(name: &str, text: Option<&str>) -> Result<()> {
    let Some(text) = text else { return Ok(()) };
    if text.is_empty() || text.len() > limits::TEXT_BYTES_MAX || text.chars().any(char::is_control)
    {
        return Err(Error::invalid(format!(
            "{name} takes 1 to 256 bytes without control characters"
        )));
    }
    Ok(())
}

fn check_header(name: &str, value: &str) -> Result<()> {
    if !limits::is_name(name, limits::HEADER_NAME_BYTES_MAX) {
        return Err(Error::invalid("headers have a name that is not 1 to 64 of A-Z a-z 0-9 . _ -"));
    }
    if value.len() > limits::HEADER_VALUE_BYTES_MAX {
        return Err(Error::invalid(format!(
            "header {name} has {} bytes, but at most {}",
            value.len(),
            limits::HEADER_VALUE_BYTES_MAX
        )));
    }
    if value.bytes().any(|byte| matches!(byte, 0 | b'\r' | b'\n')) {
        return Err(Error::invalid(format!("header {name} has NUL, CR or LF in its value")));
    }
    Ok(())
}
