//! Acks: what handlers have acked, and nobody has logged yet.
//!
//! Nobody waits for the ack of a handler, so it is decided at once, by its slot, and logged with others of its queue: one record
//! says of up to [`LOGGED_TOGETHER`] messages that they are gone. That takes less than a record of each, and leaves the log's tail
//! to those who enqueue meanwhile. As long as an ack is noted here, its slot is settled: so a snapshot has its message, whose content
//! stays where it is, and which takes its place of the capacity.
//!
//! Whoever notes the last one that there is room for logs them. Else that is up to the worker, before it sleeps, or the keeper of
//! the disk. Where the log has no room they stay here, and what is acked behind them is logged, or refused, alone.

use smallvec::SmallVec;

use super::buffer::Buffer;
use super::effect::Effect;
use super::entry::{acked, kind};
use super::figures::Figures;
use super::queue::Queue;
use crate::error::Result;
use crate::journal::{Level, Need, Pending, Record};
use crate::latch::Latch;
use crate::sync::atomic::Ordering;
use crate::sync::{CachePadded, Mutex, lock};

/// Acks of a queue that are logged together, at most.
pub(super) const LOGGED_TOGETHER: usize = if cfg!(loom) { 2 } else { 64 };

/// A message that was acked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ack {
    pub(super) id: u64,
    pub(super) slot: u32,
}

/// The acks of a queue that are not logged.
#[derive(Debug, Default)]
pub(crate) struct Acks {
    noted: CachePadded<Latch<Noted>>,
    /// Held by who logs them, until they are shown.
    turn: Mutex<()>,
}

#[derive(Debug, Default)]
struct Noted {
    /// Oldest first.
    acks: Vec<Ack>,
    /// Their queue is on the list of those that [`Buffer::write`] looks at, or about to come there.
    is_listed: bool,
}

impl Acks {
    /// Makes room for as many as are logged together: for a queue that has a handler. Without it none is noted.
    pub(crate) fn make_room(&self) {
        let room = Vec::with_capacity(LOGGED_TOGETHER);
        let mut noted = self.noted.take();
        if noted.acks.capacity() == 0 {
            noted.acks = room;
        }
    }

    /// Notes and counts one; answers how many there are now, and whether the queue has to be listed. None where there is no room
    /// for it, and nothing was noted.
    fn note(&self, ack: Ack, figures: &Figures) -> Option<(usize, bool)> {
        let mut noted = self.noted.take();
        if noted.acks.len() == noted.acks.capacity() {
            return None;
        }
        noted.acks.push(ack);
        figures.was_noted(&noted.acks);
        Some((noted.acks.len(), !std::mem::replace(&mut noted.is_listed, true)))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.noted.take().acks.is_empty()
    }

    /// Those that there are, oldest first.
    fn all(&self) -> SmallVec<[Ack; LOGGED_TOGETHER]> {
        SmallVec::from_slice(&self.noted.take().acks)
    }

    /// Forgets so many of the oldest.
    fn forget(&self, count: usize) {
        self.noted.take().acks.drain(..count);
    }

    /// Notes whether the queue is listed; answers whether it was.
    fn set_listed(&self, is: bool) -> bool {
        std::mem::replace(&mut self.noted.take().is_listed, is)
    }
}

impl Buffer {
    /// Notes an ack, which was decided or is about to be; answers how many of its queue there are now. None where there is no room
    /// for it, and nothing was noted.
    pub(super) fn note_ack(&self, queue: &Queue, ack: Ack) -> Option<usize> {
        let (count, is_new) = queue.acks.note(ack, &queue.figures)?;
        if is_new {
            lock(&self.acked).push(queue.number);
        }
        Some(count)
    }

    /// Logs what handlers have acked of this queue, where nobody else has begun to; what this logs is written and shown when it
    /// returns.
    ///
    /// # Errors
    /// `STORAGE_FULL`, `IO`, `NO_MEMORY` where it could not be logged: it is kept, and tried again by the keeper of the disk. Else
    /// as [`Journal::commit`](crate::journal::Journal::commit).
    pub(crate) fn write_acks(&self, queue: &Queue) -> Result<()> {
        self.with_acks(queue, |acks, record| {
            let led =
                self.journal.append_and_lead(Need::Settle, &[record], |_, pending, is_alone| {
                    logged(queue, acks, pending, !is_alone)
                })?;
            self.journal.follow(led, || self.state.show_all_gone(slots(acks)))
        })?;
        Ok(())
    }

    /// Whether there are acks that the log had no room for.
    pub(crate) fn owes_acks(&self) -> bool {
        self.owes_acks.load(Ordering::Relaxed)
    }

    /// Writes everything there is, what handlers have acked among it.
    pub(crate) fn write(&self) -> Result<()> {
        self.log_all_acks();
        self.journal.write()
    }

    /// Writes and syncs everything there is, what handlers have acked among it.
    pub(crate) fn sync(&self) -> Result<()> {
        self.log_all_acks();
        self.journal.sync()
    }

