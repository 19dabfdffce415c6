//! The verdict: what the ledger must come to when everything is drained.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use crate::ledger::{Counts, Ledger, Letter, Verdict};
use crate::message::{End, MAX_CRASHES, Message, Place, Presence};
use crate::point::Met;

/// What the rounds came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    pub rounds: u64,
    /// Those of them that ended at a named point.
    pub named: Met,
    /// Kills on top of the rounds: while the worker opened, or while nothing was under way.
    pub uncounted: u64,
    pub counts: Counts,
    pub messages: u64,
    pub acked: u64,
    pub children: u64,
    pub replaced: u64,
    pub rejected: u64,
    pub spent: u64,
    pub crashed: u64,
    /// Enqueues that a kill left open and that came to nothing.
    pub absent: u64,
}

impl Report {
    /// Adds what later rounds came to.
    pub fn add(&mut self, later: &Self) {
        self.counts.entered += later.counts.entered;
        self.counts.doubles += later.counts.doubles;
        self.counts.suspects += later.counts.suspects;
        self.counts.starts_with_suspects += later.counts.starts_with_suspects;
        self.counts.found += later.counts.found;
        self.counts.refused += later.counts.refused;
        self.messages += later.messages;
        self.acked += later.acked;
        self.children += later.children;
        self.replaced += later.replaced;
        self.rejected += later.rejected;
        self.spent += later.spent;
        self.crashed += later.crashed;
        self.absent += later.absent;
    }

    pub fn dead(&self) -> u64 {
        self.rejected + self.spent + self.crashed
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rounds, named, uncounted, counts, messages, acked, children, .. } = self;
        let Counts { entered, doubles, suspects, starts_with_suspects, found, .. } = counts;
        let dead = self.dead();
        write!(
            f,
            "{rounds} rounds counted, {} of them at named points ({named}), {uncounted} other kills; {starts_with_suspects} left a suspect, {suspects} in \
             all\n{messages} messages, {children} of them children, entered {entered} times; {acked} acked, {} \
             replaced or superseded\n{doubles} handled again because the kill came before their ack was written; of \
             the enqueues that a kill left open {found} were there and {} were not\n{dead} dead letters: {} \
             rejected, {} max_retries, {} crashed\n0 lost",
            named.all(),
            self.replaced,
            self.absent,
            self.rejected,
            self.spent,
            self.crashed,
        )
    }
}

/// How a message came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Acked,
    Replaced,
    Dead,
    Absent,
}

/// Judges a drained ledger.
pub fn judge(ledger: &Ledger) -> Verdict<Report> {
    let mut report = Report { counts: ledger.counts, ..Report::default() };
    let mut fates: HashMap<u64, Fate> = HashMap::new();
    let keys = latest_of_keys(ledger);
    for message in ledger.messages.values() {
        let number = message.number;
        let letter = ledger.letters.get(&number);
        let later = message.key.as_ref().is_some_and(|key| keys[key.as_str()] > number);
        let fate = match letter {
            Some(letter) => {
                check_letter(message, letter, ledger.starts() - message.start)
                    .map_err(|why| format!("{number} is a dead letter {}: {why}", letter.reason))?;
                match letter.reason.as_str() {
                    "rejected" => report.rejected += 1,
                    "max_retries" => report.spent += 1,
                    _ => report.crashed += 1,
                }
                Fate::Dead
            }
            None => without_letter(message, later)
                .map_err(|why| format!("{number} is LOST: {why}: {message:?}"))?,
        };
        match fate {
            Fate::Acked => report.acked += 1,
            Fate::Replaced => report.replaced += 1,
            Fate::Dead => {}
            Fate::Absent => report.absent += u64::from(message.presence == Presence::Unknown),
        }
        report.messages += u64::from(fate != Fate::Absent);
        fates.insert(number, fate);
    }
    if let Some(number) = ledger.letters.keys().find(|number| !fates.contains_key(number)) {
        return Err(format!("{number} is a dead letter that nobody enqueued"));
    }
    report.children = check_children(ledger, &fates)?;
    check_batches(ledger, &fates)?;
    Ok(report)
}

