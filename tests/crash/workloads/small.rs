//! Directories small enough for all damage there is.

use libmq::Durability::Sync;
use libmq_suite::new;

use super::large;
use crate::run::Run;

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
    run.os(&large("jobs", "four", 300));
    let second = run.receive("jobs");
    run.retry(second, None);
    run.batch(Sync, &[new("jobs", "five"), new("mail", "six")]);
    run.os(&new("jobs", "seven"));
    let fourth = run.receive("jobs");
    run.ack(fourth);
    run.os(&new("slow", "eight"));
    run
}
