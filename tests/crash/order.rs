//! The order of what was done to the disk, held against what was told to callers meanwhile.
//!
//! - A `sync` enqueue returns only after its record was written and its file synced behind that.
//! - A message is handed out, and a handler entered with it, only after its mark was set.
//! - A segment that was used is removed only when nobody needs it: a durable snapshot begins behind it, or a durable
//!   later opening says that the log never reached it.

use std::collections::BTreeMap;

use libmq::storage::Mark;
use libmq_suite::{Inode, Op, Platter};

use crate::run::{Called, Run, Shown};

/// Panics where an order does not hold.
pub(crate) fn check(run: &Run) {
    let trace = run.disk.trace();
    let calls = run.calls.iter();
    calls.for_each(|call| shown_after_written(call, &trace[..call.returned.min(trace.len())]));
    for entered in &run.entered {
        let is_marked = is_marked(&trace[..entered.at], entered.id, entered.attempt);
        assert!(is_marked, "{entered:?}: its mark was not set");
    }
    removed_when_useless(&run.disk.began(), &trace);
}

fn shown_after_written(call: &Called, before: &[Op]) {
    let written = |bytes: &dyn Fn(&[u8]) -> bool| {
        before.iter().enumerate().find_map(|(at, op)| match op {
            Op::Write { inode, bytes: written, .. } if bytes(written) => Some((at, *inode)),
            _ => None,
        })
    };
    match &call.shown {
        Shown::Nothing => {}
        Shown::Durable { body } => {
            let (at, inode) = written(&|bytes| find(bytes, body.as_bytes()))
                .unwrap_or_else(|| panic!("{call:?} returned before its record was written"));
            assert!(
                before[at..].contains(&Op::Sync { inode }),
                "{call:?} returned before a sync that covers its record"
            );
        }
        Shown::Delivered { id, attempt } => {
            let is_marked = is_marked(before, *id, *attempt);
            assert!(is_marked, "{call:?}: its mark was not set");
        }
    }
}

/// Whether an attempt was marked when no more than this had happened.
fn is_marked(before: &[Op], id: u64, attempt: u32) -> bool {
    let marks = before.iter().rev().find_map(|op| match op {
        Op::Marks(marks) => Some(marks.as_slice()),
        _ => None,
    });
    let is_this = |mark: &Mark| (mark.id, mark.attempt) == (id, attempt);
    marks.unwrap_or_default().iter().any(is_this)
}

fn find(bytes: &[u8], what: &[u8]) -> bool {
    bytes.windows(what.len()).any(|window| window == what)
}

/// A segment, as far as its header tells.
#[derive(Clone, Copy, Debug)]
struct Segment {
    number: u64,
    end: u64,
    previous: u64,
    begins_opening: bool,
    used: bool,
}

fn field(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

impl Segment {
    /// What a segment's header says.
    fn of(bytes: &[u8]) -> Self {
        Self {
            number: field(bytes, 32),
            end: field(bytes, 40) + field(bytes, 48),
            previous: field(bytes, 64),
            begins_opening: field(bytes, 72) != 0 || field(bytes, 56) == 1 && field(bytes, 32) == 1,
            used: false,
        }
    }
}

fn removed_when_useless(began: &Platter, trace: &[Op]) {
    const SEGMENT_HEADER_BYTES: usize = 4096;
    let mut segments: BTreeMap<Inode, Segment> = BTreeMap::new();
    let mut snapshots: BTreeMap<Inode, u64> = BTreeMap::new();
    let mut names = began.all_names();
    let (mut pending, mut durable) = (Vec::new(), Vec::new());
    for (name, bytes) in began.contents() {
        let inode = names[&name];
        if name.ends_with(".segment") {
            let used = bytes.len() > SEGMENT_HEADER_BYTES;
            segments.insert(inode, Segment { used, ..Segment::of(&bytes) });
        } else if name.ends_with(".snapshot") {
            snapshots.insert(inode, field(&bytes, 32));
        }
        // An opening makes durable what it finds, before it removes any of it.
        durable.push(inode);
    }
    for (at, op) in trace.iter().enumerate() {
        match op {
            Op::Create { name, inode, .. } => {
                names.insert(name.clone(), *inode);
            }
            Op::Write { inode, offset: 0, bytes } if bytes.starts_with(b"libmq\0sg") => {
                segments.insert(*inode, Segment::of(bytes));
            }
            Op::Write { inode, offset: 0, bytes } if bytes.starts_with(b"libmq\0sn") => {
                snapshots.insert(*inode, field(bytes, 32));
            }
            Op::Write { inode, .. } => {
                segments.entry(*inode).and_modify(|segment| segment.used = true);
            }
            Op::Rename { from, to, inode } => {
                names.remove(from);
                names.insert(to.clone(), *inode);
                pending.push(*inode);
            }
            Op::SyncDir => durable.append(&mut pending),
            Op::Remove { name } => {
                let inode = names.remove(name).unwrap();
                let Some(segment) = segments.get(&inode).filter(|segment| segment.used) else {
                    continue;
                };
                let covered = durable.iter().filter_map(|inode| snapshots.get(inode));
                let cut = durable.iter().filter_map(|inode| segments.get(inode)).any(|later| {
                    later.begins_opening
                        && later.number > segment.number
                        && later.previous < segment.number
                });
                assert!(
                    cut || covered.max().is_some_and(|begin| *begin >= segment.end),
                    "call {at}: {name} was removed while it was needed"
                );
            }
            Op::Truncate { .. }
            | Op::Sync { .. }
            | Op::Forget { .. }
            | Op::Drop { .. }
            | Op::Marks(_) => {}
        }
    }
}
