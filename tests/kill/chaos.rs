//! Chaos: workers that are killed, and that have trouble before, by name; the ledger knows what was promised all the same.
//!
//! A call that is answered `STORAGE_FULL` or `IO` has changed nothing, and is held to that. `make chaos` plays more rounds of
//! each.

use std::path::Path;
use std::time::Duration;

use crate::process::Program;
use crate::random::Random;
use crate::run::Run;
use crate::trouble::{FullDisk, Limit, Stop, Trouble};
use crate::{killer, scratch, setting, skip};

/// Kills of each scenario, where `LIBMQ_CHAOS_ROUNDS` does not say.
const ROUNDS: u64 = 12;

/// From one change to the next, in milliseconds.
const CHANGE_MS: u64 = 60;

/// Changes in the life of a worker, at most.
const CHANGES: u64 = 8;

/// Plays a scenario; the line says what it did and found.
fn play(name: &str, scratch: &Path, place: &Path, troubles: &mut [Box<dyn Trouble>]) {
    let rounds = setting("LIBMQ_CHAOS_ROUNDS").unwrap_or(ROUNDS);
    let seed = setting("LIBMQ_KILL_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    let program = Program::rust();
    let mut run = Run::beside(&scratch.join("notes"), &program, &place.join("queue"), seed);
    let mut random = Random::new(seed);
    let mut times = 0;
    for _ in 0..rounds {
        let changes = 1 + random.below(CHANGES);
        run.troubled_life(|worker, hear| {
            for _ in 0..changes {
                let trouble = &mut troubles[random.below(troubles.len() as u64) as usize];
                hear(Duration::from_millis(random.below(CHANGE_MS)));
                trouble.begin(worker);
                hear(Duration::from_millis(random.below(CHANGE_MS)));
                // Some are killed in the middle of it.
                if random.percent(90) {
                    trouble.end(worker);
                }
                times += 1;
            }
        });
        for trouble in &mut *troubles {
            trouble.after();
        }
    }
    let report = run.settle_accounts();
    println!(
        "chaos {name}: {rounds} kills, trouble {times} times, seed {seed}: {} messages, {} acked, {} dead letters, {} \
         refused and never seen, {} handled again, 0 lost",
        report.messages,
        report.acked,
        report.dead(),
        report.counts.refused,
        report.counts.doubles,
    );
    assert!(report.acked > 0, "nothing was done");
}

fn play_one(name: &str, trouble: impl Trouble + 'static) {
    let place = scratch();
    play(name, &place, &place, &mut [Box::new(trouble)]);
    std::fs::remove_dir_all(place).unwrap();
}

/// Below what any segment takes, and above what is written in those that are there, nearly.
const FILE_BYTES: u64 = (64 << 10) - 1;

/// So many descriptors as a worker has when it is open: none for what comes.
const FILES: u64 = 8;

#[test]
fn kill_with_a_full_disk() {
    let place = scratch();
    match FullDisk::at(&place.join("room")) {
        Ok(full) => play("full-disk", &place, &full.place(), &mut [Box::new(full)]),
        Err(why) => skip(&format!("chaos full-disk: {why}")),
    }
    std::fs::remove_dir_all(place).unwrap();
}

#[test]
fn kill_with_a_limit_to_files() {
    play_one("file-limit", Limit(libc::RLIMIT_FSIZE, FILE_BYTES));
}

#[test]
fn kill_without_descriptors() {
    play_one("no-descriptors", Limit(libc::RLIMIT_NOFILE, FILES));
}

#[test]
fn kill_what_was_stopped() {
    play_one("stopped", Stop);
}

#[test]
fn kill_with_every_trouble_at_once() {
    let place = scratch();
    let mut troubles: Vec<Box<dyn Trouble>> = vec![
        Box::new(Stop),
        Box::new(Limit(libc::RLIMIT_NOFILE, FILES)),
        Box::new(Limit(libc::RLIMIT_FSIZE, FILE_BYTES)),
    ];
    let room = FullDisk::at(&place.join("room"));
    let there = room.as_ref().map_or_else(|_| place.clone(), FullDisk::place);
    troubles.extend(room.ok().map(|full| -> Box<dyn Trouble> { Box::new(full) }));
    play("everything", &place, &there, &mut troubles);
    drop(troubles);
    std::fs::remove_dir_all(place).unwrap();
}

/// Handlers that abort, segfault and exit, time and again.
#[test]
fn kill_by_handlers() {
    let rounds = setting("LIBMQ_CHAOS_ROUNDS").unwrap_or(ROUNDS).div_ceil(ROUNDS);
    (0..rounds).for_each(|_| killer::run(&Program::rust()));
    println!("chaos handlers: {rounds} times three killers were found, and nobody else was blamed");
}
