//! The ledger: every line of every start, in order, and what must be true after each.
//!
//! A line that cannot be true is an error at once, with its reason. What a kill leaves open stays open here until a
//! later line shows which way it went.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};

use crate::message::{End, Message, Place, Presence};
use crate::protocol::{Enqueuing, Entered, Level, Line, Outcome, Status};

/// Deliveries that may be in flight at once: the parallelism of both handlers, and what is pulled at once.
pub const IN_FLIGHT_MAX: u64 = 3 + 2 + 4;

/// Acks of a queue's handler that a death may take away: as many as are logged together, as many again that are being written, and
/// what is in flight.
const FORGOTTEN_MAX: u64 = 64 + 64 + IN_FLIGHT_MAX;

/// Numbers that one start of a worker may give.
const NUMBERS: u64 = 1_000_000;

pub type Verdict<T = ()> = Result<T, String>;

/// A dead letter of the last list.
#[derive(Clone, Debug)]
pub struct Letter {
    pub id: u64,
    pub reason: String,
    pub attempts: u32,
}

/// What has happened so far, for the report.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    pub entered: u64,
    /// Messages handled again although they had been acked, because the kill fell before that was written.
    pub doubles: u64,
    pub suspects: u64,
    pub starts_with_suspects: u64,
    /// Enqueues that the kill left open and that turned out to be there.
    pub found: u64,
    /// Enqueues and settles that were refused for want of something.
    pub refused: u64,
}

#[derive(Debug, Default)]
pub struct Ledger {
    pub messages: HashMap<u64, Message>,
    pub letters: HashMap<u64, Letter>,
    pub counts: Counts,
    /// Who has an id now.
    by_id: HashMap<u64, u64>,
    /// By key, the numbers that may hold it.
    by_key: HashMap<String, Vec<u64>>,
    /// Numbers that are not over.
    live: BTreeSet<u64>,
    /// Numbers that are over as dead letters.
    dead: u64,
    /// Numbers in a call, a handler, or a settle, in this start.
    active: HashSet<u64>,
    /// Those that were entered in this life, but for most that have come back since.
    running: Vec<u64>,
    /// What each lane has entered and not yet shown to have ended.
    lanes: HashMap<String, Vec<u64>>,
    /// What has ended and is not known to be written, with the line that showed the end.
    ended: VecDeque<(u64, u64)>,
    /// By queue, how many were entered in this start that had been acked before it.
    forgotten: HashMap<String, u64>,
    tokens: HashSet<u64>,
    highest_id: u64,
    highest_token: u64,
    /// Tokens of this start are above this.
    token_floor: u64,
    /// The highest id that an enqueue has returned, or that an earlier start has shown.
    returned_id: u64,
    /// By level, when the enqueue began of the latest of those that have started from `pulled` in this start.
    started: HashMap<&'static str, u64>,
    lines: u64,
    start: u64,
    /// Suspects that the next start has to report, at least; none where that cannot be known.
    suspects_least: u64,
    opened: bool,
}

impl Ledger {
    /// A ledger that goes on from this one, when everything is drained and no dead letter is left.
    pub fn next(&self) -> Self {
        Self {
            start: self.start,
            highest_id: self.highest_id,
            highest_token: self.highest_token,
            returned_id: self.returned_id.max(self.highest_id),
            ..Self::default()
        }
    }

    /// A worker is started.
    pub fn started(&mut self) {
        self.start += 1;
        self.token_floor = self.highest_token;
        self.returned_id = self.returned_id.max(self.highest_id);
        self.started.clear();
        self.opened = false;
    }

    /// How many starts there were.
    pub fn starts(&self) -> u64 {
        self.start
    }

    /// Whether an enqueue has not returned, and whether a handler is running.
    pub fn busy(&self) -> (bool, bool) {
        let mut busy = (false, false);
        for message in self.active.iter().filter_map(|number| self.messages.get(number)) {
            busy.0 |= message.presence == Presence::Open && message.parent.is_none();
            busy.1 |= message.place == Place::Entered;
        }
        busy
    }

    /// The process is dead.
    pub fn died(&mut self) -> Verdict {
        let mut certain = 0;
        for number in std::mem::take(&mut self.active) {
            let Some(message) = self.messages.get_mut(&number) else { continue };
            let entered = message.place == Place::Entered;
            certain += u64::from(entered && !message.perhaps_superseded);
            message.crash();
            if entered && let Some(child) = message.child.take() {
                self.never(child)?;
            }
        }
        self.running.clear();
        self.lanes.clear();
        self.ended.clear();
        self.forgotten.clear();
        self.suspects_least = if self.opened { certain } else { 0 };
        Ok(())
    }

