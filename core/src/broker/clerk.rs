//! The clerk: a thread that waits for the durability of enqueues, for callers that cannot wait themselves.
//!
//! It takes what there is, has one sync made that covers all of it, and tells each caller, in the order in which they
//! asked. Where a future waits, what was synced is shown by whoever polls it, while the next sync is under way; what nobody polls
//! is shown here: behind the next sync, or before the clerk rests, waits for room, or calls a callback. An enqueue that could not
//! even begin without waiting, for room or for the disk, begins here; as long as there is such a one, none begins before it, or it
//! would overtake.
//!
//! The thread is started by the first who needs it. A close lets begin what waits for the disk, as long as it has time, has what
//! has begun synced, and refuses the rest; the clerk then tells everybody, and the close returns when it has.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use super::begun::reached;
use super::handlers::is_in_handler;
use super::message::{Message, Receipt};
use super::shared::Shared;
use crate::buffer::{Begun, Owed};
use crate::error::{Error, ErrorKind, Result};
use crate::events::is_telling;
use crate::interrupt::Interrupt;
use crate::journal::Level;
use crate::pile::{Pile, Refused};
use crate::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use crate::sync::{Arc, Mutex, lock};
use crate::thread::spawn_quiet;

thread_local! {
    /// This thread is a clerk's: a close would wait for it.
    static IS_CLERK: Cell<bool> = const { Cell::new(false) };
}

/// Who is to know what became of an enqueue.
pub(super) enum Done {
    /// Called on the clerk's thread.
    Call(Box<dyn FnOnce(Result<Receipt>) + Send>),
    /// Looked at by a future whose enqueue has not begun.
    Answer(Arc<Mutex<Answer>>),
}

/// What the clerk leaves for a future.
#[derive(Debug, Default)]
pub(super) struct Answer {
    outcome: Option<Result<Receipt>>,
    waker: Option<Waker>,
}

/// What waits for the clerk.
#[derive(Default)]
pub(crate) struct Clerk {
    pile: Pile<Task>,
    /// Enqueues that have not begun, the one that is being tried included. Counted before they are on the pile. Sequentially
    /// consistent where it falls, as the next one: who is about to wait for that has said so before it looks.
    unbegun: AtomicUsize,
    /// The one that is being tried waits for room, and the others behind it.
    waits_for_room: AtomicBool,
    /// What ends the waits for room of all of them.
    interrupt: Arc<Interrupt>,
}

enum Task {
    Reach(Begun, Done),
    Wake(Owed, Waker),
    Enqueue(Box<Unbegun>, Done),
}

/// What has begun, or could not, and is waited for.
enum Waiting {
    Tell(Result<Begun>, Done),
    /// Who is woken finds by the log what has become of it.
    Wake(Owed, Waker),
}

/// An enqueue that has not begun.
struct Unbegun {
    message: Message<'static>,
    asked: Instant,
    /// What ends its wait for room: at once for one of a handler, whose ack may be what would make some.
    interrupt: Arc<Interrupt>,
}

impl Clerk {
    /// Has `done` told when what has begun has reached its durability.
    pub(super) fn reach(&self, shared: &Arc<Shared>, begun: Begun, done: Done) {
        self.add(shared, Task::Reach(begun, done));
    }

    /// Has `waker` woken when that much has been reached, or cannot be any more. Many futures of one task are one task here.
    pub(super) fn wake(&self, shared: &Arc<Shared>, owed: Owed, waker: &Waker) {
        let is_told_with = |last: &mut Task| match last {
            Task::Wake(before, last) if last.will_wake(waker) => {
                before.add_all(owed);
                true
            }
            _ => false,
        };
        if !self.pile.amend(is_told_with) {
            self.add(shared, Task::Wake(owed, waker.clone()));
        }
    }

    /// Has a message enqueued, and `done` told.
    pub(super) fn enqueue(&self, shared: &Arc<Shared>, message: Message<'static>, done: Done) {
        let interrupt = if is_in_handler() {
            Arc::new(Interrupt::at_once())
        } else {
            Arc::clone(&self.interrupt)
        };
        let unbegun = Unbegun { message, asked: Instant::now(), interrupt };
        self.unbegun.fetch_add(1, Ordering::AcqRel);
        self.add(shared, Task::Enqueue(Box::new(unbegun), done));
    }

    /// Whether an enqueue waits that has not begun: what begins now would overtake it.
    pub(super) fn has_unbegun(&self) -> bool {
        self.unbegun.load(Ordering::Acquire) > 0
    }

    /// Whether enqueues that have not begun wait for the disk alone. That this ends is rung for in the state's `rest`.
    pub(super) fn is_beginning(&self) -> bool {
        self.unbegun.load(Ordering::SeqCst) > 0 && !self.waits_for_room.load(Ordering::SeqCst)
    }

    /// What ends the waits for room of enqueues that have not begun, and of those to come.
    pub(super) fn interrupt(&self) -> &Interrupt {
        &self.interrupt
    }

