//! What a broker should hold: messages, keys and dead letters, as the documented rules say it, with nothing of how it
//! is done.
//!
//! Time is counted in microseconds from where the broker's manual clock began. A call of the model either does what
//! the rules say or panics, because the real broker answered something that the rules do not allow.

use std::collections::{BTreeMap, BTreeSet};

use libmq::{Receipt, ReceiptStatus};

/// Retries that the broker under test allows.
pub(crate) const MAX_RETRIES: u32 = 2;
/// Crashes that the broker under test allows.
pub(crate) const MAX_CRASHES: u32 = 2;
/// The wait before a retry.
pub(crate) const BACKOFF_US: u64 = 20_000_000;

/// A live message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Live {
    pub(crate) queue: String,
    pub(crate) body: String,
    pub(crate) key: Option<String>,
    pub(crate) due: u64,
    pub(crate) attempts: u32,
    pub(crate) crashes: u32,
    pub(crate) taken: bool,
    /// Waits behind the message in flight with its key.
    pub(crate) behind: bool,
    pub(crate) priority: u8,
    pub(crate) group: Option<String>,
    /// Came back, and so its group waits for it.
    pub(crate) holds: bool,
    pub(crate) expires: Option<u64>,
    pub(crate) window_us: u64,
}

/// A dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dead {
    pub(crate) queue: String,
    pub(crate) body: String,
    pub(crate) key: Option<String>,
    pub(crate) reason: String,
    pub(crate) attempts: u32,
    pub(crate) priority: u8,
    pub(crate) group: Option<String>,
    pub(crate) window_us: u64,
}

/// A message to enqueue.
#[derive(Clone, Debug, Default)]
pub(crate) struct New {
    pub(crate) queue: String,
    pub(crate) body: String,
    pub(crate) key: Option<String>,
    pub(crate) keep: bool,
    pub(crate) delay_us: u64,
    pub(crate) priority: u8,
    pub(crate) group: Option<String>,
    pub(crate) expires_us: Option<u64>,
    pub(crate) window_us: u64,
}

/// Everything a broker holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Model {
    pub(crate) now: u64,
    pub(crate) live: BTreeMap<u64, Live>,
    pub(crate) dead: BTreeMap<u64, Dead>,
    /// Keys that messages guard which are done, by queue and key: the id, and until when.
    pub(crate) guarded: BTreeMap<(String, String), (u64, u64)>,
}

impl Model {
    /// What the rules answer to an enqueue: the status, and the id where it is not a new one.
    pub(crate) fn predict(&self, new: &New) -> (ReceiptStatus, Option<u64>) {
        let Some((id, newest)) = self.newest(&new.queue, new.key.as_deref()) else {
            return match self.guard(new) {
                Some((id, until)) if new.keep && until > self.now => {
                    (ReceiptStatus::Duplicate, Some(id))
                }
                _ => (ReceiptStatus::Accepted, None),
            };
        };
        match (new.keep, newest.taken) {
            (true, _) => (ReceiptStatus::Duplicate, Some(id)),
            (false, true) => (ReceiptStatus::Accepted, None),
            (false, false) => (ReceiptStatus::Replaced, Some(id)),
        }
    }

    /// A message was enqueued, and this was answered.
    pub(crate) fn enqueue(&mut self, new: &New, receipt: Receipt) {
        let (status, id) = self.predict(new);
        assert_eq!(receipt.status, status, "{new:?}");
        assert_eq!(id.unwrap_or(receipt.id), receipt.id, "{new:?}");
        let behind = match status {
            ReceiptStatus::Duplicate => return,
            ReceiptStatus::Replaced => self.live[&receipt.id].behind,
            _ => self.newest(&new.queue, new.key.as_deref()).is_some(),
        };
        if let Some(key) = &new.key {
            self.guarded.remove(&(new.queue.clone(), key.clone()));
        }
        let message = Live {
            queue: new.queue.clone(),
            body: new.body.clone(),
            key: new.key.clone(),
            due: self.now + new.delay_us,
            attempts: 0,
            crashes: 0,
            taken: false,
            behind,
            priority: new.priority,
            group: new.group.clone(),
            holds: false,
            expires: new.expires_us.map(|time| self.now + time),
            window_us: new.window_us,
        };
        let before = self.live.insert(receipt.id, message);
        assert_eq!(before.is_some(), status == ReceiptStatus::Replaced, "{receipt:?}");
    }

