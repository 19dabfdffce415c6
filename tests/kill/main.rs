//! Processes that work are killed with SIGKILL again and again, and a ledger outside is held against what is found.
//! `README.md` says what a worker is and what is held against it.

mod c;
mod chaos;
mod gauge;
mod killer;
mod ledger;
mod message;
mod owner;
mod point;
mod process;
mod protocol;
mod random;
mod rounds;
mod run;
mod soak;
mod trouble;
mod verdict;

use std::io::Write as _;
use std::path::PathBuf;

use process::Program;

/// Rounds that count, where `LIBMQ_KILL_ROUNDS` does not say.
const ROUNDS_RUST: u64 = 220;

/// The same for other languages: a hundred in Python took three quarters of a minute on a machine that did more than that.
/// Where it says, seven tenths of that in C, and less where a start takes long.
const ROUNDS_C: u64 = 120;
const ROUNDS_OTHER: u64 = 100;

fn setting(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} is {value:?}, and takes a number")))
}

/// So many of a hundred.
fn share(percent: u64) -> impl Fn(u64) -> u64 {
    move |of| (of * percent).div_ceil(100)
}

/// Runs the rounds of a language in a directory of their own, which stays if they fail.
fn kill_rounds(program: &Program, rounds: u64) {
    let seed = setting("LIBMQ_KILL_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    let directory = scratch();
    let report = rounds::run(program, &directory.join("queue"), seed, rounds);
    println!("{}, seed {seed}: {report}", program.language);
    std::fs::remove_dir_all(directory).unwrap();
}

/// A directory of this test's own.
fn scratch() -> PathBuf {
    tempfile::Builder::new()
        .prefix("libmq-kill-")
        .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
        .unwrap()
        .keep()
}

/// Notes what could not be run here.
fn skip(why: &str) {
    println!("SKIPPED: {why}");
    if let Some(path) = std::env::var_os("LIBMQ_SKIPS") {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
        writeln!(file.unwrap(), "{why}").unwrap();
    }
}

/// The worker of a language that Cargo does not build; the scripts that test those run this with the worker's command.
#[test]
fn kill_rounds_lose_nothing_and_double_nothing_in_another_language_and_find_the_killer() {
    for program in Program::named("LIBMQ_KILL_WORKER") {
        let rounds = setting("LIBMQ_KILL_ROUNDS").map_or(ROUNDS_OTHER, share(15));
        kill_rounds(&program, rounds);
        killer::run(&program);
    }
}

#[test]
fn kill_rounds_lose_nothing_and_double_nothing_in_rust() {
    kill_rounds(&Program::rust(), setting("LIBMQ_KILL_ROUNDS").unwrap_or(ROUNDS_RUST));
}
