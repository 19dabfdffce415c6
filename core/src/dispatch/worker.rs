//! Workers: each takes a station's messages, one after another, for a handler that runs on some thread.
//!
//! The thread may be one of ours ([`on_own_threads`]), or one that another language made and that only asks here for the
//! next message. A worker takes a message when it is asked for one, and counts as running its handler until it is asked
//! again. Dropped, it has left. One on an event loop is asked by [`Worker::next_now`] and never waits: its station has a
//! doorbell, which rings when it is worth while to ask again.
//!
//! How a worker's handler has ended is written together: when there is nothing more to take, or after [`OWED_MAX`], or as many acks
//! as are logged together. The keeper of the disk writes it soon, should the worker be busy in its next call; it hears of that when there is a message for
//! it, so that a worker that goes idle wakes nobody.

use std::time::{Duration, Instant};

use super::engine::{Engine, Taker};
use super::flight::Flight;
use super::station::{Permit, Station};
use crate::buffer::Queue;
use crate::events::event;
use crate::journal::Level;
use crate::sync::Arc;
use crate::thread::Signals;

/// How long a worker waits before it asks again for room on the disk.
const STORAGE_FULL_PAUSE: Duration = Duration::from_secs(1);

/// How long a worker finds nothing to do before it leaves.
const IDLE_TIME: Duration = Duration::from_secs(5);

/// Settles that a worker leaves unwritten at most, beside acks that are noted.
const OWED_MAX: u32 = 64;

/// Has a worker run on some thread. Called by whoever finds that one more is needed, which may be the timekeeper; so it
/// waits for nothing. A worker that it drops has left, and somebody is hired again a second later.
pub(crate) type Hire = dyn Fn(Worker) + Send + Sync;

/// Runs a flight; answers what its end still has to have written, if it ended: then its permit is still in use.
pub(crate) type Handle = dyn Fn(Arc<Flight>) -> Option<u64> + Send + Sync;

/// One that handles a station's messages.
#[derive(Debug)]
pub(crate) struct Worker {
    station: Arc<Station>,
    engine: Arc<Engine>,
    taker: Taker,
    owed: Owed,
    /// What its handler is running for.
    flight: Option<Arc<Flight>>,
    /// What it was running for before, whose memory the next one has. Only while it goes on: else it would keep a message's bytes.
    before: Option<Arc<Flight>>,
    /// It has the permit of the flight that its handler has ended.
    has_permit: bool,
    /// It has not been told to leave.
    serving: bool,
    /// It counts among those that look for a message while it runs no handler.
    looks: bool,
}

impl Worker {
    pub(super) fn new(station: Arc<Station>, engine: Arc<Engine>) -> Self {
        let taker = Taker::Handler(Arc::clone(&station));
        Self {
            station,
            engine,
            taker,
            owed: Owed::default(),
            flight: None,
            before: None,
            has_permit: false,
            serving: true,
            looks: true,
        }
    }

    /// Waits for the next message; none when it is time to leave.
    pub(crate) fn next(&mut self) -> Option<Arc<Flight>> {
        self.came_back(None);
        let mut has_looked_out = false;
        while self.serving {
            if !self.goes_on() {
                self.before = None;
                let (engine, owed) = (&self.engine, &mut self.owed);
                let queue = &self.station.queue;
                self.serving = self.station.take_permit(|| _ = owed.write(engine, queue));
                if !self.serving {
                    break;
                }
            }
            match self.take() {
                Took::Flight(flight) => return Some(flight),
                Took::Lost => {}
                // What comes right now is taken before what is owed is written, which may be one write for more, then.
                Took::Nothing
                    if !std::mem::replace(&mut has_looked_out, true)
                        && self.station.queue.look_out() => {}
                Took::Nothing if self.owed.write(&self.engine, &self.station.queue) => {}
                Took::Nothing => self.wait_for_message(),
                Took::NoRoom => {
                    self.leave_to_keeper();
                    let queue = &self.station.queue;
                    drop(queue.wait(queue.ready(), Some(STORAGE_FULL_PAUSE)));
                }
                Took::Failed => self.give_up(),
            }
        }
        self.owed.write(&self.engine, &self.station.queue);
        None
    }

    /// The next message, if there is one now.
    pub(crate) fn next_now(&mut self) -> Now {
        self.came_back(None);
        while self.serving {
            match self.station.try_permit() {
                Permit::Taken => {}
                Permit::None => {
                    self.owed.write(&self.engine, &self.station.queue);
                    return Now::Nothing;
                }
                Permit::Shut => {
                    self.serving = false;
                    break;
                }
            }
            match self.take() {
                Took::Flight(flight) => return Now::Flight(flight),
                Took::Lost => {}
                Took::Nothing if self.owed.write(&self.engine, &self.station.queue) => {}
                Took::Nothing => return Now::Nothing,
                Took::NoRoom => return Now::NoRoom(STORAGE_FULL_PAUSE),
                Took::Failed => self.give_up(),
            }
        }
        self.owed.write(&self.engine, &self.station.queue);
        Now::Leave
    }

