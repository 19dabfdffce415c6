//! Many threads at once: what they are answered could have been answered to them one after another, and nothing is lost.
//!
//! - [`linear`]: short histories of a few threads, each held against the reference queue
//!   ([`Model`](libmq_suite::model::Model)): there has to be an order of the calls in which the rules give every answer.
//! - [`total`]: long runs of everything at once, whose messages are counted: each that went in has exactly one end.
//! - [`stations`]: handlers that come and go.
//!
//! `LIBMQ_HISTORIES` and `LIBMQ_TOTAL_MESSAGES` say how much; `LIBMQ_CONCURRENT_SEED` where it begins. Which thread comes
//! first is the machine's affair, so a seed makes a failure likely again and not certain.

mod bench;
mod call;
mod crew;
mod judge;
mod linear;
mod player;
mod rules;
mod slow_disk;
mod stations;
mod tally;
mod total;

/// A number from the environment.
fn number(name: &str, default: u64) -> u64 {
    let given = std::env::var(name).ok();
    given.map_or(default, |number| number.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}
