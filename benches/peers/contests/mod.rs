//! Who is compared with whom, doing what, and what libmq has promised of it. Bodies have 100 bytes where nothing else is said.

mod checkout;
mod durability;
mod end_to_end;
mod enqueue;
mod latency;
mod node;
mod persistence;
mod python;
mod recovery;
mod scale;

use crate::contest::Contest;
use crate::player::{Player, ours, rust};

/// The categories, in the order of the report.
const CATEGORIES: [&str; 7] =
    ["enqueue", "checkout", "persistence", "end-to-end", "latency", "recovery", "scale"];

/// All of them, in the order of the report: in each category Rust's first, then Python's, then Node's.
pub(crate) fn all() -> Vec<Contest> {
    let mut contests = [
        enqueue::all(),
        checkout::all(),
        persistence::all(),
        end_to_end::all(),
        latency::all(),
        recovery::all(),
        scale::all(),
        python::all(),
        node::all(),
    ]
    .concat();
    contests.sort_by_key(|contest| CATEGORIES.iter().position(|name| *name == contest.category));
    contests
}

/// One of ours that enqueues at a level, so many at a time.
fn puts(peer: &str, level: &str, messages: u32, batch: u32) -> Player {
    ours(format!("{peer} enqueue level={level} messages={messages} batch={batch} body=100"))
}

/// One of ours with so many threads, each of which waits for each of its messages.
fn threads(work: &str, level: &str, count: u32, timed: bool) -> Player {
    ours(format!("{work} level={level} count={count} seconds=1 timed={timed} body=100"))
}

/// One of those that others have written in Rust.
fn others(peer: &str, work: &str, messages: u32, batch: u32) -> Player {
    rust(format!("{peer} {work} messages={messages} batch={batch} body=100"))
}
