//! What the rules allow several threads to see: the reference queue, and calls that come to it in steps.
//!
//! A call of one thread is one step of the reference queue. Beside others it is several, because the documented rules make it
//! so, and only so much is allowed for:
//!
//! - The clock is read when a call begins; what becomes of a message is decided later.
//! - What is decided is *shown* when its record has reached its level. Until then a message that changed is in nobody's
//!   hands and in nobody's sight: it is not received, and only the call that changed it can end before it is shown.
//! - `advance` moves the clock, and then does what is due, one thing after another; `purge` ends one message after another.
//! - A message that has expired ends at some time, and is handed out no more.

use std::collections::BTreeMap;

use libmq_suite::model::{Live, Model};

use crate::call::{Answer, Call, End, Event, Got, QUEUE, Seen};

/// When what is hidden is due.
const HIDDEN: u64 = u64::MAX;

/// What is there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct State {
    model: Model,
    /// Messages that are decided and not shown, and by which call.
    hidden: BTreeMap<u64, Hidden>,
    /// Who has what was received last of each message.
    leases: BTreeMap<u64, Lease>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Hidden {
    by: usize,
    due: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Lease {
    token: u64,
    /// When whoever received it had it.
    since: u64,
}

/// How far a call has come.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Stage {
    Called,
    /// It has read the clock.
    Timed(u64),
    /// It is decided, and not all of it is shown.
    Decided,
    /// The clock was moved, and not all that is due is done.
    Moved,
    /// So many were ended, of those that were there when it began and others.
    Purging(BTreeMap<u64, Live>, u64),
    Done,
}

type Steps = Vec<(State, Stage)>;

impl State {
    /// What this call, which has the number `by`, may do next. `alone` where nothing moves the clock beside it.
    pub(crate) fn steps(&self, by: usize, event: &Event, stage: &Stage, alone: bool) -> Steps {
        match stage {
            Stage::Called => self.begin(by, event, alone),
            Stage::Timed(clock) => {
                let decided = self.decided(by, event, *clock);
                decided.into_iter().map(|state| state.rest(by)).collect()
            }
            Stage::Decided => self.shown(by),
            Stage::Moved => self.moved(by, event),
            Stage::Purging(targets, count) => self.purging(by, event, targets, *count),
            Stage::Done => Vec::new(),
        }
    }

    /// What may happen whoever calls what: messages that have expired end.
    pub(crate) fn expired(&self) -> Vec<Self> {
        let expired = self.model.live.iter().filter(|(id, message)| {
            self.has_expired(message) && !message.taken && !self.hidden.contains_key(id)
        });
        let end = |id: u64| {
            let mut state = self.clone();
            state.model.expire(id);
            // Nobody's call: shown at once.
            state
        };
        expired.map(|(id, _)| end(*id)).collect()
    }

    fn begin(&self, by: usize, event: &Event, alone: bool) -> Steps {
        match &event.call {
            Call::Advance(time) => {
                let mut state = self.clone();
                let before = state.model.now;
                state.model.now += time;
                for (id, message) in &mut state.model.live {
                    let comes = message.due > before && message.due <= before + time;
                    if comes && !message.taken && !message.behind {
                        state.hidden.insert(*id, Hidden { by, due: message.due });
                        message.due = HIDDEN;
                    }
                }
                vec![(state, Stage::Moved)]
            }
            Call::Purge => {
                let waiting =
                    |(id, message): (&u64, &Live)| (!message.taken).then(|| (*id, message.clone()));
                let targets = self.model.live.iter().filter_map(waiting).collect();
                vec![(self.clone(), Stage::Purging(targets, 0))]
            }
            _ if alone => self.steps(by, event, &Stage::Timed(self.model.now), alone),
            _ => vec![(self.clone(), Stage::Timed(self.model.now))],
        }
    }

    /// Some of what `by` has decided is shown.
    fn shown(&self, by: usize) -> Steps {
        let own = self.hidden.iter().filter(|(_, hidden)| hidden.by == by);
        let steps: Steps = own.map(|(id, _)| self.show(*id).rest(by)).collect();
        if steps.is_empty() { vec![(self.clone(), Stage::Done)] } else { steps }
    }

    fn moved(&self, by: usize, event: &Event) -> Steps {
        let mut steps = Steps::new();
        let mut may_end = true;
        for (id, _) in self.hidden.iter().filter(|(_, hidden)| hidden.by == by) {
            steps.push((self.show(*id), Stage::Moved));
            may_end = false;
        }
        let lapsed =
            self.model.live.iter().filter(|(_, it)| it.taken && it.deadline <= self.model.now);
        for (id, _) in lapsed {
            let mut state = self.clone();
            state.model.retry(*id, Some(0));
            state.hide(&self.model, by);
            steps.push((state, Stage::Moved));
            // What somebody received beside this may be looked for too early.
            may_end &= self.leases.get(id).is_some_and(|lease| lease.since > event.called);
        }
        if may_end {
            steps.push((self.clone(), Stage::Done));
        }
        steps
    }

