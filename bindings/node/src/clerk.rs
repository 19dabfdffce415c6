//! Clerks: one thread for each broker of an environment, which waits so that the loop need not.
//!
//! It brings enqueues that have begun to their durability, and enqueues what could not even begin without waiting. It does
//! both in the order in which the loop asked. While an enqueue waits with it that has not begun, none may begin on the
//! loop, or it would overtake.

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
    enqueues: AtomicUsize,
    interrupt: Interrupt,
}

/// What there is to wait for, each with its promise.
pub(crate) enum Task {
    /// What has begun reaches its durability.
    Reach(Begun, f64),
    /// What could not begin is enqueued as a whole.
    Enqueue(Enqueue, f64),
}

/// Enqueues messages, waiting for room and for the disk; the interrupt ends the wait for room.
type Enqueue = Box<dyn FnOnce(&Broker, &Interrupt) -> libmq::Result<Value> + Send>;

impl Clerk {
    pub(crate) fn new(broker: Broker) -> Self {
        let (pile, enqueues) = (Pile::default(), AtomicUsize::new(0));
        Self { broker, office: Arc::new(Office { pile, enqueues, interrupt: Interrupt::new() }) }
    }

    /// Whether an enqueue waits that has not begun.
    pub(crate) fn has_enqueues(&self) -> bool {
        self.office.enqueues.load(Ordering::Acquire) > 0
    }

    /// One more task.
    pub(crate) fn add(&self, environment: &Arc<Inner>, task: Task) {
        if matches!(task, Task::Enqueue(..)) {
            self.office.enqueues.fetch_add(1, Ordering::AcqRel);
        }
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
    fn deal_with(
        &self,
        broker: &Broker,
        environment: &Inner,
        tasks: impl IntoIterator<Item = Task>,
    ) {
        let mut done = Vec::new();
        for task in tasks {
            match task {
                // The first of them has a sync made that covers all that have begun by then.
                Task::Reach(begun, promise) => {
                    let result = guarded(broker, || begun.reach()).map(|()| Value::Nothing);
                    done.push(Done { promise, result });
                }
                Task::Enqueue(enqueue, promise) => {
                    // It may wait for long, and nobody else should for that.
                    environment.all_done(std::mem::take(&mut done));
                    let result = guarded(broker, || enqueue(broker, &self.interrupt));
                    self.enqueues.fetch_sub(1, Ordering::AcqRel);
                    environment.done(promise, result);
                }
            }
        }
        environment.all_done(done);
    }
}

impl std::fmt::Debug for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Reach(..) => "Reach",
            Self::Enqueue(..) => "Enqueue",
        })
    }
}
