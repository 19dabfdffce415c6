//! The bound of many producers on a disk: a group commit that does nothing else.
//!
//! Whoever finds nobody writing writes for all, syncs, and wakes them.

use std::mem;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use libmq::storage::StorageFile;

use crate::bare;
use crate::job::{Answer, Failure, Job};
use crate::libmq::record_bytes;
use crate::threads;

/// Where the first record goes: behind the header of a segment.
const FIRST: u64 = 4096;

struct Group {
    file: Arc<dyn StorageFile>,
    state: Mutex<State>,
    written: Condvar,
}

#[derive(Default)]
struct State {
    waiting: Vec<u8>,
    offset: u64,
    /// Up to where the file was made ready, as the engine does.
    ready: u64,
    /// Records that have come, and that are durable.
    come: u64,
    durable: u64,
    is_writing: bool,
}

pub(crate) fn play(job: &Job) -> Answer {
    if job.work != "threads" {
        return job.unknown();
    }
    let state = Mutex::new(State { offset: FIRST, ..State::default() });
    let file = bare::make(&job.directory, 0)?;
    let group = Arc::new(Group { file, state, written: Condvar::new() });
    let record = vec![0x5a; record_bytes(1, job.get("body")?)?];
    threads::play(job, || {
        let (group, record) = (Arc::clone(&group), record.clone());
        Ok(move || group.write(&record))
    })
}

impl Group {
    /// Returns when the record is durable.
    fn write(&self, record: &[u8]) -> Result<(), Failure> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.waiting.extend_from_slice(record);
        state.come += 1;
        let mine = state.come;
        while state.durable < mine {
            if state.is_writing {
                state = self.written.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            state.is_writing = true;
            let (bytes, offset, come) = (mem::take(&mut state.waiting), state.offset, state.come);
            let mut ready = state.ready;
            drop(state);
            let end = offset + bytes.len() as u64;
            if end > ready {
                ready = bare::make_ready(&*self.file, &(offset..end), ready);
            }
            self.file.write_at(&bytes, offset)?;
            self.file.sync()?;
            state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            (state.durable, state.offset, state.ready) = (come, end, ready);
            state.is_writing = false;
            // They need it to go on.
            drop(state);
            self.written.notify_all();
            return Ok(());
        }
        Ok(())
    }
}
