//! Brokers, as one environment has them open.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use libmq::{Begun, Broker, Error, ErrorKind, Interrupt};
use napi::bindgen_prelude::{Array, BigInt, Object};
use napi::{Env, Result};
use napi_derive::napi;

use crate::bodies::body_of;
use crate::boundary::{caught, duration, guarded, ms, poisoned, thrown, whole_size};
use crate::call::{self, Urgency};
use crate::clerk::Clerk;
use crate::desk::Desk;
use crate::done::Value;
use crate::ears::Ear;
use crate::environment::{Environment, Inner, lock};
use crate::options::{BrokerInit, HandlerInit};
use crate::owner::{self, Asked, Owner};
use crate::runs::Run;

/// The number of no inbox.
const NOT_NOW: u32 = 0;

/// A broker that this environment has open. Dropped, it has ended.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) owner: Arc<Owner>,
    pub(crate) clerk: Clerk,
    /// The environment, by its address, which no other one has until this has left.
    home: usize,
    /// Once it has left its owner, whether nobody else had it open then. JavaScript may hold it for long after that.
    left: OnceLock<bool>,
}

/// A broker, as JavaScript holds it.
#[napi]
#[derive(Clone, Debug)]
pub struct NativeBroker {
    pub(crate) desk: Rc<RefCell<Desk>>,
    pub(crate) environment: Arc<Inner>,
    pub(crate) opened: Arc<Opened>,
    /// What has begun and only has to be written, which is done for all of it at once.
    pub(crate) gathered: Rc<RefCell<Option<Begun>>>,
    number: u32,
}

#[napi]
impl Environment {
    /// Opens a directory; the promise brings the broker's number. `hook` is the number of the log hook, or 0.
    #[napi(catch_unwind)]
    pub fn open(&self, promise: f64, path: String, init: BrokerInit, hook: u32) {
        let inner = Arc::clone(&self.inner);
        let has_files = init.has_files() && path != ":memory:";
        let lock_timeout = init.lock_timeout.map(duration).unwrap_or_default();
        let asked = Asked { options: init.options(), has_files, lock_timeout, hook };
        call::run(&self.inner, promise, Urgency::InTurn, move || {
            let owner = owner::open(&path, asked, &inner)?;
            let clerk = Clerk::new(owner.broker.clone());
            let (home, left) = (inner.address(), OnceLock::new());
            let opened = Arc::new(Opened { owner, clerk, home, left });
            inner.keep(opened).map(Value::Opened)
        });
    }

    /// Verifies a directory; the promise brings the report.
    #[napi(catch_unwind)]
    pub fn verify(&self, promise: f64, path: String) {
        let verify = move || libmq::verify(path).map(Value::Report);
        call::run(&self.inner, promise, Urgency::InTurn, verify);
    }

    /// Nobody has a broker any more: it ends as with the environment.
    #[napi(catch_unwind)]
    pub fn forsake(&self, broker: u32) {
        let Some(opened) = lock(&self.inner.brokers).remove(&broker) else { return };
        self.give_back(broker);
        call::run(&self.inner, call::NO_PROMISE, Urgency::AtOnce, move || {
            opened.end();
            Ok(Value::Nothing)
        });
    }

    /// The broker of a number that `open` brought.
    #[napi(catch_unwind)]
    pub fn broker(&self, number: u32) -> Result<NativeBroker> {
        let opened = self
            .opened(number)
            .ok_or_else(|| thrown(Error::new(ErrorKind::Closed, "the broker is closed")))?;
        let (environment, desk) = (Arc::clone(&self.inner), Rc::clone(&self.desk));
        Ok(NativeBroker { desk, environment, opened, gathered: Rc::default(), number })
    }
}

impl Environment {
    pub(crate) fn opened(&self, number: u32) -> Option<Arc<Opened>> {
        lock(&self.inner.brokers).get(&number).cloned()
    }

    /// Runs what may panic; that poisons the broker of this number.
    pub(crate) fn guard<T>(
        &self,
        broker: u32,
        work: impl FnOnce() -> libmq::Result<T>,
    ) -> libmq::Result<T> {
        caught(work).unwrap_or_else(|panic| {
            Err(match self.opened(broker) {
                Some(opened) => poisoned(&opened.owner.broker, &panic),
                None => panic,
            })
        })
    }
}

#[napi]
impl NativeBroker {
    /// Its number in this environment.
    #[napi(getter, catch_unwind)]
    pub fn number(&self) -> u32 {
        self.number
    }

    /// The directory.
    #[napi(getter, catch_unwind)]
    pub fn path(&self) -> String {
        self.opened.owner.broker.path().to_string_lossy().into_owned()
    }

