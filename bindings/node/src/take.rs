//! Taking: what the loop does when it was rung.

use std::time::Duration;

use libmq::{CancelReason, HandlerError, Inbox, Left};
use napi::bindgen_prelude::{Array, ToNapiValue, Unknown};
use napi::{Env, JsValue, Result};
use napi_derive::napi;

use crate::bodies::body_of;
use crate::boundary::{ms, text_of, thrown};
use crate::desk::Desk;
use crate::environment::{Environment, lock};
use crate::limits;
use crate::runs::Run;
use crate::settle::is_too_late;

/// When the loop is to ask again that could not be given what there was, in milliseconds.
const PAUSE_MS: f64 = 1_000.0;

#[napi]
impl Environment {
    /// The function `take(ear, max, acked)`. It acks as many deliveries of the desk as said, and takes what an inbox has, up to
    /// `max`. What it found lies on the desk, but for the bodies: the answer is one body, or several in a text or in a list.
    /// Where there is no more, it says so, and whether something was cancelled. An ack that fails is told by
    /// [`Environment::failed_ack`].
    ///
    /// A function of its own, since a call of a class's method costs several times as much.
    #[napi(catch_unwind)]
    pub fn taker<'env>(&self, env: &'env Env) -> Result<Unknown<'env>> {
        let here = self.clone();
        let take = env.create_function_from_closure::<(), _, _>("take", move |call| {
            let (ear, max, acked) = (call.get(0)?, call.get(1)?, call.get(2)?);
            here.take(call.env, ear, max, acked).map(|found| found.raw())
        });
        take?.into_unknown(env)
    }

    /// The bodies of the deliveries that the last take found so many of, each for itself.
    #[napi(catch_unwind)]
    pub fn bodies<'env>(&self, env: &'env Env, count: u32) -> Result<Array<'env>> {
        self.bodies_of(env, &self.desk.borrow(), count as usize)
    }

    /// What the first ack failed with that the last take could not do, as text.
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

    /// Puts deliveries of an inbox off, in whose handlers the loop has not been: all that it took, from one on.
    #[napi(catch_unwind)]
    pub fn put_off(&self, numbers: Vec<f64>) {
        let mut runs = lock(&self.inner.runs);
        for number in numbers {
            if let Ok(run) = runs.of(number) {
                run.delivery.put_off();
            }
        }
    }

    /// These handlers were entered a while after they were taken: their time begins now.
    #[napi(catch_unwind)]
    pub fn renew(&self, numbers: Vec<f64>) {
        let mut runs = lock(&self.inner.runs);
        for number in numbers {
            // One that has lost its lease is told so elsewhere.
            let _ = runs.of(number).map(|run| run.delivery.enter());
        }
    }

    /// The loop enters the handler of a delivery that had to wait for it; false if it was given back meanwhile, and then it
    /// is forgotten.
    #[napi(catch_unwind)]
    pub fn enter(&self, number: f64) -> bool {
        let mut runs = lock(&self.inner.runs);
        let Ok(run) = runs.of(number) else { return false };
        if run.delivery.enter() {
            return true;
        }
        let run = runs.take(number);
        drop(runs);
        if let Ok(run) = run {
            let ear = run.inbox.unwrap_or_default();
            self.abandon(ear, &run);
        }
        false
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
    /// As [`Environment::taker`] says.
    fn take<'env>(&self, env: &'env Env, ear: u32, max: u32, acked: u32) -> Result<Unknown<'env>> {
        let mut desk = self.desk.borrow_mut();
        let inbox = lock(&self.inner.ears).inbox(ear);
        self.ack_all(&mut desk, acked, inbox.as_ref().map(|(inbox, _)| &**inbox));
        let Some((inbox, broker)) = inbox else {
            desk.taken(0, None, true, false);
            return ().into_unknown(env);
        };
        let mut taken = Vec::new();
        let most = max.min(limits::TAKE_MAX) as usize;
        let left = self.guard(broker, || Ok(inbox.take(most, &mut taken))).map_err(thrown)?;
        let mut again = match left {
            Left::NoRoom(time) => Some(ms(time)),
            Left::Perhaps | Left::Nothing => None,
        };
        let mut together = self.together.borrow_mut();
        together.begin();
        let mut count = 0;
        let mut runs = lock(&self.inner.runs);
        let mut place = self.given.get();
        desk.first_place(place + 1);
        for delivery in taken {
            let (id, attempt) = (delivery.id(), delivery.attempt());
            together.add(&delivery);
            place += 1;
            delivery.stand_at(place);
            let run = Run { delivery, broker, inbox: Some(ear), told: false };
            match runs.add(run) {
                Ok(number) => {
                    desk.delivery(count, number, id, attempt);
                    count += 1;
                }
                Err(run) => {
                    // There are too many of them.
                    let why = HandlerError::release(Duration::ZERO);
                    let _ = inbox.finish(&run.delivery, Err(why));
                    again = Some(PAUSE_MS);
                }
            }
        }
        drop(runs);
        self.given.set(place);
        let over = left == Left::Nothing;
        desk.taken(count, again, over, over && inbox.hear_cancelled());
        match count {
            0 => ().into_unknown(env),
            1 => self.body(env, desk.taken_number(0)),
            _ => match together.text(env) {
                Some(text) => Ok(text),
                None => self.bodies_of(env, &desk, count).and_then(|list| list.into_unknown(env)),
            },
        }
    }

    /// A delivery was given back before its handler was entered.
    fn abandon(&self, ear: u32, run: &Run) {
        match lock(&self.inner.ears).inbox(ear) {
            Some((inbox, _)) => inbox.abandon(&run.delivery),
            // Its handler was replaced, or its broker closed.
            None => run.delivery.let_lapse(),
        }
    }

    /// Acks as many deliveries of the desk, all of this inbox.
    fn ack_all(&self, desk: &mut Desk, count: u32, inbox: Option<&Inbox>) {
        let ended: Vec<Run> = {
            let mut runs = lock(&self.inner.runs);
            let numbers = (0..count as usize).filter_map(|index| desk.acked(index));
            numbers.filter_map(|number| runs.take(number).ok()).collect()
        };
        // What was given back meanwhile is nobody's any more.
        let (mut stale, mut failed) = (count as usize - ended.len(), None);
        let mut told = |error: libmq::Error| match error.kind() {
            kind if is_too_late(kind) => stale += 1,
            _ => failed = failed.take().or(Some(error)),
        };
        let deliveries = ended.iter().map(|run| &run.delivery);
        let done = ended.first().map_or(Ok(()), |first| {
            self.guard(first.broker, || {
                match inbox {
                    Some(inbox) => inbox.ack_all(deliveries, &mut told),
                    // Its handler was replaced, or its broker closed.
                    None => deliveries.for_each(|delivery| {
                        let _ = delivery.settle(Ok(())).map_err(&mut told);
                    }),
                }
                Ok(())
            })
        });
        if let Err(error) = done {
            told(error);
        }
        desk.ended(stale, failed.is_some());
        if failed.is_some() {
            self.failed_ack.replace(failed);
        }
    }

    fn bodies_of<'env>(&self, env: &'env Env, desk: &Desk, count: usize) -> Result<Array<'env>> {
        let mut list = env.create_array(0)?;
        for index in 0..count {
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
