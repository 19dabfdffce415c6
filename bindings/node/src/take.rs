//! Taking: what the loop does when it was rung.

use std::time::Duration;

use libmq::{CancelReason, HandlerError, Inbox, Next};
use napi::bindgen_prelude::{Array, ToNapiValue, Unknown};
use napi::{Env, Result};
use napi_derive::napi;

use crate::bodies::body_of;
use crate::boundary::{ms, text_of, thrown};
use crate::desk::Desk;
use crate::environment::{Environment, lock};
use crate::limits;
use crate::runs::Run;

/// When the loop is to ask again that could not be given what there was, in milliseconds.
const PAUSE_MS: f64 = 1_000.0;

#[napi]
impl Environment {
    /// Acks as many deliveries of the desk as said, and takes what an inbox has, up to `max`. What it found lies on the
    /// desk, but for the bodies: the answer is one body, or several in a text or in a list. Where there is no more, it says
    /// so, and whether something was cancelled. An ack that fails is told by [`Environment::failed_ack`].
    #[napi(catch_unwind)]
    pub fn take<'env>(
        &self,
        env: &'env Env,
        ear: u32,
        max: u32,
        acked: u32,
    ) -> Result<Unknown<'env>> {
        let mut desk = self.desk.borrow_mut();
        let inbox = lock(&self.inner.ears).inbox(ear);
        self.ack_all(&mut desk, acked, inbox.as_ref().map(|(inbox, _)| &**inbox));
        let Some((inbox, broker)) = inbox else {
            desk.taken(0, None, true, false);
            return ().into_unknown(env);
        };
        let (mut count, mut again, mut over) = (0, None, false);
        let mut together = self.together.borrow_mut();
        together.begin();
        while count < max.min(limits::TAKE_MAX) {
            let delivery = match self.guard(broker, || Ok(inbox.take())).map_err(thrown)? {
                Next::Delivery(delivery) => delivery,
                Next::Nothing => {
                    over = true;
                    break;
                }
                Next::After(time) => {
                    again = Some(ms(time));
                    break;
                }
            };
            let (id, attempt) = (delivery.id(), delivery.attempt());
            together.add(&delivery);
            let run = Run { delivery, broker, inbox: Some(ear), told: false };
            match lock(&self.inner.runs).add(run) {
                Ok(number) => desk.delivery(count as usize, number, id, attempt),
                Err(run) => {
                    // There are too many of them.
                    let why = HandlerError::release(Duration::ZERO);
                    let _ = inbox.finish(&run.delivery, Err(why));
                    again = Some(PAUSE_MS);
                    break;
                }
            }
            count += 1;
        }
        desk.taken(count as usize, again, over, over && inbox.hear_cancelled());
        match count {
            0 => ().into_unknown(env),
            1 => self.body(env, desk.taken_number(0)),
            _ => match together.text(env) {
                Some(text) => Ok(text),
                None => self.bodies_of(env, &desk, count).and_then(|list| list.into_unknown(env)),
            },
        }
    }

    /// The bodies of the deliveries that the last [`Environment::take`] found so many of, each for itself.
    #[napi(catch_unwind)]
    pub fn bodies<'env>(&self, env: &'env Env, count: u32) -> Result<Array<'env>> {
        self.bodies_of(env, &self.desk.borrow(), count)
    }

    /// What the first ack failed with that the last [`Environment::take`] could not do, as text.
    #[napi(catch_unwind)]
    pub fn failed_ack(&self) -> Option<String> {
        self.failed_ack.take().as_ref().map(text_of)
    }

    /// What was cancelled of an inbox's deliveries and not told yet: a flat list of number and reason.
    #[napi(catch_unwind)]
    pub fn cancelled<'env>(&self, env: &'env Env, ear: u32) -> Result<Array<'env>> {
        let mut list = env.create_array(0)?;
        let mut runs = lock(&self.inner.runs);
        let is_news =
            |run: &mut Run| run.inbox == Some(ear) && !run.told && run.delivery.cancelled();
        for number in runs.numbers(is_news) {
            let run = runs.of(number).map_err(thrown)?;
            run.told = true;
            list.insert(number)?;
            list.insert(run.delivery.cancel_reason().map_or("", CancelReason::name))?;
        }
        Ok(list)
    }

    /// Has an inbox take nothing more; it goes on ringing for the handlers that run.
    #[napi(catch_unwind)]
    pub fn retire(&self, ear: u32) {
        let inbox = lock(&self.inner.ears).inbox(ear);
        if let Some((inbox, _)) = inbox {
            inbox.retire();
        }
    }

    /// Whether a delivery's lease was lost: what its handler still does is nobody's.
    #[napi(catch_unwind)]
    pub fn is_lost(&self, number: f64) -> bool {
        let mut runs = lock(&self.inner.runs);
        let reason = runs.of(number).map(|run| run.delivery.cancel_reason());
        !matches!(reason, Ok(reason) if reason != Some(CancelReason::LeaseLost))
    }
}

impl Environment {
    /// Acks as many deliveries of the desk, all of this inbox.
    fn ack_all(&self, desk: &mut Desk, count: u32, inbox: Option<&Inbox>) {
        let (mut stale, mut failed) = (0, None);
        for index in 0..count as usize {
            let run = desk.acked(index).and_then(|number| lock(&self.inner.runs).take(number).ok());
            match run.map_or(Ok(false), |run| self.end_run(&run, inbox, Ok(()))) {
                Ok(in_time) => stale += u32::from(!in_time),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        desk.ended(stale, failed.is_some());
        if failed.is_some() {
            self.failed_ack.replace(failed);
        }
    }

    fn bodies_of<'env>(&self, env: &'env Env, desk: &Desk, count: u32) -> Result<Array<'env>> {
        let mut list = env.create_array(0)?;
        for index in 0..count as usize {
            list.insert(self.body(env, desk.taken_number(index))?)?;
        }
        Ok(list)
    }

    /// A body for itself; false for one that JavaScript has no memory for.
    fn body<'env>(&self, env: &'env Env, number: f64) -> Result<Unknown<'env>> {
        let mut runs = lock(&self.inner.runs);
        let body = body_of(env, &runs.of(number).map_err(thrown)?.delivery);
        body.or_else(|_| false.into_unknown(env))
    }
}