    /// Whether the next message of a queue is a dead letter instead because its crashes are used up; it is one then.
    pub(crate) fn bury_next(&mut self, queue: &str) -> bool {
        let Some(id) = self.next(queue).filter(|id| self.live[id].crashes >= MAX_CRASHES) else {
            return false;
        };
        self.kill(id, "crashed", 0);
        true
    }

    /// Takes the next message of a queue: its id.
    pub(crate) fn receive(&mut self, queue: &str) -> Option<u64> {
        let id = self.next(queue)?;
        self.live.get_mut(&id)?.taken = true;
        Some(id)
    }

    pub(crate) fn ack(&mut self, id: u64) {
        let superseded = self.superseded(id);
        let Live { queue, key, window_us, .. } = self.live[&id].clone();
        self.remove(id);
        if let (Some(key), false, true) = (key, superseded, window_us > 0) {
            self.guarded.insert((queue, key), (id, self.now + window_us));
        }
    }

    /// A message that waits is gone; whether there was one.
    pub(crate) fn cancel(&mut self, id: u64) -> bool {
        let there = self.live.contains_key(&id);
        if there {
            self.remove(id);
        }
        there
    }

    /// A message of a queue that nobody holds, if there is one: the first in the order of ids.
    pub(crate) fn first_waiting(&self, queue: &str) -> Option<u64> {
        let waits = |(_, message): &(&u64, &Live)| message.queue == queue && !message.taken;
        self.live.iter().find(waits).map(|(id, _)| *id)
    }

    /// Ends the message that has expired first, if one has; whether one had.
    pub(crate) fn expire_next(&mut self) -> bool {
        let expired = |(id, message): (&u64, &Live)| {
            let moment = message.expires.filter(|moment| *moment <= self.now && !message.taken);
            moment.map(|moment| (moment, *id))
        };
        let Some((_, id)) = self.live.iter().filter_map(expired).min() else { return false };
        if self.live[&id].attempts > 0 || self.live[&id].crashes > 0 {
            self.kill(id, "expired", 0);
        } else {
            self.remove(id);
        }
        true
    }

    /// A failed attempt; `delay_us` absent is the backoff.
    pub(crate) fn retry(&mut self, id: u64, delay_us: Option<u64>) {
        if self.superseded(id) {
            self.remove(id);
            return;
        }
        let message = self.live.get_mut(&id).unwrap();
        if message.attempts + 1 > MAX_RETRIES {
            self.kill(id, "max_retries", 1);
        } else {
            message.attempts += 1;
            message.due = self.now + delay_us.unwrap_or(BACKOFF_US);
            message.taken = false;
            message.holds = true;
        }
    }

    pub(crate) fn reject(&mut self, id: u64, reason: &str) {
        self.kill(id, reason, 1);
    }

    pub(crate) fn release(&mut self, id: u64, delay_us: u64) {
        if self.superseded(id) {
            self.remove(id);
            return;
        }
        let now = self.now;
        let message = self.live.get_mut(&id).unwrap();
        message.due = now + delay_us;
        message.taken = false;
        message.holds = true;
    }

    /// A dead letter was replayed, and this was answered.
    pub(crate) fn replay(&mut self, id: u64, receipt: Receipt) {
        let letter = self.dead[&id].clone();
        let Dead { queue, body, key, priority, group, window_us, .. } = letter;
        let (keep, delay_us, expires_us) = (true, 0, None);
        let new = New { queue, body, key, keep, delay_us, priority, group, expires_us, window_us };
        self.enqueue(&new, receipt);
        if receipt.status != ReceiptStatus::Duplicate {
            self.dead.remove(&id);
        }
    }

    /// Removes the dead letters of a queue; how many.
    pub(crate) fn purge(&mut self, queue: &str) -> u64 {
        let before = self.dead.len();
        self.dead.retain(|_, letter| letter.queue != queue);
        (before - self.dead.len()) as u64
    }

