//! Logs: what a broker tells the loops that have it open.
//!
//! A broker tells its events on a thread of its own, which only leaves them for each loop that wants them; the loop is told
//! when it looks. So nobody waits for a loop, and a close that waits for that thread has all events lie before its own end.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, Weak};

use libmq::limits::EVENTS_MAX;
use libmq::{Event, Field};
use napi::bindgen_prelude::{Array, BigInt};
use napi::{Env, Result};

use crate::environment::{Inner, lock};

/// The number of no hook.
pub(crate) const NO_HOOK: u32 = 0;

/// What says that there was no room for events.
const MISSED: &str = "events_missed";

/// The loops that want a broker's events.
#[derive(Debug, Default)]
pub(crate) struct Log {
    hooks: Mutex<Vec<Hook>>,
}

/// A hook of JavaScript's, by the number that its environment knows it by.
#[derive(Debug)]
struct Hook {
    environment: Weak<Inner>,
    number: u32,
    /// The environment's address.
    home: usize,
}

/// What waits for the hooks of one loop, by their numbers.
#[derive(Debug, Default)]
pub(crate) struct Events(BTreeMap<u32, Pile>);

#[derive(Debug, Default)]
struct Pile {
    events: Vec<Event>,
    /// Events that there was no room for.
    missed: u64,
}

impl Log {
    /// One more environment, if it has a hook.
    pub(crate) fn join(&self, environment: &Arc<Inner>, number: u32) {
        if number != NO_HOOK {
            let (home, environment) = (environment.address(), Arc::downgrade(environment));
            lock(&self.hooks).push(Hook { environment, number, home });
        }
    }

    /// An environment hears nothing more.
    pub(crate) fn leave(&self, home: usize) {
        lock(&self.hooks).retain(|hook| hook.home != home);
    }

    /// Leaves an event for everybody.
    pub(crate) fn tell(&self, event: &Event) {
        for hook in lock(&self.hooks).iter() {
            if let Some(environment) = hook.environment.upgrade() {
                environment.heard(hook.number, event);
            }
        }
    }
}

impl Events {
    /// One more for a hook, or one more that it misses.
    pub(crate) fn add(&mut self, number: u32, event: &Event) {
        let pile = self.0.entry(number).or_default();
        if pile.events.len() < EVENTS_MAX {
            pile.events.push(event.clone());
        } else {
            pile.missed += told_of(event);
        }
    }

    /// A flat list: the hook's number, level, name, and the fields as a flat list of names and values.
    pub(crate) fn write<'env>(self, env: &'env Env) -> Result<Array<'env>> {
        let mut list = env.create_array(0)?;
        for (number, Pile { events, missed }) in self.0 {
            for Event { level, name, fields, .. } in events {
                let mut flat = env.create_array(0)?;
                for (name, field) in fields {
                    flat.insert(name)?;
                    match field {
                        Field::Text(text) => flat.insert(text)?,
                        Field::Number(id) if name == "id" => flat.insert(BigInt::from(id))?,
                        Field::Number(number) => flat.insert(number as f64)?,
                        _ => flat.insert(())?,
                    }
                }
                insert(&mut list, number, level.name(), name, flat)?;
            }
            if missed > 0 {
                let mut flat = env.create_array(0)?;
                flat.insert("count")?;
                flat.insert(missed as f64)?;
                insert(&mut list, number, "warn", MISSED, flat)?;
            }
        }
        Ok(list)
    }
}

/// How many events are missed with this one, which may itself say that some were.
fn told_of(event: &Event) -> u64 {
    match event.fields.as_slice() {
        [("count", Field::Number(count))] if event.name == MISSED => *count,
        _ => 1,
    }
}

fn insert(
    list: &mut Array<'_>,
    number: u32,
    level: &str,
    name: &str,
    fields: Array<'_>,
) -> Result<()> {
    list.insert(number)?;
    list.insert(level)?;
    list.insert(name)?;
    list.insert(fields)
}