    /// Logs what handlers have acked, of all queues that may have some. Of what fails everybody hears from the log, or the keeper of
    /// the disk tries it again.
    fn log_all_acks(&self) {
        self.owes_acks.store(false, Ordering::Relaxed);
        let listed = std::mem::take(&mut *lock(&self.acked));
        for number in listed {
            let queue = self.state.queues.numbered(number);
            // Before they are looked at: what is noted behind that lists it again.
            queue.acks.set_listed(false);
            let _ = self.with_acks(queue, |acks, record| {
                let finish = |_, pending: &mut Pending<'_, _>| logged(queue, acks, pending, true);
                self.journal.append(Need::Settle, &[record], finish)
            });
        }
    }

    /// Has what handlers have acked of this queue logged by `log`; answers nothing where there is none.
    fn with_acks<R>(
        &self,
        queue: &Queue,
        log: impl FnOnce(&[Ack], Record<'_>) -> Result<R>,
    ) -> Result<Option<R>> {
        self.journal.relieve()?;
        let _turn = lock(&queue.acks.turn);
        let acks = queue.acks.all();
        if acks.is_empty() {
            return Ok(None);
        }
        let body = acked(self.state.clock.recent(), acks.iter().map(|ack| ack.id));
        let body = [&body[..]];
        let logged = log(&acks, Record::new(kind::ACKED, &body));
        let logged = logged.inspect_err(|error| {
            if error.has_logged_nothing() {
                if !queue.acks.set_listed(true) {
                    lock(&self.acked).push(queue.number);
                }
                self.owes_acks.store(true, Ordering::Relaxed);
                self.state.disk.ring();
            }
        })?;
        Ok(Some(logged))
    }
}

/// What follows where acks are logged, under the lock of the log's tail: who has that lock finds each of them there, or in its record.
fn logged(queue: &Queue, acks: &[Ack], pending: &mut Pending<'_, Effect>, shows_later: bool) {
    queue.acks.forget(acks.len());
    pending.says_more(acks.len() as u64 - 1);
    if shows_later {
        pending.at(Level::Os, Effect::AllGone { slots: slots(acks).collect() });
    }
}

fn slots(acks: &[Ack]) -> impl Iterator<Item = u32> {
    acks.iter().map(|ack| ack.slot)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::{Arc, Mutex, mpsc};
    use std::time::{Duration, Instant};

    use crate::{Broker, HandlerOptions, Message, Options};

    const LONG: Duration = Duration::from_secs(20);

    /// A record of each would take 48 bytes.
    #[test]
    fn what_a_handler_acks_takes_little_of_the_log() {
        const MESSAGES: u64 = 1000;
        let broker = Broker::open(":memory:", Options::new()).unwrap();
        for _ in 0..=MESSAGES {
            broker.enqueue(Message::new("jobs", "")).unwrap();
        }
        let first = broker.receive("jobs", None, None).unwrap().unwrap();
        let engine = Arc::clone(&first.shared.engine);
        first.ack().unwrap();
        broker.handle("jobs", HandlerOptions::new(), |_| Ok(())).unwrap();
        let before = engine.buffer.journal.marks().reserved;
        broker.start().unwrap();
        assert!(broker.wait_idle(LONG).unwrap());
        let bytes = engine.buffer.journal.marks().reserved - before;
        assert!(bytes < 24 * MESSAGES, "{bytes} bytes");
        assert_eq!(broker.metrics().unwrap().queues["jobs"].acked, MESSAGES + 1);
        assert_eq!(engine.buffer.state.room.taken(), 0);
    }

    /// A handler that is busy with its next message keeps the ack of the last one to itself; the keeper of the disk does not.
    #[test]
    fn what_was_acked_is_logged_while_the_handler_is_busy() {
        let broker = Broker::open(":memory:", Options::new()).unwrap();
        let (over, busy) = mpsc::channel::<()>();
        let busy = Mutex::new(busy);
        for body in ["quick", "slow"] {
            broker.enqueue(Message::new("jobs", body)).unwrap();
        }
        broker
            .handle("jobs", HandlerOptions::new().max_parallelism(1), move |context| {
                if context.body() == b"slow" {
                    let _ = busy.lock().unwrap().recv_timeout(LONG);
                }
                Ok(())
            })
            .unwrap();
        let before = broker.metrics().unwrap().lsn.written;
        broker.start().unwrap();
        // The slow one is in its handler until it is told, and nobody else writes.
        let end = Instant::now() + LONG;
        while broker.metrics().unwrap().lsn.written == before {
            assert!(Instant::now() < end, "nobody logs it");
            std::thread::yield_now();
        }
        assert_eq!(broker.metrics().unwrap().queues["jobs"].acked, 1);
        over.send(()).unwrap();
        assert!(broker.wait_idle(LONG).unwrap());
    }
}
