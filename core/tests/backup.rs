//! Copies of a broker that works, on a real disk: what they are made of, and a ledger of what has to be in them.

#![expect(
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test's helpers are the test's own"
)]

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use libmq::{
    Broker, Delivery, Durability, ErrorKind, HandlerOptions, Message, OnFull, Options, verify,
};

const PRODUCERS: u64 = 8;
const ROUNDS: usize = 40;
/// What a producer's messages are numbered from, times its own number.
const RANGE: u64 = 1 << 32;
const LONG: Duration = Duration::from_secs(60);

/// How a handler ends a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Ack,
    Reject,
    /// At the first attempt; the second one acks.
    Retry,
}

fn end_of(number: u64, attempt: u32) -> End {
    match (number % 10, number % 100, attempt) {
        (3, _, 1) => End::Retry,
        (_, 27 | 28, _) => End::Reject,
        _ => End::Ack,
    }
}

/// Some stay in a queue that is worked off between the copies alone.
fn queue_of(number: u64) -> &'static str {
    if number.is_multiple_of(4) { "kept" } else { "jobs" }
}

/// A message's body, of which nobody could make up another one's.
fn body_of(number: u64) -> Vec<u8> {
    let mut body = number.to_le_bytes().to_vec();
    let bytes = if number.is_multiple_of(50) { 9_000 } else { 20 + number % 300 };
    body.extend((0..bytes).map(|at| (number.wrapping_mul(31).wrapping_add(at) % 251) as u8));
    body
}

fn number_in(body: &[u8]) -> u64 {
    u64::from_le_bytes(body[..8].try_into().unwrap())
}

/// What was asked and what was answered.
#[derive(Default)]
struct Ledger {
    /// Of each producer, how many enqueues have begun and how many have returned, in its order.
    begun: [AtomicU64; PRODUCERS as usize],
    answered: [AtomicU64; PRODUCERS as usize],
    /// How settles were asked to end, and whether that was answered.
    settled: Mutex<HashMap<u64, (End, bool)>>,
    over: AtomicBool,
}

impl Ledger {
    fn produce(&self, broker: &Broker, producer: u64) {
        let place = producer as usize;
        for n in 0.. {
            if self.over.load(Ordering::SeqCst) {
                return;
            }
            let number = producer * RANGE + n;
            self.begun[place].store(n + 1, Ordering::SeqCst);
            let level = if n.is_multiple_of(20) { Durability::Sync } else { Durability::Os };
            let message = Message::new(queue_of(number), body_of(number)).durability(level);
            match broker.enqueue(message) {
                Ok(_) => {}
                Err(_) if self.over.load(Ordering::SeqCst) => return,
                Err(error) => panic!("{error}"),
            }
            self.answered[place].store(n + 1, Ordering::SeqCst);
        }
    }

    fn settle(&self, delivery: Delivery) {
        let number = number_in(delivery.body());
        let end = end_of(number, delivery.attempt());
        self.settled.lock().unwrap().insert(number, (end, false));
        match end {
            End::Ack => delivery.ack(),
            End::Reject => delivery.reject("no"),
            End::Retry => delivery.retry(Duration::ZERO),
        }
        .unwrap();
        // What was retried may have been settled again by now.
        let mut settled = self.settled.lock().unwrap();
        if let Some(answer) = settled.get_mut(&number).filter(|answer| answer.0 == end) {
            answer.1 = true;
        }
    }

    fn read(counts: &[AtomicU64; PRODUCERS as usize]) -> Vec<u64> {
        counts.iter().map(|count| count.load(Ordering::SeqCst)).collect()
    }

