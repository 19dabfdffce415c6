//! Fuzzing: what must be true of any bytes, and of any calls.
//!
//! A target is a function of bytes that panics where something is not as it has to be. Always, whatever they are:
//!
//! - nothing panics, on no thread;
//! - no more memory is asked for than the bytes justify: see [`memory`];
//! - what is taken apart is put together as the same bytes again.
//!
//! Where a checksum guards an input, a target mends it on demand ([`libmq_suite::forge`]), so that what lies behind it is
//! reached. `corpus/` has the inputs of each: small ones made of real directories (`src/seeds.rs`), and whatever has ever
//! broken something. `tests/corpus.rs` goes through them in `make test`; `make fuzz` looks for more.

mod calls;
mod directory;
mod input;
pub mod memory;
mod packed;
mod record;
mod segment;
mod snapshot;

pub use packed::{pack, unpack};

/// A target.
pub type Target = fn(&[u8]);

/// All of them, each with the folder of its corpus.
pub const TARGETS: &[(&str, Target)] = &[
    ("record", record::record),
    ("segment", segment::segment),
    ("snapshot", snapshot::snapshot),
    ("directory", directory::directory),
    ("calls", calls::calls),
];

/// The target of this name.
///
/// # Panics
/// Where there is none.
#[must_use]
pub fn target(name: &str) -> Target {
    let found = TARGETS.iter().find(|(known, _)| *known == name);
    found.unwrap_or_else(|| panic!("{name} is no target")).1
}
