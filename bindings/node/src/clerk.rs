//! Clerks: one thread for each broker of an environment, which waits so that the loop need not.
//!
//! It brings enqueues and settles that have begun to their durability, and enqueues what could not even begin without
//! waiting. It does both in the order in which the loop asked. While an enqueue waits with it that has not begun, none
//! may begin on the loop, or it would overtake.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

use libmq::{Begun, Broker, Interrupt};

use crate::boundary::guarded;
use crate::done::{Done, Value};
use crate::environment::{Inner, lock};

/// The thread that waits, once there is something to wait for.
#[derive(Debug)]
pub(crate) struct Clerk {
    broker: Broker,
    desk: Arc<Desk>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug, Default)]
struct Desk {
    pile: Mutex<Pile>,
    more: Condvar,
    interrupt: Interrupt,
}

#[derive(Debug, Default)]
struct Pile {
    tasks: VecDeque<Task>,
    /// Enqueues that have not begun, the one that is being tried included.
    enqueues: usize,
    closed: bool,
}

/// What there is to wait for, each with its promise.
pub(crate) enum Task {
    Reach(Begun, f64),
    Enqueue(Enqueue, f64),
}

/// An enqueue with everything its own.
pub(crate) type Enqueue = Box<dyn FnOnce(&Broker, &Interrupt) -> libmq::Result<Value> + Send>;

impl Clerk {
    pub(crate) fn new(broker: Broker) -> Self {
        Self { broker, desk: Arc::default(), thread: Mutex::default() }
    }

    /// Whether an enqueue waits that has not begun.
    pub(crate) fn has_enqueues(&self) -> bool {
        lock(&self.desk.pile).enqueues > 0
    }

    /// One more task.
    pub(crate) fn add(&self, environment: &Arc<Inner>, task: Task) {
        {
            let mut pile = lock(&self.desk.pile);
            pile.enqueues += usize::from(matches!(task, Task::Enqueue(..)));
            pile.tasks.push_back(task);
        }
        self.desk.more.notify_one();
        let mut thread = lock(&self.thread);
        if thread.is_none() {
            let (broker, desk) = (self.broker.clone(), Arc::clone(&self.desk));
            let environment = Arc::clone(environment);
            let work = move || work(&broker, &desk, &environment);
            let spawned = std::thread::Builder::new().name("libmq-clerk".into()).spawn(work);
            *thread = spawned.ok();
        }
    }

    /// Does what is there, waits for nothing more, and ends.
    pub(crate) fn end(&self) {
        lock(&self.desk.pile).closed = true;
        self.broker.interrupt(&self.desk.interrupt);
        self.desk.more.notify_one();
        if let Some(thread) = lock(&self.thread).take() {
            let _ = thread.join();
        }
    }
}

fn work(broker: &Broker, desk: &Desk, environment: &Arc<Inner>) {
    loop {
        let tasks = {
            let mut pile = lock(&desk.pile);
            while pile.tasks.is_empty() {
                if pile.closed {
                    return;
                }
                pile = desk.more.wait(pile).unwrap_or_else(PoisonError::into_inner);
            }
            std::mem::take(&mut pile.tasks)
        };
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
                    let result = guarded(broker, || enqueue(broker, &desk.interrupt));
                    lock(&desk.pile).enqueues -= 1;
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