    /// Whether it has a permit already, and may keep it.
    fn goes_on(&mut self) -> bool {
        if !std::mem::take(&mut self.has_permit) {
            return false;
        }
        let may = self.station.may_keep_permit();
        if !may {
            self.station.return_permit();
        }
        may
    }

    /// Takes a message with a permit, which is returned with whatever else is answered.
    fn take(&mut self) -> Took {
        let before = self.before.take();
        let leave = || self.leave_to_keeper();
        match self.engine.take(&self.station.queue, &self.taker, before, leave) {
            Ok(Some(flight)) if !self.station.is_open() => {
                // Whoever shut it may have looked for flights before this one was there.
                self.engine.take_back(&flight);
                Took::Lost
            }
            Ok(Some(flight)) => {
                self.station.worker_took(&self.engine);
                self.flight = Some(Arc::clone(&flight));
                Took::Flight(flight)
            }
            Ok(None) => {
                self.station.return_permit();
                Took::Nothing
            }
            Err(error) => {
                self.station.return_permit();
                // Nobody rings when there is room on the disk again.
                if error.has_logged_nothing() { Took::NoRoom } else { Took::Failed }
            }
        }
    }

    fn give_up(&mut self) {
        self.station.worker_gives_up();
        self.serving = false;
    }

    /// What is owed is written soon, whatever this thread does next.
    pub(crate) fn leave_to_keeper(&self) {
        self.owed.leave_to_keeper(&self.engine);
    }

    /// The handler has returned, and `end` has still to be written, if anything: when the next message is asked for, which is
    /// at once, unless it is left to the keeper.
    pub(crate) fn came_back(&mut self, end: Option<u64>) {
        drop(self.land(end));
    }

    /// As that; answers what the handler was running for, if it was.
    fn land(&mut self, end: Option<u64>) -> Option<Arc<Flight>> {
        let flight = self.flight.take()?;
        match end {
            // It has ended its flight itself, so nobody has taken the lease away meanwhile.
            Some(end) => self.owed.add(&self.engine, &self.station.queue, end),
            None if flight.lease.leave() => self.serving = self.station.is_needed_after_all(),
            None => {}
        }
        if self.station.worker_looks() {
            self.engine.buffer.state.rest.ring_if_heard();
        }
        Some(flight)
    }

    /// Waits for something to take; in vain for a while, it leaves if it may.
    fn wait_for_message(&mut self) {
        let state = &self.engine.buffer.state;
        let began = Instant::now();
        let time = self.station.has_spare_workers().then_some(IDLE_TIME);
        let mut ready = self.station.queue.ready();
        if !self.station.is_open() || state.has_ready(&ready) {
            return;
        }
        ready = self.station.queue.wait(ready, time);
        let in_vain = !state.has_ready(&ready) && began.elapsed() >= IDLE_TIME;
        drop(ready);
        if in_vain && self.station.may_leave() {
            (self.serving, self.looks) = (false, false);
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.came_back(None);
        self.before = None;
        if self.has_permit {
            self.station.return_permit();
        }
        self.owed.write(&self.engine, &self.station.queue);
        if self.station.worker_leaves(self.looks, self.serving) {
            // Whoever was to run it could not, or cannot any more; that may be different soon.
            self.engine.hire_wish.ask(&self.engine.buffer.state.disk);
        }
        // Who stops the broker waits for that.
        self.engine.buffer.state.rest.ring_if_heard();
    }
}

/// Has every worker run on a thread of its own, which calls `handle`, and blocks the signals that this thread does.
pub(crate) fn on_own_threads(queue: &str, handle: Arc<Handle>) -> Box<Hire> {
    let name = format!("libmq-{queue:.8}");
    let signals = Signals::of_this_thread();
    Box::new(move |mut worker| {
        let (handle, engine) = (Arc::clone(&handle), Arc::clone(&worker.engine));
        let work = move || {
            // Who starts it may be a thread of libmq's own.
            signals.replace();
            while let Some(flight) = worker.next() {
                let end = handle(flight);
                worker.has_permit = end.is_some();
                worker.before = worker.land(end);
            }
            // The handler is let go of before: whoever waits for the worker may rely on its being gone.
            drop(handle);
            drop(worker);
        };
        let spawned = std::thread::Builder::new().name(name.clone()).spawn(work);
        if let Err(cause) = spawned {
            let (events, error) = (&engine.buffer.state.events, cause.to_string());
            event!(events, Warn, "no_thread", thread = name.as_str(), error = error.as_str());
        }
    })
}

/// What a worker that does not wait is answered.
#[derive(Debug)]
pub(crate) enum Now {
    Flight(Arc<Flight>),
    /// Nothing; the station's doorbell rings when that may have changed.
    Nothing,
    /// The disk has no room; to be asked again after this time, since nothing rings then.
    NoRoom(Duration),
    /// It is time to leave.
    Leave,
}

/// What became of a look for a message.
enum Took {
    Flight(Arc<Flight>),
    /// The station was shut meanwhile.
    Lost,
    Nothing,
    NoRoom,
    Failed,
}

/// Settles of one worker that are not known to be written.
#[derive(Debug, Default)]
struct Owed {
    /// It has acked something that was only noted, and is counted there.
    has_noted: bool,
    /// Where the records of the others end, and how many there are.
    end: u64,
    count: u32,
}

impl Owed {
    /// One more, whose records end there; 0 if there are none yet.
    fn add(&mut self, engine: &Engine, queue: &Queue, end: u64) {
        if end == 0 {
            self.has_noted = true;
            return;
        }
        self.end = self.end.max(end);
        self.count += 1;
        if self.count >= OWED_MAX {
            self.write(engine, queue);
        }
    }