    /// The messages in flight.
    pub(crate) fn taken(&self) -> BTreeSet<u64> {
        self.live.iter().filter(|(_, message)| message.taken).map(|(id, _)| *id).collect()
    }

    /// The process died, with these messages being handled as far as the next one knows.
    pub(crate) fn crash(&mut self, held: &BTreeSet<u64>) {
        let superseded: Vec<u64> =
            self.live.keys().copied().filter(|id| self.superseded(*id)).collect();
        superseded.into_iter().for_each(|id| self.remove(id));
        for (id, message) in &mut self.live {
            message.taken = false;
            message.crashes += u32::from(held.contains(id));
            message.holds |= held.contains(id);
        }
        // Of a group one message holds on: the first of those that came back.
        let mut held_groups = BTreeSet::new();
        for message in self.live.values_mut().filter(|message| message.holds) {
            if let Some(group) = &message.group {
                message.holds = held_groups.insert((message.queue.clone(), group.clone()));
            }
        }
    }

    /// Messages of a queue that are not due yet.
    pub(crate) fn delayed(&self, queue: &str) -> u64 {
        let waits = |m: &&Live| m.queue == queue && !m.taken && !m.behind && m.due > self.now;
        self.live.values().filter(waits).count() as u64
    }

    /// The next message of a queue. A message that was in flight when the process died runs alone.
    fn next(&self, queue: &str) -> Option<u64> {
        let mut taken = self.live.values().filter(|message| message.taken).peekable();
        let ready = self.live.iter().filter(|(id, message)| {
            message.queue == queue && self.is_due(message) && self.has_turn(**id, message)
        });
        let (id, next) = ready.min_by_key(|(id, message)| (9 - message.priority, **id))?;
        let in_company = taken.peek().is_some();
        let beside_suspect = taken.any(|message| message.crashes > 0);
        assert!(
            beside_suspect || next.crashes == 0 || !in_company,
            "no workload waits for a suspect"
        );
        (!beside_suspect).then_some(*id)
    }

    fn is_due(&self, message: &Live) -> bool {
        !message.taken && !message.behind && message.due <= self.now
    }

    /// Whether no other message of its group goes before this one, which is due.
    fn has_turn(&self, id: u64, message: &Live) -> bool {
        let before = |(other, it): (&u64, &Live)| {
            *other != id
                && message.group.is_some()
                && (&it.queue, &it.group) == (&message.queue, &message.group)
                && (it.taken || it.holds || (*other < id && self.is_due(it)))
        };
        message.holds || !self.live.iter().any(before)
    }

    /// What guards a new message's key.
    fn guard(&self, new: &New) -> Option<(u64, u64)> {
        self.guarded.get(&(new.queue.clone(), new.key.clone()?)).copied()
    }

    /// The newest live message of a key.
    fn newest(&self, queue: &str, key: Option<&str>) -> Option<(u64, &Live)> {
        let key = key?;
        let holds = |message: &&Live| message.queue == queue && message.key.as_deref() == Some(key);
        let holders = self.live.iter().filter(|(_, message)| holds(message));
        holders.max_by_key(|(id, message)| (message.behind, **id)).map(|(id, live)| (*id, live))
    }

    /// Whether another message waits behind this one.
    fn superseded(&self, id: u64) -> bool {
        let message = &self.live[&id];
        message.taken
            && self
                .newest(&message.queue, message.key.as_deref())
                .is_some_and(|(newest, _)| newest != id)
    }

    /// Takes a message out; the one behind it is behind nobody any more.
    fn remove(&mut self, id: u64) {
        let gone = self.live.remove(&id).unwrap();
        if gone.key.is_some() {
            let same = |message: &&mut Live| message.queue == gone.queue && message.key == gone.key;
            self.live.values_mut().filter(same).for_each(|message| message.behind = false);
        }
    }

    fn kill(&mut self, id: u64, reason: &str, this_attempt: u32) {
        let Live { queue, body, key, priority, group, window_us, .. } = self.live[&id].clone();
        let Live { attempts, crashes, .. } = self.live[&id];
        self.remove(id);
        let (attempts, reason) = (attempts + this_attempt + crashes, reason.into());
        let letter = Dead { queue, body, key, reason, attempts, priority, group, window_us };
        self.dead.insert(id, letter);
    }
}
