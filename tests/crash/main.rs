//! Crash tests on a simulated disk: the power fails at every boundary of every write, bits flip, calls fail.
//!
//! - [`power`]: fifteen [`workloads`], every moment of theirs, everything the disk may hold then; what is found has to be a
//!   state that the [`model`](libmq_suite::model) says is legal, and recovery is cut as well.
//! - [`sequences`]: the same for the last call of every sequence of up to three.
//! - [`copies`]: a copy made after every call of the workloads is what the model says, and its power fails too.
//! - [`damage`]: bits, lengths and sectors of small directories, and whole files.
//! - [`hostile`]: right checksums and lying contents.
//! - [`missing`]: segments that others name.
//! - [`errors`]: each call to the disk fails, in the workloads and in the sequences; and while [`handlers`] work.
//! - [`syscalls`]: system calls are interrupted, or do half of what they were asked for.
//! - [`crowded`]: a disk that is full for long.
//! - [`regressions`], [`full_disk`]: what all that has found, and what it is too coarse for.
//!
//! `LIBMQ_CRASH=full` runs all of what the default run takes a share of, another one each day; [`floors`] says how much that
//! is at least. A failure prints what to set to run it alone.

mod anything;
mod copies;
mod crowded;
mod damage;
mod enumeration;
mod errors;
mod extent;
mod faulty;
mod floors;
mod full_disk;
mod handlers;
mod hostile;
mod missing;
mod order;
mod power;
mod regressions;
mod replacing;
mod run;
mod sequences;
mod step;
mod syscalls;
mod verdict;
mod view;
mod waiting;
mod workloads;
