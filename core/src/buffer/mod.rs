//! Floor 2: messages, keys, lanes, dead letters. It decides what becomes of a message; it knows no threads.

mod acks;
mod ascending;
mod batch;
mod buffer;
mod cleaner;
mod company;
mod dead;
mod doorbell;
mod effect;
mod entry;
mod envelope;
mod expiries;
mod figures;
mod flags;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod head;
mod holds;
mod ids;
mod inhabitants;
mod kept;
mod keys;
mod lane;
mod letters;
mod line;
#[cfg(all(test, loom))]
pub(crate) mod models;
mod new_message;
mod plan;
mod queue;
pub(crate) mod reason;
mod remove;
mod replay;
mod room;
mod schedule;
mod settle;
mod slot;
mod snapshot;
mod state;
mod token;
mod turns;

pub(crate) use buffer::{Begun, Buffer, Enqueued, Limits, Owed, Taken};
pub(crate) use doorbell::Doorbell;
pub(crate) use entry::{DeadLetterEntry, MessageEntry, put_header};
pub(crate) use envelope::{Envelope, NewRare};
pub(crate) use new_message::NewMessage;
pub(crate) use plan::Few;
pub(crate) use queue::Queue;
pub(crate) use remove::Removed;
pub(crate) use replay::Replayed;
pub(crate) use settle::{Outcome, Settled, Write};
pub(crate) use state::{Bounds, State, earliest};
