//! The bound of a log: what any log has to do whose records can be told whole, stay in memory for those who take them, and come
//! from more than one thread. It has no queues, and gives nothing out.
//!
//! Under a lock, each record is put behind the last one, with a checksum of its body and one of its head; what a caller has
//! brought is written by one write, or nowhere where the level is `memory`. The memory was touched before, and is used again
//! when it is full.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use twox_hash::XxHash3_64;

use crate::bare::{FILE_BYTES, HEADER_BYTES, Pen, in_company};
use crate::job::{Answer, Failure, Figures, Job};
use crate::libmq::record_bytes;
use crate::threads;

struct Log {
    /// None where nothing is written.
    pen: Option<Pen>,
    /// As much as a file has room for behind its header.
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
    in_company(|| {
        let began = Instant::now();
        (0..messages / batch).try_for_each(|_| put(&log, &mut record, batch))?;
        Ok(Figures::rate(messages, began.elapsed()))
    })
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
        log.kept.clear();
    }
    let start = log.kept.len();
    (0..count).for_each(|_| log.append(record));
    log.write(start)
}

impl Log {
    fn open(job: &Job) -> Result<Mutex<Self>, Failure> {
        let is_written = job.word("level")? != "memory";
        let pen = is_written.then(|| Pen::new(&job.directory)).transpose()?;
        let mut kept = vec![0x5a; usize::try_from(FILE_BYTES)? - HEADER_BYTES];
        kept.clear();
        Ok(Mutex::new(Self { pen, kept }))
    }

    fn append(&mut self, record: &mut Record) {
        record.seal();
        self.kept.extend_from_slice(&record.head);
        self.kept.extend_from_slice(&record.body);
    }

    /// Writes what was appended since.
    fn write(&mut self, start: usize) -> Result<(), Failure> {
        match &mut self.pen {
            Some(pen) => pen.write(self.kept.get(start..).unwrap_or_default()),
            None => Ok(()),
        }
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
            *place = checksum(&self.body);
        }
        if let Some((said, place)) = self.head.split_last_chunk_mut() {
            *place = checksum(said);
        }
    }
}

/// As the engine takes it.
fn checksum(bytes: &[u8]) -> [u8; 4] {
    let [a, b, c, d, ..] = XxHash3_64::oneshot(bytes).to_le_bytes();
    [a, b, c, d]
}
