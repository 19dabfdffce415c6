//! Ears: what rings for a queue, an inbox for a handler, or a watch for those who receive.

use std::collections::HashMap;
use std::sync::Arc;

use libmq::{Inbox, Watch};
use napi_derive::napi;

use crate::environment::{Environment, lock};

/// The ears of an environment, by numbers that are given once.
#[derive(Debug, Default)]
pub(crate) struct Ears {
    all: HashMap<u32, Ear>,
    last: u32,
}

/// What rings for a queue.
#[derive(Debug)]
pub(crate) enum Ear {
    /// Of the broker of this number.
    Inbox(Arc<Inbox>, u32),
    Watch(Watch),
}

impl Ears {
    /// The number of the next one.
    pub(crate) fn next_number(&mut self) -> u32 {
        self.last = self.last.wrapping_add(1);
        self.last
    }

    pub(crate) fn add(&mut self, number: u32, ear: Ear) {
        self.all.insert(number, ear);
    }

    pub(crate) fn remove(&mut self, number: u32) -> Option<Ear> {
        self.all.remove(&number)
    }

    /// The inbox of a number, and its broker's number.
    pub(crate) fn inbox(&self, number: u32) -> Option<(Arc<Inbox>, u32)> {
        match self.all.get(&number)? {
            Ear::Inbox(inbox, broker) => Some((Arc::clone(inbox), *broker)),
            Ear::Watch(_) => None,
        }
    }

    /// The inboxes of brokers, by their numbers.
    pub(crate) fn inboxes(&self, of: impl Fn(u32) -> bool) -> Vec<Arc<Inbox>> {
        let inboxes = self.all.values().filter_map(|ear| match ear {
            Ear::Inbox(inbox, broker) if of(*broker) => Some(Arc::clone(inbox)),
            _ => None,
        });
        inboxes.collect()
    }
}

#[napi]
impl Environment {
    /// From now on a watch rings for what comes.
    #[napi(catch_unwind)]
    pub fn listen(&self, ear: u32) {
        if let Some(Ear::Watch(watch)) = lock(&self.inner.ears).all.get(&ear) {
            watch.listen();
        }
    }

    /// Takes an ear away; of an inbox, the handler.
    #[napi(catch_unwind)]
    pub fn forget(&self, ear: u32) {
        let ear = lock(&self.inner.ears).remove(ear);
        drop(ear);
    }
}
