//! The reference queue: what a broker holds, messages, keys and dead letters, as the documented rules say it, with nothing
//! of how it is done.
//!
//! Time is counted in microseconds from where the broker's manual clock began. A call of the model either does what
//! the rules say or panics, because the real broker answered something that the rules do not allow.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use libmq::{Backoff, ClockMode, Options, Receipt, ReceiptStatus};

use crate::new::New;

/// Retries that the broker under test allows.
pub const MAX_RETRIES: u32 = 2;
/// Crashes that the broker under test allows.
pub const MAX_CRASHES: u32 = 2;
/// The wait before a retry.
pub const BACKOFF_US: u64 = 20_000_000;

/// The options of a broker that is held against it: nothing happens by itself, and time stands still.
pub fn options() -> Options {
    /// Longer than any test: what is due then never is.
    const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);
    Options::new()
        .cache_bytes(1)
        .sync_interval(NEVER)
        .snapshot_interval(NEVER)
        .snapshot_threshold(u64::MAX)
        .default_max_retries(MAX_RETRIES)
        .max_crashes(MAX_CRASHES)
        .default_backoff(Backoff::fixed(Duration::from_micros(BACKOFF_US)))
        .clock(ClockMode::Manual)
}

/// A live message.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Live {
    pub queue: String,
    pub body: String,
    pub key: Option<String>,
    pub due: u64,
    pub attempts: u32,
    pub crashes: u32,
    pub taken: bool,
    /// When the lease of who has taken it ends.
    pub deadline: u64,
    /// Cancelled while somebody has it: whatever ends it but an ack drops it.
    pub cancelled: bool,
    /// Waits behind the message in flight with its key.
    pub behind: bool,
    pub priority: u8,
    pub group: Option<String>,
    /// Came back, and so its group waits for it.
    pub holds: bool,
    pub expires: Option<u64>,
    pub window_us: u64,
}

/// A dead letter.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Dead {
    pub queue: String,
    pub body: String,
    pub key: Option<String>,
    pub reason: String,
    pub attempts: u32,
    pub priority: u8,
    pub group: Option<String>,
    pub window_us: u64,
}

/// Everything a broker holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Model {
    pub now: u64,
    pub live: BTreeMap<u64, Live>,
    pub dead: BTreeMap<u64, Dead>,
    /// A suspect waits for what is in flight to end.
    pub awaited: bool,
    /// Keys that messages guard which are done, by queue and key: the id, and until when.
    pub guarded: BTreeMap<(String, String), (u64, u64)>,
}

