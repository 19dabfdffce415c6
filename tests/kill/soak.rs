//! The soak: a constant load for a long time, in two directories at once.
//!
//! In one of them the worker is killed again and again, in every language in turn, and the ledger knows what was promised. In
//! the other one it lives from the beginning to the end, and its memory, descriptors, threads and files must not grow.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::gauge::{Gauge, disk_kib, entries, memory_kib};
use crate::process::{Heard, Program, SILENCE_MAX, Worker};
use crate::run::Run;
use crate::verdict::Report;

/// From one kill to the next, where there is time for many.
const LIFE_MAX: Duration = Duration::from_secs(30);

/// Kills that there are in a short soak, at least.
const LIVES_MIN: u32 = 18;

/// Lives between two accounts.
const LIVES: u64 = 3;

/// Accounts that there are at least.
const ACCOUNTS_MIN: u64 = 3;

/// How many times as long the producers pause, so that the load is constant and leaves the machine to others.
const PACE: u64 = 25;

/// How often the report so far is printed.
const TELL: Duration = Duration::from_secs(600);

/// What is not counted at the beginning: caches fill, threads are made.
const WARM_UP: u32 = 10;

/// How often the worker that lives is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// How long the soak takes: `LIBMQ_SOAK_HOURS`, or a minute.
fn time() -> Duration {
    let hours = std::env::var("LIBMQ_SOAK_HOURS").ok().map(|hours| {
        let hours: f64 = hours.parse().unwrap_or_else(|_| panic!("{hours:?} are no hours"));
        Duration::from_secs_f64(hours * 3600.0)
    });
    hours.unwrap_or(Duration::from_secs(60))
}

#[test]
fn kill_again_and_again_under_a_constant_load_and_nothing_is_lost_and_nothing_grows() {
    let scratch = crate::scratch();
    let end = Instant::now() + time();
    let killed = thread::scope(|scope| {
        let killed = scope.spawn(|| killed(&scratch.join("killed"), end));
        let steady = steady(&scratch.join("steady"), end);
        println!("soak: never killed: {steady}");
        killed.join().unwrap()
    });
    println!("soak: killed: {killed}");
    std::fs::remove_dir_all(scratch).unwrap();
}

/// Workers that are killed, in turn those of every language there is here.
fn killed(directory: &Path, end: Instant) -> String {
    let mut programs = vec![Program::rust()];
    match crate::c::compile() {
        Ok(program) => programs.push(program),
        Err(why) => crate::skip(&format!("the soak in C: {why}")),
    }
    programs.extend(Program::named("LIBMQ_SOAK_WORKERS"));
    let programs: Vec<_> = programs.into_iter().map(|program| program.paced(PACE)).collect();
    let began = Instant::now();
    let life = LIFE_MAX.min(end.saturating_duration_since(began) / LIVES_MIN);
    let mut run = Run::new(&programs[0], directory, 1);
    let mut total = Report::default();
    let mut disk = Gauge::new("KiB on disk when drained", 512);
    let (mut kills, mut told_at) = (0, Instant::now());
    // As many accounts as the gauge needs, on the slowest machine, too.
    while Instant::now() < end || kills < ACCOUNTS_MIN * LIVES {
        for _ in 0..LIVES {
            run.go_on_in(&programs[usize::try_from(kills).unwrap() % programs.len()]);
            run.life(life);
            kills += 1;
        }
        total.add(&run.settle_accounts());
        disk.look(disk_kib(directory));
        if told_at.elapsed() > TELL {
            println!("soak: {kills} kills in {} s: {}", began.elapsed().as_secs(), summary(&total));
            told_at = Instant::now();
        }
    }
    disk.flat().unwrap();
    let languages: Vec<_> = programs.iter().map(|program| program.language).collect();
    let seconds = began.elapsed().as_secs();
    format!(
        "{kills} kills in {seconds} s, in {}: {}; {disk}",
        languages.join(", "),
        summary(&total)
    )
}

fn summary(total: &Report) -> String {
    format!(
        "{} messages, {} acked, {} dead letters, {} handled again, {} suspects, 0 lost",
        total.messages,
        total.acked,
        total.dead(),
        total.counts.doubles,
        total.counts.suspects,
    )
}

/// A worker that lives from the beginning to the end.
fn steady(directory: &Path, end: Instant) -> String {
    let time = end.saturating_duration_since(Instant::now());
    let seconds = time.as_secs().to_string();
    let mut worker = Worker::start(&Program::rust(), directory, 1, &["steady", &seconds]);
    let mut memory = Gauge::new("KiB of memory", 4096);
    let mut files = Gauge::new("descriptors", 4);
    let mut threads = Gauge::new("threads", 2);
    let mut disk = Gauge::new("KiB on disk", 512);
    let warm = Instant::now() + time / WARM_UP;
    let mut look_at = warm;
    let last = loop {
        match worker.hear(look_at.max(Instant::now() + LOOK)) {
            Heard::Line(line) if line.starts_with("drained ") => break line,
            Heard::Line(line) => assert!(!line.starts_with("error"), "the worker says: {line}"),
            Heard::Nothing => assert!(Instant::now() < end + SILENCE_MAX * 2, "the worker hangs"),
            Heard::End => panic!("the worker ended by itself: {}", worker.stacks()),
        }
        if Instant::now() < look_at || Instant::now() > end {
            continue;
        }
        look_at = Instant::now() + LOOK;
        let id = worker.id();
        memory.look(memory_kib(id).unwrap());
        files.look(entries(id, "fd").unwrap());
        threads.look(entries(id, "task").unwrap());
        disk.look(disk_kib(directory));
    };
    assert!(worker.end().success());
    let gauges = [memory, files, threads, disk];
    gauges.iter().try_for_each(Gauge::flat).unwrap();
    let figures: Vec<_> = gauges.iter().map(Gauge::to_string).collect();
    let handled = last.trim_start_matches("drained ");
    format!("{handled} messages in {seconds} s, each handled once; {}", figures.join(", "))
}
