//! What somebody sees of a broker who takes everything out of it, and what the model says that is.
//!
//! Everything goes through the public API: counts, probes of keys, deliveries with body and attempt number in their
//! order, time moved on step by step until nothing is delayed, and every delivery rejected, so that the dead letters
//! at the end also tell how often the process died with a message in flight.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use libmq::{Broker, Dedup, Durability, Message, Receipt, ReceiptStatus};
use libmq_suite::New;
use libmq_suite::model::Model;

/// The queues of all workloads.
const QUEUES: [&str; 3] = ["jobs", "mail", "slow"];
/// The keys of all workloads, with their queues.
const KEYS: [(&str, &str); 2] = [("jobs", "k"), ("mail", "k")];
/// Delays in workloads are multiples of this.
const STEP: Duration = Duration::from_secs(10);
/// No delay in a workload is longer than so many steps.
const STEPS_MAX: u32 = 12;
/// As long is held what nobody says more of; no time passes in it here.
const LEASE_US: u64 = 30_000_000;
const PROBE: &str = "probe";
const SEEN: &str = "seen";

/// What there was to see.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct View {
    /// Messages that could run at once and that could not, by queue.
    counts: Vec<(u64, u64)>,
    /// Dead letters before anything was taken.
    dead: usize,
    /// Who holds each key.
    keys: Vec<Option<u64>>,
    /// After how many steps, from where, which id, the attempt's number, the body.
    arrivals: Vec<(u32, usize, u64, u32, String)>,
    /// Id, queue, body, reason, attempts.
    letters: Vec<(u64, String, String, String, u32)>,
}

/// The probe of a key: a message that stays out where the key is held.
fn probe(queue: &str, key: &str) -> New {
    New {
        queue: queue.into(),
        body: PROBE.into(),
        key: Some(key.into()),
        keep: true,
        ..New::default()
    }
}

/// The ids of probes differ, for they are new.
fn id_of(id: u64, body: &str) -> u64 {
    if body == PROBE { 0 } else { id }
}

/// A body for comparing and for reading: a long one by its beginning, its length, and a number made of all of it.
fn brief(body: &str) -> String {
    const BRIEF: usize = 16;
    if body.len() <= BRIEF {
        return body.to_owned();
    }
    format!("{}.. {} {:x}", &body[..BRIEF], body.len(), crc32fast::hash(body.as_bytes()))
}

impl View {
    /// What there was, whatever has happened to it: id, queue and body, each once.
    pub(crate) fn messages(&self) -> BTreeSet<(u64, &str, &str)> {
        let letters = self.letters.iter();
        letters.map(|(id, queue, body, ..)| (*id, &**queue, &**body)).collect()
    }

    /// Takes everything out of a broker.
    pub(crate) fn of(broker: &Broker) -> libmq::Result<Self> {
        let mut view = Self::default();
        let metrics = broker.metrics()?;
        for queue in QUEUES {
            let figures = metrics.queues.get(queue);
            view.counts.push(figures.map_or((0, 0), |figures| (figures.ready, figures.delayed)));
        }
        view.dead = broker.dead_letters().list(None, usize::MAX, None)?.len();
        for (queue, key) in KEYS {
            let message = Message::new(queue, PROBE).dedup_key(key).dedup(Dedup::Keep);
            let receipt = broker.enqueue(message.durability(Durability::Os))?;
            let held = receipt.status == ReceiptStatus::Duplicate;
            view.keys.push(held.then_some(receipt.id));
        }
        for step in 0..STEPS_MAX {
            for (number, queue) in QUEUES.iter().enumerate() {
                while let Some(delivery) = broker.receive(queue, Duration::ZERO, None)? {
                    let body = String::from_utf8_lossy(delivery.body()).into_owned();
                    let id = id_of(delivery.id(), &body);
                    view.arrivals.push((step, number, id, delivery.attempt(), brief(&body)));
                    delivery.reject(SEEN)?;
                }
            }
            if broker.metrics()?.broker.delayed == 0 {
                break;
            }
            broker.advance(STEP)?;
        }
        for letter in broker.dead_letters().list(None, usize::MAX, None)? {
            let body = String::from_utf8_lossy(letter.body()).into_owned();
            let (queue, reason) = (letter.queue().to_owned(), letter.reason().to_owned());
            let id = id_of(letter.id(), &body);
            view.letters.push((id, queue, brief(&body), reason, letter.attempts()));
        }
        view.letters.sort();
        Ok(view)
    }

    /// What taking everything out of the model comes to, after the process died with these messages being handled, as
    /// far as is known.
    pub(crate) fn expected(model: &Model, held: &BTreeSet<u64>) -> Self {
        let mut model = model.clone();
        model.crash(held);
        while model.expire_next() {}
        let mut view = Self::default();
        for queue in QUEUES {
            let all = model.live.values().filter(|message| message.queue == queue).count() as u64;
            let delayed = model.delayed(queue);
            view.counts.push((all - delayed, delayed));
        }
        view.dead = model.dead.len();
        for (number, (queue, key)) in KEYS.into_iter().enumerate() {
            let (status, id) = model.predict(&probe(queue, key));
            let id = id.unwrap_or((1 << 62) + number as u64);
            model.enqueue(&probe(queue, key), Receipt { id, status });
            view.keys.push((status == ReceiptStatus::Duplicate).then_some(id));
        }
        for step in 0..STEPS_MAX {
            for (number, queue) in QUEUES.iter().enumerate() {
                loop {
                    while model.bury_next(queue) {}
                    let Some(id) = model.receive(queue, LEASE_US) else { break };
                    let live = &model.live[&id];
                    let (body, attempt) = (live.body.clone(), live.attempts + 1);
                    view.arrivals.push((step, number, id_of(id, &body), attempt, brief(&body)));
                    model.reject(id, SEEN);
                }
            }
            if model.live.is_empty() {
                break;
            }
            model.now += STEP.as_micros() as u64;
            while model.expire_next() {}
        }
        for (id, letter) in model.dead {
            let id = id_of(id, &letter.body);
            let body = brief(&letter.body);
            view.letters.push((id, letter.queue, body, letter.reason, letter.attempts));
        }
        view.letters.sort();
        view
    }

    /// The same, with other numbers in the place of ids of which nobody was told: `number` says which, for them in order.
    pub(crate) fn with_untold(
        &self,
        is_told: impl Fn(u64) -> bool,
        number: impl Fn(u64) -> u64,
    ) -> Self {
        let mut view = self.clone();
        let ids = view.ids().map(|id| *id).filter(|id| *id != 0 && !is_told(*id));
        let untold: BTreeSet<u64> = ids.collect();
        let numbers: BTreeMap<u64, u64> =
            untold.into_iter().zip(0..).map(|(id, place)| (id, number(place))).collect();
        view.ids().for_each(|id| *id = numbers.get(id).copied().unwrap_or(*id));
        view
    }

    /// All ids in it.
    fn ids(&mut self) -> impl Iterator<Item = &mut u64> {
        let arrivals = self.arrivals.iter_mut().map(|(_, _, id, ..)| id);
        let letters = self.letters.iter_mut().map(|(id, ..)| id);
        self.keys.iter_mut().flatten().chain(arrivals).chain(letters)
    }

    /// How many dead letters there are after everything was rejected.
    pub(crate) fn letters(&self) -> u64 {
        self.letters.len() as u64
    }
}