impl Model {
    /// What the rules answer to an enqueue: the status, and the id where it is not a new one.
    pub fn predict(&self, new: &New) -> (ReceiptStatus, Option<u64>) {
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
    pub fn enqueue(&mut self, new: &New, receipt: Receipt) {
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
            deadline: 0,
            cancelled: false,
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
    pub fn bury_next(&mut self, queue: &str) -> bool {
        let Some(id) = self.next(queue).filter(|id| self.live[id].crashes >= MAX_CRASHES) else {
            return false;
        };
        self.kill(id, "crashed", 0);
        true
    }

    /// Takes the next message of a queue, for as long: its id.
    pub fn receive(&mut self, queue: &str, lease_us: u64) -> Option<u64> {
        let id = self.next(queue)?;
        let deadline = self.now + lease_us;
        let message = self.live.get_mut(&id)?;
        (message.taken, message.deadline) = (true, deadline);
        Some(id)
    }

    /// Moves the end of a lease out.
    pub fn extend(&mut self, id: u64, time_us: u64) {
        let moved = self.now + time_us;
        let message = self.live.get_mut(&id).unwrap();
        message.deadline = message.deadline.max(moved);
    }

    pub fn ack(&mut self, id: u64) {
        let superseded = self.superseded(id);
        let Live { queue, key, window_us, .. } = self.live[&id].clone();
        self.remove(id);
        if let (Some(key), false, true) = (key, superseded, window_us > 0) {
            self.guarded.insert((queue, key), (id, self.now + window_us));
        }
    }

    /// A message that waits is gone, one that somebody has is cancelled; whether there was one.
    pub fn cancel(&mut self, id: u64) -> bool {
        let Some(message) = self.live.get_mut(&id) else { return false };
        if message.taken {
            message.cancelled = true;
        } else {
            self.remove(id);
        }
        true
    }

    /// The messages of a queue that nobody has.
    pub fn waiting(&self, queue: &str) -> Vec<u64> {
        let waits = |(_, message): &(&u64, &Live)| message.queue == queue && !message.taken;
        self.live.iter().filter(waits).map(|(id, _)| *id).collect()
    }

    /// Ends the message that has expired first, if one has; whether one had.
    pub fn expire_next(&mut self) -> bool {
        let expired = |(id, message): (&u64, &Live)| {
            let moment = message.expires.filter(|moment| *moment <= self.now && !message.taken);
            moment.map(|moment| (moment, *id))
        };
        let Some((_, id)) = self.live.iter().filter_map(expired).min() else { return false };
        self.expire(id);
        true
    }

    /// Ends a message that has expired.
    pub fn expire(&mut self, id: u64) {
        if self.live[&id].attempts > 0 || self.live[&id].crashes > 0 {
            self.kill(id, "expired", 0);
        } else {
            self.remove(id);
        }
    }

    /// The first lease that has ended is taken away, which is a failed attempt; whether there was one.
    pub fn lapse_next(&mut self) -> bool {
        let lapsed = |message: &Live| message.taken && message.deadline <= self.now;
        let Some(id) = self.live.iter().find_map(|(id, message)| lapsed(message).then_some(*id))
        else {
            return false;
        };
        self.retry(id, Some(0));
        true
    }

    /// A failed attempt; `delay_us` absent is the backoff.
    pub fn retry(&mut self, id: u64, delay_us: Option<u64>) {
        if self.superseded(id) || self.live[&id].cancelled {
            self.remove(id);
            return;
        }
        let message = self.live.get_mut(&id).unwrap();
        if message.attempts + 1 > MAX_RETRIES {
            self.kill(id, "max_retries", 1);
        } else {
            message.attempts += 1;
            self.give_back(id, delay_us.unwrap_or(BACKOFF_US));
        }
    }

    pub fn reject(&mut self, id: u64, reason: &str) {
        if self.live[&id].cancelled {
            self.remove(id);
        } else {
            self.kill(id, reason, 1);
        }
    }

    pub fn release(&mut self, id: u64, delay_us: u64) {
        if self.superseded(id) || self.live[&id].cancelled {
            self.remove(id);
        } else {
            self.give_back(id, delay_us);
        }
    }

    /// A dead letter was replayed, and this was answered.
    pub fn replay(&mut self, id: u64, receipt: Receipt) {
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
    pub fn purge(&mut self, queue: &str) -> u64 {
        let before = self.dead.len();
        self.dead.retain(|_, letter| letter.queue != queue);
        (before - self.dead.len()) as u64
    }

    /// The messages in flight.
    pub fn taken(&self) -> BTreeSet<u64> {
        self.live.iter().filter(|(_, message)| message.taken).map(|(id, _)| *id).collect()
    }

    /// The process died, with these messages being handled as far as the next one knows.
    pub fn crash(&mut self, held: &BTreeSet<u64>) {
        self.awaited = false;
        let superseded: Vec<u64> =
            self.live.keys().copied().filter(|id| self.superseded(*id)).collect();
        superseded.into_iter().for_each(|id| self.remove(id));
        for (id, message) in &mut self.live {
            (message.taken, message.cancelled) = (false, false);
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
    pub fn delayed(&self, queue: &str) -> u64 {
        let waits = |m: &&Live| m.queue == queue && !m.taken && !m.behind && m.due > self.now;
        self.live.values().filter(waits).count() as u64
    }

    /// The next message of a queue, if it may run beside what is in flight. A suspect runs alone, and where it has to wait for
    /// that, nothing else begins until it may.
    fn next(&mut self, queue: &str) -> Option<u64> {
        let ready = self.live.iter().filter(|(id, message)| {
            message.queue == queue && self.is_due(message) && self.has_turn(**id, message)
        });
        let (id, next) = ready.min_by_key(|(id, message)| (9 - message.priority, **id))?;
        let (id, is_suspect) = (*id, next.crashes > 0);
        self.awaited &= self.live.values().any(|message| message.crashes > 0);
        let in_flight =
            |suspect: bool| self.live.values().any(|it| it.taken && (it.crashes > 0) == suspect);
        let alone = in_flight(true);
        let waits = if is_suspect { in_flight(false) } else { self.awaited };
        self.awaited = if is_suspect { !alone && waits } else { self.awaited };
        (!alone && !waits).then_some(id)
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

    /// Nobody has a message any more, and it waits for so long.
    fn give_back(&mut self, id: u64, delay_us: u64) {
        let due = self.now + delay_us;
        let message = self.live.get_mut(&id).unwrap();
        (message.taken, message.holds, message.due) = (false, true, due);
        self.landed();
    }

    /// Something is in flight no more. Nothing is awaited any more once nothing but suspects is, nor where there are none.
    fn landed(&mut self) {
        let waits = self.live.values().any(|message| message.taken && message.crashes == 0);
        self.awaited &= waits;
    }

    /// Takes a message out; the one behind it is behind nobody any more.
    fn remove(&mut self, id: u64) {
        let gone = self.live.remove(&id).unwrap();
        self.landed();
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
