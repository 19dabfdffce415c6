//! What a handler of a scenario does, and what was seen of it.

use std::process::exit;
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use libmq::{Context, HandlerError, Message};

use crate::WAIT;
use crate::script::{Fields, Play, wrong};

/// A call of a handler.
struct Call {
    body: String,
    attempt: u32,
    /// Once it has ended: why it was cancelled, or nothing.
    reason: Option<&'static str>,
}

/// What a handler does, and what was seen of it.
pub struct Handler {
    outcomes: Vec<String>,
    child: Option<Message<'static>>,
    log: Mutex<Log>,
    changed: Condvar,
}

#[derive(Default)]
struct Log {
    calls: Vec<Call>,
    /// Calls before this one do not hold any more.
    let_go: usize,
}

impl Handler {
    pub fn new(outcomes: Vec<String>, child: Option<Message<'static>>) -> Self {
        Self { outcomes, child, log: Mutex::default(), changed: Condvar::new() }
    }

    pub fn call(&self, context: &Context) -> Result<(), HandlerError> {
        let (number, extended) = {
            let mut log = self.log.lock().unwrap();
            let number = log.calls.len();
            let extended = match self.outcome(number) {
                ("extend", time) => context.extend(Duration::from_millis(time.parse().unwrap())),
                _ => Ok(()),
            };
            log.calls.push(Call {
                body: String::from_utf8_lossy(context.body()).into_owned(),
                attempt: context.attempt(),
                reason: None,
            });
            self.changed.notify_all();
            (number, extended)
        };
        let end = match extended {
            Ok(()) => self.end(context, number),
            Err(error) => Err(HandlerError::reject(error.kind().name())),
        };
        let mut log = self.log.lock().unwrap();
        log.calls[number].reason =
            Some(context.cancel_reason().map_or("", libmq::CancelReason::name));
        self.changed.notify_all();
        end
    }

    /// What the call of this number does: a word and what follows its colon.
    fn outcome(&self, number: usize) -> (&str, &str) {
        let outcome = self.outcomes.get(number).or(self.outcomes.last());
        let outcome = outcome.map_or("ack", String::as_str);
        outcome.split_once(':').unwrap_or((outcome, ""))
    }

    fn end(&self, context: &Context, number: usize) -> Result<(), HandlerError> {
        if let Some(child) = &self.child {
            context.enqueue(child.clone())?;
        }
        let (word, rest) = self.outcome(number);
        let time = rest.parse().ok().map(Duration::from_millis);
        match (word, rest) {
            ("ack", _) => Ok(()),
            ("fail", text) => Err(HandlerError::failed(text)),
            ("retry", _) => Err(HandlerError::retry(time)),
            ("reject", reason) => Err(HandlerError::reject(reason)),
            ("release", _) => Err(HandlerError::release(time.unwrap_or_default())),
            ("hold" | "extend", _) => {
                self.hold(number);
                Ok(())
            }
            ("cancel", end) => {
                let cancelled = context.wait_cancelled(4 * WAIT);
                if cancelled && end == "ack" { Ok(()) } else { Err(HandlerError::failed("cancel")) }
            }
            _ => {
                eprintln!("this player does not know the outcome {word}");
                exit(3)
            }
        }
    }

    fn hold(&self, number: usize) {
        let log = self.log.lock().unwrap();
        let (log, _) =
            self.changed.wait_timeout_while(log, 4 * WAIT, |log| log.let_go <= number).unwrap();
        drop(log);
    }

    pub fn let_go(&self) {
        let mut log = self.log.lock().unwrap();
        log.let_go = log.calls.len();
        self.changed.notify_all();
    }

    /// Waits until the calls are as expected.
    pub fn expect(&self, step: &Fields) -> Play {
        let count: Option<usize> = step.parse("expect.count")?;
        let bodies = step.list("expect.bodies")?;
        let attempts = step.list("expect.attempts")?;
        let reasons = step.list("expect.reasons")?;
        let end = Instant::now() + WAIT;
        let mut log = self.log.lock().unwrap();
        loop {
            let calls = &log.calls;
            let seen_bodies: Vec<&str> = calls.iter().map(|call| &*call.body).collect();
            let seen_attempts: Vec<String> =
                calls.iter().map(|call| call.attempt.to_string()).collect();
            let seen_reasons: Vec<&str> = calls.iter().filter_map(|call| call.reason).collect();
            if count.is_none_or(|count| count == calls.len())
                && bodies.as_ref().is_none_or(|bodies| *bodies == seen_bodies)
                && attempts.as_ref().is_none_or(|attempts| *attempts == seen_attempts)
                && reasons.as_ref().is_none_or(|reasons| *reasons == seen_reasons)
            {
                return Ok(());
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || count.is_some_and(|count| count < calls.len()) {
                return wrong(format!(
                    "the handler was called {} times, bodies {seen_bodies:?}, attempts \
                     {seen_attempts:?}, reasons of ended calls {seen_reasons:?}",
                    calls.len()
                ));
            }
            log = self.changed.wait_timeout(log, left).unwrap().0;
        }
    }
}
