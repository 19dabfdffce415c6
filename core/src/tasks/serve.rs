//! Serving a queue: one task takes its messages and has each handled by a task of its own.

use std::collections::HashMap;
use std::future::{Future, pending, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Poll;
use std::time::Duration;

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::Notify;

use super::attempt::Attempt;
use super::handler::AsyncHandler;
use super::states::States;
use crate::Delivery;
use crate::broker::{Broker, HandlerOptions, Inbox, Left};
use crate::error::{Error, Result};

/// Messages that are taken before the first of them is given to a task.
const TAKE_MAX: usize = 16;

/// Attempts under way, under their tokens.
type Attempts = Mutex<HashMap<u64, Weak<Attempt>>>;

impl Broker {
    /// Registers a queue's handler that is an async function. It is called for every message of the queue once the broker is
    /// started, each call a task on the tokio runtime that this is called in, up to `max_parallelism` of them at once. Its
    /// arguments are made for each attempt: see [`FromDelivery`](crate::FromDelivery). Returning `Ok` acks; an error or a
    /// panic is a failed attempt, unless the error says otherwise. A cancelled attempt is told by
    /// [`AsyncContext::cancellation`](crate::AsyncContext::cancellation); one that has not ended by the end of its grace is
    /// dropped where it waits.
    ///
    /// [`Broker::stop`], [`Broker::close`] and [`Broker::wait_idle`] wait for handlers as for any other, and block their
    /// thread: in a task, call them through `spawn_blocking`.
    ///
    /// # Errors
    /// `INVALID`, also outside of a runtime, or where the handler asks for a [`State`](crate::State) that
    /// [`Options::state`](crate::Options::state) was not given; `CLOSED`, `FORKED`; `DEADLOCK` where it would replace another
    /// inside a handler, or in a runtime with one thread.
    pub fn handle_async<A: 'static>(
        &self,
        queue: &str,
        options: HandlerOptions,
        handler: impl AsyncHandler<A>,
    ) -> Result<()> {
        let runtime = Handle::try_current().map_err(|_| {
            Error::invalid("handle_async is called inside a tokio runtime, which runs the handler")
        })?;
        let states = Arc::clone(&self.options().states);
        check(&handler, &states)?;
        let (bell, ended) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let may_wait = runtime.runtime_flavor() == RuntimeFlavor::MultiThread;
        let register = || {
            let (rung, over) = (Arc::clone(&bell), Over(Arc::clone(&ended)));
            self.handle_on_tasks(queue, options, may_wait, move || rung.notify_one(), over)
        };
        // It may wait for the calls of the handler that it replaces, some of which may be this thread's next tasks.
        let replaces = may_wait && self.has_handler(queue);
        let inbox = if replaces { tokio::task::block_in_place(register)? } else { register()? };
        let served =
            Served { inbox: Arc::new(inbox), attempts: Arc::default(), states, bell, ended };
        runtime.spawn(served.run(Arc::new(handler)));
        Ok(())
    }
}

fn check<H: AsyncHandler<A>, A>(_handler: &H, states: &States) -> Result<()> {
    H::check(states)
}

/// A queue that is served.
struct Served {
    inbox: Arc<Inbox>,
    attempts: Arc<Attempts>,
    states: Arc<States>,
    bell: Arc<Notify>,
    /// Told when the handler was replaced, or the broker closed.
    ended: Arc<Notify>,
}

/// Dropped with the handler.
#[derive(Debug)]
struct Over(Arc<Notify>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

impl Served {
    async fn run<A: 'static>(self, handler: Arc<impl AsyncHandler<A>>) {
        let mut taken = Vec::new();
        loop {
            let left = self.inbox.take(TAKE_MAX, &mut taken);
            taken.drain(..).for_each(|delivery| self.spawn(delivery, Arc::clone(&handler)));
            let pause = match left {
                Left::Perhaps => continue,
                Left::Nothing => None,
                Left::NoRoom(pause) => Some(pause),
            };
            if self.inbox.hear_cancelled() {
                let attempts = lock(&self.attempts);
                let attempts: Vec<_> = attempts.values().filter_map(Weak::upgrade).collect();
                attempts.iter().for_each(|attempt| attempt.look());
            }
            if self.wait(pause).await {
                return;
            }
        }
    }

    fn spawn<A: 'static>(&self, delivery: Delivery, handler: Arc<impl AsyncHandler<A>>) {
        let token = delivery.token();
        let attempt = Arc::new(Attempt::new(delivery, Arc::clone(&self.states)));
        lock(&self.attempts).insert(token, Arc::downgrade(&attempt));
        let (inbox, attempts) = (Arc::clone(&self.inbox), Arc::clone(&self.attempts));
        let bell = Arc::clone(&self.bell);
        tokio::spawn(async move {
            attempt.run(inbox, handler).await;
            lock(&attempts).remove(&token);
            // Its place is free for the next message.
            bell.notify_one();
        });
    }

    /// Waits until it is worth while to look, at most for `pause`; answers whether the handler is over.
    async fn wait(&self, pause: Option<Duration>) -> bool {
        let mut ended = pin!(self.ended.notified());
        let mut rung = pin!(self.bell.notified());
        let mut pause = pin!(async {
            match pause {
                Some(pause) => tokio::time::sleep(pause).await,
                None => pending().await,
            }
        });
        poll_fn(|task| {
            if ended.as_mut().poll(task).is_ready() {
                return Poll::Ready(true);
            }
            let looks = rung.as_mut().poll(task).is_ready() || pause.as_mut().poll(task).is_ready();
            if looks { Poll::Ready(false) } else { Poll::Pending }
        })
        .await
    }
}

fn lock(attempts: &Attempts) -> MutexGuard<'_, HashMap<u64, Weak<Attempt>>> {
    attempts.lock().unwrap_or_else(PoisonError::into_inner)
}
