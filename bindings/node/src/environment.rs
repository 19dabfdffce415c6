//! The environment: one event loop, what is to be told to it, and what it has under way.
//!
//! There is one for the main thread and one for each worker thread that loads the package. When it ends, by whatever
//! means, a hook gives back what its handlers hold, and from then on nobody calls its loop any more.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use libmq::{Error, ErrorKind, Event, Inbox, Interrupt};
use napi::bindgen_prelude::{Array, BigUint64Array, Float64Array, Function};
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi::{Env, Result, Status};
use napi_derive::napi;

use crate::bodies::Together;
use crate::broker::Opened;
use crate::call::{Call, Urgency};
use crate::desk::Desk;
use crate::done::{Done, Value};
use crate::ears::{Ear, Ears};
use crate::limits;
use crate::log::Events;
use crate::owner;
use crate::runs::Runs;

/// Says "have a look". Weak: it keeps no loop alive.
type Wake = ThreadsafeFunction<(), (), (), Status, false, true, 0>;

/// An event loop's native state, as JavaScript holds it. All but what threads know of it is this thread's alone.
#[napi]
#[derive(Clone, Debug)]
pub struct Environment {
    pub(crate) inner: Arc<Inner>,
    pub(crate) desk: Rc<RefCell<Desk>>,
    pub(crate) together: Rc<RefCell<Together>>,
    /// What the first ack failed with that the last take could not do.
    pub(crate) failed_ack: Rc<RefCell<Option<Error>>>,
}

/// What threads know of an event loop.
pub(crate) struct Inner {
    post: Mutex<Post>,
    /// A call that has a thread of its own has ended.
    call_ended: Condvar,
    pub(crate) runs: Mutex<Runs>,
    pub(crate) ears: Mutex<Ears>,
    /// The brokers that this environment has open, by numbers that are given once.
    pub(crate) brokers: Mutex<BTreeMap<u32, Arc<Opened>>>,
}

/// What the loop is to be told when it looks.
#[derive(Default)]
struct Post {
    /// While the loop listens.
    wake: Option<Wake>,
    done: Vec<Done>,
    /// Inboxes and watches that rang.
    rung: Vec<u32>,
    /// For log hooks.
    events: Events,
    /// The loop was told to look and has not looked yet.
    woken: bool,
    /// The environment has ended.
    ended: bool,
    /// Calls that have a thread of their own, each with what ends its waits, and the broker it waits in.
    calls: Vec<(u32, Arc<Interrupt>, libmq::Broker)>,
    threads: usize,
    last_call: u32,
    last_broker: u32,
    /// Calls that wait for such a thread.
    waiting: VecDeque<Call>,
}

/// The environment of this loop. The arrays are the desk.
#[napi(catch_unwind)]
pub fn connect(env: Env, numbers: Float64Array, ids: BigUint64Array) -> Result<Environment> {
    let desk = Desk::new(numbers, ids)?;
    let inner = Arc::new(Inner {
        post: Mutex::default(),
        call_ended: Condvar::new(),
        runs: Mutex::default(),
        ears: Mutex::default(),
        brokers: Mutex::default(),
    });
    // It may run after that of a threadsafe function, which is taken down in a later turn of the loop all the same: until
    // then it answers that it is closing.
    env.add_env_cleanup_hook(Arc::clone(&inner), |inner| inner.end())?;
    let desk = Rc::new(RefCell::new(desk));
    Ok(Environment { inner, desk, together: Rc::default(), failed_ack: Rc::default() })
}

#[napi]
impl Environment {
    /// The loop listens: `wake` is called when there is something to collect. That is something open, to whoever looks for
    /// such; so it is there no longer than a broker or a call is.
    #[napi(catch_unwind)]
    pub fn rouse(&self, wake: Function<'_, (), ()>) -> Result<()> {
        if lock(&self.inner.post).wake.is_some() {
            return Ok(());
        }
        let wake = wake
            .build_threadsafe_function::<()>()
            .weak::<true>()
            .callee_handled::<false>()
            .build()?;
        let mut post = lock(&self.inner.post);
        post.woken = false;
        post.wake = Some(wake);
        Ok(())
    }

    /// No call is under way: without a broker there is nothing to be told until the loop listens again.
    #[napi(catch_unwind)]
    pub fn rest(&self) {
        if lock(&self.inner.brokers).is_empty() {
            let wake = lock(&self.inner.post).wake.take();
            drop(wake);
        }
    }

    /// What there is to be told: a flat list of promises with their errors and values, a list of what rang, and events for
    /// log hooks. What was heard before a promise was kept is there no later than that.
    #[napi(catch_unwind)]
    pub fn collect<'env>(&self, env: &'env Env) -> Result<Array<'env>> {
        let (done, rung, events) = {
            let mut post = lock(&self.inner.post);
            post.woken = false;
            let Post { done, rung, events, .. } = &mut *post;
            (std::mem::take(done), std::mem::take(rung), std::mem::take(events))
        };
        let mut told = env.create_array(0)?;
        for done in done {
            done.write(env, &mut told)?;
        }
        let mut all = env.create_array(0)?;
        all.insert(told)?;
        all.insert(rung)?;
        all.insert(events.write(env)?)?;
        Ok(all)
    }

    /// The program, or this thread of it, ends: nothing more is taken for its handlers, and what they have answered is
    /// written.
    #[napi(catch_unwind)]
    pub fn shut(&self) {
        let inboxes = lock(&self.inner.ears).inboxes(|_| true);
        inboxes.iter().for_each(|inbox| inbox.retire());
        for opened in self.inner.opened() {
            opened.owner.broker.write_settled();
        }
    }
}