    /// Holds a copy against what was known before it was asked for, and after it was there.
    fn check(
        &self,
        copy: &Path,
        answered: &[u64],
        before: &HashMap<u64, (End, bool)>,
    ) -> (usize, usize) {
        let begun = Self::read(&self.begun);
        let after = self.settled.lock().unwrap().clone();
        let report = verify(copy).unwrap();
        assert!(report.sound() && report.closed, "{report:?}");
        let broker = Broker::open(copy, Options::new().durability(Durability::Os)).unwrap();
        assert_eq!(broker.recovery().messages, report.messages);
        assert_eq!(broker.recovery().dead_letters, report.dead_letters);
        assert_eq!((broker.recovery().suspects, report.suspects), (0, 0));
        let mut live = HashMap::new();
        let next = || {
            let mut of = ["jobs", "kept"].into_iter();
            of.find_map(|queue| broker.receive(queue, Duration::ZERO, None).unwrap())
        };
        while let Some(delivery) = next() {
            let number = number_in(delivery.body());
            assert!(delivery.body() == body_of(number), "the body of {number}");
            assert_eq!(live.insert(number, delivery.attempt()), None, "{number} is there twice");
            delivery.ack().unwrap();
        }
        let mut dead = HashMap::new();
        for letter in broker.dead_letters().list(None, usize::MAX, None).unwrap() {
            let number = number_in(letter.body());
            assert!(letter.body() == body_of(number), "the body of {number}");
            assert_eq!(dead.insert(number, letter.attempts()), None, "{number} is there twice");
        }
        assert_eq!((live.len() as u64, dead.len() as u64), (report.messages, report.dead_letters));

        // Nothing is invented, and what was answered is as it was answered.
        for (number, attempt) in &live {
            let producer = (number / RANGE) as usize;
            assert!(number % RANGE < begun[producer], "{number} was never enqueued");
            match before.get(number) {
                Some((End::Retry, true)) => assert_eq!(*attempt, 2, "{number} was retried"),
                Some((end, true)) => panic!("{number} is live, and was settled before: {end:?}"),
                _ => {}
            }
        }
        for number in dead.keys() {
            assert_eq!(end_of(*number, 1), End::Reject, "{number}");
            assert!(after.contains_key(number), "{number} was never rejected");
        }
        // Nothing that was answered is missing.
        for (producer, answered) in (0..).zip(answered) {
            for number in producer * RANGE..producer * RANGE + answered {
                let is_there = match before.get(&number) {
                    Some((End::Reject, true)) => dead.contains_key(&number),
                    _ => live.contains_key(&number) || dead.contains_key(&number),
                };
                let may_be_gone = matches!(after.get(&number), Some((End::Ack, _)));
                assert!(is_there || may_be_gone, "{number} is missing");
            }
        }
        (live.len(), dead.len())
    }
}

/// Ends the load, also where the test fails.
struct Load<'a>(&'a Ledger, &'a Broker);

impl Drop for Load<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::SeqCst);
        let closed = self.1.close(LONG);
        assert!(closed.is_ok() || std::thread::panicking(), "{closed:?}");
    }
}

