//! Clerks: one thread for each broker of an environment, which waits so that the loop need not.
//!
//! It brings enqueues that have begun to their durability, and has begin what could not even do that without waiting. It does
//! both in the order in which the loop asked. While an enqueue waits with it that has not begun, none may begin on the
//! loop, or it would overtake.
//!
//! What has begun and waits with it when the next comes is told of with that: they are a *round*, which has one promise.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use libmq::pile::{Pile, Refused};
use libmq::{Begun, Broker, Interrupt};

use crate::boundary::guarded;
use crate::done::{Done, Value};
use crate::environment::Inner;

/// The thread that waits, once there is something to wait for.
#[derive(Debug)]
pub(crate) struct Clerk {
    broker: Broker,
    office: Arc<Office>,
}

#[derive(Debug)]
struct Office {
    pile: Pile<Task>,
    /// Enqueues that have not begun, the one that is being tried included. Counted before they are on the pile.
    unbegun: AtomicUsize,
    interrupt: Interrupt,
}

/// What there is to wait for, each with its promise.
enum Task {
    /// What has begun reaches its durability: a round.
    Reach(Begun, f64),
    /// What could not begin does.
    Begin(Begin, f64),
}

/// Has messages begin, waiting for the disk and for room; the interrupt ends the wait for room, and what is called last is
/// called before it.
pub(crate) type Begin =
    Box<dyn FnOnce(&Broker, &Interrupt, &mut dyn FnMut()) -> libmq::Result<Begun> + Send>;

/// What has begun, or could not, with its promise.
struct Waiting {
    begun: libmq::Result<Begun>,
    promise: f64,
    /// The promise brings the receipts, too.
    with_receipts: bool,
}

impl Clerk {
    pub(crate) fn new(broker: Broker) -> Self {
        let (pile, unbegun) = (Pile::default(), AtomicUsize::new(0));
        Self { broker, office: Arc::new(Office { pile, unbegun, interrupt: Interrupt::new() }) }
    }

    /// Whether an enqueue waits that has not begun.
    pub(crate) fn has_unbegun(&self) -> bool {
        self.office.unbegun.load(Ordering::Acquire) > 0
    }

    /// Has a promise kept when what has begun has reached its durability: this one, or that of the round which waits already.
    /// Answers which.
    pub(crate) fn reach(&self, environment: &Arc<Inner>, begun: Begun, promise: f64) -> f64 {
        let mut round = promise;
        let joins = |last: &mut Task| match last {
            Task::Reach(others, theirs) => {
                others.wait_for(&begun);
                round = *theirs;
                true
            }
            Task::Begin(..) => false,
        };
        if !self.office.pile.amend(joins) {
            self.add(environment, Task::Reach(begun, promise));
        }
        round
    }

    /// Has a message begin that could not without waiting, and its promise kept.
    pub(crate) fn begin(&self, environment: &Arc<Inner>, begin: Begin, promise: f64) {
        self.office.unbegun.fetch_add(1, Ordering::AcqRel);
        self.add(environment, Task::Begin(begin, promise));
    }

    fn add(&self, environment: &Arc<Inner>, task: Task) {
        let start = || {
            let (broker, office) = (self.broker.clone(), Arc::clone(&self.office));
            let environment = Arc::clone(environment);
            let work = move || {
                office.pile.work(|tasks| office.deal_with(&broker, &environment, tasks));
            };
            std::thread::Builder::new().name("libmq-clerk".into()).spawn(work)
        };
        // Where there can be no thread, this one does its work.
        let here = |tasks| self.office.deal_with(&self.broker, environment, tasks);
        match self.office.pile.put(task, start, here) {
            // It ended a moment ago: its broker is closed, or left to others.
            Err(Refused::Closed(task)) => {
                self.office.deal_with(&self.broker, environment, [task]);
            }
            Ok(()) | Err(Refused::Full) => {}
        }
    }

    /// Does what is there, waits for nothing more, and ends.
    pub(crate) fn end(&self) {
        self.office.pile.close();
        self.broker.interrupt(&self.office.interrupt);
        self.office.pile.join();
    }
}

impl Office {
    /// All begin before the first is waited for, so that they share a sync.
    fn deal_with(
        &self,
        broker: &Broker,
        environment: &Inner,
        tasks: impl IntoIterator<Item = Task>,
    ) {
        let mut waiting = Vec::new();
        for task in tasks {
            let one = match task {
                Task::Reach(begun, promise) => {
                    Waiting { begun: Ok(begun), promise, with_receipts: false }
                }
                Task::Begin(begin, promise) => {
                    // It may wait for long, and nobody else should for that.
                    let mut first = || reach_all(broker, environment, waiting.drain(..));
                    let begun = guarded(broker, || begin(broker, &self.interrupt, &mut first));
                    self.unbegun.fetch_sub(1, Ordering::AcqRel);
                    Waiting { begun, promise, with_receipts: true }
                }
            };
            waiting.push(one);
        }
        reach_all(broker, environment, waiting);
    }
}

/// Waits for the durability of what has begun, and keeps the promises. The first has a sync made that covers all that have begun
/// by then.
fn reach_all(broker: &Broker, environment: &Inner, waiting: impl IntoIterator<Item = Waiting>) {
    let done = waiting.into_iter().map(|Waiting { begun, promise, with_receipts }| {
        let reached = begun.and_then(|begun| guarded(broker, || begun.reach().map(|()| begun)));
        let result = reached.map(|begun| match with_receipts {
            true => Value::Receipts(begun.receipts().collect()),
            false => Value::Nothing,
        });
        Done { promise, result }
    });
    environment.all_done(done.collect::<Vec<_>>());
}

impl std::fmt::Debug for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Reach(..) => "Reach",
            Self::Begin(..) => "Begin",
        })
    }
}
