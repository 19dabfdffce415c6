//! The clerk: a thread that waits for the durability of enqueues, for callers that cannot wait themselves.
//!
//! It takes what there is, has one sync made that covers all of it, and tells each caller, in the order in which they
//! asked. An enqueue that could not even begin without waiting, for room or for the disk, is done here as a whole; as
//! long as there is such a one, none begins before it, or it would overtake.
//!
//! The thread is started by the first who needs it. A close has what has begun synced and refuses the rest; the clerk
//! then tells everybody, and the close returns when it has.

use std::cell::Cell;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::JoinHandle;

use super::begun::Begun;
use super::message::{Message, Receipt};
use super::shared::Shared;
use crate::error::{Error, ErrorKind, Result};
use crate::events::is_telling;
use crate::interrupt::Interrupt;
use crate::sync::{Arc, Condvar, Mutex, lock, wait};

thread_local! {
    /// This thread is a clerk's: a close would wait for it.
    static IS_CLERK: Cell<bool> = const { Cell::new(false) };
}

/// Told what became of an enqueue, on the clerk's thread.
pub(super) type Done = Box<dyn FnOnce(Result<Receipt>) + Send>;

/// What waits for the clerk.
#[derive(Default)]
pub(crate) struct Clerk {
    pile: Mutex<Pile>,
    more: Condvar,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Pile {
    tasks: VecDeque<Task>,
    /// Enqueues that have not begun, the one that is being tried included.
    unbegun: usize,
    closed: bool,
}

enum Task {
    Reach(Begun, Done),
    Enqueue(Message<'static>, Done),
}

impl Clerk {
    /// Has `done` told when what has begun has reached its durability.
    pub(super) fn reach(&self, shared: &Arc<Shared>, begun: Begun, done: Done) {
        self.add(shared, Task::Reach(begun, done));
    }

    /// Has a message enqueued, and `done` told.
    pub(super) fn enqueue(&self, shared: &Arc<Shared>, message: Message<'static>, done: Done) {
        self.add(shared, Task::Enqueue(message, done));
    }

    /// Whether an enqueue waits that has not begun: what begins now would overtake it.
    pub(super) fn has_unbegun(&self) -> bool {
        lock(&self.pile).unbegun > 0
    }

    /// Ends the thread when everybody has been told. The broker is closed.
    pub(super) fn dismiss(&self) {
        lock(&self.pile).closed = true;
        self.more.notify_one();
    }

    /// Returns when everybody has been told.
    pub(super) fn join(&self) {
        let thread = lock(&self.thread).take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }

    fn add(&self, shared: &Arc<Shared>, task: Task) {
        let refused = {
            let mut pile = lock(&self.pile);
            if pile.closed {
                Some(task)
            } else {
                pile.unbegun += usize::from(matches!(task, Task::Enqueue(..)));
                pile.tasks.push_back(task);
                None
            }
        };
        match refused {
            None => {
                self.more.notify_one();
                self.start(shared);
            }
            // It was closed a moment ago: what has begun was synced by that.
            Some(task) => task.run(shared),
        }
    }

    /// Starts the thread, if there is none; where there can be none, this one does its work.
    fn start(&self, shared: &Arc<Shared>) {
        let mut thread = lock(&self.thread);
        if thread.is_some() {
            return;
        }
        let clerk = Arc::clone(shared);
        let work = move || {
            IS_CLERK.set(true);
            clerk.clerk.work(&clerk);
        };
        match std::thread::Builder::new().name("libmq-callback".into()).spawn(work) {
            Ok(spawned) => *thread = Some(spawned),
            Err(_) => {
                drop(thread);
                let tasks = std::mem::take(&mut *lock(&self.pile)).tasks;
                tasks.into_iter().for_each(|task| task.run(shared));
            }
        }
    }

    fn work(&self, shared: &Arc<Shared>) {
        loop {
            let tasks = {
                let mut pile = lock(&self.pile);
                while pile.tasks.is_empty() {
                    if pile.closed {
                        return;
                    }
                    pile = wait(&self.more, pile);
                }
                // Those that have not begun stay counted until they have.
                std::mem::take(&mut pile.tasks)
            };
            for task in tasks {
                let was_unbegun = matches!(task, Task::Enqueue(..));
                task.run(shared);
                if was_unbegun {
                    lock(&self.pile).unbegun -= 1;
                }
            }
        }
    }
}

impl Task {
    /// Waits for what it is about, and tells.
    fn run(self, shared: &Shared) {
        let (outcome, done) = match self {
            Self::Reach(begun, done) => {
                (caught(shared, || begun.reach().map(|()| begun.receipts().next())), done)
            }
            Self::Enqueue(message, done) => {
                let messages = std::slice::from_ref(&message);
                let enqueue = || shared.enqueue(messages, &Interrupt::new());
                (caught(shared, || Ok(enqueue()?.first().copied().map(Receipt::from))), done)
            }
        };
        let outcome = outcome.and_then(|receipt| receipt.ok_or_else(Error::closed));
        // What a callback panics about is its own affair, and the next one's turn comes all the same.
        let _ = catch_unwind(AssertUnwindSafe(|| done(outcome)));
    }
}

/// Has a panic, which is a bug, poison the broker and be told, so that nobody waits for ever.
fn caught<R>(shared: &Shared, work: impl FnOnce() -> Result<R>) -> Result<R> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        let text = "a bug in libmq was caught: please report it";
        shared.poison(text);
        Err(Error::new(ErrorKind::Panic, text))
    })
}

/// Refuses a call that waits for the clerk, or for whoever tells a log hook, on their own threads.
pub(super) fn refuse_in_callback(call: &str) -> Result<()> {
    if IS_CLERK.get() || is_telling() {
        let text = format!("{call} inside a callback would wait for itself");
        return Err(Error::new(ErrorKind::Deadlock, text));
    }
    Ok(())
}

impl std::fmt::Debug for Clerk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Clerk({} tasks)", lock(&self.pile).tasks.len())
    }
}