    /// Ends the thread when everybody has been told. The broker is closed.
    pub(super) fn dismiss(&self) {
        self.pile.close();
    }

    /// Returns when everybody has been told, whoever else waits for that.
    pub(super) fn join(&self) {
        self.pile.join();
    }

    /// Where there can be no thread, this one does its work.
    fn add(&self, shared: &Arc<Shared>, task: Task) {
        let start = || {
            let clerk = Arc::clone(shared);
            let work = move || {
                IS_CLERK.set(true);
                clerk.clerk.pile.work(|tasks| clerk.clerk.run_all(&clerk, tasks));
            };
            spawn_quiet("libmq-callback", work)
        };
        match self.pile.put(task, start, |tasks| self.run_all(shared, tasks)) {
            // It was closed a moment ago: what has begun was synced by that.
            Err(Refused::Closed(task)) => self.run_all(shared, [task]),
            Ok(()) | Err(Refused::Full) => {}
        }
    }

    /// All begin before the first is waited for, so that they share a sync, too. Shows what the last time left to who polls, and
    /// all of it where nothing else waits for a sync.
    fn run_all(&self, shared: &Arc<Shared>, tasks: impl IntoIterator<Item = Task>) {
        let journal = &shared.engine.buffer.journal;
        let before = journal.durable();
        let mut waiting = Vec::new();
        for task in tasks {
            match task {
                Task::Reach(begun, done) => waiting.push(Waiting::Tell(Ok(begun), done)),
                Task::Wake(owed, waker) => waiting.push(Waiting::Wake(owed, waker)),
                Task::Enqueue(unbegun, done) => {
                    let rest = &shared.engine.buffer.state.rest;
                    let begun = unbegun.begin(shared, || {
                        tell_all(shared, waiting.drain(..));
                        // What is not shown has places, and nobody could take it to give them back.
                        show(shared, journal.durable());
                        self.waits_for_room.store(true, Ordering::SeqCst);
                        rest.ring_if_heard();
                    });
                    self.waits_for_room.store(false, Ordering::SeqCst);
                    self.unbegun.fetch_sub(1, Ordering::SeqCst);
                    rest.ring_if_heard();
                    waiting.push(Waiting::Tell(begun, done));
                }
            }
        }
        tell_all(shared, waiting);
        let synced = if self.pile.is_empty() { journal.durable() } else { before };
        show(shared, synced);
    }
}

impl Done {
    fn tell(self, outcome: Result<Receipt>) {
        match self {
            Self::Call(done) => done(outcome),
            Self::Answer(answer) => {
                let mut answer = lock(&answer);
                answer.outcome = Some(outcome);
                let waker = answer.waker.take();
                drop(answer);
                if let Some(waker) = waker {
                    waker.wake();
                }
            }
        }
    }
}

impl Answer {
    /// The outcome, or has the task of `context` woken when there is one.
    pub(super) fn poll(answer: &Mutex<Self>, context: &Context<'_>) -> Poll<Result<Receipt>> {
        let mut answer = lock(answer);
        if let Some(outcome) = answer.outcome.take() {
            return Poll::Ready(outcome);
        }
        match &mut answer.waker {
            Some(waker) => waker.clone_from(context.waker()),
            None => answer.waker = Some(context.waker().clone()),
        }
        Poll::Pending
    }
}

impl Unbegun {
    /// Begins it. Before it waits for room, which may take long, `first` is done.
    fn begin(&self, shared: &Arc<Shared>, first: impl FnOnce()) -> Result<Begun> {
        let Self { message, asked, interrupt } = self;
        let messages = std::slice::from_ref(message);
        caught(shared, || shared.begin_asked(messages, *asked, interrupt, first))
    }
}

/// Waits for the durability of what has begun, one after the other, and tells.
fn tell_all(shared: &Shared, waiting: impl IntoIterator<Item = Waiting>) {
    let buffer = &shared.engine.buffer;
    for one in waiting {
        // What a callback panics about is its own affair, and the next one's turn comes all the same.
        let _ = match one {
            Waiting::Tell(begun, done) => {
                let outcome = begun.and_then(|begun| caught(shared, || reached(shared, &begun)));
                // A callback may wait for what whoever was woken before it has enqueued.
                show(shared, buffer.journal.durable());
                catch_unwind(AssertUnwindSafe(|| done.tell(outcome)))
            }
            Waiting::Wake(owed, waker) => {
                let _ = caught(shared, || buffer.make_durable(owed));
                catch_unwind(AssertUnwindSafe(|| waker.wake()))
            }
        };
    }
}

/// Shows what is synced up to here. Of a failure hears who waits for it.
fn show(shared: &Shared, synced: u64) {
    let _ = caught(shared, || shared.engine.buffer.journal.commit(Level::Sync, synced));
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
        write!(f, "Clerk({:?})", self.pile)
    }
}
