//! Envelopes: all that a message has beside its body, which many of a batch may have in common.

use std::time::Duration;

use super::effect::{Effect, Waiting};
use super::expiries::Expiry;
use super::flags::{Flag, Flags};
use super::head::{HeadBytes, MessageHead};
use super::queue::Queue;
use super::slot::{Data, Guard, NONE, State as SlotState};
use super::state::State;
use super::turns::group_number;
use crate::clock::Moment;
use crate::journal::Level;
use crate::sync::Arc;

/// What is to be said of messages that are to be enqueued.
#[derive(Debug)]
pub(crate) struct Envelope<'a> {
    pub(crate) queue: &'a Arc<Queue>,
    pub(crate) content_type: Option<&'a str>,
    pub(crate) priority: u8,
    pub(crate) enqueued_at: Moment,
    pub(crate) due: Moment,
    pub(crate) level: Level,
    pub(crate) rare: Option<Box<NewRare<'a>>>,
}

/// What few messages have.
#[derive(Clone, Debug, Default)]
pub(crate) struct NewRare<'a> {
    pub(crate) key: Option<&'a str>,
    /// A message that holds the key already stays.
    pub(crate) keep: bool,
    pub(crate) correlation_id: Option<&'a str>,
    pub(crate) group: Option<&'a str>,
    /// When it expires.
    pub(crate) expires: Option<Moment>,
    /// How long it guards its key when it is done.
    pub(crate) window: Duration,
    /// As [`super::entry::put_header`] writes them.
    pub(crate) headers: Vec<u8>,
}

impl Envelope<'_> {
    pub(super) fn key(&self) -> Option<&str> {
        self.rare.as_ref()?.key
    }

    /// Whether a message that holds its key already stays.
    pub(super) fn keeps(&self) -> bool {
        self.rare.as_ref().is_some_and(|rare| rare.keep)
    }

    /// The head of its record.
    pub(super) fn head(&self, id: u64, behind: bool, level: Level) -> HeadBytes {
        MessageHead { id, flags: flags(behind, level), ..self.new_head() }.encode()
    }

    /// The head of the record of a message that concerns nothing that is there.
    #[inline]
    pub(super) fn new_head(&self) -> MessageHead {
        let mut head = self.plain_head();
        if let Some(rare) = &self.rare {
            head.key_len = text_len(rare.key);
            head.correlation_len = text_len(rare.correlation_id);
            head.group_len = text_len(rare.group);
            head.headers_len = u32::try_from(rare.headers.len()).unwrap_or(u32::MAX);
            head.expires = rare.expires;
            head.window = rare.window;
        }
        head
    }

    /// The same where it has nothing that few messages have.
    #[inline]
    pub(super) fn plain_head(&self) -> MessageHead {
        MessageHead {
            enqueued_at: self.enqueued_at,
            due: self.due,
            flags: flags(false, self.level),
            priority: self.priority,
            queue_len: short(self.queue.name.len()),
            type_len: text_len(self.content_type),
            ..MessageHead::default()
        }
    }

    /// Bytes of what stands between the head and the body of its record.
    #[inline]
    pub(super) fn text_bytes(&self) -> usize {
        let all = self.queue.name.len() + text_bytes(self.content_type);
        self.rare.as_ref().map_or(all, |rare| {
            let texts = [rare.key, rare.correlation_id, rare.group].map(text_bytes);
            all + texts.iter().sum::<usize>() + rare.headers.len()
        })
    }

    /// Makes a slot that was claimed its own, as that of a message without a key, whose record stands at `position`.
    #[inline]
    pub(super) fn move_in(&self, state: &State, slot: u32, guard: &mut Guard<'_>, position: u64) {
        guard.set_id(position);
        state.ids.insert(position, slot);
        if self.rare.is_some() {
            guard.key = NONE;
            return self.fill(state, slot, guard, position, false, self.level);
        }
        state.note_names(self.queue.name.len() as u64);
        // Whole, since nothing of what was there stays.
        **guard = Data {
            version: position,
            due: self.due,
            queue: self.queue_number(),
            priority: self.priority,
            flags: flags(false, self.level),
            ..Data::EMPTY
        };
        guard.set(SlotState::Pending);
    }

    /// Makes a slot its own, now that its record stands at `position`; not to be seen before it is shown.
    // Out of line, which compilers choose or not for no reason of ours, this costs an enqueue some 1 %.
    #[inline]
    pub(super) fn fill(
        &self,
        state: &State,
        slot: u32,
        guard: &mut Guard<'_>,
        position: u64,
        behind: bool,
        level: Level,
    ) {
        if guard.flags.has(Flag::Expires) {
            state.expiries.remove(slot, guard.id());
        }
        let names = self.queue.name.len() + self.key().map_or(0, str::len);
        state.note_names(names as u64);
        guard.queue = self.queue_number();
        guard.version = position;
        guard.due = self.due;
        guard.attempts = 0;
        guard.crashes = 0;
        guard.priority = self.priority;
        guard.group = 0;
        guard.flags = flags(behind, level);
        if let Some(rare) = &self.rare {
            guard.group = rare.group.map_or(0, group_number);
            guard.flags.set(Flag::Expires, rare.expires.is_some());
            if let Some(moment) = rare.expires {
                state.expiries.set(slot, Expiry { moment, error: "".into() });
            }
        }
        guard.set(SlotState::Pending);
    }

    /// As a slot holds it.
    fn queue_number(&self) -> u16 {
        u16::try_from(self.queue.number).unwrap_or(u16::MAX)
    }

    /// What its record does once it has reached its level.
    pub(super) fn shown(&self, slot: u32, version: u64) -> Effect {
        let (queue, delayed) = (self.queue.number, self.is_delayed());
        Effect::Show(Waiting { slot, queue, version, delayed })
    }

    /// Whether it is ready when it is shown, behind what came before it.
    #[inline]
    pub(super) fn is_plain(&self) -> bool {
        self.rare.is_none() && !self.is_delayed()
    }

    /// Else it is known to be due.
    pub(super) fn is_delayed(&self) -> bool {
        self.due > self.enqueued_at
    }
}

fn flags(behind: bool, level: Level) -> Flags {
    Flags::default().with(Flag::Behind, behind).with(Flag::Sync, level == Level::Sync)
}

fn text_bytes(text: Option<&str>) -> usize {
    text.map_or(0, str::len)
}

fn text_len(text: Option<&str>) -> u16 {
    text.map_or(0, |text| u16::try_from(text.len()).unwrap_or(0))
}

fn short(length: usize) -> u8 {
    u8::try_from(length).unwrap_or(0)
}
