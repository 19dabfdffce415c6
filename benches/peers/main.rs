//! libmq, the bare disk and SQLite side by side: `make bench`.
//!
//! Usage: `peers DIRECTORY`. Works in DIRECTORY/scratch, which should be on the disk one wants to know about, and
//! leaves its figures in DIRECTORY/latest.json. `LIBMQ_BENCH_ROUNDS` sets the rounds, `LIBMQ_BENCH_ONLY` runs only the
//! contests whose name contains it.

mod bare;
mod contest;
mod engine;
mod memory;
mod report;
mod sqlite;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use libmq::Durability;
use serde_json::json;

use contest::{Contest, Failure, Goal, Unit};
use sqlite::Synchronous;

const ROUNDS: usize = 5;
const THREADS: u32 = 64;
const A_WHILE: Duration = Duration::from_secs(1);
const MILLION: u32 = 1_000_000;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [_, directory] => compare(Path::new(directory)),
        [_, what @ (memory::WAITING | memory::FRESH), directory, messages] => {
            memory::look(what, Path::new(directory), messages.parse()?)
        }
        _ => Err("usage: peers DIRECTORY".into()),
    }
}

fn compare(directory: &Path) -> Result<(), Failure> {
    let rounds = match std::env::var("LIBMQ_BENCH_ROUNDS") {
        Ok(rounds) => rounds.parse::<usize>()?.max(1),
        Err(_) => ROUNDS,
    };
    let only = std::env::var("LIBMQ_BENCH_ONLY").unwrap_or_default();
    let filled = Filled::new(directory);
    let mut contests: Vec<Contest<'_>> = producers();
    contests.push(end_to_end());
    contests.extend(recoveries(&filled));
    contests.extend(memories());
    contests.retain(|contest| contest.name.contains(&only));

    println!("bodies of 100 bytes, medians of {rounds} rounds; x: libmq's figure over the peer's");
    for round in 0..rounds {
        for contest in &mut contests {
            eprintln!("round {} of {rounds}: {}", round + 1, contest.name);
            contest.run(round, &directory.join("scratch"))?;
        }
    }
    contests.iter().for_each(report::print);
    let missed = contests.iter().filter(|contest| !report::is_reached(contest)).count();
    println!("\n{} of {} contests as promised", contests.len() - missed, contests.len());

    let latest = directory.join("latest.json");
    let figures: Vec<_> = contests.iter().map(report::to_json).collect();
    let text = serde_json::to_string_pretty(&json!({ "rounds": rounds, "contests": figures }))?;
    fs::write(&latest, text + "\n")?;
    println!("the figures of every round are in {}", latest.display());
    fs::remove_dir_all(directory.join("scratch"))?;
    Ok(())
}

/// Messages in, and how far each has come when its enqueue returns.
fn producers<'a>() -> Vec<Contest<'a>> {
    let new = |name| Contest::new(name, Unit::Rate, Goal::None);
    vec![
        new("enqueue sync, 1 producer, one by one")
            .with("libmq", |dir| engine::one_by_one(dir, Durability::Sync, 4_000))
            .against("bare pwrite + fdatasync", 0.75, |dir| bare::synced_writes(dir, 4_000))
            .with("SQLite FULL", |dir| sqlite::one_by_one(dir, Synchronous::Full, 2_000)),
        // A cost of at most twice the bare write is a rate of at least half of it.
        new("enqueue os, 1 producer, one by one")
            .with("libmq", |dir| engine::one_by_one(dir, Durability::Os, 200_000))
            .against("bare write", 0.5, |dir| bare::writes(dir, 200_000))
            .with("SQLite NORMAL", |dir| sqlite::one_by_one(dir, Synchronous::Normal, 20_000)),
        // SQLite's promise holds against whichever of its two ways is the faster here.
        new("enqueue sync, 64 producers")
            .with("libmq", |dir| engine::threads(dir, THREADS, A_WHILE))
            .against("SQLite FULL, one connection", 3.0, |dir| {
                sqlite::threads_shared(dir, THREADS, A_WHILE)
            })
            .against("SQLite FULL, a connection each", 3.0, |dir| {
                sqlite::threads_apart(dir, THREADS, A_WHILE)
            }),
    ]
}

fn end_to_end<'a>() -> Contest<'a> {
    Contest::new("end to end os: batches of 100, handler, ack", Unit::Rate, Goal::None)
        .with("libmq, all of it", |dir| engine::end_to_end(dir, 300_000))
        .against("SQLite NORMAL, take + delete", 15.0, |dir| sqlite::take_then_delete(dir, 10_000))
        .with("SQLite NORMAL, delete at once", |dir| sqlite::take_by_deleting(dir, 10_000))
}

/// Directories with a million waiting messages, made when first asked for and opened again and again.
struct Filled {
    directory: PathBuf,
}

impl Filled {
    fn new(directory: &Path) -> Self {
        let filled = Self { directory: directory.join("filled") };
        filled.remove();
        filled
    }

    /// Removes what this run, or an interrupted one before it, has made.
    fn remove(&self) {
        // What cannot be removed is in nobody's way but the disk's.
        let _ = fs::remove_dir_all(&self.directory);
    }

    fn get(&self, snapshot: bool) -> Result<PathBuf, Failure> {
        let path = self.directory.join(if snapshot { "snapshot" } else { "journal" });
        if !path.exists() {
            fs::create_dir_all(&self.directory)?;
            engine::fill(&path, MILLION, snapshot)?;
        }
        Ok(path)
    }
}

impl Drop for Filled {
    fn drop(&mut self) {
        self.remove();
    }
}

fn recoveries(filled: &Filled) -> [Contest<'_>; 1] {
    [Contest::new("recovery of 1,000,000 messages", Unit::Rate, Goal::AtLeast(1e6))
        .with("libmq, from the journal alone", |_| engine::recover(&filled.get(false)?, MILLION))
        .with("libmq, from a snapshot", |_| engine::recover(&filled.get(true)?, MILLION))]
}

fn memories<'a>() -> [Contest<'a>; 2] {
    [
        Contest::new(
            "memory, 1,000,000 waiting messages of 1 KiB",
            Unit::Megabytes,
            Goal::LessThan(300.0),
        )
        .with("libmq", |dir| memory::in_own_process(memory::WAITING, dir, MILLION)),
        Contest::new("memory, a new broker with defaults", Unit::Megabytes, Goal::LessThan(8.0))
            .with("libmq", |dir| memory::in_own_process(memory::FRESH, dir, 0)),
    ]
}
