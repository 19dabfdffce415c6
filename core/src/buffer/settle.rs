//! Settling: the one end of a delivery, and what follows from it.

use std::time::Duration;

use smallvec::SmallVec;

use super::acks::{Ack, LOGGED_TOGETHER};
use super::buffer::{Buffer, Taken};
use super::effect::{Effect, Waiting};
use super::entry::{DeadLetterEntry, Entry, acked_alone, kind};
use super::flags::Flag;
use super::keys::Guarding;
use super::new_message::NewMessage;
use super::plan::{Plan, records};
use super::queue::Queue;
use super::reason;
use super::slot::{NONE, State as SlotState};
use crate::clock::Moment;
use crate::error::{Error, ErrorKind, Result};
use crate::journal::{Level, Need, Pending, Record, SHORT_TEXT_BYTES_MAX};

/// How a delivery ends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Outcome<'a> {
    /// Done. The children are enqueued in the same record group.
    Ack {
        children: &'a [NewMessage<'a>],
        /// Places that were taken for the children, beside the message's own.
        places: usize,
        /// How long the message guards its key from now on.
        window: Duration,
    },
    /// Failed: tried again at `due`, or a dead letter if `max_retries` is used up.
    Fail { due: Moment, max_retries: u32, error: &'a str },
    /// Given back, not counted.
    Release { due: Moment },
    /// To the dead letters.
    Reject { reason: &'a str, error: &'a str },
    /// It was cancelled, and did not end in an ack: dropped.
    Drop,
    /// To the dead letters without another attempt, because its limits were used up.
    Spent { reason: &'a str, error: &'a str },
}

/// When a settle is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Write {
    /// Before its call returns, if that is simple. The caller commits its end all the same, and hears there whether it was.
    Now,
    /// With others, by the caller. An ack that nothing else depends on is not even logged before: see [`Buffer::write_acks`].
    Later,
}

/// What a settle came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Settled {
    /// The position behind the settle's records, which have to be written before it may be told; 0 for an ack that is not logged
    /// yet.
    pub(crate) end: u64,
    /// A level beyond that which the children have to reach before they are shown.
    pub(crate) awaits_sync: bool,
}

