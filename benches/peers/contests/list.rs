//! All contests.

use super::{checkout, end_to_end, enqueue, latency, node, persistence, python, recovery, scale};
use crate::contest::Contest;

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