    fn purging(
        &self,
        by: usize,
        event: &Event,
        targets: &BTreeMap<u64, Live>,
        count: u64,
    ) -> Steps {
        let Answer::Purged(purged) = event.answer else { return Vec::new() };
        let mut steps = Steps::new();
        if count < purged {
            let waiting = self.model.live.iter().filter(|(_, message)| !message.taken);
            for (id, _) in waiting {
                let mut state = self.clone();
                state.model.cancel(*id);
                state.hide(&self.model, by);
                steps.push((state, Stage::Purging(targets.clone(), count + 1)));
            }
            return steps;
        }
        // Whatever was there, and that nobody has touched, is gone.
        let is_left = targets.iter().any(|(id, message)| self.model.live.get(id) == Some(message));
        if !is_left {
            steps.push((self.clone(), Stage::Decided));
        }
        steps
    }

    /// What the rules answer to a call that is decided in one step, if they allow its answer.
    fn decided(&self, by: usize, event: &Event, clock: u64) -> Option<Self> {
        let mut state = self.clone();
        let model = &mut state.model;
        match (&event.call, &event.answer) {
            (Call::Enqueue(new), Answer::Enqueued(receipt)) => {
                let (status, id) = model.predict(new);
                let is_new = !model.live.contains_key(&receipt.id);
                if status != receipt.status || id.map_or(!is_new, |id| id != receipt.id) {
                    return None;
                }
                model.enqueue(new, *receipt);
            }
            (Call::Receive { lease_us }, Answer::Received(got)) => {
                let id = model.receive(QUEUE, *lease_us);
                if id != got.as_ref().map(|got| got.id) {
                    return None;
                }
                if let Some(Got { id, body, attempt, token, deadline }) = got {
                    let message = model.live.get_mut(id)?;
                    let has_expired = message.expires.is_some_and(|moment| moment <= model.now);
                    if has_expired || message.body != *body || message.attempts + 1 != *attempt {
                        return None;
                    }
                    message.deadline = *deadline;
                    let lease = Lease { token: *token, since: event.returned };
                    state.leases.insert(*id, lease);
                }
                return Some(state);
            }
            (Call::Settle { id, token, end }, Answer::Settled(counts)) => {
                let is_held = model.live.get(id).is_some_and(|message| message.taken);
                let is_theirs = state.leases.get(id).is_some_and(|lease| lease.token == *token);
                if (is_held && is_theirs) != *counts {
                    return None;
                }
                match end {
                    _ if !counts => {}
                    End::Ack => model.ack(*id),
                    End::Retry(delay) => model.retry(*id, *delay),
                    End::Reject => model.reject(*id, "no"),
                    End::Release(delay) => model.release(*id, *delay),
                }
            }
            (Call::Cancel(id), Answer::Cancelled(was_there)) => {
                if model.cancel(*id) != *was_there {
                    return None;
                }
            }
            (Call::Look, Answer::Seen(seen)) => return self.see(seen).then_some(state),
            _ => return None,
        }
        let late = state.model.now - clock;
        state.correct(&self.model, late);
        state.hide(&self.model, by);
        Some(state)
    }

    /// Times that were set now count from a moment before.
    fn correct(&mut self, before: &Model, late: u64) {
        for (id, message) in &mut self.model.live {
            if late == 0 || message.taken || before.live.get(id) == Some(message) {
                continue;
            }
            let was = before.live.get(id);
            if was.is_none_or(|was| was.due != message.due) {
                message.due -= late;
            }
            if was.is_none_or(|was| was.expires != message.expires) {
                message.expires = message.expires.map(|moment| moment - late);
            }
        }
        for (key, (_, until)) in &mut self.model.guarded {
            if before.guarded.get(key).is_none_or(|(_, was)| was != until) {
                *until -= late;
            }
        }
    }

    /// What has changed is not shown yet.
    fn hide(&mut self, before: &Model, by: usize) {
        for (id, message) in &mut self.model.live {
            // What is hidden already and was not replaced is still hidden by whoever did that.
            if message.taken || message.due == HIDDEN || before.live.get(id) == Some(message) {
                continue;
            }
            self.hidden.insert(*id, Hidden { by, due: message.due });
            message.due = HIDDEN;
        }
        let live = &self.model.live;
        self.hidden.retain(|id, _| live.get(id).is_some_and(|message| !message.taken));
        self.leases.retain(|id, _| live.contains_key(id));
    }

    fn show(&self, id: u64) -> Self {
        let mut state = self.clone();
        if let Some((hidden, message)) = state.hidden.remove(&id).zip(state.model.live.get_mut(&id))
        {
            message.due = hidden.due;
        }
        state
    }

    /// This, with how far its call has come.
    fn rest(self, by: usize) -> (Self, Stage) {
        let hides = self.hidden.values().any(|hidden| hidden.by == by);
        (self, if hides { Stage::Decided } else { Stage::Done })
    }

    fn has_expired(&self, message: &Live) -> bool {
        message.expires.is_some_and(|moment| moment <= self.model.now)
    }

    fn see(&self, seen: &Seen) -> bool {
        let mut expected = Seen::default();
        for message in self.model.live.values() {
            match (message.taken, message.behind) {
                (true, _) => expected.in_flight += 1,
                (false, true) => {}
                (false, false) if message.due > self.model.now => expected.delayed += 1,
                (false, false) => expected.ready += 1,
            }
        }
        let dead =
            self.model.dead.iter().map(|(id, letter)| {
                (*id, letter.body.clone(), letter.reason.clone(), letter.attempts)
            });
        expected.dead = dead.collect();
        *seen == expected
    }
}