    /// Has the keeper of the disk write what is owed, if anything.
    fn leave_to_keeper(&self, engine: &Engine) {
        if self.is_some() {
            let state = &engine.buffer.state;
            state.write_wish.ask(&state.disk);
        }
    }

    /// Writes what is owed; answers whether there was something.
    fn write(&mut self, engine: &Engine, queue: &Queue) -> bool {
        let owed = self.is_some();
        if owed {
            // A failure poisons the journal, and everybody hears of it from there; or it is tried again.
            let _ = engine.buffer.write_acks(queue);
            let _ = engine.buffer.journal.commit(Level::Os, self.end);
            *self = Self::default();
        }
        owed
    }

    fn is_some(&self) -> bool {
        self.has_noted || self.count > 0
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::mpsc;
    use std::time::Instant;

    use super::*;
    use crate::error::Error;
    use crate::storage::Watched;
    use crate::sync::{Mutex, lock};
    use crate::{Broker, Durability, HandlerOptions, Message, Options};

    /// Workers that nobody asks for a while, as on a loop that has little to do, kept each the message that it had handled last, and
    /// the file that lay in.
    #[test]
    fn who_has_nothing_to_do_keeps_no_message() {
        let broker = Broker::open(":memory:", Options::new()).unwrap();
        let options = HandlerOptions::new().max_parallelism(4);
        let inbox = broker.handle_on_loop("jobs", options, || {}).unwrap().unwrap();
        broker.start().unwrap();
        for _ in 0..4 {
            broker.enqueue(Message::new("jobs", "")).unwrap();
        }
        let (mut taken, end) = (Vec::new(), Instant::now() + Duration::from_secs(20));
        while taken.len() < 4 {
            assert!(Instant::now() < end, "{taken:?}");
            let _ = inbox.take(4, &mut taken);
        }
        let flights: Vec<_> = taken.iter().map(|it| Arc::downgrade(&it.flight)).collect();
        inbox.ack_all(&taken, |error| panic!("{error}"));
        drop(taken);
        assert!(flights.iter().all(|flight| flight.upgrade().is_none()));

        // And on threads of our own, the last one at the latest when its worker has looked for another for a while.
        let (sender, handled) = mpsc::channel();
        let note = move |context: &crate::Context| {
            let _ = sender.send(Arc::downgrade(&context.flight));
            Ok(())
        };
        broker.handle("more", HandlerOptions::new(), note).unwrap();
        for _ in 0..3 {
            broker.enqueue(Message::new("more", "")).unwrap();
            let flight = handled.recv_timeout(Duration::from_secs(20)).unwrap();
            while flight.upgrade().is_some() {
                assert!(Instant::now() < end, "it is kept");
                std::thread::yield_now();
            }
        }
    }

    /// Each end woke the keeper of the disk, to have written what the worker wrote itself a moment later.
    #[test]
    fn a_worker_that_goes_idle_wakes_nobody() {
        let options = Options::new().sync_interval(Duration::from_secs(3600));
        let broker = Broker::open(":memory:", options).unwrap();
        broker.handle("jobs", HandlerOptions::new(), |_| Ok(())).unwrap();
        broker.start().unwrap();
        // It asks for a sync, which is far away.
        broker.enqueue(Message::new("aside", "")).unwrap();
        let aside = broker.receive("aside", None, None).unwrap().unwrap();
        let engine = Arc::clone(&aside.shared.engine);
        aside.ack().unwrap();
        let handle_one = || {
            broker.enqueue(Message::new("jobs", "")).unwrap();
            broker.wait_idle(Duration::from_secs(20)).unwrap();
            // Until the worker has written its end, which it does when it has looked for more for a while.
            let end = Instant::now() + Duration::from_secs(20);
            let marks = || engine.buffer.journal.marks();
            while marks().written < marks().reserved {
                assert!(Instant::now() < end, "it is not written");
                std::thread::yield_now();
            }
        };
        let disk = &engine.buffer.state.disk;
        let before = disk.count();
        (0..10).for_each(|_| handle_one());
        assert_eq!(disk.count(), before);
    }

    /// The keeper heard of what a worker owed when its next message was there, and a disk may take its time to read that.
    #[test]
    fn an_end_is_written_soon_while_the_next_body_is_read() {
        let disk = Watched::default();
        let meanwhile = disk.meanwhile();
        let options = Options::new().sync_interval(Duration::from_secs(3600)).cache_bytes(0);
        let broker = Broker::open_on(Arc::new(disk), options.durability(Durability::Os)).unwrap();
        let put = |queue, bytes| broker.enqueue(Message::new(queue, vec![7; bytes])).unwrap();
        (0..2).for_each(|_| _ = put("jobs", 100_000));
        // They leave the cache for these.
        (0..20).for_each(|_| _ = put("aside", 1_000_000));
        let aside = broker.receive("aside", None, None).unwrap().unwrap();
        let engine = Arc::clone(&aside.shared.engine);
        let (told, heard) = mpsc::channel();
        let (return_it, returns) = mpsc::channel();
        let returns = Mutex::new(returns);
        let handler = move |_: &crate::Context| {
            let _ = told.send(());
            // The second time nobody has to say so.
            let _ = lock(&returns).recv();
            Ok(())
        };
        broker.handle("jobs", HandlerOptions::new().max_parallelism(1), handler).unwrap();
        broker.start().unwrap();
        heard.recv().unwrap();
        let before = engine.buffer.journal.marks().reserved;
        let (answer, answers) = mpsc::channel::<()>();
        meanwhile.set(move || _ = answers.recv());
        return_it.send(()).unwrap();
        drop(return_it);
        let end = Instant::now() + Duration::from_secs(20);
        while engine.buffer.journal.marks().written <= before {
            assert!(Instant::now() < end, "it is not written");
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(heard.try_recv().is_err(), "the next body was read");
        drop(answer);
        heard.recv().unwrap();
        assert!(!meanwhile.is_to_come(), "it was in the cache");
    }

    /// A worker gave a message back that it had taken while its station was shut, but the journal refused. The flight was
    /// due once more a second later, was not cancelled and had not reached its timeout: the timekeeper found it due again
    /// and again, and never came to anything else.
    #[test]
    fn what_could_not_be_given_back_does_not_keep_the_timekeeper() {
        let dir = tempfile::tempdir().unwrap();
        let broker = Broker::open(dir.path(), Options::new()).unwrap();
        broker.enqueue(Message::new("aside", "")).unwrap();
        let aside = broker.receive("aside", None, None).unwrap().unwrap();
        let engine = Arc::clone(&aside.shared.engine);
        broker.enqueue(Message::new("jobs", "")).unwrap();
        broker.handle("jobs", HandlerOptions::new(), |_| Ok(())).unwrap();
        let queue = Arc::clone(engine.buffer.state.queues.named("jobs").unwrap());
        let station = Arc::clone(&lock(&engine.stations)[&queue.number]);
        let index = queue.ready().lanes.first().unwrap().0;
        let guard = engine.buffer.state.slots.at(index).lock();
        broker.start().unwrap();
        let end = Instant::now() + Duration::from_secs(20);
        let until = |done: &dyn Fn() -> bool| {
            while !done() {
                assert!(Instant::now() < end, "it did not come");
                std::thread::yield_now();
            }
        };
        std::thread::scope(|scope| {
            // Time to come to the message; where that was too short, the test shows less, and nothing false.
            std::thread::sleep(Duration::from_millis(50));
            scope.spawn(|| station.shut());
            until(&|| !station.is_open());
            scope.spawn(|| engine.buffer.journal.poison(Error::closed()));
            until(&|| engine.buffer.journal.poisoned().is_some());
            drop(guard);
        });
        until(&|| station.has_left());
        std::thread::sleep(Duration::from_millis(1100));
        let (told, done) = mpsc::channel();
        std::thread::spawn(move || {
            engine.run_due();
            let _ = told.send(());
        });
        assert!(done.recv_timeout(Duration::from_secs(20)).is_ok(), "it never ends");
    }
}
