//! A message that kills its process is found, and those that ran beside it are not blamed.

use std::os::unix::process::ExitStatusExt as _;
use std::time::{Duration, Instant};

use libmq::{Broker, Message, Options};

use crate::process::{Heard, Program, SIGABRT, SILENCE_MAX, Worker};
use crate::protocol::{Line, Outcome};
use crate::{message::MAX_CRASHES, scratch};

/// Messages before and behind each killer.
const INNOCENT: u64 = 40;

const KILLERS: u64 = 2;

/// Runs a worker again and again over a directory in which some messages kill it.
pub fn run(program: &Program) {
    let scratch = scratch();
    let directory = scratch.join("queue");
    let innocent = enqueue(&directory);
    let mut acked = std::collections::BTreeSet::new();
    let mut dead = Vec::new();
    let (mut deaths, mut suspects) = (0, 0);
    let mut killers = std::collections::BTreeMap::new();
    'starts: for seed in 1.. {
        assert!(seed < 50, "{deaths} deaths, and the killers are not found");
        let mut worker = Worker::start(program, &directory, seed, &["drain"]);
        loop {
            let line = match worker.hear(Instant::now() + SILENCE_MAX) {
                Heard::Line(line) => line,
                Heard::Nothing => panic!("the worker hangs:\n{}", worker.stacks()),
                Heard::End => break,
            };
            match Line::parse(&line).unwrap_or_else(|| panic!("{line:?} is no line")) {
                Line::Suspects(count) => suspects += count,
                Line::Settling { id, outcome: Outcome::Ack } => {
                    acked.insert(id);
                }
                Line::Dead { id, reason, attempts, number } => {
                    dead.push((id, reason, attempts, number));
                }
                Line::Aborting { id } => *killers.entry(id).or_insert(0) += 1,
                Line::Error(text) => panic!("the worker says: {text}"),
                Line::Drained => {
                    assert!(worker.end().success());
                    break 'starts;
                }
                _ => {}
            }
        }
        assert_eq!(worker.end().signal(), Some(SIGABRT), "it did not die of its message");
        deaths += 1;
    }
    // Each of them as often as it may, and nobody else.
    assert_eq!(killers.len() as u64, KILLERS, "{killers:?}");
    assert!(killers.values().all(|times| *times == MAX_CRASHES), "{killers:?}");
    assert_eq!(deaths, KILLERS * u64::from(MAX_CRASHES));
    assert_eq!(dead.len() as u64, KILLERS, "{dead:?}");
    for (id, reason, attempts, number) in dead {
        assert_eq!((reason.as_str(), attempts, number), ("crashed", MAX_CRASHES, None), "of {id}");
    }
    let missing: Vec<&u64> = innocent.iter().filter(|id| !acked.contains(id)).collect();
    assert!(missing.is_empty(), "{missing:?} were not acked");
    assert!(suspects > deaths, "nothing ran beside the killers");
    println!(
        "{}: {KILLERS} killers found in {deaths} deaths, {suspects} suspects",
        program.language
    );
    std::fs::remove_dir_all(scratch).unwrap();
}

/// Fills a directory; answers the ids of those that do no harm.
fn enqueue(directory: &std::path::Path) -> Vec<u64> {
    let broker = Broker::open(directory, Options::new()).unwrap();
    let mut innocent = Vec::new();
    for number in 0..=KILLERS * INNOCENT {
        if number % INNOCENT == INNOCENT / 2 {
            broker.enqueue(Message::new("work", "killer")).unwrap();
        }
        let body = format!("{} innocent", number + 1);
        innocent.push(broker.enqueue(Message::new("work", body)).unwrap().id);
    }
    broker.close(Duration::from_secs(5)).unwrap();
    innocent
}

#[test]
fn kill_a_message_that_kills_its_process_is_found_and_those_beside_it_are_not_blamed() {
    run(&Program::rust());
}
