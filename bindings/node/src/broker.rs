//! Brokers, as one environment has them open.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use libmq::{Error, ErrorKind, Interrupt};
use napi::bindgen_prelude::{Array, BigInt, Object};
use napi::{Env, Result};
use napi_derive::napi;

use crate::boundary::{caught, duration, guarded, ms, thrown, whole_size};
use crate::call;
use crate::clerk::Clerk;
use crate::desk::Desk;
use crate::done::Value;
use crate::environment::{Environment, Inner, lock};
use crate::options::{BrokerInit, HandlerInit};
use crate::owner::{self, Asked, Owner};
use crate::runs::Run;
use crate::take::{Ear, body_of};

/// A broker that this environment has open. Dropped, it has ended.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) owner: Arc<Owner>,
    pub(crate) clerk: Clerk,
    /// The environment, by its address, which no other one has until this has left.
    home: usize,
    /// It has left its owner. JavaScript may hold it for long after that.
    left: AtomicBool,
}

/// A broker, as JavaScript holds it.
#[napi]
#[derive(Debug)]
pub struct NativeBroker {
    pub(crate) desk: Rc<RefCell<Desk>>,
    pub(crate) environment: Arc<Inner>,
    pub(crate) opened: Arc<Opened>,
    number: u32,
}

#[napi]
impl Environment {
    /// Opens a directory; the promise brings the broker's number. `text` is all options as text, `hook` the number of the
    /// log hook, or 0.
    #[napi(catch_unwind)]
    pub fn open(&self, promise: f64, path: String, init: BrokerInit, text: String, hook: u32) {
        let inner = Arc::clone(&self.inner);
        let has_files = init.has_files() && path != ":memory:";
        let lock_timeout = init.lock_timeout.map(duration).unwrap_or_default();
        let asked = Asked { options: init.options(), text, has_files, lock_timeout, hook };
        call::run(&self.inner, promise, move || {
            let owner = owner::open(&path, asked, &inner)?;
            let clerk = Clerk::new(owner.broker.clone());
            let (home, left) = (inner.address(), AtomicBool::new(false));
            let opened = Arc::new(Opened { owner, clerk, home, left });
            inner.keep(opened).map(Value::Opened)
        });
    }

    /// Verifies a directory; the promise brings the report.
    #[napi(catch_unwind)]
    pub fn verify(&self, promise: f64, path: String) {
        call::run(&self.inner, promise, move || libmq::verify(path).map(Value::Report));
    }

    /// Nobody has a broker any more: it ends as with the environment.
    #[napi(catch_unwind)]
    pub fn forsake(&self, broker: u32) {
        let mut brokers = lock(&self.inner.brokers);
        let Some(opened) = brokers.get_mut(broker as usize).and_then(Option::take) else { return };
        drop(brokers);
        self.give_back(broker);
        call::run(&self.inner, call::NO_PROMISE, move || {
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
        Ok(NativeBroker { desk, environment, opened, number })
    }
}

impl Environment {
    pub(crate) fn opened(&self, number: u32) -> Option<Arc<Opened>> {
        lock(&self.inner.brokers).get(number as usize)?.clone()
    }

    /// Runs what may panic; that poisons the broker of this number.
    pub(crate) fn guard<T>(
        &self,
        broker: u32,
        work: impl FnOnce() -> libmq::Result<T>,
    ) -> libmq::Result<T> {
        caught(work).unwrap_or_else(|panic| {
            if let Some(opened) = self.opened(broker) {
                opened.owner.broker.poison("a bug in libmq was caught");
            }
            Err(panic)
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

    /// Registers a handler; answers the number of its inbox.
    #[napi(catch_unwind)]
    pub fn handle(&self, queue: String, init: HandlerInit) -> Result<u32> {
        let broker = &self.opened.owner.broker;
        let number = lock(&self.environment.ears).next_number();
        let ring = self.ring(number);
        let inbox = guarded(broker, || broker.handle_on_loop(&queue, init.options(), ring));
        let ear = Ear::Inbox(Arc::new(inbox.map_err(thrown)?), self.number);
        lock(&self.environment.ears).add(number, ear);
        Ok(number)
    }

    /// Has a queue ring for those who receive from it; answers the number of the watch.
    #[napi(catch_unwind)]
    pub fn watch(&self, queue: String) -> Result<u32> {
        let number = lock(&self.environment.ears).next_number();
        let watch = self.opened.owner.broker.watch(&queue, self.ring(number)).map_err(thrown)?;
        lock(&self.environment.ears).add(number, Ear::Watch(watch));
        Ok(number)
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
        self.call(promise, |broker, _| broker.start().map(|()| Value::Nothing));
    }

    /// Stops handlers.
    #[napi(catch_unwind)]
    pub fn stop(&self, promise: f64, timeout: f64) {
        let timeout = duration(timeout);
        self.call(promise, move |broker, interrupt| {
            broker.stop_until(timeout, interrupt).map(|()| Value::Nothing)
        });
    }

    /// Whether other environments have it open, too.
    #[napi(catch_unwind)]
    pub fn is_shared(&self) -> bool {
        self.opened.owner.shares() > 1
    }

    /// Closes the broker, or leaves it to the other environments that have it open.
    #[napi(catch_unwind)]
    pub fn close(&self, promise: f64, timeout: f64) {
        let (timeout, opened) = (duration(timeout), Arc::clone(&self.opened));
        let (environment, number) = (Arc::clone(&self.environment), self.number as usize);
        self.call(promise, move |broker, interrupt| {
            let closed =
                if opened.leave() { broker.close_until(timeout, interrupt) } else { Ok(()) };
            opened.clerk.end();
            if let Some(place) = lock(&environment.brokers).get_mut(number) {
                *place = None;
            }
            closed.map(|()| Value::Nothing)
        });
    }

    /// Waits until all is at rest; a negative timeout is none.
    #[napi(catch_unwind)]
    pub fn wait_idle(&self, promise: f64, timeout: f64) {
        let timeout = (timeout >= 0.0).then(|| duration(timeout));
        self.call(promise, move |broker, interrupt| {
            broker.wait_idle_until(timeout, interrupt).map(Value::Bool)
        });
    }

    /// Takes a snapshot.
    #[napi(catch_unwind)]
    pub fn snapshot(&self, promise: f64) {
        self.call(promise, |broker, _| broker.snapshot().map(|()| Value::Nothing));
    }

    /// Writes a copy of the broker.
    #[napi(catch_unwind)]
    pub fn backup(&self, promise: f64, path: String) {
        self.call(promise, move |broker, _| broker.backup(path).map(|()| Value::Nothing));
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
        self.call(promise, move |broker, _| broker.cancel(id).map(Value::Bool));
    }

    /// Removes all of a queue that nobody holds.
    #[napi(catch_unwind)]
    pub fn purge(&self, promise: f64, queue: String) {
        self.call(promise, move |broker, _| broker.purge(&queue).map(Value::Count));
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
    /// Leaves the owner, if it has not; answers whether nobody else has it open then.
    fn leave(&self) -> bool {
        !self.left.swap(true, Ordering::AcqRel) && self.owner.leave(self.home)
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