    /// What opening found.
    #[napi(catch_unwind)]
    pub fn recovery<'env>(&self, env: &'env Env) -> Result<Object<'env>> {
        let found = self.opened.owner.broker.recovery();
        let mut object = Object::new(env)?;
        object.set("messages", found.messages as f64)?;
        object.set("deadLetters", found.dead_letters as f64)?;
        object.set("suspects", found.suspects as f64)?;
        object.set("records", found.records as f64)?;
        object.set("droppedBytes", found.dropped_bytes as f64)?;
        object.set("snapshot", found.snapshot.map(|position| position as f64))?;
        object.set("duration", ms(found.duration))?;
        Ok(object)
    }

    /// Registers a handler; answers the number of its inbox, or [`NOT_NOW`] where that would have to wait for others that
    /// register, start, stop or close.
    #[napi(catch_unwind)]
    pub fn handle(&self, queue: String, init: HandlerInit) -> Result<u32> {
        let broker = &self.opened.owner.broker;
        let number = lock(&self.environment.ears).next_number();
        let ring = self.ring(number);
        let inbox = guarded(broker, || broker.handle_on_loop(&queue, init.options(), ring));
        let Some(inbox) = inbox.map_err(thrown)? else { return Ok(NOT_NOW) };
        self.environment.put_gate(&inbox);
        lock(&self.environment.ears).add(number, Ear::Inbox(Arc::new(inbox), self.number));
        Ok(number)
    }

    /// As `handle`, waiting for those others; the promise brings the number of the inbox, which may have rung by then.
    #[napi(catch_unwind)]
    pub fn handle_in_turn(&self, promise: f64, queue: String, init: HandlerInit) {
        let (home, environment) = (self.number, Arc::clone(&self.environment));
        let number = lock(&environment.ears).next_number();
        let ring = self.ring(number);
        self.call(promise, Urgency::AtOnce, move |broker, interrupt| {
            let inbox = broker.handle_on_loop_until(&queue, init.options(), interrupt, ring)?;
            let inbox = inbox.ok_or_else(|| Error::new(ErrorKind::Closed, "its thread ends"))?;
            environment.listen(number, Arc::new(inbox), home)?;
            Ok(Value::Count(number.into()))
        });
    }

    /// Refuses a handler that `handle` would refuse whoever else registers one.
    #[napi(catch_unwind)]
    pub fn check_handler(&self, queue: String, init: HandlerInit) -> Result<()> {
        let broker = &self.opened.owner.broker;
        guarded(broker, || broker.check_handler(&queue, init.options())).map_err(thrown)
    }

    /// Has a queue ring for those who receive from it; answers the number of the watch.
    #[napi(catch_unwind)]
    pub fn watch(&self, queue: String) -> Result<u32> {
        let number = lock(&self.environment.ears).next_number();
        let watch = self.opened.owner.broker.watch(&queue, self.ring(number)).map_err(thrown)?;
        lock(&self.environment.ears).add(number, Ear::Watch(watch));
        Ok(number)
    }

    /// Refuses a receive that `receive` would refuse, and takes nothing.
    #[napi(catch_unwind)]
    pub fn check_receive(&self, queue: String, max: f64, lease: Option<f64>) -> Result<()> {
        let broker = &self.opened.owner.broker;
        let checked = broker.check_receive(&queue, whole_size(max), lease.map(duration));
        checked.map_err(thrown)
    }

    /// Takes up to `max` messages that are there: a flat list of number, id, attempt and body.
    #[napi(catch_unwind)]
    pub fn receive<'env>(
        &self,
        env: &'env Env,
        queue: String,
        max: f64,
        lease: Option<f64>,
    ) -> Result<Array<'env>> {
        let broker = &self.opened.owner.broker;
        let (now, lease) = (Duration::ZERO, lease.map(duration));
        let received = guarded(broker, || {
            broker.receive_batch_until(&queue, whole_size(max), now, lease, &Interrupt::at_once())
        });
        let mut list = env.create_array(0)?;
        for delivery in received.map_err(thrown)? {
            let (id, attempt) = (delivery.id(), delivery.attempt());
            let body = match body_of(env, &delivery) {
                Ok(body) => body,
                Err(error) if list.len() == 0 => return Err(error),
                // This one and those behind it are dropped, which releases them.
                Err(_) => break,
            };
            let run = Run { delivery, broker: self.number, inbox: None, told: false };
            // One that there are too many of is dropped, which releases it.
            if let Ok(number) = lock(&self.environment.runs).add(run) {
                list.insert(number)?;
                list.insert(BigInt::from(id))?;
                list.insert(attempt)?;
                list.insert(body)?;
            }
        }
        Ok(list)
    }

    /// Starts handlers.
    #[napi(catch_unwind)]
    pub fn start(&self, promise: f64) {
        let start = |broker: &Broker, _: &_| broker.start().map(|()| Value::Nothing);
        self.call(promise, Urgency::AtOnce, start);
    }

    /// Stops handlers.
    #[napi(catch_unwind)]
    pub fn stop(&self, promise: f64, timeout: f64) {
        let timeout = duration(timeout);
        self.call(promise, Urgency::AtOnce, move |broker, interrupt| {
            broker.stop_until(timeout, interrupt).map(|()| Value::Nothing)
        });
    }

    /// Closes the broker, or leaves it to the other environments that have it open, when what is handled here has ended.
    #[napi(catch_unwind)]
    pub fn close(&self, promise: f64, timeout: f64) {
        let (timeout, opened) = (duration(timeout), Arc::clone(&self.opened));
        let (environment, number) = (Arc::clone(&self.environment), self.number);
        let inboxes = lock(&environment.ears).inboxes(|broker| broker == number);
        self.call(promise, Urgency::AtOnce, move |broker, interrupt| {
            let began = Instant::now();
            let retired = if opened.owner.shares() > 1 {
                broker.retire_until(&inboxes, timeout, interrupt)
            } else {
                Ok(())
            };
            drop(inboxes);
            let rest = timeout.saturating_sub(began.elapsed());
            let closed = if opened.leave() { broker.close_until(rest, interrupt) } else { Ok(()) };
            opened.clerk.end();
            let left = lock(&environment.brokers).remove(&number);
            drop(left);
            closed.and(retired).map(|()| Value::Nothing)
        });
    }

    /// Waits until all is at rest; a negative timeout is none.
    #[napi(catch_unwind)]
    pub fn wait_idle(&self, promise: f64, timeout: f64) {
        let timeout = (timeout >= 0.0).then(|| duration(timeout));
        let asked = Instant::now();
        self.call(promise, Urgency::InTurn, move |broker, interrupt| {
            let left = timeout.map(|timeout| timeout.saturating_sub(asked.elapsed()));
            broker.wait_idle_until(left, interrupt).map(Value::Bool)
        });
    }

    /// Takes a snapshot.
    #[napi(catch_unwind)]
    pub fn snapshot(&self, promise: f64) {
        self.call(promise, Urgency::InTurn, |broker, _| broker.snapshot().map(|()| Value::Nothing));
    }

    /// Writes a copy of the broker.
    #[napi(catch_unwind)]
    pub fn backup(&self, promise: f64, path: String) {
        self.call(promise, Urgency::InTurn, move |broker, _| {
            broker.backup(path).map(|()| Value::Nothing)
        });
    }

    /// Sets how many of a queue's handler run at once.
    #[napi(catch_unwind)]
    pub fn scale(&self, queue: String, most: f64) -> Result<()> {
        let broker = &self.opened.owner.broker;
        let most = u32::try_from(whole_size(most)).unwrap_or(u32::MAX);
        guarded(broker, || broker.scale(&queue, most)).map_err(thrown)
    }

    /// Has nothing handed out from a queue.
    #[napi(catch_unwind)]
    pub fn pause(&self, queue: String) -> Result<()> {
        let broker = &self.opened.owner.broker;
        guarded(broker, || broker.pause(&queue)).map_err(thrown)
    }

    /// Ends a pause.
    #[napi(catch_unwind)]
    pub fn resume(&self, queue: String) -> Result<()> {
        let broker = &self.opened.owner.broker;
        guarded(broker, || broker.resume(&queue)).map_err(thrown)
    }

    /// Ends a message.
    #[napi(catch_unwind)]
    pub fn cancel(&self, promise: f64, id: BigInt) {
        let id = id.get_u64().1;
        self.call(promise, Urgency::InTurn, move |broker, _| broker.cancel(id).map(Value::Bool));
    }

    /// Removes all of a queue that nobody holds.
    #[napi(catch_unwind)]
    pub fn purge(&self, promise: f64, queue: String) {
        self.call(promise, Urgency::InTurn, move |broker, _| {
            broker.purge(&queue).map(Value::Count)
        });
    }

    /// Moves a manual clock.
    #[napi(catch_unwind)]
    pub fn advance(&self, time: f64) -> Result<()> {
        let broker = &self.opened.owner.broker;
        guarded(broker, || broker.advance(duration(time))).map_err(thrown)
    }
}

impl NativeBroker {
    fn ring(&self, number: u32) -> impl Fn() + Send + Sync + 'static {
        let environment = Arc::downgrade(&self.environment);
        move || {
            if let Some(environment) = environment.upgrade() {
                environment.rang(number);
            }
        }
    }
}

impl Opened {
    /// Leaves the owner, if it has not; answers whether nobody else had it open then.
    fn leave(&self) -> bool {
        *self.left.get_or_init(|| self.owner.leave(self.home))
    }

    /// Ends without being closed: closes the broker if nobody else has it open, and waits for no handler, since there is
    /// none any more.
    pub(crate) fn end(&self) {
        let is_last = self.leave();
        self.clerk.end();
        if is_last {
            let broker = &self.owner.broker;
            // There is nobody who could be told.
            let _ = guarded(broker, || broker.close_until(Duration::ZERO, &Interrupt::at_once()));
        }
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.end();
    }
}
