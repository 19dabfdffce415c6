//! Threads of a broker's that have nothing to do sleep.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test's helpers are the test's own")]

use std::collections::BTreeMap;
use std::fs;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use libmq::{Broker, Durability, HandlerOptions, Message, Options};

/// One after the other: all threads of a name are counted together.
static TURN: Mutex<()> = Mutex::new(());

/// How often threads of this process that are libmq's own have gone to sleep, by name.
fn sleeps() -> BTreeMap<String, u64> {
    let mut sleeps = BTreeMap::new();
    for task in fs::read_dir("/proc/self/task").unwrap() {
        let status = fs::read_to_string(task.unwrap().path().join("status")).unwrap_or_default();
        let field = |name| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        if let (Some(name), Some(count)) = (field("Name:"), field("voluntary_ctxt_switches:"))
            && name.starts_with("libmq-")
        {
            *sleeps.entry(name.to_owned()).or_default() += count.parse::<u64>().unwrap();
        }
    }
    sleeps
}

/// How often each has gone to sleep since then.
fn since(before: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let mut now = sleeps();
    for (name, count) in &mut now {
        *count -= before.get(name).copied().unwrap_or(0);
    }
    now
}

/// Whenever something waited for a sync, the keeper of the disk was woken to make one, and the keeper of snapshots behind it;
/// though whoever had enqueued it was making it. An enqueue of level sync took a sixth longer.
#[test]
fn who_makes_a_sync_wakes_no_keeper_for_it() {
    let _turn = TURN.lock();
    let directory = tempfile::tempdir().unwrap();
    let options = Options::new().durability(Durability::Sync).segment_bytes(1 << 20);
    let broker = Broker::open(directory.path(), options).unwrap();
    broker.enqueue(Message::new("q", "first")).unwrap();
    let (before, began) = (sleeps(), Instant::now());
    for _ in 0..1_000 {
        broker.enqueue(Message::new("q", "x")).unwrap();
    }
    let slept = since(&before);
    // At most once in `sync_interval`, which is 50 ms, and in that sync itself.
    let intervals = began.elapsed().as_secs_f64() / 0.05;
    for name in ["libmq-disk", "libmq-supply", "libmq-snapshot"] {
        let each = slept[name] as f64 / (intervals + 10.0);
        assert!(each < 10.0, "{slept:?} in {:?}", began.elapsed());
    }
}

#[test]
fn a_broker_with_nothing_to_do_wakes_nobody() {
    let _turn = TURN.lock();
    let directory = tempfile::tempdir().unwrap();
    let broker = Broker::open(directory.path(), Options::new()).unwrap();
    for number in 0..10 {
        broker.handle(&format!("q{number}"), HandlerOptions::new(), |_| Ok(())).unwrap();
    }
    broker.start().unwrap();
    for number in 0..10 {
        broker.enqueue(Message::new(format!("q{number}"), "x")).unwrap();
    }
    assert!(broker.wait_idle(Duration::from_secs(20)).unwrap());
    // What those have left to do is done by then.
    std::thread::sleep(Duration::from_secs(1));
    let before = sleeps();
    std::thread::sleep(Duration::from_secs(3));
    let slept = since(&before);
    assert!(slept.contains_key("libmq-time"), "{slept:?}");
    assert!(slept.values().all(|count| *count <= 3), "{slept:?}");
}
