//! The four workloads whose every moment is a power failure.

use std::time::Duration;

use libmq::Durability::Sync;
use libmq_suite::{Op, new};

use crate::run::Run;

/// A body of this name and size.
fn large(name: &str, bytes: usize) -> String {
    let mut body = format!("{name} ");
    while body.len() < bytes {
        body.push(char::from(b'a' + (body.len() % 26) as u8));
    }
    body
}

/// Everything a message can go through, once.
pub(crate) fn mixed() -> Run {
    let mut run = Run::start();
    run.sync(&new("jobs", "one"));
    run.os(&new("jobs", "two"));
    let first = run.receive("jobs");
    run.os(&new("mail", "three").delay(20));
    run.ack(first);
    run.batch(Sync, &[new("jobs", "four"), new("mail", "five"), new("jobs", "six").key("k")]);
    // Replaced while it waits, kept, and then one behind it while it is in flight.
    run.os(&new("jobs", "six again").key("k"));
    run.sync(&new("jobs", "kept out").key("k").keep());
    let (second, third, keyed) = (run.receive("jobs"), run.receive("jobs"), run.receive("jobs"));
    run.os(&new("jobs", "behind").key("k"));
    run.sync(&new("jobs", "behind again").key("k"));
    run.sync(&new("jobs", "kept out").key("k").keep());
    run.retry(second, Some(10));
    run.reject(third, "unwanted");
    run.retry(keyed, None);
    let behind = run.receive("jobs");
    run.os(&new("jobs", "last of its key").key("k"));
    let child = run.ack_with(behind, Sync, &new("mail", "child"));
    run.advance(10);
    let retried = run.receive("jobs");
    assert_eq!(retried, second);
    run.release(retried, 10);
    run.replay(third);
    let mail = run.receive("mail");
    run.reject(mail, "unwanted too");
    assert_eq!(run.receive("mail"), child);
    run.purge("mail");
    run.advance(20);
    run.sync(&new("slow", "the end"));
    run.close();
    run
}

/// Priorities, groups, what expires, windows, and what is removed.
pub(crate) fn choosy() -> Run {
    let mut run = Run::start();
    run.os(&new("jobs", "low").expires(30));
    let (first, second) = (new("jobs", "first").group("g"), new("jobs", "second").group("g"));
    run.batch(
        Sync,
        &[first.priority(1), second.priority(3), new("jobs", "third").group("g").expires(60)],
    );
    run.os(&new("jobs", "high").priority(9).key("k").window(40));
    run.sync(&new("jobs", "higher").priority(8).key("k").group("h").window(40));
    let high = run.receive("jobs");
    run.ack(high);
    run.os(&new("jobs", "kept out").key("k").keep());
    run.os(&new("mail", "guarded").key("k").window(20));
    let mail = run.receive("mail");
    run.ack(mail);
    run.snapshot();
    // The group waits for what came back, not for what is only delayed.
    run.os(&new("jobs", "delayed").group("g").delay(10));
    let first = run.receive("jobs");
    run.receive("jobs");
    run.retry(first, Some(20));
    assert_eq!(run.try_receive("jobs"), None);
    run.advance(10);
    run.os(&new("mail", "guard ended").key("k"));
    run.snapshot();
    run.die();
    run.open();
    run.advance(10);
    let first = run.receive("jobs");
    run.ack(first);
    // What was low was attempted when the process died, so it ends as a dead letter.
    run.advance(10);
    let second = run.receive("jobs");
    let waits = run.os(&new("mail", "cancelled").group("g").expires(20)).id;
    run.cancel(waits);
    let kept = run.os(&new("slow", "purged").key("k")).id;
    let also = run.os(&new("slow", "purged too").delay(10)).id;
    run.purge_queue("slow", &[kept, also]);
    run.release(second, 10);
    run.advance(30);
    run.sync(&new("jobs", "the end").key("k").keep());
    run.close();
    run.open();
    run.sync(&new("slow", "after all").key("k").keep());
    run.close();
    run
}

