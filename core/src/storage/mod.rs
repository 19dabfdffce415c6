//! Where a broker's files live: the one door between the engine and a disk.
//!
//! A [`Storage`] is one flat directory. It knows names, bytes and syncs, and nothing of what the bytes mean. The real
//! one is `disk`; `memory` keeps files in RAM for brokers without files; tests bring one that records every call
//! and cuts the power between any two of them.
//!
//! Invariants every storage keeps:
//! - a file's bytes are durable after `sync` on it, its name after `sync_dir`, and nothing is durable before;
//! - `create` never opens what is there already, and no call follows a symbolic link;
//! - errors are handed up as they are: deciding what an error means is the journal's.

mod ahead;
mod disk;
mod lasting;
mod marks;
mod memory;
mod storage;
mod sys;
#[cfg(all(test, not(loom)))]
mod watched;

pub use ahead::ahead;
pub use disk::DiskStorage;
pub(crate) use disk::{DiskReader, LOCK, LOCK_HINT_BYTES_MAX, NewDirectory, is_lock_hint};
pub use lasting::Lasting;
pub use marks::{Mark, MarkMemory, Marks};
pub use memory::MemoryStorage;
pub(crate) use storage::{DIRECT_BYTES, NoFile};
pub use storage::{Gain, Storage, StorageFile};
pub use sys::forks;
pub(crate) use sys::{boot_time, tick};
#[cfg(all(test, not(loom)))]
pub(crate) use watched::Watched;