impl Buffer {
    /// Ends a delivery. `ended` runs when that is decided, and before it waits for a disk; it appends and commits nothing, nor waits
    /// for who may be doing so.
    ///
    /// # Errors
    /// `STALE_LEASE` where it was settled before or its lease was lost; then nothing changed, and `ended` did not run.
    pub(crate) fn settle(
        &self,
        queue: &Queue,
        taken: &Taken,
        outcome: Outcome<'_>,
        write: Write,
        ended: impl FnOnce(),
    ) -> Result<Settled> {
        self.journal.relieve()?;
        if let Outcome::Ack { children: [], .. } = outcome
            && taken.key == NONE
        {
            return self.ack_alone(queue, taken, write, ended);
        }
        let state = &*self.state;
        let now = state.clock.recent();
        let (children, places) = match outcome {
            Outcome::Ack { children, places, .. } => (children, places),
            _ => (&[][..], 0),
        };
        let keyed = children.iter().filter_map(|child| Some((child.queue.number, child.key()?)));
        let mut shards: Vec<u32> =
            keyed.map(|(queue, key)| state.keys.shard_of(queue, key)).collect();
        if taken.key != NONE {
            shards.push(super::keys::shard_of_number(taken.key));
        }
        // The message's own place counts for its first child until the ack is shown.
        let own = usize::from(!children.is_empty());
        state.room.force(own);
        let mut plan = Plan::new(state, state.keys.lock(shards), places + own);
        let Some(mut guard) = state.slots.at(taken.slot).lock_lease(taken.lease) else {
            return Err(stale(taken));
        };
        let outcome = match outcome {
            Outcome::Ack { .. } | Outcome::Spent { .. } => outcome,
            _ if guard.flags.has(Flag::Cancelled) => Outcome::Drop,
            _ => outcome,
        };
        let superseded = taken.key != NONE && plan.has_behind(taken.key, taken.slot);
        let (id, version, attempts) = (guard.id(), guard.version, guard.attempts);
        // A log may say that there were as many as can be counted.
        let counted = attempts.saturating_add(1);
        let waits = match outcome {
            Outcome::Fail { due, max_retries, error } if !superseded && counted <= max_retries => {
                Some((counted, due, error))
            }
            Outcome::Release { due } if !superseded => Some((attempts, due, "")),
            _ => None,
        };
        let entry = if let Some((attempts, due, error)) = waits {
            let error = if guard.flags.has(Flag::Expires) { error } else { "" };
            Entry::Wait { id, version, attempts, due, at: now, error: error.into() }
        } else {
            let next = match taken.key {
                NONE => 0,
                key => plan.leave(key, taken.slot).unwrap_or(0),
            };
            let dead = |attempts: u32, reason: &str, error: &str| Entry::Dead {
                id,
                version,
                next,
                attempts: attempts.saturating_add(guard.crashes.into()),
                at: now,
                reason: reason.into(),
                error: error.into(),
            };
            match outcome {
                Outcome::Fail { error, .. } if !superseded => {
                    dead(counted, reason::MAX_RETRIES, error)
                }
                Outcome::Reject { reason, error } => dead(counted, reason, error),
                Outcome::Spent { reason, error } => dead(attempts, reason, error),
                Outcome::Ack { window, .. }
                    if next == 0 && !window.is_zero() && taken.key != NONE =>
                {
                    let until = state.clock.now().after(window);
                    plan.guard_key(taken.key, Guarding { id, until, record: 0 });
                    Entry::Done { id, version, until, at: now }
                }
                _ => Entry::Gone { id, version, next, at: now },
            }
        };
        let planned = children.iter().try_for_each(|child| plan.add(child));
        planned.ok_or_else(|| state.room.full(children.len()))?;

        let mut body = Vec::with_capacity(64);
        entry.encode(&mut body);
        let body = [&body[..]];
        let first = Record::new(entry.kind(), &body);
        let bodies = plan.bodies(children);
        let (pieces, several);
        // Mostly it is one record.
        let all = if children.is_empty() {
            std::slice::from_ref(&first)
        } else {
            pieces = bodies.pieces();
            several = std::iter::once(first).chain(records(&pieces)).collect::<SmallVec<[_; 2]>>();
            &several[..]
        };
        let slot = taken.slot;
        let leaves_much = !children.is_empty() || entry.text_bytes() > SHORT_TEXT_BYTES_MAX;
        let need = if leaves_much { Need::Replace } else { Need::Settle };
        let appended = self.journal.append(need, all, |position, pending| {
            // Before anybody can be shown what has come of it, or sees that it is in flight no more.
            count(queue, outcome, &entry, superseded, pending);
            queue.figures.landed(pending);
            let effect = match &entry {
                Entry::Wait { attempts, due, error, .. } => {
                    if !error.is_empty() {
                        state.expiries.failed(slot, error);
                    }
                    guard.attempts = *attempts;
                    guard.due = *due;
                    guard.flags.set(Flag::Holds, true);
                    guard.set(SlotState::Pending);
                    let (queue, delayed) = (queue.number, *due > now);
                    Effect::Show(Waiting { slot, queue, version, delayed })
                }
                Entry::Dead { attempts, at, reason, error, .. } => {
                    guard.set(SlotState::Settled);
                    let letter = Box::new(DeadLetterEntry {
                        id,
                        version,
                        queue: queue.name.to_string(),
                        attempts: *attempts,
                        at: *at,
                        reason: reason.clone(),
                        error: error.clone(),
                    });
                    Effect::Dead { slot, letter }
                }
                _ => {
                    guard.set(SlotState::Settled);
                    Effect::Gone { slot }
                }
            };
            pending.at(Level::Os, effect);
            plan.log(position + first.space() as u64, &bodies, pending);
        })?;
        let was_suspect = guard.is_suspect();
        drop(guard);
        if let Entry::Done { .. } = entry {
            plan.guard_is_logged(taken.key, id, appended.start);
        }
        let awaits_sync = plan.level() == Some(Level::Sync);
        for (fate, child) in plan.fates.iter().zip(children) {
            fate.count(child.queue);
        }
        drop(plan);
        if let Entry::Done { until, .. } = entry {
            state.timer.due_at(until);
        }
        self.landed(queue, &entry, was_suspect);
        ended();
        Ok(Settled { end: appended.end, awaits_sync })
    }

