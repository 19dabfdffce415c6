//! The bound of a log: what any log has to do whose records can be told whole, stay in memory for those who take them, and come
//! from more than one thread. It has no queues, and gives nothing out.
//!
//! Under a lock, each record is put behind the last one, with a checksum of its body and one of its head; what a caller has
//! brought is written by one write, or nowhere where the level is `memory`. The memory was touched before, and is used again
//! when it is full.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use libmq::storage::StorageFile;

use crate::bare::{self, FILE_BYTES, HEADER_BYTES};
use crate::job::{Answer, Failure, Figures, Job};
use crate::libmq::record_bytes;
use crate::threads;

struct Log {
    directory: PathBuf,
    /// None where nothing is written.
    file: Option<Arc<dyn StorageFile>>,
    /// Files that were filled.
    filled: u32,
    /// What the file has behind its header.
    kept: Vec<u8>,
}

/// What a producer puts in: as many bytes as libmq's record has.
struct Record {
    head: Vec<u8>,
    body: Vec<u8>,
}

pub(crate) fn play(job: &Job) -> Answer {
    match &*job.work {
        "enqueue" => enqueue(job),
        "threads" => producers(job),
        _ => job.unknown(),
    }
}

/// One producer: a write for each message, or for a `batch`.
fn enqueue(job: &Job) -> Answer {
    let (messages, batch): (u32, u32) = (job.get("messages")?, job.get("batch")?);
    let (log, mut record) = (Log::open(job)?, Record::of(job, batch)?);
    let began = Instant::now();
    (0..messages / batch).try_for_each(|_| put(&log, &mut record, batch))?;
    Ok(Figures::rate(messages, began.elapsed()))
}

/// Many producers.
fn producers(job: &Job) -> Answer {
    let log = Arc::new(Log::open(job)?);
    threads::play(job, || {
        let (log, mut record) = (Arc::clone(&log), Record::of(job, 1)?);
        Ok(move || put(&log, &mut record, 1))
    })
}

fn put(log: &Mutex<Log>, record: &mut Record, count: u32) -> Result<(), Failure> {
    let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
    if log.kept.len() + count as usize * record.bytes() > log.kept.capacity() {
        log.roll()?;
    }
    let start = log.kept.len();
    (0..count).for_each(|_| log.append(record));
    log.write(start)
}

impl Log {
    fn open(job: &Job) -> Result<Mutex<Self>, Failure> {
        let directory = job.directory.clone();
        let is_written = job.word("level")? != "memory";
        let file = is_written.then(|| bare::make(&directory, 0)).transpose()?;
        let mut kept = vec![0x5a; usize::try_from(FILE_BYTES)? - HEADER_BYTES];
        kept.clear();
        Ok(Mutex::new(Self { directory, file, filled: 0, kept }))
    }

    /// Goes on in the next file.
    fn roll(&mut self) -> Result<(), Failure> {
        self.filled += 1;
        self.kept.clear();
        if let Some(file) = &mut self.file {
            *file = bare::make(&self.directory, self.filled)?;
        }
        Ok(())
    }

    fn append(&mut self, record: &mut Record) {
        record.seal();
        self.kept.extend_from_slice(&record.head);
        self.kept.extend_from_slice(&record.body);
    }

    /// Writes what was appended since.
    fn write(&self, start: usize) -> Result<(), Failure> {
        if let Some(file) = &self.file {
            let bytes = self.kept.get(start..).unwrap_or_default();
            file.write_at(bytes, (HEADER_BYTES + start) as u64)?;
        }
        Ok(())
    }
}

impl Record {
    fn of(job: &Job, batch: u32) -> Result<Self, Failure> {
        let body = vec![0x2a; job.get("body")?];
        let head = record_bytes(batch, body.len())? / batch as usize - body.len();
        Ok(Self { head: vec![0x5a; head], body })
    }

    fn bytes(&self) -> usize {
        self.head.len() + self.body.len()
    }

    /// Gives it its checksums.
    fn seal(&mut self) {
        if let Some(place) = self.head.first_chunk_mut() {
            *place = crc32fast::hash(&self.body).to_le_bytes();
        }
        if let Some((said, place)) = self.head.split_last_chunk_mut() {
            *place = crc32fast::hash(said).to_le_bytes();
        }
    }
}