    /// The process ended by itself: everything it had said is written.
    pub fn ended(&mut self) -> Verdict {
        for number in self.active.clone() {
            self.written(number)?;
        }
        self.active.clear();
        self.running.clear();
        self.lanes.clear();
        self.ended.clear();
        Ok(())
    }

    /// The next line.
    pub fn line(&mut self, line: Line) -> Verdict {
        self.lines += 1;
        match line {
            Line::Recovered { messages, dead } => self.recovered(messages + dead),
            Line::Suspects(count) => self.suspects(count),
            Line::Ready | Line::Drained | Line::Aborting { .. } => Ok(()),
            Line::Enqueuing(enqueuing) => self.enqueuing(enqueuing),
            Line::Enqueued { number, id, level, status } => {
                self.enqueued(number, id, level, status)
            }
            Line::Entered(entered) => {
                let number = entered.number;
                self.entered(entered).map_err(|why| format!("{number}: {why}"))
            }
            Line::Child { parent, number, level } => self.child(parent, number, level),
            Line::Settling { id, outcome } => self.settling(id, outcome),
            Line::Settled { id } => self.settled(id),
            Line::Unopened => {
                // What could not be taken back of it is a log: it may have counted the suspects, and told nobody.
                self.suspects_least = 0;
                Ok(())
            }
            Line::Refused { number } => self.refused(number),
            Line::Kept { id } => self.kept(id),
            Line::Dead { id, reason, attempts, number } => {
                let number = number.ok_or("the killer is a dead letter of these rounds")?;
                let letter = Letter { id, reason, attempts };
                match self.letters.insert(number, letter) {
                    None => Ok(()),
                    Some(_) => Err(format!("{number} is a dead letter twice")),
                }
            }
            Line::Error(text) => Err(format!("the worker says: {text}")),
        }
    }

    /// Messages and dead letters together are what the ledger allows.
    fn recovered(&mut self, found: u64) -> Verdict {
        let (mut least, mut most) = (self.dead, self.dead);
        for message in self.live.iter().filter_map(|number| self.messages.get(number)) {
            least += u64::from(message.is_certain());
            most += 1;
            // A child that is chained with an ack which may have been written: it is there, or its parent is.
            let parent = message.parent.and_then(|parent| self.messages.get(&parent));
            if message.presence == Presence::Unknown
                && parent.is_some_and(|parent| parent.place == Place::PerhapsGone(End::Acked))
            {
                most -= 1;
                least += u64::from(parent.is_some_and(|parent| !parent.perhaps_superseded));
            }
        }
        self.opened = true;
        if (least..=most).contains(&found) {
            return Ok(());
        }
        Err(format!("{found} messages and dead letters were found, of {least} to {most}"))
    }

    fn suspects(&mut self, count: u64) -> Verdict {
        let least = std::mem::take(&mut self.suspects_least);
        if !(least..=IN_FLIGHT_MAX).contains(&count) {
            return Err(format!("{count} suspects were found, of {least} to {IN_FLIGHT_MAX}"));
        }
        self.counts.suspects += count;
        self.counts.starts_with_suspects += u64::from(count > 0);
        Ok(())
    }

    fn enqueuing(&mut self, enqueuing: Enqueuing) -> Verdict {
        let Enqueuing { number, queue, level, key, keep, delayed, batch } = enqueuing;
        if let Some(key) = &key {
            let holders = self.by_key.entry(key.clone()).or_default();
            holders.retain(|holder| self.live.contains(holder));
            if !keep {
                // Whoever holds the key may be superseded or replaced from now on.
                for holder in &*holders {
                    if let Some(message) = self.messages.get_mut(holder) {
                        message.perhaps_superseded = true;
                    }
                }
            }
            holders.push(number);
        }
        let message = Message { key, delayed, batch, ..self.fresh(number, &queue, level) };
        self.insert(message)
    }

    fn fresh(&self, number: u64, queue: &str, level: Level) -> Message {
        Message {
            number,
            queue: queue.into(),
            level,
            key: None,
            delayed: false,
            batch: None,
            parent: None,
            child: None,
            id: None,
            presence: Presence::Open,
            place: Place::Waiting,
            failures: (0, 0),
            crashes: 0,
            perhaps_crashes: 0,
            settling_at: 0,
            entries: 0,
            releases: 0,
            perhaps_superseded: false,
            floor: self.returned_id,
            called_at: self.lines,
            returned_at: None,
            start: self.start,
        }
    }

