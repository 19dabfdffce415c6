//! A message in the ledger: what the lines say about it, and what a kill has left open.

use crate::protocol::{Level, Outcome};

/// Failed attempts after which a message is a dead letter.
pub const MAX_RETRIES: u32 = 3;

/// Deaths after which a message is a dead letter.
pub const MAX_CRASHES: u32 = 3;

/// Whether a message is there at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// Its enqueue has not returned, or the ack it is chained with is not known to be written.
    Open,
    /// The process died in that.
    Unknown,
    /// It is, or was, there.
    Certain,
    /// It never was and never will be: a duplicate, or the child of a parent that did not ack.
    Never,
}

/// How a message ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Acked,
    Rejected,
    /// Its attempts were used up.
    Spent,
    /// A later one of its key took its place while it waited.
    Replaced,
}

/// Where a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Waiting,
    /// In a handler.
    Entered,
    /// The handler has said how it ends, which is not known to be written.
    Settling(Outcome),
    Gone(End),
    /// The process died while that was being written: gone, or waiting.
    PerhapsGone(End),
}

#[derive(Clone, Debug)]
pub struct Message {
    pub number: u64,
    pub queue: String,
    pub level: Level,
    pub key: Option<String>,
    pub delayed: bool,
    pub batch: Option<u64>,
    /// The number whose ack it was enqueued with.
    pub parent: Option<u64>,
    /// The child that was enqueued with its last attempt.
    pub child: Option<u64>,
    pub id: Option<u64>,
    pub presence: Presence,
    pub place: Place,
    /// Failures counted, at least and at most.
    pub failures: (u32, u32),
    /// Deaths that it was certainly in flight in.
    pub crashes: u32,
    /// Deaths while its end was being written: it was in flight, or was not any more.
    pub perhaps_crashes: u32,
    /// The line that announced its last settle.
    pub settling_at: u64,
    /// How often it was entered, and how often it was, or may have been, given back.
    pub entries: u32,
    pub releases: u32,
    /// A later one of its key may have superseded it.
    pub perhaps_superseded: bool,
    /// Every id that was given before its enqueue began is below this.
    pub floor: u64,
    /// Lines at which its enqueue began and had returned.
    pub called_at: u64,
    pub returned_at: Option<u64>,
    /// The start of the worker that enqueued it.
    pub start: u64,
}

impl Message {
    /// Whether it is certainly live or a dead letter.
    pub fn is_certain(&self) -> bool {
        let gone = matches!(self.place, Place::PerhapsGone(End::Acked) | Place::Gone(_));
        self.presence == Presence::Certain && !gone && !self.perhaps_superseded
    }

    /// Whether its handler has acked it, and nothing hangs on that: then it is logged with others, some time later.
    pub fn is_acked_with_others(&self) -> bool {
        let is_acked = self.place == Place::Settling(Outcome::Ack);
        is_acked && self.key.is_none() && self.child.is_none()
    }

    /// Whether a crash of the process has it run alone from now on.
    pub fn is_suspect(&self) -> bool {
        self.crashes > 0
    }

    /// The process died.
    pub fn crash(&mut self) {
        if self.presence == Presence::Open {
            self.presence = Presence::Unknown;
        }
        match self.place {
            Place::Entered => {
                self.crashes += 1;
                self.place = Place::Waiting;
            }
            Place::Settling(outcome) => {
                self.perhaps_crashes += 1;
                self.place = match outcome {
                    Outcome::Ack => Place::PerhapsGone(End::Acked),
                    Outcome::Reject => Place::PerhapsGone(End::Rejected),
                    Outcome::Fail if self.failures.1 + 1 > MAX_RETRIES => {
                        Place::PerhapsGone(End::Spent)
                    }
                    Outcome::Fail => {
                        self.failures.1 += 1;
                        Place::Waiting
                    }
                    Outcome::Release => Place::Waiting,
                };
                if outcome == Outcome::Release {
                    self.releases += 1;
                }
            }
            Place::Waiting | Place::Gone(_) | Place::PerhapsGone(_) => {}
        }
    }

    /// The settle that the handler had announced is known to be written.
    pub fn written(&mut self) {
        let Place::Settling(outcome) = self.place else { return };
        self.place = match outcome {
            Outcome::Ack => Place::Gone(End::Acked),
            Outcome::Reject => Place::Gone(End::Rejected),
            Outcome::Fail => {
                self.failures = (self.failures.0 + 1, self.failures.1 + 1);
                if self.failures.0 > MAX_RETRIES { Place::Gone(End::Spent) } else { Place::Waiting }
            }
            Outcome::Release => {
                self.releases += 1;
                Place::Waiting
            }
        };
    }

    /// It was entered for this attempt; answers what is wrong with that, if anything, and whether that shows that an
    /// ack of the last attempt, which the kill left open, was not written.
    pub fn enter(&mut self, attempt: u32) -> Result<bool, String> {
        let mut doubled = false;
        match self.place {
            Place::Waiting => {}
            Place::Settling(Outcome::Fail | Outcome::Release) => self.written(),
            Place::PerhapsGone(end) => doubled = end == End::Acked,
            place => return Err(format!("it was entered while it was {place:?}")),
        }
        if matches!(self.place, Place::Gone(_)) {
            return Err("it was entered after its attempts were used up".into());
        }
        let failures = attempt.saturating_sub(1);
        let (least, most) = self.failures;
        if attempt == 0 || !(least..=most).contains(&failures) {
            return Err(format!("attempt {attempt} after {least} to {most} failures"));
        }
        if failures > MAX_RETRIES {
            return Err(format!("attempt {attempt} is one too many"));
        }
        if self.crashes >= MAX_CRASHES {
            return Err(format!("it was entered after {} crashes", self.crashes));
        }
        self.failures = (failures, failures);
        self.presence = Presence::Certain;
        self.place = Place::Entered;
        self.entries += 1;
        Ok(doubled)
    }
}
