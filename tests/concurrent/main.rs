//! Many threads at once: what they are answered could have been answered to them one after another, and nothing is lost.
//!
//! - [`linear`]: short histories of a few threads, each held against the reference queue
//!   ([`Model`](libmq_suite::model::Model)): there has to be an order of the calls in which the rules give every answer.
//!
//! `LIBMQ_HISTORIES` says how many histories are played; `LIBMQ_CONCURRENT_SEED` where they begin.

mod bench;
mod call;
mod judge;
mod linear;
mod player;
mod rules;
mod slow_disk;

/// A number from the environment.
fn number(name: &str, default: u64) -> u64 {
    let given = std::env::var(name).ok();
    given.map_or(default, |number| number.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}
