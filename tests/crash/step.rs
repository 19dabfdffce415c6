//! A call of a workload, as something that can be listed, shown, and made of any broker that is tried.
//!
//! A message is called by its body: the first word, or words, as far as they tell it from others. So a list of steps says
//! the same whatever ids there are, and whatever calls before it have failed.

use std::fmt;

use libmq::{Durability, Options};
use libmq_suite::New;
use libmq_suite::model::Model;

/// How bodies begin.
pub(crate) type Body = &'static str;

/// A call.
#[derive(Clone)]
pub(crate) enum Step {
    Enqueue(Durability, New),
    Batch(Durability, Vec<New>),
    /// An enqueue for which there is no room.
    Refused(Durability, New),
    /// Enqueues of so many bytes each, synced, until there is no room.
    Fill(&'static str, usize),
    /// Acks of everything in a queue.
    Drain(&'static str),
    /// An enqueue that waits for the room of a message that is acked meanwhile.
    Blocked(New, Body),
    /// From a queue, which may have nothing.
    Receive(&'static str),
    Ack(Body),
    AckWith(Body, Durability, New),
    Retry(Body, Option<u64>),
    Reject(Body, &'static str),
    Release(Body, u64),
    /// A handler takes everything that is ready in a queue, and brings a child with each where one is given.
    Handle(&'static str, Option<New>),
    Cancel(Body),
    Purge(&'static str),
    Letters,
    Replay(Body),
    PurgeLetters(&'static str),
    Advance(u64),
    Snapshot,
    Backup,
    /// From here on the disk has no room for a file more.
    Full,
    /// And from here on it has.
    Room,
    /// What the next openings are told besides.
    Options(fn(Options) -> Options),
    Close,
    Die,
    Open,
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Enqueue(level, new) => write!(f, "enqueue {level:?} {}", new.brief()),
            Self::Batch(level, news) => write!(f, "enqueue {level:?} a batch of {}", news.len()),
            Self::Refused(level, new) => write!(f, "no room to enqueue {level:?} {}", new.brief()),
            Self::Fill(queue, bytes) => write!(f, "fill {queue} with messages of {bytes} bytes"),
            Self::Drain(queue) => write!(f, "ack all of {queue}"),
            Self::Blocked(new, body) => write!(f, "room from {body} for {}", new.brief()),
            Self::Receive(queue) => write!(f, "receive from {queue}"),
            Self::Ack(body) => write!(f, "ack {body}"),
            Self::AckWith(body, level, new) => {
                write!(f, "ack {body} with {level:?} {}", new.brief())
            }
            Self::Retry(body, seconds) => write!(f, "retry {body} after {seconds:?}"),
            Self::Reject(body, _) => write!(f, "reject {body}"),
            Self::Release(body, seconds) => write!(f, "release {body} for {seconds} s"),
            Self::Handle(queue, child) => {
                write!(f, "handle {queue} with {:?}", child.as_ref().map(New::brief))
            }
            Self::Cancel(body) => write!(f, "cancel {body}"),
            Self::Purge(queue) => write!(f, "purge {queue}"),
            Self::Letters => write!(f, "list the dead letters"),
            Self::Replay(body) => write!(f, "replay {body}"),
            Self::PurgeLetters(queue) => write!(f, "purge the dead letters of {queue}"),
            Self::Advance(seconds) => write!(f, "advance by {seconds} s"),
            Self::Snapshot => write!(f, "snapshot"),
            Self::Backup => write!(f, "backup"),
            Self::Full => write!(f, "the disk is full"),
            Self::Room => write!(f, "the disk has room"),
            Self::Options(_) => write!(f, "other options"),
            Self::Close => write!(f, "close"),
            Self::Die => write!(f, "die"),
            Self::Open => write!(f, "open"),
        }
    }
}

/// Whether a message with this body is called so.
pub(crate) fn is_called(body: &str, name: Body) -> bool {
    body == name || body.starts_with(&format!("{name} "))
}

/// The one of these that is called so; one that has exactly that body before one that only begins with it. Without a name, the
/// first.
fn called<'a>(mut all: impl Iterator<Item = (u64, &'a str)> + Clone, name: Body) -> Option<u64> {
    if name.is_empty() {
        return all.next().map(|(id, _)| id);
    }
    let exactly = all.clone().find(|(_, body)| *body == name);
    exactly.or_else(|| all.clone().find(|(_, body)| is_called(body, name))).map(|(id, _)| id)
}

/// The message in somebody's hands that is called so.
pub(crate) fn held(model: &Model, name: Body) -> Option<u64> {
    let taken = model.live.iter().filter(|(_, live)| live.taken);
    called(taken.map(|(id, live)| (*id, &*live.body)), name)
}

/// The waiting message that is called so.
pub(crate) fn waiting(model: &Model, name: Body) -> Option<u64> {
    let waits = model.live.iter().filter(|(_, live)| !live.taken);
    called(waits.map(|(id, live)| (*id, &*live.body)), name)
}

/// The dead letter that is called so.
pub(crate) fn dead(model: &Model, name: Body) -> Option<u64> {
    called(model.dead.iter().map(|(id, letter)| (*id, &*letter.body)), name)
}

/// Short names of the steps, for lists of them.
pub(crate) mod steps {
    use libmq::Durability;
    use libmq_suite::New;

    use super::{Body, Step};

    pub(crate) fn sync(new: New) -> Step {
        Step::Enqueue(Durability::Sync, new)
    }

    pub(crate) fn os(new: New) -> Step {
        Step::Enqueue(Durability::Os, new)
    }

    pub(crate) fn batch<const N: usize>(durability: Durability, news: [New; N]) -> Step {
        Step::Batch(durability, news.into())
    }

    pub(crate) fn receive(queue: &'static str) -> Step {
        Step::Receive(queue)
    }

    pub(crate) fn ack(body: Body) -> Step {
        Step::Ack(body)
    }

    pub(crate) fn retry(body: Body, seconds: impl Into<Option<u64>>) -> Step {
        Step::Retry(body, seconds.into())
    }

    pub(crate) fn reject(body: Body) -> Step {
        Step::Reject(body, "unwanted")
    }

    pub(crate) fn release(body: Body, seconds: u64) -> Step {
        Step::Release(body, seconds)
    }

    pub(crate) fn advance(seconds: u64) -> Step {
        Step::Advance(seconds)
    }
}