impl Inner {
    /// A call is done.
    pub(crate) fn done(&self, promise: f64, result: libmq::Result<Value>) {
        self.all_done([Done { promise, result }]);
    }

    /// Several calls are done.
    pub(crate) fn all_done(&self, done: impl IntoIterator<Item = Done>) {
        self.tell(|post| post.done.extend(done));
    }

    /// An inbox or a watch has rung.
    pub(crate) fn rang(&self, number: u32) {
        self.tell(|post| post.rung.push(number));
    }

    /// A broker has told something that a log hook of this number is to hear.
    pub(crate) fn heard(&self, hook: u32, event: &Event) {
        self.tell(|post| post.events.add(hook, event));
    }

    fn tell(&self, what: impl FnOnce(&mut Post)) {
        let mut post = lock(&self.post);
        // What is told when nobody listens concerns nobody any more.
        if post.ended || post.wake.is_none() {
            return;
        }
        what(&mut post);
        if !post.woken {
            post.woken = true;
            // Under the lock, so that nobody calls a loop that has ended.
            if let Some(wake) = &post.wake {
                wake.call((), ThreadsafeFunctionCallMode::NonBlocking);
            }
        }
    }

    /// Keeps a broker that was opened, under a number, unless the loop has ended meanwhile.
    pub(crate) fn keep(&self, opened: Arc<Opened>) -> libmq::Result<u32> {
        let mut brokers = lock(&self.brokers);
        let mut post = lock(&self.post);
        if post.ended {
            return Err(Error::new(ErrorKind::Closed, "the thread that opened it has ended"));
        }
        post.last_broker = post.last_broker.wrapping_add(1);
        brokers.insert(post.last_broker, opened);
        Ok(post.last_broker)
    }

    /// Keeps an inbox that was registered on another thread, unless the loop has ended meanwhile.
    pub(crate) fn listen(&self, number: u32, inbox: Arc<Inbox>, broker: u32) -> libmq::Result<()> {
        let mut ears = lock(&self.ears);
        if lock(&self.post).ended {
            drop(ears);
            return Err(Error::new(ErrorKind::Closed, "the thread that registered it has ended"));
        }
        ears.add(number, Ear::Inbox(inbox, broker));
        Ok(())
    }

    /// What tells it from every other one that there is.
    pub(crate) fn address(self: &Arc<Self>) -> usize {
        Arc::as_ptr(self).addr()
    }

    /// Whether its loop has ended.
    pub(crate) fn has_ended(&self) -> bool {
        lock(&self.post).ended
    }

    /// The brokers that are open here.
    pub(crate) fn opened(&self) -> Vec<Arc<Opened>> {
        lock(&self.brokers).values().cloned().collect()
    }

    /// One more call. The answer is to be given a thread of its own; none where it gets one that has ended another call,
    /// or the environment has ended.
    pub(crate) fn call_begins(&self, call: Call, urgency: Urgency) -> Option<Call> {
        let mut post = lock(&self.post);
        if post.ended {
            // Not under the lock: with it a broker may go.
            drop(post);
            return None;
        }
        if urgency == Urgency::InTurn && post.threads >= limits::CALLS_MAX {
            post.waiting.push_back(call);
            return None;
        }
        post.threads += 1;
        Some(call)
    }

    /// A call has ended; answers the next one for its thread.
    pub(crate) fn call_ends(&self) -> Option<Call> {
        let mut post = lock(&self.post);
        if post.threads <= limits::CALLS_MAX
            && let Some(next) = post.waiting.pop_front()
        {
            return Some(next);
        }
        post.threads -= 1;
        self.call_ended.notify_all();
        None
    }

    /// There was no thread for a call. If others wait, there are threads that will come to them.
    pub(crate) fn call_fails(&self) {
        lock(&self.post).threads -= 1;
    }

    /// Notes what ends a call's waits, until the answer is given back.
    pub(crate) fn interruptible(&self, broker: &libmq::Broker) -> (u32, Arc<Interrupt>) {
        let mut post = lock(&self.post);
        let interrupt = Arc::new(if post.ended { Interrupt::at_once() } else { Interrupt::new() });
        post.last_call = post.last_call.wrapping_add(1);
        let number = post.last_call;
        post.calls.push((number, Arc::clone(&interrupt), broker.clone()));
        (number, interrupt)
    }

    /// That call waits no more.
    pub(crate) fn forget_interrupt(&self, number: u32) {
        lock(&self.post).calls.retain(|(other, ..)| *other != number);
    }

    /// The loop has ended: what it held is given back, and nobody calls it any more.
    fn end(&self) {
        let (calls, waiting) = {
            let mut post = lock(&self.post);
            post.ended = true;
            (std::mem::take(&mut post.calls), std::mem::take(&mut post.waiting))
        };
        for (_, interrupt, broker) in &calls {
            broker.interrupt(interrupt);
        }
        drop((calls, waiting));
        owner::ring();
        let runs = std::mem::take(&mut *lock(&self.runs));
        runs.give_back();
        let ears = std::mem::take(&mut *lock(&self.ears));
        drop(ears);
        let brokers = std::mem::take(&mut *lock(&self.brokers));
        brokers.values().for_each(|opened| opened.clerk.end());
        self.wait_for_calls();
        // By nobody else's leave: JavaScript's handles of a broker go when they are collected.
        brokers.values().for_each(|opened| opened.end());
    }

    /// Waits a little for the calls that have threads of their own.
    fn wait_for_calls(&self) {
        let end = Instant::now() + limits::END_TIME_MAX;
        let mut post = lock(&self.post);
        while post.threads > 0 {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.call_ended.wait_timeout(post, left);
            post = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Environment")
    }
}

/// Locks, whatever became of the last holder: a panic has poisoned its broker.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
