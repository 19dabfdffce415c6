//! Plain copies of a directory that is at work: told as damage, or right.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use libmq::{Broker, Durability, ErrorKind, Message, Options, verify};

use crate::promises::{QUEUE, body, number};

const COPIES: u64 = 60;
const TIME_MAX: Duration = Duration::from_secs(15);

fn options() -> Options {
    Options::new()
        .segment_bytes(64 << 10)
        .snapshot_threshold(150)
        .snapshot_interval(Duration::from_millis(20))
        .durability(Durability::Os)
}

/// Where a message is, as far as whoever works with it knows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Where {
    /// Its enqueue is under way.
    Coming,
    There,
    /// Its ack is under way.
    Going,
}

/// Messages that are not acked.
type Known = Mutex<BTreeMap<u64, Where>>;

pub fn run(place: &Path) {
    let directory = place.join("queue");
    let broker = Broker::open(&directory, options()).unwrap();
    let (known, stop, next) = (Known::default(), AtomicBool::new(false), AtomicU64::new(0));
    let mut told = BTreeMap::<&str, u64>::new();
    thread::scope(|scope| {
        let stopper = Stopper(&stop);
        scope.spawn(|| {
            while !stop.load(Ordering::Acquire) {
                produce(&broker, &known, &next);
                thread::sleep(Duration::from_micros(200));
            }
        });
        scope.spawn(|| {
            while !stop.load(Ordering::Acquire) {
                consume(&broker, &known);
            }
        });
        let end = Instant::now() + TIME_MAX;
        let mut copies = 0;
        while copies < COPIES && Instant::now() < end {
            thread::sleep(Duration::from_millis(20));
            let copy = place.join(format!("copy-{copies}"));
            let before = known.lock().unwrap().clone();
            if copy_plainly(&directory, &copy).is_err() {
                // A file went while it was being copied: whoever copies is told so.
                *told.entry("not copied whole").or_default() += 1;
            } else {
                let after = known.lock().unwrap().clone();
                let last = next.load(Ordering::Acquire);
                *told.entry(judge(&copy, &before, &after, last)).or_default() += 1;
                copies += 1;
            }
            fs::remove_dir_all(copy).unwrap();
        }
        drop(stopper);
        assert!(copies > 10, "{told:?}");
    });
    broker.close(Duration::from_secs(5)).unwrap();
    println!("plain copies of {} messages at work: {told:?}, none was wrong", next.into_inner());
}

/// Stops the others when it goes, however that is.
struct Stopper<'a>(&'a AtomicBool);

impl Drop for Stopper<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

fn produce(broker: &Broker, known: &Known, next: &AtomicU64) {
    let number = next.fetch_add(1, Ordering::AcqRel);
    known.lock().unwrap().insert(number, Where::Coming);
    broker.enqueue(Message::new(QUEUE, body(number, 700))).unwrap();
    known.lock().unwrap().insert(number, Where::There);
}

/// Takes one in so many that are there, so that some hundreds stay.
fn consume(broker: &Broker, known: &Known) {
    if known.lock().unwrap().len() < 300 {
        thread::sleep(Duration::from_micros(200));
        return;
    }
    let Some(delivery) = broker.receive(QUEUE, Duration::ZERO, None).unwrap() else { return };
    let number = number(delivery.body());
    known.lock().unwrap().insert(number, Where::Going);
    delivery.ack().unwrap();
    known.lock().unwrap().remove(&number);
}

/// Every file that is there now, one after the other, as a tool does that knows nothing of libmq.
fn copy_plainly(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)?.collect::<io::Result<Vec<_>>>()? {
        fs::copy(entry.path(), to.join(entry.file_name()))?;
        // So that the log goes on meanwhile.
        thread::sleep(Duration::from_micros(500));
    }
    Ok(())
}

/// What a copy is told to be; panics if that is wrong.
fn judge(
    copy: &Path,
    before: &BTreeMap<u64, Where>,
    after: &BTreeMap<u64, Where>,
    last: u64,
) -> &'static str {
    let report = verify(copy).unwrap();
    let broker = match Broker::open(copy, options()) {
        Ok(broker) => broker,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
            assert!(!report.sound(), "verify saw nothing of {error}");
            return "refused as damaged";
        }
    };
    let mut found = BTreeSet::new();
    loop {
        let deliveries = match broker.receive_batch(QUEUE, 100, Duration::ZERO, None) {
            Ok(deliveries) => deliveries,
            Err(error) => {
                let is_told = matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Poisoned);
                assert!(is_told && !report.sound(), "verify saw nothing of {error}");
                return "opened, with a body that is told as damaged";
            }
        };
        if deliveries.is_empty() {
            break;
        }
        for delivery in deliveries {
            let number = number(delivery.body());
            assert!(found.insert(number), "{number} is there twice");
            if let Err(error) = delivery.ack() {
                let is_told = matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Poisoned);
                assert!(is_told && !report.sound(), "verify saw nothing of {error}");
                return "opened, with a body that is told as damaged";
            }
        }
    }
    if !report.sound() {
        return "opened, and told as damaged by verify";
    }
    // What was there before the copy began and is there behind its end has always been there.
    let is_there = |(number, place): &(&u64, &Where)| {
        **place == Where::There && after.get(number) == Some(&Where::There)
    };
    let missing: Vec<_> =
        before.iter().filter(is_there).filter(|(it, _)| !found.contains(it)).collect();
    assert!(missing.is_empty(), "{} of {} are missing", missing.len(), before.len());
    // What had been acked before it began is not.
    let first = before.keys().next().copied().unwrap_or(last);
    let gone: Vec<_> = found.iter().filter(|it| **it < first || **it >= last).collect();
    assert!(gone.is_empty(), "{gone:?} were acked before, or never enqueued");
    "sound"
}