    fn insert(&mut self, message: Message) -> Verdict {
        let number = message.number;
        self.active.insert(number);
        self.live.insert(number);
        match self.messages.insert(number, message) {
            None => Ok(()),
            Some(_) => Err(format!("number {number} was given twice")),
        }
    }

    fn enqueued(&mut self, number: u64, id: u64, level: Level, status: Status) -> Verdict {
        let lines = self.lines;
        let message = self.message(number)?;
        if message.returned_at.replace(lines).is_some() {
            return Err(format!("{number}: its enqueue returned twice"));
        }
        if message.level != level {
            return Err(format!("{number}: it was enqueued with another level"));
        }
        let (floor, entries) = (message.floor, message.entries);
        let key = message.key.clone();
        match status {
            Status::Accepted => {
                if id <= floor {
                    return Err(format!("{number}: id {id} is not above {floor}, given before"));
                }
            }
            Status::Replaced if key.is_none() => {
                return Err(format!("{number}: it has no key and replaced {id}"));
            }
            Status::Duplicate => {
                if entries > 0 {
                    return Err(format!("{number}: it was entered and is a duplicate"));
                }
                let holder = self.by_id.get(&id).and_then(|number| self.messages.get(number));
                if key.is_none() || holder.is_some_and(|holder| holder.key != key) {
                    return Err(format!("{number}: it is a duplicate of {id}, of another key"));
                }
                self.active.remove(&number);
                return self.never(number);
            }
            Status::Replaced => {}
        }
        let began = message.called_at;
        self.wrote(began)?;
        self.identify(number, id)?;
        self.returned_id = self.returned_id.max(if status == Status::Accepted { id } else { 0 });
        let message = self.message(number)?;
        if message.presence == Presence::Open {
            message.presence = Presence::Certain;
        }
        if message.place == Place::Waiting {
            self.active.remove(&number);
        }
        Ok(())
    }

    /// The call said that it is not enqueued, so it must never be seen.
    fn refused(&mut self, number: u64) -> Verdict {
        let message = self.message(number)?;
        if message.presence != Presence::Open || message.entries > 0 {
            return Err(format!("{number}: it is there, and was refused"));
        }
        self.counts.refused += 1;
        self.never(number)
    }

    /// The call said that it is not settled: it is given back, as by a release.
    fn kept(&mut self, id: u64) -> Verdict {
        let number = *self.by_id.get(&id).ok_or(format!("nobody has id {id}"))?;
        self.counts.refused += 1;
        let message = self.message(number)?;
        match message.place {
            Place::Settling(_) => {
                message.place = Place::Settling(Outcome::Release);
                Ok(())
            }
            place => Err(format!("{number}: its settle was refused while it was {place:?}")),
        }
    }

    /// Notes who has an id.
    fn identify(&mut self, number: u64, id: u64) -> Verdict {
        self.highest_id = self.highest_id.max(id);
        let message = self.message(number)?;
        match message.id.replace(id) {
            Some(before) if before == id => return Ok(()),
            Some(before) => return Err(format!("{number}: it has two ids, {before} and {id}")),
            None => {}
        }
        let (key, floor) = (message.key.clone(), message.floor);
        let Some(holder) = self.by_id.insert(id, number) else {
            if key.is_none() && id <= floor {
                return Err(format!("{number}: id {id} is not above {floor}, given before"));
            }
            return Ok(());
        };
        let message = self.message(holder)?;
        if key.is_none() || message.key != key || holder > number {
            return Err(format!("{number}: its id {id} is that of {holder}"));
        }
        match message.place {
            Place::Waiting
            | Place::Settling(Outcome::Fail | Outcome::Release)
            | Place::PerhapsGone(_) => {
                message.presence = Presence::Certain;
                if let Some(child) = message.child.take() {
                    self.never(child)?;
                }
                self.over(holder, End::Replaced)
            }
            place => Err(format!("{number}: it replaced {holder}, which was {place:?}")),
        }
    }

