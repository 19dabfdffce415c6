//! A directory has one owner at a time: other processes, dead owners, and forked children, through `Broker`.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use libmq::{Broker, ErrorKind, Message, Options};

use crate::process::{Heard, Program, SILENCE_MAX, Worker};

/// Names the directory that [`a_process_of_its_own`] opens.
const DIRECTORY: &str = "LIBMQ_TEST_OWNER_DIRECTORY";

/// Waits for a line that begins so, and answers the rest of it.
fn rest_of_line(output: &mut impl std::io::BufRead, beginning: &str) -> String {
    loop {
        let mut line = String::new();
        assert!(output.read_line(&mut line).unwrap() > 0, "it ended before it said {beginning}");
        // The test harness begins a line of its own before the first one.
        if let Some((_, rest)) = line.trim_end().split_once(beginning) {
            return rest.trim().to_owned();
        }
    }
}

/// What a call of every kind answers.
fn answers(broker: &Broker) -> String {
    let calls = [
        broker.enqueue(Message::new("queue", "child's")).map(|_| ()),
        broker.receive("queue", Duration::ZERO, None).map(|_| ()),
        broker.metrics().map(|_| ()),
        broker.snapshot(),
        broker.start(),
        broker.stop(Duration::ZERO),
        broker.wait_idle(Duration::ZERO).map(|_| ()),
        broker.close(Duration::ZERO),
    ];
    let answers = calls.map(|call| call.map_or_else(|error| error.kind().name(), |()| "OK"));
    answers.join(" ")
}

fn say(line: &str) {
    let mut output = std::io::stdout().lock();
    writeln!(output, "{line}").unwrap();
    output.flush().unwrap();
}

/// Not a test: what [`fork_elsewhere`] runs. It opens a broker and forks; the child lives until its input ends.
#[test]
fn a_process_of_its_own() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let broker = Broker::open(&directory, Options::new()).unwrap();
    broker.enqueue(Message::new("queue", "owner's")).unwrap();
    // SAFETY: the child calls libmq, which answers at once there, writes lines, and leaves by _exit.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let (mut input, mut line) = (std::io::stdin().lock(), String::new());
        say(&format!("child {} {}", std::process::id(), answers(&broker)));
        while input.read_line(&mut line).unwrap() > 0 {
            say(&format!("again {}", answers(&broker)));
        }
        drop(broker);
        say("left");
        // SAFETY: ends this process; nothing of it is needed any more.
        unsafe { libc::_exit(0) };
    }
    std::thread::sleep(Duration::from_secs(60));
}

fn fork_elsewhere(directory: &Path) -> Child {
    let (_, module) = module_path!().split_once("::").unwrap();
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("{module}::a_process_of_its_own"), "--nocapture"])
        .env(DIRECTORY, directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn locked_by(directory: &Path) -> u32 {
    let error = Broker::open(directory, Options::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Locked, "{error}");
    let pid = error.owner().unwrap().pid;
    assert!(error.to_string().contains(&pid.to_string()), "{error}");
    pid
}

#[test]
fn kill_an_owner_and_the_next_one_opens_at_once() {
    let scratch = tempfile::tempdir().unwrap();
    let directory = scratch.path().join("queue");
    let mut worker = Worker::start(&Program::rust(), &directory, 1, &[]);
    let ready = |worker: &Worker| {
        let end = Instant::now() + SILENCE_MAX;
        loop {
            match worker.hear(end) {
                Heard::Line(line) if line == "ready" => return,
                Heard::Line(line) => assert!(!line.starts_with("error"), "{line}"),
                other => panic!("no worker is ready: {other:?}"),
            }
        }
    };
    ready(&worker);
    for _ in 0..2 {
        assert_eq!(locked_by(&directory), worker.id());
        // Another process is told the same.
        let mut second = Worker::start(&Program::rust(), &directory, 2, &[]);
        let Heard::Line(line) = second.hear(Instant::now() + SILENCE_MAX) else { panic!() };
        assert!(line.starts_with("error LOCKED ") && line.contains(&worker.id().to_string()));
        assert_eq!(second.end().code(), Some(1));

        worker.kill();
        worker = Worker::start(&Program::rust(), &directory, 3, &[]);
        ready(&worker);
    }
    worker.kill();
    drop(Broker::open(&directory, Options::new()).unwrap());
}

#[test]
fn kill_an_owner_and_its_forked_child_holds_nothing() {
    let scratch = tempfile::tempdir().unwrap();
    let directory = scratch.path().join("queue");
    let mut owner = fork_elsewhere(&directory);
    let mut output = BufReader::new(owner.stdout.take().unwrap());
    let said = rest_of_line(&mut output, "child ");
    let (child, answers) = said.split_once(' ').unwrap();
    assert!(
        answers.split(' ').count() == 8 && answers.split(' ').all(|it| it == "FORKED"),
        "{answers}"
    );
    assert_eq!(locked_by(&directory), owner.id());

    owner.kill().unwrap();
    let mut input = owner.stdin.take().unwrap();
    owner.wait().unwrap();
    let broker = Broker::open(&directory, Options::new()).unwrap();
    // The child has outlived its parent, and is as deaf as before.
    writeln!(input).unwrap();
    assert_eq!(rest_of_line(&mut output, "again "), answers, "of {child}");
    drop(input);
    rest_of_line(&mut output, "left");
    assert_eq!(locked_by(&directory), std::process::id(), "the child took the lock away");
    let bodies: Vec<_> = std::iter::from_fn(|| {
        let delivery = broker.receive("queue", Duration::ZERO, None).unwrap()?;
        let body = delivery.body().to_vec();
        delivery.ack().unwrap();
        Some(body)
    })
    .collect();
    assert_eq!(bodies, [b"owner's"]);
    broker.close(Duration::from_secs(5)).unwrap();
}
