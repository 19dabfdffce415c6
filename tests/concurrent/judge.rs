//! The judge: whether there is an order of a history's calls in which the rules give every answer.
//!
//! A search after Wing and Gong: of the calls that have not ended, those go on whose beginning no other one's end precedes.
//! What was reached once, in whatever order, is not gone into again.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};

use crate::call::{Call, Event, History};
use crate::rules::{Stage, State};

/// How far each thread has come, and what is there then.
#[derive(Clone, Debug, Hash)]
struct Point {
    threads: Vec<(usize, Stage)>,
    state: State,
}

/// A search under way.
struct Search<'a> {
    history: &'a History,
    /// For each call whether no clock moves beside it.
    alone: Vec<Vec<bool>>,
    visited: HashSet<u64>,
    hasher: RandomState,
    /// The most calls that were brought into an order.
    furthest: usize,
}

/// What came of a search.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Verdict {
    pub(crate) is_legal: bool,
    /// Calls that could be brought into an order.
    pub(crate) calls: usize,
    /// What was looked at.
    pub(crate) points: usize,
}

/// Looks for an order.
pub(crate) fn judge(history: &History) -> Verdict {
    let moves = |event: &&Event| matches!(event.call, Call::Advance(_));
    let advances: Vec<&Event> = history.threads.iter().flatten().filter(moves).collect();
    let is_alone = |event: &Event| {
        !advances.iter().any(|it| it.called < event.returned && event.called < it.returned)
    };
    let alone = history.threads.iter().map(|all| all.iter().map(is_alone).collect()).collect();
    let hasher = RandomState::new();
    let mut search = Search { history, alone, visited: HashSet::new(), hasher, furthest: 0 };
    let threads = vec![(0, Stage::Called); history.threads.len()];
    let is_legal = search.goes_on(&Point { threads, state: State::default() });
    Verdict { is_legal, calls: search.furthest, points: search.visited.len() }
}

impl Search<'_> {
    /// Whether all that is left can be brought into an order from here.
    fn goes_on(&mut self, point: &Point) -> bool {
        if !self.visited.insert(self.hasher.hash_one(point)) {
            return false;
        }
        self.furthest = self.furthest.max(point.threads.iter().map(|(done, _)| done).sum());
        let history = self.history;
        let left = |thread: usize| {
            let (done, stage) = point.threads.get(thread)?;
            Some((history.threads.get(thread)?.get(*done)?, stage, *done))
        };
        let threads = 0..history.threads.len();
        let mut all: Vec<_> =
            threads.filter_map(|thread| left(thread).map(|left| (thread, left))).collect();
        let Some(first_end) = all.iter().map(|(_, (event, ..))| event.returned).min() else {
            return true;
        };
        // Who returned first was mostly decided first.
        all.sort_by_key(|(_, (event, ..))| event.returned);
        for (thread, (event, stage, index)) in all {
            if event.called > first_end {
                continue;
            }
            let (by, alone) = (thread << 16 | index, self.alone[thread][index]);
            for (state, stage) in point.state.steps(by, event, stage, alone) {
                let mut next = Point { threads: point.threads.clone(), state };
                next.threads[thread] = match stage {
                    Stage::Done => (index + 1, Stage::Called),
                    stage => (index, stage),
                };
                if self.goes_on(&next) {
                    return true;
                }
            }
        }
        point.state.expired().into_iter().any(|state| {
            let next = Point { threads: point.threads.clone(), state };
            self.goes_on(&next)
        })
    }
}
