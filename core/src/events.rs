//! Events: what a broker tells whoever watches it.
//!
//! Everything worth a line in a log is an [`Event`]: the opening, a dead letter, a full disk, the poisoning. It goes to the
//! hook of [`Options::log`](crate::Options::log), on a thread of its own, in order: whoever is told holds nothing up and may
//! call the broker. With the feature `tracing` it is also an event of that crate, under the target `libmq`, on the thread
//! that it happens on; so are, at the level of debugging, the ways of single messages. That may be under a lock: a
//! subscriber must not call the broker, which a hook may.
//!
//! No event has anything in it of a body, a key or a header's value, nor what a handler said.

use std::cell::Cell;
use std::collections::VecDeque;
use std::fmt::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::limits::EVENTS_MAX;
use crate::pile::{Pile, Refused};
use crate::thread::spawn_quiet;

/// How much an event matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum EventLevel {
    /// The broker is beyond use.
    Error,
    /// Somebody should have a look.
    Warn,
    /// As it should be.
    Info,
    /// For those who look for something.
    Debug,
}

impl EventLevel {
    /// The name used in every language.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }

    /// The number used in C: 1 for an error, up to 4.
    #[must_use]
    pub const fn code(self) -> i32 {
        match self {
            Self::Error => 1,
            Self::Warn => 2,
            Self::Info => 3,
            Self::Debug => 4,
        }
    }
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Event {
    /// How much it matters.
    pub level: EventLevel,
    /// What it is, as `dead_letter`.
    pub name: &'static str,
    /// What there is to know about it.
    pub fields: Vec<(&'static str, Field)>,
}

/// A value of an event.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Field {
    /// A count, an id, a time in the unit that the field's name ends in.
    Number(u64),
    /// A name, a path, or an error's text.
    Text(String),
}

impl Event {
    /// The fields as a JSON object.
    #[must_use]
    pub fn fields_json(&self) -> String {
        let mut json = String::from("{");
        for (index, (name, field)) in self.fields.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            // Writing to a string does not fail.
            let _ = write!(json, "{comma}\"{name}\":");
            let _ = match field {
                Field::Number(number) => write!(json, "{number}"),
                Field::Text(text) => write_text(&mut json, text),
            };
        }
        json.push('}');
        json
    }
}

fn write_text(json: &mut String, text: &str) -> fmt::Result {
    json.push('"');
    for char in text.chars() {
        match char {
            '"' | '\\' => write!(json, "\\{char}")?,
            char if char.is_control() => write!(json, "\\u{:04x}", u32::from(char))?,
            char => json.push(char),
        }
    }
    json.push('"');
    Ok(())
}

