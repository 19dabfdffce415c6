//! The bare bound: the same bytes by the same system calls, and nothing else.
//!
//! The file is made by the engine's own storage, as the engine makes a segment: space allocated, a header of one page
//! written and synced. What a file was made like decides what a write into it costs.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Instant;

use libmq::storage::{DiskStorage, Gain, Storage, StorageFile, ahead};

use crate::job::{Answer, Failure, Figures, Job};
use crate::libmq::record_bytes;

/// Who makes space ready ahead of what is written, as the engine does; `bare` writes into what was only allocated.
pub(crate) const READY: &str = "bare-ready";

/// Bytes of a segment.
pub(crate) const FILE_BYTES: u64 = 64 << 20;
pub(crate) const HEADER_BYTES: usize = 4096;
/// Bytes that are read at once.
const READ_BYTES: usize = 1 << 20;

pub(crate) fn play(job: &Job) -> Answer {
    match &*job.work {
        "enqueue" => enqueue(job),
        "read" => read(job),
        _ => job.unknown(),
    }
}

/// One write a message, or a `batch`, and one sync behind each where the `level` is `sync`.
fn enqueue(job: &Job) -> Answer {
    let (messages, batch): (u32, u32) = (job.get("messages")?, job.get("batch")?);
    let is_synced = job.word("level")? == "sync";
    let bytes = vec![0x5a; record_bytes(batch, job.get("body")?)?];
    let (mut pen, mut times) = (Pen::new(&job.directory)?, Vec::new());
    let least = if is_synced { Gain::Synced } else { Gain::All };
    pen.makes_ready = job.peer == READY && pen.file.gain() >= least;
    let figures = in_company(|| {
        let began = Instant::now();
        for _ in 0..messages / batch {
            let call = Instant::now();
            pen.write(&bytes)?;
            if is_synced {
                pen.file.sync()?;
                times.push(call.elapsed());
            }
        }
        Ok::<_, Failure>(Figures::rate(messages, began.elapsed()))
    })?;
    Ok(if is_synced { figures.with_times(times) } else { figures })
}

/// Reads as many bytes as the messages have, a megabyte at a time, from files that were just written.
fn read(job: &Job) -> Answer {
    let (messages, body): (u32, usize) = (job.get("messages")?, job.get("body")?);
    let mut bytes = vec![0x5a; READ_BYTES];
    let count = (messages as usize * body).div_ceil(READ_BYTES) as u64;
    let per_file = FILE_BYTES / READ_BYTES as u64;
    let mut files = Vec::new();
    for number in 0..count.div_ceil(per_file) {
        let file = make(&job.directory, u32::try_from(number)?)?;
        for place in 0..per_file {
            file.write_at(&bytes, place * READ_BYTES as u64)?;
        }
        files.push(file);
    }
    let began = Instant::now();
    // As an opening does: a kernel may have kept what never came to the disk.
    files.iter().for_each(|file| file.drop_cached());
    for place in 0..count {
        let file = files.get(usize::try_from(place / per_file)?).ok_or("a file is missing")?;
        file.read_at(&mut bytes, place % per_file * READ_BYTES as u64)?;
    }
    let time = began.elapsed();
    let megabytes = f64::from(messages) * body as f64 / 1e6;
    Ok(Figures::rate(messages, time).with("megabytes", megabytes / time.as_secs_f64()))
}

/// Does work beside a thread that sleeps. The kernel has more to do for each call of a process that has several, as every program
/// with a broker in it has.
pub(crate) fn in_company<R>(work: impl FnOnce() -> R) -> R {
    // Dropped when the work is done, however that ends.
    let (_awake, asleep) = mpsc::channel::<()>();
    thread::spawn(move || _ = asleep.recv());
    work()
}

/// Writes behind what it wrote before, in one file after the other.
pub(crate) struct Pen {
    directory: PathBuf,
    file: Arc<dyn StorageFile>,
    filled: u32,
    offset: u64,
    makes_ready: bool,
    /// Up to where the file is that.
    ready: u64,
}

impl Pen {
    pub(crate) fn new(directory: &Path) -> Result<Self, Failure> {
        let file = make(directory, 0)?;
        let offset = HEADER_BYTES as u64;
        let directory = directory.to_owned();
        Ok(Self { directory, file, filled: 0, offset, makes_ready: false, ready: 0 })
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        if self.offset + bytes.len() as u64 > FILE_BYTES {
            self.filled += 1;
            self.file = make(&self.directory, self.filled)?;
            (self.offset, self.ready) = (HEADER_BYTES as u64, 0);
        }
        let end = self.offset + bytes.len() as u64;
        if self.makes_ready && end > self.ready {
            self.ready = make_ready(&*self.file, &(self.offset..end), self.ready);
        }
        self.file.write_at(bytes, self.offset)?;
        self.offset = end;
        Ok(())
    }
}

/// Makes a file ready for what is written next as the engine does; answers up to where.
pub(crate) fn make_ready(file: &dyn StorageFile, next: &Range<u64>, ready: u64) -> u64 {
    let ahead = ahead(next, ready, FILE_BYTES);
    file.make_ready(ahead.start, ahead.end - ahead.start);
    ahead.end
}

/// A file like a new segment.
pub(crate) fn make(directory: &Path, number: u32) -> Result<Arc<dyn StorageFile>, Failure> {
    let storage = DiskStorage::new(directory);
    storage.prepare()?;
    let file = storage.create(&format!("bare{number}"), FILE_BYTES)?;
    file.write_at(&[1; HEADER_BYTES], 0)?;
    file.sync()?;
    storage.sync_dir()?;
    Ok(file)
}