#[test]
fn a_copy_made_under_load_is_whole_to_one_moment() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options::new()
        .segment_bytes(256 << 10)
        .cache_bytes(1 << 20)
        .capacity(3_000)
        .max_dead_letters(1_000_000)
        .on_full(OnFull::Block)
        .block_timeout(LONG)
        .snapshot_interval(Duration::from_millis(50))
        .snapshot_threshold(5_000);
    let broker = Broker::open(dir.path().join("broker"), options).unwrap();
    let ledger = std::sync::Arc::new(Ledger::default());
    let handler = std::sync::Arc::clone(&ledger);
    let parallelism = HandlerOptions::new().max_parallelism(4);
    broker.handle_delivery("jobs", parallelism, move |delivery| handler.settle(delivery)).unwrap();
    broker.start().unwrap();
    std::thread::scope(|scope| {
        let _load = Load(&ledger, &broker);
        for producer in 0..PRODUCERS {
            let (ledger, broker) = (&*ledger, &broker);
            scope.spawn(move || ledger.produce(broker, producer));
        }
        let (mut live, mut dead) = (0, 0);
        for round in 0..ROUNDS {
            let to = dir.path().join(format!("copy-{round}"));
            while let Some(delivery) = broker.receive("kept", Duration::ZERO, None).unwrap() {
                ledger.settle(delivery);
            }
            let before = ledger.settled.lock().unwrap().clone();
            let answered = Ledger::read(&ledger.answered);
            broker.backup(&to).unwrap();
            let found = ledger.check(&to, &answered, &before);
            (live, dead) = (live + found.0, dead + found.1);
            fs::remove_dir_all(&to).unwrap();
        }
        println!("{ROUNDS} copies had {live} messages and {dead} dead letters");
        assert!(live > 100 * ROUNDS && dead > ROUNDS);
    });
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_copy_is_the_owners_alone_takes_what_it_needs_and_has_no_owner() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::open(dir.path().join("broker"), Options::new()).unwrap();
    broker.enqueue(Message::new("jobs", "one")).unwrap();
    let to = dir.path().join("to");
    broker.backup(&to).unwrap();
    assert_eq!(fs::metadata(&to).unwrap().permissions().mode() & 0o7777, 0o700);
    let names = names(&to);
    assert!(names.iter().all(|name| name.ends_with(".segment") || name.ends_with(".snapshot")));
    let mut taken = 0;
    for name in &names {
        let file = fs::metadata(to.join(name)).unwrap();
        assert_eq!(file.permissions().mode() & 0o7777, 0o600, "{name}");
        taken += file.blocks() * 512;
    }
    // Not the 64 MiB that a segment has room for.
    assert!(taken < 4 << 20, "{taken} bytes");
    // Beside the original, which goes on.
    let copy = Broker::open(&to, Options::new()).unwrap();
    broker.enqueue(Message::new("jobs", "two")).unwrap();
    assert_eq!(copy.metrics().unwrap().broker.ready, 1);
    // A copy of a copy is a copy.
    let again = dir.path().join("again");
    copy.backup(&again).unwrap();
    assert_eq!(verify(&again).unwrap().messages, 1);
}

#[test]
fn a_broker_without_files_becomes_an_ordinary_directory() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::open(":memory:", Options::new()).unwrap();
    for body in ["one", "two", "three"] {
        broker.enqueue(Message::new("jobs", body)).unwrap();
    }
    broker.receive("jobs", None, None).unwrap().unwrap().ack().unwrap();
    broker.receive("jobs", None, None).unwrap().unwrap().reject("no").unwrap();
    let to = dir.path().join("to");
    broker.backup(&to).unwrap();
    let copy = Broker::open(&to, Options::new()).unwrap();
    assert_eq!((copy.recovery().messages, copy.recovery().dead_letters), (1, 1));
    let delivery = copy.receive("jobs", Duration::ZERO, None).unwrap().unwrap();
    assert_eq!(delivery.body(), b"three");
}

#[test]
fn a_broker_that_is_beyond_use_cannot_be_copied() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::open(dir.path().join("broker"), Options::new()).unwrap();
    let to = dir.path().join("to");
    broker.poison("a test");
    assert_eq!(broker.backup(&to).unwrap_err().kind(), ErrorKind::Poisoned);
    let _ = broker.close(LONG);
    assert_eq!(broker.backup(&to).unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(names(dir.path()), ["broker"]);
}

#[test]
fn what_is_in_the_way_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("broker");
    let broker = Broker::open(&path, Options::new()).unwrap();
    let to = dir.path().join("to");
    fs::create_dir(&to).unwrap();
    fs::write(to.join("file"), "precious").unwrap();
    for to in [to.as_path(), &to.join("file"), &path, &path.join("below"), Path::new("")] {
        let error = broker.backup(to).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{}: {error}", to.display());
    }
    assert_eq!(broker.backup(dir.path().join("no/where")).unwrap_err().kind(), ErrorKind::Io);
    assert_eq!(fs::read(to.join("file")).unwrap(), b"precious");
    assert_eq!(names(dir.path()), ["broker", "to"]);
    fs::remove_file(to.join("file")).unwrap();
    broker.backup(&to).unwrap();
    assert_eq!(verify(&to).unwrap().messages, 0);
}