/// By key, the latest number that was there.
fn latest_of_keys(ledger: &Ledger) -> HashMap<&str, u64> {
    let mut latest = HashMap::new();
    for message in ledger.messages.values() {
        let Some(key) = &message.key else { continue };
        let latest: &mut u64 = latest.entry(key.as_str()).or_default();
        let was_there =
            message.presence == Presence::Certain || ledger.letters.contains_key(&message.number);
        if was_there {
            *latest = (*latest).max(message.number);
        }
    }
    latest
}

fn without_letter(message: &Message, later: bool) -> Verdict<Fate> {
    let superseded = message.perhaps_superseded && later;
    match (message.presence, message.place) {
        (Presence::Never, _) | (Presence::Unknown, Place::Waiting) => Ok(Fate::Absent),
        (_, Place::Gone(End::Acked)) => Ok(Fate::Acked),
        (_, Place::Gone(End::Replaced)) => Ok(Fate::Replaced),
        (_, Place::PerhapsGone(End::Acked)) if !superseded => Ok(Fate::Acked),
        (_, Place::Gone(End::Rejected)) => Err("it was rejected".into()),
        _ if superseded => Ok(Fate::Replaced),
        (_, place) => Err(format!("it was {place:?}")),
    }
}

fn check_letter(message: &Message, letter: &Letter, deaths: u64) -> Verdict {
    if message.presence == Presence::Never {
        return Err("it was never there".into());
    }
    if message.id.is_some_and(|id| id != letter.id) {
        return Err(format!("its id is {:?} and {}", message.id, letter.id));
    }
    // An end that a kill kept from being written is forgotten, and its attempt with it.
    let least = message.entries.saturating_sub(message.releases + message.perhaps_crashes);
    if letter.attempts < least {
        return Err(format!("{} attempts are told, of at least {least}", letter.attempts));
    }
    match (letter.reason.as_str(), message.place) {
        ("rejected", Place::Gone(End::Rejected) | Place::PerhapsGone(End::Rejected))
        | ("max_retries", Place::Gone(End::Spent) | Place::PerhapsGone(End::Spent)) => Ok(()),
        ("crashed", Place::Waiting | Place::PerhapsGone(_)) => {
            // A kill between the taking of a message and its handler's first line is not seen.
            let seen = message.crashes + message.perhaps_crashes;
            if seen == 0 || deaths < u64::from(MAX_CRASHES) {
                return Err(format!("in {deaths} deaths it was in flight in {seen}"));
            }
            Ok(())
        }
        (_, place) => Err(format!("it was {place:?}")),
    }
}

/// Exactly one child for every acked parent that chained one, and none for any other; answers how many.
fn check_children(ledger: &Ledger, fates: &HashMap<u64, Fate>) -> Verdict<u64> {
    let mut children: HashMap<u64, Vec<u64>> = HashMap::new();
    let mut count = 0;
    for message in ledger.messages.values() {
        if let Some(parent) = message.parent
            && fates[&message.number] != Fate::Absent
        {
            children.entry(parent).or_default().push(message.number);
            count += 1;
        }
    }
    for message in ledger.messages.values() {
        let number = message.number;
        let found = children.remove(&number).unwrap_or_default();
        let chains = fates[&number] == Fate::Acked && message.queue == "work" && number % 3 == 0;
        if chains && message.child.is_none() {
            return Err(format!("{number} acked without a child"));
        }
        let expected: &[u64] = if chains { message.child.as_slice() } else { &[] };
        if found != expected {
            return Err(format!(
                "{number} has the children {found:?}, and should have {expected:?}"
            ));
        }
    }
    Ok(count)
}

/// All of a batch, or none.
fn check_batches(ledger: &Ledger, fates: &HashMap<u64, Fate>) -> Verdict {
    let mut batches: BTreeMap<u64, HashSet<bool>> = BTreeMap::new();
    for message in ledger.messages.values() {
        if let Some(first) = message.batch {
            batches.entry(first).or_default().insert(fates[&message.number] != Fate::Absent);
        }
    }
    match batches.iter().find(|(_, there)| there.len() > 1) {
        Some((first, _)) => {
            Err(format!("of the batch of {first} some are there, and some are not"))
        }
        None => Ok(()),
    }
}
