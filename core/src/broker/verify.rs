//! Verification: all of a directory is read and checked, and nothing in it is changed.
//!
//! It goes the way of an open, over the same code, and does not end at the first problem where what is left still makes
//! sense. Then it reads what an open leaves unread: the contents from before the newest snapshot.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::broker::MEMORY_PATH;
use super::open::missing;
use crate::buffer::{MessageEntry, Replayed};
use crate::error::{Error, ErrorKind, Result};
use crate::journal::{Recovered, is_segment, read_record, recover_what_is_sound, refuse_foreign};
use crate::limits;
use crate::storage::{DiskReader, LOCK, Storage};

/// What [`verify`] has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifyReport {
    /// Live messages. With problems, this and what follows is as far as could be told.
    pub messages: u64,
    /// Dead letters.
    pub dead_letters: u64,
    /// Messages that were being handled when the process died that had the directory open last.
    pub suspects: u64,
    /// Records that an open would replay.
    pub records: u64,
    /// Bytes of a torn tail: at the end of the log, never promised to anybody. They are no problem.
    pub dropped_bytes: u64,
    /// Segments in the directory.
    pub segments: u64,
    /// Bytes that all files in the directory have.
    pub bytes: u64,
    /// Where the newest snapshot begins, if there is one.
    pub snapshot: Option<u64>,
    /// Whether the broker was closed in order; else its process died, or the machine.
    pub closed: bool,
    /// What is damaged, in the order it was found: at most
    /// [`PROBLEMS_MAX`](crate::limits::PROBLEMS_MAX), and then nothing more was looked at.
    pub problems: Vec<Problem>,
}

impl VerifyReport {
    /// Whether there is no problem.
    #[must_use]
    pub fn sound(&self) -> bool {
        self.problems.is_empty()
    }
}

/// Something that [`verify`] has found to be wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Problem {
    /// `Corrupt` for damage, `Io` for a file that cannot be read.
    pub kind: ErrorKind,
    /// The file concerned, or the directory where a file is missing.
    pub path: PathBuf,
    /// Where in the file, if that is known; of the log where the path is the directory.
    pub offset: Option<u64>,
    /// What is wrong, in a sentence.
    pub text: String,
}

/// Reads and checks all of a directory that nobody has open: what an open would read, and every body and dead letter,
/// which an open does not. Changes and makes nothing; a directory that cannot be written to can be verified, too.
///
/// Damage is in the report. Meanwhile nobody can open the directory: an open is `LOCKED`, and names its last owner.
///
/// # Errors
/// Where there is nothing to look at: `INVALID` for what is no directory of libmq, `LOCKED` while somebody has it open,
/// `UNSUPPORTED` for another version of the format, `IO`.
pub fn verify(path: impl AsRef<Path>) -> Result<VerifyReport> {
    let path = path.as_ref();
    if path == Path::new(MEMORY_PATH) {
        let text = format!("{MEMORY_PATH} is a broker in memory, which has no files to verify");
        return Err(Error::invalid(text).at(path));
    }
    verify_on(&DiskReader::new(path))
}

/// Verifies what is on a storage.
///
/// # Errors
/// As [`verify`].
#[doc(hidden)]
pub fn verify_on(storage: &dyn Storage) -> Result<VerifyReport> {
    storage.prepare()?;
    let names = list(storage)?;
    if names.is_empty() {
        let text = format!("{} holds nothing of libmq", storage.path().display());
        return Err(Error::invalid(text).at(storage.path()));
    }
    refuse_foreign(storage)?;
    let _lock = storage.lock(Duration::ZERO)?;
    let mut report = VerifyReport {
        segments: names.iter().filter(|name| is_segment(name)).count() as u64,
        bytes: storage.bytes().map_err(|cause| Error::io("measure", storage.path(), &cause))?,
        ..VerifyReport::default()
    };
    look(storage, &mut report)?;
    // Without a file to lock, somebody may have opened it meanwhile; then what was read means nothing.
    let is_lock = |name: &String| name == LOCK;
    if !names.iter().any(is_lock) && list(storage)?.iter().any(is_lock) {
        let text = format!("{} was opened meanwhile", storage.path().display());
        return Err(Error::new(ErrorKind::Locked, text).at(storage.path()));
    }
    Ok(report)
}

fn list(storage: &dyn Storage) -> Result<Vec<String>> {
    storage.list().map_err(|cause| Error::io("list", storage.path(), &cause))
}

fn look(storage: &dyn Storage, report: &mut VerifyReport) -> Result<()> {
    let mut replayed = Replayed::default();
    let recovered =
        recover_what_is_sound(storage, &mut replayed, &mut |problem| report.note(problem))?;
    (report.records, report.dropped_bytes) = (recovered.records, recovered.dropped_bytes);
    report.snapshot = recovered.snapshot.map(|snapshot| snapshot.begin);
    report.closed = recovered.closed.is_some();
    // Behind a problem, more than what is missing may merely not have been found.
    if report.sound() {
        let all = missing(storage, &recovered, &replayed);
        all.take(limits::PROBLEMS_MAX).try_for_each(|problem| report.note(problem))?;
    }
    let mut held = Vec::new();
    match storage.marks(replayed.len()) {
        Ok(marks) => held = replayed.held(&marks.all()),
        Err(problem) => report.note(problem)?,
    }
    replayed.reopen(&held);
    let found = replayed.found();
    (report.messages, report.dead_letters) = (found.messages, found.dead_letters);
    report.suspects = found.suspects;
    read_contents(storage, &recovered, &replayed, report)
}

/// Reads the contents that the log was not replayed from.
fn read_contents(
    storage: &dyn Storage,
    recovered: &Recovered,
    replayed: &Replayed,
    report: &mut VerifyReport,
) -> Result<()> {
    let begin = recovered.snapshot.map_or(0, |snapshot| snapshot.begin);
    let mut versions: Vec<u64> = replayed.versions().filter(|version| *version < begin).collect();
    versions.sort_unstable();
    for version in versions {
        let Some(segment) = recovered.segment_of(version) else { continue };
        let makes_sense = match read_record(storage, segment, version) {
            Ok((kind, content)) => MessageEntry::of_record(kind, &content).is_some(),
            Err(problem) => {
                report.note(problem)?;
                true
            }
        };
        if !makes_sense {
            let path = storage.path().join(segment.name());
            let offset = segment.offset(version);
            report.note(Error::corrupt(path, offset, "a message's content makes no sense"))?;
        }
        if report.problems.len() >= limits::PROBLEMS_MAX {
            break;
        }
    }
    Ok(())
}

impl VerifyReport {
    /// Notes damage; what is none is an error of the call.
    fn note(&mut self, problem: Error) -> Result<()> {
        if !matches!(problem.kind(), ErrorKind::Corrupt | ErrorKind::Io) {
            return Err(problem);
        }
        if self.problems.len() < limits::PROBLEMS_MAX {
            self.problems.push(Problem {
                kind: problem.kind(),
                path: problem.path().unwrap_or(Path::new("")).to_owned(),
                offset: problem.offset(),
                text: problem.to_string(),
            });
        }
        Ok(())
    }
}
