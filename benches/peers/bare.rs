//! The bare bound: the same bytes by the same system calls, and nothing else.
//!
//! The file is made by the engine's own storage, as the engine makes a segment: space allocated, a header of one page
//! written and synced. What a file was made like decides what a write into it costs.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use libmq::storage::{DiskStorage, Storage, StorageFile};

use crate::contest::{Failure, Figure};
use crate::engine;

const FILE_BYTES: u64 = 64 << 20;
const HEADER_BYTES: usize = 4096;

/// One write a message.
pub(crate) fn writes(directory: &Path, messages: u32) -> Figure {
    run(directory, messages, false)
}

/// One write and one fdatasync a message.
pub(crate) fn synced_writes(directory: &Path, messages: u32) -> Figure {
    run(directory, messages, true)
}

fn run(directory: &Path, messages: u32, sync: bool) -> Figure {
    let record = vec![0x5a; engine::record_bytes()?];
    let mut offset = HEADER_BYTES as u64;
    if offset + u64::from(messages) * record.len() as u64 > FILE_BYTES {
        return Err("the messages do not fit into one segment".into());
    }
    let file = make(directory)?;
    let began = Instant::now();
    for _ in 0..messages {
        file.write_at(&record, offset)?;
        offset += record.len() as u64;
        if sync {
            file.sync()?;
        }
    }
    Ok(f64::from(messages) / began.elapsed().as_secs_f64())
}

fn make(directory: &Path) -> Result<Arc<dyn StorageFile>, Failure> {
    let storage = DiskStorage::new(directory);
    storage.prepare()?;
    let file = storage.create("bare", FILE_BYTES)?;
    file.write_at(&[1; HEADER_BYTES], 0)?;
    file.sync()?;
    storage.sync_dir()?;
    Ok(file)
}
