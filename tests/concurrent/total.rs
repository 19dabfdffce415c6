//! A whole queue under everybody at once: what went in comes out, once.
//!
//! Producers enqueue one by one and in batches, with keys, groups, priorities and delays. Some messages are pulled and some
//! handled, and acked, also with children, tried again, given back and rejected. Meanwhile messages are cancelled, snapshots
//! taken, segments cleaned, and the broker is closed and opened again. At the end every message has had exactly one end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use libmq::{Backoff, Broker, Durability, Metrics, OnFull, Options};

use crate::crew::{LONG, QUEUES, Shared};
use crate::number;
use crate::tally::{Sum, Tally};

const PRODUCERS: u64 = 3;
const CONSUMERS: u64 = 2;

/// Few enough that producers wait for room.
const CAPACITY: usize = 500;

/// How long nothing may move: somebody was not woken then.
const STILL: Duration = Duration::from_secs(60);

/// How often nothing has to be seen.
const LOOKS: u32 = 3;

fn options(durability: Durability) -> Options {
    Options::new()
        .durability(durability)
        .capacity(CAPACITY)
        .on_full(OnFull::Block)
        .block_timeout(LONG)
        .max_dead_letters(10_000_000)
        .default_max_retries(3)
        .default_backoff(Backoff::fixed(Duration::from_millis(1)))
        .segment_bytes(256 << 10)
        .cache_bytes(1 << 20)
}

/// Has so many messages go through a broker, which is opened so often.
fn run(name: &str, durability: Durability, share: u64, openings: u64) {
    let most = number("LIBMQ_TOTAL_MESSAGES", 150_000) / share;
    let shared = Arc::new(Shared::new(number("LIBMQ_CONCURRENT_SEED", 1), most));
    let directory = tempfile::tempdir().unwrap();
    let open = || Broker::open(directory.path(), options(durability)).unwrap();
    let mut tally = Tally::default();
    let began = Instant::now();
    let mut dead = Vec::new();
    for opening in 1..=openings {
        let broker = open();
        shared.handle(&broker);
        broker.start().unwrap();
        std::thread::scope(|scope| {
            let (shared, broker) = (&shared, &broker);
            let producers: Vec<_> = (1..=PRODUCERS)
                .map(|number| scope.spawn(move || shared.produce(broker, opening * 10 + number)))
                .collect();
            let mut others: Vec<_> = (PRODUCERS + 1..=PRODUCERS + CONSUMERS)
                .map(|number| scope.spawn(move || shared.consume(broker, opening * 10 + number)))
                .collect();
            others.push(scope.spawn(move || shared.meddle(broker)));
            if opening == openings {
                producers.into_iter().for_each(|it| tally.add(it.join().unwrap()));
                drained(broker);
                dead = dead_letters(broker);
                broker.close(LONG).unwrap();
            } else {
                let (mut given, mut moved) = (0, Instant::now());
                while given < most * opening / openings {
                    std::thread::sleep(Duration::from_millis(1));
                    if shared.given() > given {
                        (given, moved) = (shared.given(), Instant::now());
                    }
                    check_motion(broker, moved);
                }
                broker.close(LONG).unwrap();
                others.extend(producers);
            }
            others.into_iter().for_each(|it| tally.add(it.join().unwrap()));
        });
    }
    tally.add(std::mem::take(&mut *shared.handled.lock().unwrap()));
    let wrong = shared.wrong.lock().unwrap();
    assert!(wrong.is_empty(), "{name}: {wrong:?}");
    let Sum { calls, messages, acked, dead: died, cancelled, superseded, stale } =
        tally.sum(&dead, openings > 1).unwrap_or_else(|why| panic!("{name}: {why}"));
    assert!(shared.is_done() && calls > most);
    if durability != Durability::Memory {
        let broker = open();
        assert_eq!(broker.recovery().messages, 0);
        assert_eq!(dead_letters(&broker), dead);
    }
    let took = began.elapsed();
    println!(
        "{name}: {calls} calls in {took:.1?}; of {messages} messages {acked} were acked, {died} died, {cancelled} were \
         cancelled, {superseded} superseded; {stale} settles came too late"
    );
}

/// Returns when nothing lives any more. Figures are read one after another, and a message goes from one to another: so what
/// lives is looked for several times, while nothing is logged.
fn drained(broker: &Broker) {
    let (mut moved, mut reserved, mut empty) = (Instant::now(), 0, 0);
    while empty < LOOKS {
        let Metrics { broker: figures, lsn, .. } = broker.metrics().unwrap();
        let is_empty = figures.ready + figures.delayed + figures.in_flight == 0;
        if reserved != lsn.reserved {
            (moved, reserved, empty) = (Instant::now(), lsn.reserved, 0);
        } else if is_empty && lsn.shown == lsn.reserved {
            empty += 1;
        } else {
            empty = 0;
        }
        check_motion(broker, moved);
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Panics where nothing has moved for long; with the broker closed, since others wait in it whom the panic would wait for.
fn check_motion(broker: &Broker, moved: Instant) {
    if moved.elapsed() > STILL {
        let figures = broker.metrics();
        let _ = broker.close(Duration::ZERO);
        panic!("nothing moves: {figures:?}");
    }
}

fn dead_letters(broker: &Broker) -> Vec<u64> {
    let mut ids = Vec::new();
    for queue in QUEUES {
        let letters = broker.dead_letters().list(Some(queue), usize::MAX, None).unwrap();
        ids.extend(letters.iter().map(|letter| letter.id()));
    }
    ids
}

#[test]
fn nothing_is_lost_or_doubled_in_memory() {
    run("memory", Durability::Memory, 2, 1);
}

#[test]
fn nothing_is_lost_or_doubled_at_level_os() {
    run("os", Durability::Os, 2, 5);
}

#[test]
fn nothing_is_lost_or_doubled_at_level_sync() {
    run("sync", Durability::Sync, 10, 3);
}