/// Segments that fill, snapshots that free them, what little lives in them moved.
pub(crate) fn rolling() -> Run {
    let mut run = Run::start();
    run.os(&new("slow", "old and alive").key("k"));
    run.os(&new("jobs", "old and dead"));
    let dead = run.receive("jobs");
    run.reject(dead, "unwanted");
    run.os(&new("mail", "old and in flight").key("k"));
    let held = run.receive("mail");
    run.os(&new("slow", "old and delayed").delay(50));
    for round in 0..4 {
        run.os(&new("jobs", &large(&format!("os {round}"), 20_000)));
        run.sync(&new("jobs", &large(&format!("sync {round}"), 6_000)));
        let id = run.receive("jobs");
        run.ack(id);
        let id = run.receive("jobs");
        if round < 3 {
            run.ack(id)
        } else {
            run.retry(id, None)
        }
        if round % 2 == 1 {
            run.snapshot();
        }
    }
    run.os(&new("mail", "behind").key("k"));
    run.snapshot();
    run.ack(held);
    run.snapshot();
    run.close();
    run.open();
    run.sync(&new("jobs", "after"));
    run.snapshot();
    let removed = |op: &Op| *op == Op::Remove { name: "00000001.segment".into() };
    assert!(run.disk.trace().iter().any(removed), "what lived in the first segment was moved");
    run.close();
    run
}

/// A process that dies with messages in flight, more than once.
pub(crate) fn dying() -> Run {
    let mut run = Run::start();
    run.os(&new("jobs", "killer"));
    run.sync(&new("jobs", "innocent"));
    run.os(&new("mail", "older").key("k"));
    run.receive("jobs");
    run.receive("jobs");
    run.receive("mail");
    run.os(&new("mail", "newer").key("k"));
    run.die();
    run.open();
    let killer = run.receive("jobs");
    assert_eq!(run.try_receive("jobs"), None, "suspects run one at a time");
    run.die();
    run.open();
    run.snapshot();
    // The killer has used its crashes up, and is a dead letter instead of a delivery.
    let innocent = run.receive("jobs");
    assert_ne!(innocent, killer);
    run.os(&new("jobs", "late"));
    run.retry(innocent, Some(0));
    run.die();
    run.open();
    let innocent = run.receive("jobs");
    run.release(innocent, 10);
    let late = run.receive("jobs");
    run.close();
    run.open();
    assert_eq!(run.receive("jobs"), late, "a pulled delivery is given back by close");
    run.ack(late);
    run.advance(10);
    assert_eq!(run.receive("jobs"), innocent);
    run.die();
    run.open();
    run.try_receive("jobs");
    run.sync(&new("slow", "the end"));
    run.die();
    run
}

/// Openings that were closed in order, so few of them that no close takes a snapshot, and one that was not.
pub(crate) fn reopened() -> Run {
    let mut run = Run::start();
    for round in 0..3 {
        run.sync(&new("jobs", &format!("round {round}")));
        run.os(&new("mail", &format!("round {round}")).key("k"));
        if round == 2 {
            break;
        }
        run.close();
        run.open();
    }
    let id = run.receive("jobs");
    run.ack(id);
    run.sync(&new("slow", "the end"));
    run.die();
    run
}

/// A small directory with a rolled segment, a snapshot and dead letters, left as a crash leaves it.
pub(crate) fn small() -> Run {
    let mut run = Run::start();
    run.sync(&new("jobs", "one"));
    run.os(&new("jobs", "two").key("k"));
    let first = run.receive("jobs");
    run.reject(first, "unwanted");
    run.snapshot();
    run.sync(&new("mail", "three").delay(20));
    run.os(&new("jobs", &large("four", 300)));
    let second = run.receive("jobs");
    run.retry(second, None);
    run.batch(Sync, &[new("jobs", "five"), new("mail", "six")]);
    run.os(&new("jobs", "seven"));
    let fourth = run.receive("jobs");
    run.ack(fourth);
    run.os(&new("slow", "eight"));
    run
}

/// What the tests call the workloads.
pub(crate) fn named(name: &str) -> Run {
    match name {
        "mixed" => mixed(),
        "rolling" => rolling(),
        "dying" => dying(),
        "choosy" => choosy(),
        other => panic!("there is no workload {other}"),
    }
}

/// The longest a broker under test is given for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
