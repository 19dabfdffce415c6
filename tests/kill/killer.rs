//! A message that kills its process is found, and those that ran beside it are not blamed.

use std::collections::HashMap;
use std::os::unix::process::ExitStatusExt as _;
use std::time::{Duration, Instant};

use libmq::{Broker, Message, Options};

use crate::process::{Heard, Program, SILENCE_MAX, Worker};
use crate::protocol::{Line, Outcome};
use crate::{message::MAX_CRASHES, scratch};

/// Messages before and behind each killer.
const INNOCENT: u64 = 40;

/// How killers end their process: what they are told, and the signal or the status that it ends with then.
const KILLERS: [Way; 3] = [
    ("abort", Some(libc::SIGABRT), None),
    ("segfault", Some(libc::SIGSEGV), None),
    ("exit", None, Some(9)),
];

/// Runs a worker again and again over a directory in which some messages kill it.
pub fn run(program: &Program) {
    let scratch = scratch();
    let directory = scratch.join("queue");
    let (innocent, ways) = enqueue(&directory);
    let mut acked = std::collections::BTreeSet::new();
    let mut dead = Vec::new();
    let (mut deaths, mut suspects) = (0, 0);
    let mut killers = std::collections::BTreeMap::new();
    'starts: for seed in 1.. {
        assert!(seed < 50, "{deaths} deaths, and the killers are not found");
        let mut worker = Worker::start(program, &directory, seed, &["drain"]);
        let mut last = None;
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
                Line::Aborting { id } => {
                    *killers.entry(id).or_insert(0) += 1;
                    last = Some(id);
                }
                Line::Error(text) => panic!("the worker says: {text}"),
                Line::Drained => {
                    assert!(worker.end().success());
                    break 'starts;
                }
                _ => {}
            }
        }
        let end = worker.end();
        let (way, signal, code) = last.and_then(|id| ways.get(&id)).expect("no message killed it");
        assert_eq!((end.signal(), end.code()), (*signal, *code), "it did not die of its {way}");
        deaths += 1;
    }
    // Each of them as often as it may, and nobody else.
    assert_eq!(killers.len(), KILLERS.len(), "{killers:?}");
    assert!(killers.values().all(|times| *times == MAX_CRASHES), "{killers:?}");
    assert_eq!(deaths, KILLERS.len() as u64 * u64::from(MAX_CRASHES));
    assert_eq!(dead.len(), KILLERS.len(), "{dead:?}");
    for (id, reason, attempts, number) in dead {
        assert_eq!((reason.as_str(), attempts, number), ("crashed", MAX_CRASHES, None), "of {id}");
    }
    let missing: Vec<&u64> = innocent.iter().filter(|id| !acked.contains(id)).collect();
    assert!(missing.is_empty(), "{missing:?} were not acked");
    assert!(suspects > deaths, "nothing ran beside the killers");
    println!(
        "{}: {} killers, by abort, segfault and exit, found in {deaths} deaths, {suspects} suspects",
        program.language,
        KILLERS.len(),
    );
    std::fs::remove_dir_all(scratch).unwrap();
}

/// How a killer ends its process.
type Way = (&'static str, Option<i32>, Option<i32>);

/// Fills a directory; answers the ids of those that do no harm, and of the others what they do.
fn enqueue(directory: &std::path::Path) -> (Vec<u64>, HashMap<u64, Way>) {
    let broker = Broker::open(directory, Options::new()).unwrap();
    let (mut innocent, mut ways) = (Vec::new(), HashMap::new());
    let mut number = 0;
    let mut more = |innocent: &mut Vec<u64>| {
        for _ in 0..INNOCENT {
            number += 1;
            let body = format!("{number} innocent");
            innocent.push(broker.enqueue(Message::new("work", body)).unwrap().id);
        }
    };
    for way in KILLERS {
        more(&mut innocent);
        let killer = Message::new("work", format!("killer {}", way.0));
        ways.insert(broker.enqueue(killer).unwrap().id, way);
    }
    more(&mut innocent);
    broker.close(Duration::from_secs(5)).unwrap();
    (innocent, ways)
}

#[test]
fn kill_a_message_that_kills_its_process_is_found_and_those_beside_it_are_not_blamed() {
    run(&Program::rust());
}