impl From<u64> for Field {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl From<&str> for Field {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// Tells an [`Events`] of something, and tracing too: `event!(events, Info, "open", messages = 3_u64)`.
macro_rules! event {
    ($events:expr, $level:ident, $name:literal $(, $field:ident = $value:expr)* $(,)?) => {{
        #[cfg(feature = "tracing")]
        $crate::events::trace!($level, $name $(, $field = $value)*);
        let events = &$events;
        if events.is_heard() {
            events.tell($crate::events::Event {
                level: $crate::events::EventLevel::$level,
                name: $name,
                fields: vec![$((stringify!($field), $crate::events::Field::from($value))),*],
            });
        }
    }};
}
pub(crate) use event;

/// An event of tracing.
#[cfg(feature = "tracing")]
macro_rules! trace {
    (Error, $($rest:tt)*) => { $crate::events::trace!(@ ERROR, $($rest)*) };
    (Warn, $($rest:tt)*) => { $crate::events::trace!(@ WARN, $($rest)*) };
    (Info, $($rest:tt)*) => { $crate::events::trace!(@ INFO, $($rest)*) };
    (Debug, $($rest:tt)*) => { $crate::events::trace!(@ DEBUG, $($rest)*) };
    (@ $level:ident, $name:literal $(, $field:ident = $value:expr)*) => {
        tracing::event!(target: "libmq", tracing::Level::$level, $($field = $value,)* $name)
    };
}
#[cfg(feature = "tracing")]
pub(crate) use trace;

/// The way of a single message, told to tracing alone: `detail!("deliver", id = 3_u64)`.
macro_rules! detail {
    ($name:literal $(, $field:ident = $value:expr)* $(,)?) => {{
        #[cfg(feature = "tracing")]
        $crate::events::trace!(Debug, $name $(, $field = $value)*);
    }};
}
pub(crate) use detail;

/// A span of tracing, entered until it is dropped: `let _span = span!("enqueue", messages = 3_u64);`.
macro_rules! span {
    ($name:literal $(, $field:ident = $value:expr)* $(,)?) => {
        $crate::events::Span {
            #[cfg(feature = "tracing")]
            _entered: tracing::debug_span!(target: "libmq", $name $(, $field = $value)*).entered(),
        }
    };
}
pub(crate) use span;

/// An entered span, where there are any.
#[must_use]
pub(crate) struct Span {
    #[cfg(feature = "tracing")]
    pub(crate) _entered: tracing::span::EnteredSpan,
}

/// What is called with each event.
pub(crate) type Hook = dyn Fn(&Event) + Send + Sync;

/// Those who are to be told.
#[derive(Clone, Default)]
pub(crate) struct Events(Option<Arc<Teller>>);

/// Tells a hook, in order, on a thread of its own.
struct Teller {
    hook: Arc<Hook>,
    pile: Pile<Event>,
    /// Events that there was no room for since the last one that was told.
    missed: AtomicU64,
    /// What waits is not told any more.
    is_over: AtomicBool,
}

thread_local! {
    /// The teller whose thread this is, by its address: a close would wait for it.
    static TELLER: Cell<usize> = const { Cell::new(0) };
}

/// Whether this thread is telling a hook.
pub(crate) fn is_telling() -> bool {
    TELLER.get() != 0
}

/// Which teller's thread waits for which other one to end.
static WAITS: Mutex<Vec<(usize, usize)>> = Mutex::new(Vec::new());

fn waits() -> MutexGuard<'static, Vec<(usize, usize)>> {
    WAITS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The thread of one teller waits for another one.
struct Wait {
    from: usize,
}

impl Wait {
    /// None where that one waits for this one, by itself or by others.
    fn begin(from: usize, to: usize) -> Option<Self> {
        let mut all = waits();
        let mut last = to;
        while last != from {
            match all.iter().find(|(waiting, _)| *waiting == last) {
                Some((_, next)) => last = *next,
                None => {
                    all.push((from, to));
                    return Some(Self { from });
                }
            }
        }
        None
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        waits().retain(|(waiting, _)| *waiting != self.from);
    }
}

impl Events {
    pub(crate) fn new(hook: Option<Arc<Hook>>) -> Self {
        Self(hook.map(|hook| {
            let pile = Pile::of_at_most(EVENTS_MAX);
            let (missed, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
            Arc::new(Teller { hook, pile, missed, is_over })
        }))
    }

    /// Whether anybody is told.
    pub(crate) fn is_heard(&self) -> bool {
        self.0.is_some()
    }

    /// Has the hook told. Waits for nothing and calls nobody, so it may be called under any lock.
    pub(crate) fn tell(&self, event: Event) {
        let Some(teller) = &self.0 else { return };
        let start = || {
            let teller = Arc::clone(teller);
            let work = move || {
                TELLER.set(teller.address());
                teller.pile.work(|events| teller.tell(events));
            };
            spawn_quiet("libmq-log", work)
        };
        // Where there can be no thread, nobody is told.
        if let Err(Refused::Full) = teller.pile.put(event, start, drop) {
            teller.missed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Ends the thread when all has been told.
    pub(crate) fn dismiss(&self) {
        if let Some(teller) = &self.0 {
            teller.pile.close();
        }
    }

    /// Returns when all has been told, whoever else waits for that. A hook waits for no hook that waits for it, itself among
    /// them: that one is called no more.
    pub(crate) fn join(&self) {
        let Some(teller) = &self.0 else { return };
        let wait = is_telling().then(|| Wait::begin(TELLER.get(), teller.address()));
        if matches!(wait, Some(None)) {
            teller.is_over.store(true, Ordering::Release);
        } else {
            teller.pile.join();
        }
    }
}

impl Teller {
    fn address(self: &Arc<Self>) -> usize {
        Arc::as_ptr(self).addr()
    }

    fn tell(&self, events: VecDeque<Event>) {
        let missed = self.missed.swap(0, Ordering::Relaxed);
        let lost = (missed > 0).then(|| Event {
            level: EventLevel::Warn,
            name: "events_missed",
            fields: vec![("count", missed.into())],
        });
        for event in events.iter().chain(&lost) {
            if self.is_over.load(Ordering::Acquire) {
                return;
            }
            // What a hook panics of is its own affair.
            let _ = catch_unwind(AssertUnwindSafe(|| (self.hook)(event)));
        }
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Events(heard: {})", self.is_heard())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::Mutex;
    use std::sync::mpsc::channel;

    use super::*;

    fn event(name: &'static str) -> Event {
        Event { level: EventLevel::Info, name, fields: Vec::new() }
    }

    #[test]
    fn fields_are_an_object_of_json() {
        let fields = vec![("id", Field::Number(7)), ("path", "a\"b\\c\n\u{1}é".into())];
        let json = Event { fields, ..event("open") }.fields_json();
        assert_eq!(json, r#"{"id":7,"path":"a\"b\\c\u000a\u0001é"}"#);
        assert_eq!(event("open").fields_json(), "{}");
    }

    #[test]
    fn a_hook_is_told_in_order_and_of_what_it_missed() {
        let ((told, tells), (entered, enters), (free, freed)) = (channel(), channel(), channel());
        let (entered, freed) = (Mutex::new(entered), Mutex::new(freed));
        let hook = move |event: &Event| {
            if event.name == "first" {
                let _ = entered.lock().unwrap().send(());
                let _: Result<(), _> = freed.lock().unwrap().recv();
            }
            let _ = told.send(event.clone());
            assert!(event.name != "first", "as a hook may");
        };
        let events = Events::new(Some(Arc::new(hook)));
        events.tell(event("first"));
        enters.recv().unwrap();
        for _ in 0..EVENTS_MAX + 5 {
            events.tell(event("next"));
        }
        free.send(()).unwrap();
        events.dismiss();
        events.join();
        let told: Vec<Event> = tells.try_iter().collect();
        assert_eq!(told.len(), EVENTS_MAX + 2);
        assert_eq!((told[0].name, told[EVENTS_MAX].name), ("first", "next"));
        assert_eq!(told[EVENTS_MAX + 1].fields, [("count", Field::Number(5))]);
        events.tell(event("late"));
        assert!(tells.try_recv().is_err());
    }
}
