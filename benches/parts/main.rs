//! The parts of a message's way, one by one: `cargo bench -p libmq-bench`.
//!
//! For looking at one part while changing it. What libmq promises is measured side by side, by `make bench`.

use std::error::Error;
use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use libmq::{Broker, Durability, Message, Options};
use tempfile::TempDir;
use twox_hash::XxHash3_64;

const BODY: [u8; 100] = [0x2a; 100];
const QUEUE: &str = "bench";

/// Messages that one measured step handles, so that opening a broker for it does not matter.
const STEP: usize = 1_000;
const BATCH: usize = 100;

type Done = Result<(), Box<dyn Error>>;

fn main() -> Done {
    let mut criterion = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_secs(1))
        .configure_from_args();
    let disk = TempDir::new_in(env!("CARGO_TARGET_TMPDIR"))?;
    checksum(&mut criterion);
    for (name, durability) in LEVELS {
        let place = Place { disk: disk.path(), durability };
        enqueue(&mut criterion, name, place);
        batch(&mut criterion, name, place);
        take_and_ack(&mut criterion, name, place);
    }
    recovery(&mut criterion, disk.path())?;
    criterion.final_summary();
    Ok(())
}

const LEVELS: [(&str, Durability); 3] =
    [("memory", Durability::Memory), ("os", Durability::Os), ("sync", Durability::Sync)];

/// Where a step's broker is opened, always anew.
#[derive(Clone, Copy)]
struct Place<'a> {
    disk: &'a Path,
    durability: Durability,
}

impl Place<'_> {
    /// A broker in an empty directory, which is removed with it.
    fn open(self) -> (Broker, TempDir) {
        let made = || -> Result<_, Box<dyn Error>> {
            let directory = TempDir::new_in(self.disk)?;
            let broker =
                Broker::open(directory.path(), Options::new().durability(self.durability))?;
            Ok((broker, directory))
        };
        made().unwrap_or_else(|error| panic!("cannot open a broker: {error}"))
    }

    fn filled(self) -> (Broker, TempDir) {
        let (broker, directory) = self.open();
        done(fill(&broker, STEP));
        (broker, directory)
    }
}

fn fill(broker: &Broker, messages: usize) -> Done {
    let batch: Vec<Message<'_>> = (0..BATCH).map(|_| Message::new(QUEUE, &BODY[..])).collect();
    for _ in 0..messages / BATCH {
        broker.enqueue_batch(&batch)?;
    }
    Ok(())
}

/// Criterion's closures answer nothing, so a failure ends the run here.
fn done(done: Done) {
    done.unwrap_or_else(|error| panic!("a step failed: {error}"));
}

fn steps(messages: usize) -> Throughput {
    Throughput::Elements(messages as u64)
}

/// The checksum taken over each body and each header.
fn checksum(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("checksum");
    for bytes in [32, 100, 1024, 64 * 1024] {
        let body = vec![0x2a; bytes];
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_with_input(BenchmarkId::from_parameter(bytes), &body, |bencher, body| {
            bencher.iter(|| XxHash3_64::oneshot(black_box(body)));
        });
    }
    group.finish();
}

fn enqueue(criterion: &mut Criterion, name: &str, place: Place<'_>) {
    let mut group = criterion.benchmark_group("enqueue");
    group.throughput(steps(STEP));
    group.bench_function(name, |bencher| {
        bencher.iter_batched_ref(
            || place.open(),
            |(broker, _)| {
                for _ in 0..STEP {
                    done(
                        broker
                            .enqueue(Message::new(QUEUE, &BODY[..]))
                            .map(drop)
                            .map_err(Into::into),
                    );
                }
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

fn batch(criterion: &mut Criterion, name: &str, place: Place<'_>) {
    let mut group = criterion.benchmark_group("enqueue in batches of 100");
    group.throughput(steps(STEP));
    group.bench_function(name, |bencher| {
        bencher.iter_batched_ref(
            || place.open(),
            |(broker, _)| done(fill(broker, STEP)),
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

fn take_and_ack(criterion: &mut Criterion, name: &str, place: Place<'_>) {
    let lease = Duration::from_secs(30);
    let mut group = criterion.benchmark_group("receive and ack");
    group.throughput(steps(STEP));
    group.bench_function(name, |bencher| {
        bencher.iter_batched_ref(
            || place.filled(),
            |(broker, _)| {
                let pull = || -> Done {
                    while let Some(delivery) = broker.receive(QUEUE, Duration::ZERO, lease)? {
                        black_box(delivery.body());
                        delivery.ack()?;
                    }
                    Ok(())
                };
                done(pull());
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

/// Opening a directory of 100,000 messages.
fn recovery(criterion: &mut Criterion, disk: &Path) -> Done {
    const MESSAGES: usize = 100_000;
    let directory = TempDir::new_in(disk)?;
    let open = || Broker::open(directory.path(), Options::new().durability(Durability::Os));
    let broker = open()?;
    fill(&broker, MESSAGES)?;
    broker.close(Duration::from_secs(30))?;

    let mut group = criterion.benchmark_group("recovery");
    group.throughput(steps(MESSAGES));
    group.bench_function("100,000 messages", |bencher| {
        // Timed by hand: a directory has one owner, so each broker goes before the next one comes.
        bencher.iter_custom(|times| {
            (0..times).fold(Duration::ZERO, |sum, _| {
                let began = Instant::now();
                let broker = open();
                let took = began.elapsed();
                done(broker.map(drop).map_err(Into::into));
                sum + took
            })
        });
    });
    group.finish();
    Ok(())
}