    fn entered(&mut self, entered: Entered) -> Verdict {
        let Entered { id, attempt, token, number, queue, lane } = entered;
        self.counts.entered += 1;
        if token <= self.token_floor || !self.tokens.insert(token) {
            return Err(format!("token {token} was given before, or is below an earlier one"));
        }
        self.highest_token = self.highest_token.max(token);
        for before in lane.as_ref().and_then(|lane| self.lanes.remove(lane)).unwrap_or_default() {
            match (&lane, self.message(before)?.place) {
                (_, Place::Settling(_)) => self.ended.push_back((self.lines, before)),
                (Some(lane), Place::Entered) => {
                    self.lanes.entry(lane.clone()).or_default().push(before);
                }
                _ => {}
            }
        }
        let message = self.message(number)?;
        if message.presence == Presence::Never {
            return Err("it was never enqueued, and was entered".into());
        }
        if message.queue != queue {
            return Err(format!("it was enqueued to {} and came from {queue}", message.queue));
        }
        let unknown = message.presence == Presence::Unknown;
        let (parent, child) = (message.parent, message.child.take());
        self.identify(number, id)?;
        if let Some(parent) = parent {
            self.chained(parent, number)?;
        }
        self.check_order(number, attempt)?;
        let message = self.message(number)?;
        let doubled = message.enter(attempt)?;
        let (suspect, key) = (message.is_suspect(), message.key.clone());
        self.counts.doubles += u64::from(doubled);
        if doubled {
            let forgotten = self.forgotten.entry(queue.clone()).or_default();
            *forgotten += 1;
            if *forgotten > FORGOTTEN_MAX {
                return Err(format!("{forgotten} acks of {queue} were forgotten"));
            }
        }
        self.counts.found += u64::from(unknown);
        if let Some(child) = child {
            self.never(child)?;
        }
        let messages = &self.messages;
        let is_running = |number: &u64| {
            messages.get(number).is_some_and(|message| message.place == Place::Entered)
        };
        self.running.retain(|other| *other != number && is_running(other));
        for other in self.running.iter().filter_map(|other| self.messages.get(other)) {
            if suspect || other.is_suspect() {
                return Err(format!("a suspect does not run alone, beside it is {}", other.number));
            }
            if key.is_some() && other.key == key {
                return Err(format!("two of one key run at once, the other is {}", other.number));
            }
        }
        self.running.push(number);
        self.active.insert(number);
        self.live.insert(number);
        // What the lane of an earlier attempt does next shows nothing of this one.
        self.lanes.values_mut().for_each(|entered| entered.retain(|other| *other != number));
        if let Some(lane) = lane {
            self.lanes.entry(lane).or_default().push(number);
        }
        Ok(())
    }

    /// In `pulled`, no message starts before another of its level whose enqueue had returned before its own began.
    fn check_order(&mut self, number: u64, attempt: u32) -> Verdict {
        let start = self.start;
        let message = self.message(number)?;
        if message.queue != "pulled" || message.start != start || message.delayed || attempt > 1 {
            return Ok(());
        }
        let (called, returned, first) =
            (message.called_at, message.returned_at, message.entries == 0);
        let level = if message.level == Level::Sync { "sync" } else { "os" };
        let latest = self.started.entry(level).or_default();
        if first && returned.is_some_and(|returned| *latest > returned) {
            return Err(
                "another started before it whose enqueue began after its own returned".into()
            );
        }
        *latest = (*latest).max(called);
        Ok(())
    }

    fn child(&mut self, parent: u64, number: u64, level: Level) -> Verdict {
        let parent = *self.by_id.get(&parent).ok_or(format!("nobody has id {parent}"))?;
        let message = Message { parent: Some(parent), ..self.fresh(number, "children", level) };
        self.insert(message)?;
        match self.message(parent)?.child.replace(number) {
            None => Ok(()),
            Some(_) => Err(format!("{parent}: it chained two children in one attempt")),
        }
    }

    /// The child is there, so its parent's ack was written.
    fn chained(&mut self, parent: u64, child: u64) -> Verdict {
        let message = self.message(parent)?;
        if message.child != Some(child) {
            return Err(format!("its parent {parent} was handled again after it"));
        }
        match message.place {
            Place::Settling(Outcome::Ack) => self.written(parent),
            Place::PerhapsGone(End::Acked) => self.over(parent, End::Acked),
            Place::Gone(End::Acked) => Ok(()),
            place => Err(format!("its parent {parent} did not ack, it is {place:?}")),
        }
    }

    fn settling(&mut self, id: u64, outcome: Outcome) -> Verdict {
        let number = *self.by_id.get(&id).ok_or(format!("nobody has id {id}"))?;
        let lines = self.lines;
        let message = self.message(number)?;
        if message.place != Place::Entered {
            return Err(format!("{number}: it is settled while it is {:?}", message.place));
        }
        message.place = Place::Settling(outcome);
        message.settling_at = lines;
        let child = if outcome == Outcome::Ack { None } else { message.child.take() };
        child.map_or(Ok(()), |child| self.never(child))
    }