    /// Acks a message without a key and without children, which concerns nothing else: there is nothing to plan.
    fn ack_alone(
        &self,
        queue: &Queue,
        taken: &Taken,
        write: Write,
        ended: impl FnOnce(),
    ) -> Result<Settled> {
        let state = &*self.state;
        let Some(mut guard) = state.slots.at(taken.slot).lock_lease(taken.lease) else {
            return Err(stale(taken));
        };
        let (id, slot, was_suspect) = (guard.id(), taken.slot, guard.is_suspect());
        // Nobody waits for it, but where the next one of its group does.
        if write == Write::Later
            && guard.group == 0
            && self.journal.check().is_ok()
            && let Some(noted) = self.note_ack(queue, Ack { id, slot })
        {
            guard.set(SlotState::Settled);
            drop(guard);
            state.landed(was_suspect, false);
            ended();
            if noted == LOGGED_TOGETHER {
                // Of a failure everybody hears from the log, or it is tried again.
                let _ = self.write_acks(queue);
            }
            return Ok(Settled { end: 0, awaits_sync: false });
        }
        let body = acked_alone(state.clock.recent(), id);
        let body = [body.as_flattened()];
        let record = Record::new(kind::ACKED, &body);
        let decide = |pending: &mut Pending<'_, Effect>, is_alone: bool| {
            queue.figures.was_acked(pending);
            queue.figures.landed(pending);
            guard.set(SlotState::Settled);
            // Others may want the slot, and this one is about to wait for a disk.
            drop(guard);
            if !is_alone {
                pending.at(Level::Os, Effect::Gone { slot });
            }
        };
        let (appended, led) = match write {
            Write::Now => {
                let finish = |_, pending: &mut Pending<'_, _>, is_alone| decide(pending, is_alone);
                let led = self.journal.append_and_lead(Need::Settle, &[record], finish)?;
                (led.appended, Some(led))
            }
            Write::Later => {
                let finish = |_, pending: &mut Pending<'_, _>| decide(pending, false);
                (self.journal.append(Need::Settle, &[record], finish)?, None)
            }
        };
        state.landed(was_suspect, false);
        ended();
        if let Some(led) = led {
            // A failure poisons the journal, and whoever commits this hears of it.
            let _ = self.journal.follow(led, || state.show_gone(slot));
        }
        Ok(Settled { end: appended.end, awaits_sync: false })
    }

    /// A message has left whoever held it.
    fn landed(&self, queue: &Queue, entry: &Entry, was_suspect: bool) {
        let state = &*self.state;
        state.landed(was_suspect, matches!(entry, Entry::Wait { .. }));
        if let Entry::Dead { id, attempts, reason, .. } = entry {
            state.tell_of_dead_letter(queue, *id, *attempts, reason);
        }
    }
}

impl Outcome<'_> {
    /// The word for it.
    #[cfg(feature = "tracing")]
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Ack { .. } => "ack",
            Self::Fail { .. } => "retry",
            Self::Reject { .. } | Self::Spent { .. } => "reject",
            Self::Release { .. } => "release",
            Self::Drop => "drop",
        }
    }
}

/// What a settle is answered that comes too late.
pub(super) fn stale(taken: &Taken) -> Error {
    let text = format!("message {} was settled before, or its lease was lost", taken.id);
    Error::new(ErrorKind::StaleLease, text)
}

fn count(
    queue: &Queue,
    outcome: Outcome<'_>,
    entry: &Entry,
    superseded: bool,
    locked: &Pending<'_, Effect>,
) {
    let figures = &queue.figures;
    match outcome {
        Outcome::Ack { .. } => figures.was_acked(locked),
        Outcome::Fail { .. } => figures.retried.up(),
        Outcome::Release { .. } => figures.released.up(),
        Outcome::Reject { .. } => figures.rejected.up(),
        Outcome::Drop => {
            figures.retried.up();
            figures.cancelled.up();
        }
        Outcome::Spent { .. } => {}
    }
    if matches!(entry, Entry::Dead { .. }) {
        figures.dead_lettered.up();
    }
    if superseded && matches!(outcome, Outcome::Fail { .. } | Outcome::Release { .. }) {
        figures.replaced.up();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::{Broker, Delivery, Message, Options};

    /// The attempt that was never made, because the limit was used up, was counted too: three deaths made four attempts.
    #[test]
    fn a_dead_letter_counts_the_attempts_that_there_were() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Broker::open(dir.path(), Options::new().max_crashes(3)).unwrap();
        let id = open().enqueue(Message::new("queue", "body")).unwrap().id;
        for _ in 0..3 {
            let broker = open();
            let delivery = broker.receive("queue", None, None).unwrap().unwrap();
            // Without a close: as if the process had died.
            drop(broker);
            drop(delivery);
        }
        let broker = open();
        assert!(broker.receive("queue", Duration::ZERO, None).unwrap().is_none());
        broker.snapshot().unwrap();
        let letter = broker.dead_letters().get(id).unwrap().unwrap();
        assert_eq!((letter.reason(), letter.attempts()), ("crashed", 3));
    }

    /// A log may say of a message that there were as many attempts as can be counted: to count one more was an overflow, which
    /// ends the call where they are checked, and counted from nothing where they are not.
    #[test]
    fn attempts_are_counted_as_far_as_that_goes() {
        let broker = Broker::open(":memory:", Options::new()).unwrap();
        let attempted = |end: fn(Delivery) -> crate::Result<()>| {
            broker.enqueue(Message::new("queue", "body")).unwrap();
            let delivery = broker.receive("queue", None, None).unwrap().unwrap();
            let slot = delivery.flight.taken.slot;
            delivery.shared.engine.buffer.state.slots.at(slot).lock().attempts = u32::MAX;
            end(delivery).unwrap();
            // One that was released is a dead letter only when somebody asks for it.
            assert!(broker.receive("queue", Duration::ZERO, None).unwrap().is_none());
            let letters = broker.dead_letters().list(None, 1, None).unwrap();
            assert_eq!(letters[0].attempts(), u32::MAX);
            broker.dead_letters().purge(None).unwrap();
        };
        attempted(|delivery| delivery.retry(Duration::ZERO));
        attempted(|delivery| delivery.reject("why"));
        attempted(|delivery| delivery.release(Duration::ZERO));
    }
}
