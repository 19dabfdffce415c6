//! The worker of the kill rounds in Rust: `WORKER DIRECTORY SEED [drain]`, see `../README.md`.

#[path = "../random.rs"]
mod random;

mod die;
mod handle;
mod numbers;
mod produce;
mod say;
mod steady;
mod trouble;

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use libmq::{Backoff, Options};

use numbers::Numbers;
use say::say;

/// Little, so that much is read back from the disk.
const CACHE_BYTES: u64 = 1 << 20;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let (directory, seed, mode) = match &arguments[..] {
        [_, directory, seed] => (directory, seed, Mode::Work),
        [_, directory, seed, mode] if mode == "troubled" => {
            trouble::expect();
            (directory, seed, Mode::Work)
        }
        [_, directory, seed, mode] if mode == "drain" => (directory, seed, Mode::Drain),
        [_, directory, seed, mode, seconds] if mode == "steady" => {
            (directory, seed, Mode::Steady(Duration::from_secs(seconds.parse().unwrap())))
        }
        _ => {
            say("error usage: WORKER DIRECTORY SEED [drain | troubled | steady SECONDS]");
            std::process::exit(2);
        }
    };
    let seed = seed.parse().unwrap();
    if let Err(error) = work(directory, seed, mode) {
        say(&format!("error {} {error}", error.kind().name()));
        std::process::exit(1);
    }
}

/// What this start is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// To work until it is killed.
    Work,
    Drain,
    /// To work for so long, and not to be killed.
    Steady(Duration),
}

fn work(directory: &str, seed: u64, mode: Mode) -> libmq::Result<()> {
    let backoff =
        Backoff::exponential(Duration::from_millis(1), 2.0, Duration::from_millis(20), 1.0);
    let options = || {
        Options::new()
            .cache_bytes(CACHE_BYTES)
            .segment_bytes(64 << 10)
            .snapshot_threshold(200)
            .snapshot_interval(Duration::from_millis(50))
            .default_max_retries(3)
            .max_crashes(3)
            .default_backoff(backoff.clone())
    };
    let broker = trouble::open(directory, options)?;
    let found = broker.recovery();
    say(&format!("recovered {} {}", found.messages, found.dead_letters));
    say(&format!("suspects {}", found.suspects));

    let numbers = Arc::new(Numbers::new(seed));
    if let Mode::Steady(time) = mode {
        return steady::run(&broker, &numbers, time);
    }
    handle::register(&broker, &numbers)?;
    say("ready");
    broker.start()?;
    if mode == Mode::Drain {
        return handle::drain(&broker, &numbers);
    }
    let puller = {
        let (broker, numbers) = (broker.clone(), Arc::clone(&numbers));
        thread::spawn(move || handle::pull(&broker, &numbers, None))
    };
    let producers: Vec<_> = (0..produce::PRODUCERS)
        .map(|producer| {
            let (broker, numbers) = (broker.clone(), Arc::clone(&numbers));
            thread::spawn(move || produce::run(&broker, &numbers, producer))
        })
        .collect();
    for producer in producers {
        producer.join().unwrap()?;
    }
    puller.join().unwrap()
}