    fn settled(&mut self, id: u64) -> Verdict {
        let number = *self.by_id.get(&id).ok_or(format!("nobody has id {id}"))?;
        let message = self.message(number)?;
        let began = message.settling_at;
        match message.place {
            Place::Settling(_) => self.written(number)?,
            place => return Err(format!("{number}: its settle returned while it was {place:?}")),
        }
        self.wrote(began)
    }

    /// A record is written that was made after this line; so is everything that had ended before it, but for acks that are logged
    /// with others some time later.
    fn wrote(&mut self, line: u64) -> Verdict {
        while let Some((ended, number)) = self.ended.front().copied()
            && ended < line
        {
            self.ended.pop_front();
            // It may be in a later attempt by now.
            let message = self.message(number)?;
            if message.settling_at < ended && !message.is_acked_with_others() {
                self.written(number)?;
            }
        }
        Ok(())
    }

    /// What a number has settled is written.
    fn written(&mut self, number: u64) -> Verdict {
        let message = self.message(number)?;
        if !matches!(message.place, Place::Settling(_)) {
            return Ok(());
        }
        message.written();
        let (place, child) = (message.place, message.child);
        self.active.remove(&number);
        match place {
            Place::Gone(end) => {
                if let Some(child) = child.filter(|_| end == End::Acked) {
                    let child = self.message(child)?;
                    if child.presence == Presence::Open {
                        child.presence = Presence::Certain;
                    }
                }
                self.over(number, end)
            }
            _ => Ok(()),
        }
    }

    fn over(&mut self, number: u64, end: End) -> Verdict {
        let message = self.message(number)?;
        message.place = Place::Gone(end);
        // A message that was superseded when it failed for the last time is no dead letter.
        let certain = end == End::Rejected || (end == End::Spent && !message.perhaps_superseded);
        let superseded = end == End::Spent && message.perhaps_superseded;
        self.active.remove(&number);
        self.dead += u64::from(certain);
        if !superseded {
            self.live.remove(&number);
        }
        Ok(())
    }

    fn never(&mut self, number: u64) -> Verdict {
        let message = self.message(number)?;
        if message.presence == Presence::Certain {
            return Err(format!("{number}: it is there, and must not be"));
        }
        message.presence = Presence::Never;
        self.live.remove(&number);
        self.active.remove(&number);
        Ok(())
    }

    fn message(&mut self, number: u64) -> Verdict<&mut Message> {
        self.messages.get_mut(&number).ok_or_else(|| {
            format!("number {number} of start {} was never being enqueued", number / NUMBERS)
        })
    }
}

/// The ledger of a start that has said this.
#[cfg(test)]
fn after(lines: &[&str]) -> Ledger {
    let mut ledger = Ledger::default();
    ledger.started();
    for line in lines {
        ledger.line(Line::parse(line).unwrap()).unwrap();
    }
    ledger
}

/// A message failed on one lane and was handled again on another. The next line of the first lane shows that the attempt
/// there has ended; it was taken for the end of the second attempt, too, whose ack a kill then took away, as it may.
#[test]
fn kill_what_a_lane_does_next_shows_nothing_of_what_another_one_does() {
    let lines = [
        "enqueuing 1 work os key=k",
        "enqueued 1 100 os accepted",
        "entered 100 1 7 1 work 2",
        "failing 100",
        "entered 100 2 8 1 work 3",
        "acking 100",
        "enqueuing 2 work os",
        "enqueued 2 200 os accepted",
        "entered 200 1 9 2 work 2",
        "enqueuing 3 work os",
        "enqueued 3 300 os accepted",
    ];
    let mut ledger = after(&lines);
    assert_eq!(ledger.messages[&1].place, Place::Settling(Outcome::Ack));
    ledger.line(Line::parse("entered 300 1 10 3 work 3").unwrap()).unwrap();
    for line in ["enqueuing 4 work os", "enqueued 4 400 os accepted"] {
        ledger.line(Line::parse(line).unwrap()).unwrap();
    }
    assert_eq!(ledger.messages[&1].place, Place::Gone(End::Acked));
}

/// An ack that nothing hangs on is logged with others some time later: what is written behind it shows nothing of it.
#[test]
fn kill_what_is_written_later_shows_nothing_of_an_ack_that_is_logged_with_others() {
    let lines = [
        "enqueuing 1 work os",
        "enqueued 1 100 os accepted",
        "enqueuing 2 work os",
        "enqueued 2 200 os accepted",
        "entered 100 1 7 1 work 2",
        "acking 100",
        "entered 200 1 8 2 work 2",
        "enqueuing 3 work os",
        "enqueued 3 300 os accepted",
    ];
    let ledger = after(&lines);
    assert_eq!(ledger.messages[&1].place, Place::Settling(Outcome::Ack));
}
