//! Records and snapshots with right checksums and lying contents: a checksum is no secret.
//!
//! Such a directory is refused with `CORRUPT` and left alone, or opens as what was there before, or as what the lie says,
//! where that is a legal thing to say. Nothing panics, and verifying says the same. `fuzz/` looks for more of them.

use libmq::{Broker, ErrorKind, Message};
use libmq_suite::{SimDisk, forge, new};

use crate::damage::verified;
use crate::run::options;
use crate::verdict;

/// What comes of a lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// It is `CORRUPT`.
    Refused,
    /// It is found when it is asked for, and by verifying: a content from before the snapshot.
    RefusedLate,
    /// It is no part of the log, and what was there before is.
    Dropped,
    /// It opens.
    Believed,
}
use Outcome::{Believed, Dropped, Refused, RefusedLate};

/// A directory that a crash has left, with two messages.
fn directory() -> SimDisk {
    let disk = SimDisk::default();
    let broker = Broker::open_on(disk.storage(), options()).unwrap();
    for body in ["one", "two"] {
        broker.enqueue(Message::new("jobs", body)).unwrap();
    }
    drop(broker);
    disk
}

/// Opens a directory of which a file was changed, looks at everything, and says what came of it.
fn outcome(disk: &SimDisk, file: &str, change: impl FnOnce(&mut Vec<u8>)) -> Outcome {
    let platter = disk.platter().damaged(file, change);
    let changed = SimDisk::new(platter.clone());
    let looked = verdict::look(&changed);
    let is_late = changed.is_changed();
    if let Some(problem) = verified(platter.clone(), &looked, is_late) {
        panic!("{problem}");
    }
    match looked.expect("nobody panics") {
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
            if is_late { RefusedLate } else { Refused }
        }
        Ok(_) => {
            let broker = Broker::open_on(SimDisk::new(platter).storage(), options()).unwrap();
            if broker.recovery().dropped_bytes > 0 { Dropped } else { Believed }
        }
    }
}

/// What comes of a record of this kind, appended to the log with right checksums. `lie` changes its header before that.
fn appended(kind: u8, body: &[u8], lie: impl FnOnce(&mut [u8])) -> Outcome {
    const SEGMENT: &str = "00000001.segment";
    let disk = directory();
    outcome(&disk, SEGMENT, |file| {
        let end = forge::records(file).last().unwrap().end.next_multiple_of(8);
        let mut record = vec![0; forge::RECORD_HEADER_BYTES];
        record[4] = kind;
        let length = u32::try_from(body.len()).unwrap();
        forge::put(&mut record, 0, &length.to_le_bytes());
        record.extend_from_slice(body);
        lie(&mut record);
        let (position, salt) = (forge::u64_at(file, 40) + end as u64, forge::u32_at(file, 12));
        forge::mend_record(&mut record, position, salt);
        let whole = record.len().min(file.len() - end);
        forge::put(file, end, &record[..whole]);
    })
}

/// Fields of a record's body, one behind the other.
fn fields(fields: &[u64]) -> Vec<u8> {
    fields.iter().flat_map(|field| field.to_le_bytes()).collect()
}

/// A message of the queue `jobs`, after this change of its head.
fn message(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut body = vec![0; 12];
    body[11] = 4;
    change(&mut body);
    body.extend_from_slice(b"jobsbody");
    body
}

const OPEN: u8 = 16;
const MESSAGE: u8 = 17;
const GONE: u8 = 18;
const WAIT: u8 = 19;
const DEAD: u8 = 20;
const UNDEAD: u8 = 21;
const TIME: u8 = 22;
const DONE: u8 = 23;
const TOKENS: u8 = 24;
const ACKED: u8 = 25;

#[test]
fn a_length_that_lies_is_held_against_its_segment() {
    let with_length = |length: u32| {
        appended(MESSAGE, &message(|_| ()), |record| {
            forge::put(record, 0, &length.to_le_bytes());
        })
    };
    // Beyond the segment, so that it is no record.
    for length in [64 << 10, 1 << 20, u32::MAX - 32, u32::MAX] {
        assert_eq!(with_length(length), Dropped, "{length}");
    }
    // Within it, but what is there does not match.
    assert_eq!(with_length(60_000), Dropped);
}

#[test]
fn a_record_of_a_kind_or_of_flags_that_there_are_not_is_no_record_or_refused() {
    for kind in [3, 15, 25, 255] {
        assert_eq!(appended(kind, &[], |_| ()), Refused, "{kind}");
    }
    for (at, value) in [(5, 2), (5, 128), (6, 1), (7, 1)] {
        assert_eq!(appended(TIME, &fields(&[1]), |record| record[at] = value), Dropped, "{at}");
    }
    let durable = |durable: u64| {
        appended(TIME, &fields(&[1]), |record| forge::put(record, 16, &durable.to_le_bytes()))
    };
    assert_eq!(durable(u64::MAX), Dropped, "beyond its own position");
    assert_eq!(durable(4096), Believed);
    // A group that does not end.
    assert_eq!(appended(TIME, &fields(&[1]), |record| record[5] = 1), Dropped);
    // A roll goes on in the segment that was made ahead, which is empty.
    assert_eq!(appended(1, &[], |_| ()), Believed);
}

#[test]
fn a_message_that_says_of_itself_what_cannot_be_is_refused() {
    let said = |change: &dyn Fn(&mut Vec<u8>)| appended(MESSAGE, &message(change), |_| ());
    // With this flag or that part, which comes behind the fixed fields.
    let with = |at: usize, bit: u8, part: &[u8]| {
        said(&|body| {
            body[at] = bit;
            body.extend_from_slice(part);
        })
    };
    assert_eq!(said(&|_| ()), Believed);
    for (at, value) in [(8, 32), (8, 128), (10, 10), (10, 255), (11, 0), (11, 255)] {
        assert_eq!(said(&|body| body[at] = value), Refused, "byte {at} is {value}");
    }
    const FLAGS: usize = 8;
    const PARTS: usize = 9;
    // Lengths of the texts and the headers, beyond what there is.
    for (bit, bytes) in [(8, 2), (16, 2), (32, 2), (64, 2), (128, 4)] {
        let length = |length: u32| with(PARTS, bit, &length.to_le_bytes()[..bytes]);
        assert_eq!(length(4), Believed, "{bit}");
        assert_eq!(length(256), Refused, "{bit}");
    }
    // What it says to have is behind its end.
    for (at, bit) in (0..8).map(|bit| (PARTS, 1 << bit)).chain([(FLAGS, 8), (FLAGS, 16)]) {
        let mut body = vec![0; 12];
        body[at] = bit;
        assert_eq!(appended(MESSAGE, &body, |_| ()), Refused, "bit {bit} of byte {at}");
    }
    // Or is none, so that there were two ways to write one message.
    for (at, bit, bytes) in
        [(PARTS, 1, 8), (PARTS, 2, 8), (PARTS, 4, 5), (PARTS, 8, 2), (FLAGS, 16, 8)]
    {
        assert_eq!(with(at, bit, &[0; 8][..bytes]), Refused, "bit {bit} of byte {at}");
    }
    // A number is a number.
    for (at, bit) in [(PARTS, 2), (FLAGS, 8), (FLAGS, 16)] {
        assert_eq!(with(at, bit, &[0xff; 8]), Believed, "bit {bit} of byte {at}");
    }
    assert_eq!(said(&|body| forge::put(body, 0, &[0xff; 8])), Believed);
    for name in ["jo s", "j\0bs", "\u{e9}bs"] {
        let mut body = message(|_| ());
        body[12..16].copy_from_slice(name.as_bytes());
        assert_eq!(appended(MESSAGE, &body, |_| ()), Refused, "{name:?}");
    }
}

/// A message said that it had been brought by a record which comes after it. As the last id there can be it became a dead letter
/// that was found again behind itself: a list of the dead letters never ended, and took more and more memory.
#[test]
fn a_message_that_was_brought_by_a_later_record_is_refused() {
    let of_id = |id: u64| {
        let body = message(|body| {
            body[9] = 1;
            body.extend_from_slice(&u64::to_le_bytes(id));
        });
        appended(MESSAGE, &body, |_| ())
    };
    assert_eq!(of_id(4096), Believed);
    for id in [1 << 20, u64::MAX] {
        assert_eq!(of_id(id), Refused, "{id}");
    }
    for id in [0, 4097, u64::MAX] {
        let fixed = [fields(&[id, 4096, 0, 0]), vec![0; 7]].concat();
        let kept = entry(&[&[1], &fixed, &text("jobs"), &text("")]);
        assert_eq!(snapshot(&[kept], &[]), Refused, "{id}");
        let texts = [text("jobs"), text("rejected"), text("")].concat();
        let dead = entry(&[&[2], &fields(&[id, 4096, 1, 0]), &texts]);
        assert_eq!(snapshot(&[dead], &[]), Refused, "{id}");
    }
}

#[test]
fn an_end_of_a_message_that_there_is_not_ends_nothing() {
    const NOBODY: u64 = 8;
    for (kind, body) in [
        (GONE, fields(&[NOBODY, NOBODY, u64::MAX, 1])),
        (WAIT, [&fields(&[NOBODY, NOBODY, 1, 1, 1])[..], &[0, 0]].concat()),
        (DEAD, [&fields(&[NOBODY, 0, u64::MAX, 1, 1])[..], &[0; 4]].concat()),
        (UNDEAD, fields(&[u64::MAX])),
        (DONE, fields(&[NOBODY, NOBODY, u64::MAX, u64::MAX])),
        (OPEN, fields(&[1, u64::MAX, NOBODY, NOBODY, u64::MAX])),
        (TOKENS, fields(&[1 << 61])),
        (ACKED, fields(&[u64::MAX, NOBODY, u64::MAX])),
        (TIME, fields(&[u64::MAX])),
    ] {
        assert_eq!(appended(kind, &body, |_| ()), Believed, "{kind}");
        let longer = [&body[..], &[0]].concat();
        assert_eq!(appended(kind, &longer, |_| ()), Refused, "{kind} with a byte too many");
        assert_eq!(appended(kind, &body[..body.len() - 1], |_| ()), Refused, "{kind} cut");
    }
    assert_eq!(appended(ACKED, &fields(&[1]), |_| ()), Refused, "of nothing");
    // Tokens behind which there are none for the next opening.
    assert_eq!(appended(TOKENS, &fields(&[u64::MAX]), |_| ()), Refused);
    assert_eq!(appended(OPEN, &fields(&[u64::MAX, 1]), |_| ()), Refused);
    // Attempts have 32 bits.
    let attempts = 1 << 32;
    let wait = [&fields(&[NOBODY, NOBODY, attempts, 1, 1])[..], &[0, 0]].concat();
    assert_eq!(appended(WAIT, &wait, |_| ()), Refused);
    // A text that is none, and one that is longer than there is.
    for text in [&[1, 0, 0xff][..], &[0xff, 0xff, b'x']] {
        let wait = [&fields(&[NOBODY, NOBODY, 1, 1, 1])[..], text].concat();
        assert_eq!(appended(WAIT, &wait, |_| ()), Refused);
    }
}

/// The log was taken to go on behind the segment of the highest number. One that was made ahead said that it begins before the
/// log does: verifying found nothing, and an opening made a segment which it refused itself. The same came of numbers behind
/// which there are none.
#[test]
fn a_segment_that_lies_about_its_place_is_refused() {
    const FIRST: &str = "00000001.segment";
    const AHEAD: &str = "00000002.segment";
    let lie = |file: &str, at: usize, field: u64| {
        outcome(&directory(), file, |bytes| {
            forge::put(bytes, at, &field.to_le_bytes());
            forge::mend_segment_header(bytes);
            forge::mend_records(bytes);
        })
    };
    let (start, capacity, opening) = (40, 48, 56);
    assert_eq!(lie(AHEAD, start, 64 << 10), Believed, "as it was");
    assert_eq!(lie(AHEAD, start, 1 << 40), Believed, "there may be a gap between two");
    for place in [0, (64 << 10) - 8] {
        assert_eq!(lie(AHEAD, start, place), Refused, "{place}");
    }
    assert_eq!(lie(FIRST, start, 1 << 40), Refused);
    for file in [FIRST, AHEAD] {
        assert_eq!(lie(file, opening, 1 << 62), Refused);
        for large in [1 << 62, u64::MAX] {
            assert_eq!(lie(file, capacity, large), Refused, "{file} {large}");
        }
    }
    // What is asked for is as much as was written there, whatever it says to have room for.
    assert_eq!(lie(AHEAD, capacity, 1 << 61), Believed);
    assert_eq!(lie(AHEAD, start, (1 << 62) - (64 << 10)), Refused);
}

/// The message in the log behind such a snapshot: it comes behind what the opening logs.
const ONE: u64 = 4144;

/// What comes of a snapshot with these contents, and with these fields at these places of its header.
fn snapshot(contents: &[Vec<u8>], lies: &[(usize, u64)]) -> Outcome {
    let disk = SimDisk::default();
    let broker = Broker::open_on(disk.storage(), options()).unwrap();
    let one = broker.enqueue(new("jobs", "one").message(libmq::Durability::Sync)).unwrap();
    assert_eq!(one.id, ONE);
    broker.snapshot().unwrap();
    drop(broker);
    let name = disk.contents().into_iter().find(|(name, _)| name.ends_with(".snapshot"));
    outcome(&disk, &name.unwrap().0, |file| {
        file.truncate(forge::SNAPSHOT_HEADER_BYTES);
        for (at, field) in lies {
            forge::put(file, *at, &field.to_le_bytes());
        }
        for content in contents.iter().chain([&Vec::new()]) {
            file.extend_from_slice(&u32::try_from(content.len()).unwrap().to_le_bytes());
            file.extend_from_slice(&[0; 12]);
            file.extend_from_slice(content);
        }
        forge::mend_snapshot(file);
    })
}

/// An entry behind its length.
fn entry(parts: &[&[u8]]) -> Vec<u8> {
    let entry = parts.concat();
    [varint(entry.len() as u64), entry].concat()
}

/// A number, seven bits a byte.
fn varint(number: u64) -> Vec<u8> {
    let mut bytes: Vec<u8> =
        (0..10).map(|place| (number >> (7 * place)).to_le_bytes()[0] | 0x80).collect();
    while bytes.len() > 1 && bytes.last() == Some(&0x80) {
        bytes.pop();
    }
    if let Some(last) = bytes.last_mut() {
        *last &= 0x7f;
    }
    bytes
}

/// A text behind its length.
fn text(text: &str) -> Vec<u8> {
    [&u16::try_from(text.len()).unwrap().to_le_bytes()[..], text.as_bytes()].concat()
}

#[test]
fn a_snapshot_that_says_what_cannot_be_is_refused() {
    let time = || entry(&[&[0], &fields(&[77])]);
    assert_eq!(snapshot(&[], &[]), Believed);
    assert_eq!(snapshot(&[time()], &[]), Believed);
    // Beyond the end of the log, behind its own end, and numbers that no position is.
    for lies in [&[(32, u64::MAX), (40, u64::MAX)][..], &[(32, 1 << 60)]] {
        assert_eq!(snapshot(&[], lies), Refused, "{lies:?}");
    }
    // What has to be zero is not.
    for at in [8, 48] {
        let version = u64::from(libmq::limits::FORMAT_VERSION);
        let lie = if at == 8 { version | 1 << 63 } else { 1 };
        assert_eq!(snapshot(&[], &[(at, lie)]), Refused, "{at}");
    }
    // In the middle of a record.
    assert_eq!(snapshot(&[], &[(32, 4104)]), Refused);
    let behind = |length: &[u8]| [length, &[0]].concat();
    for content in [
        // Entries beyond their block, of nothing, of no known tag, cut, and with a byte too many.
        behind(&varint(2)),
        behind(&varint(u64::from(u32::MAX))),
        behind(&varint(u64::MAX)),
        behind(&[0]),
        vec![0x89],
        // Lengths that say the same in more bytes, or more than there can be.
        [&[0x89, 0, 0][..], &fields(&[77])].concat(),
        behind(&[0xff; 11]),
        entry(&[]),
        entry(&[&[4]]),
        entry(&[&[4], &fields(&[1, u64::MAX])]),
        entry(&[&[5], &fields(&[1])]),
        entry(&[&[255], &fields(&[1, 1])]),
        entry(&[&[255], &fields(&[77])]),
        entry(&[&[0], &[0; 7]]),
        entry(&[&[0], &[0; 9]]),
        // A block that is larger than any.
        vec![0; (1 << 20) + 1],
    ] {
        assert_eq!(
            snapshot(std::slice::from_ref(&content), &[]),
            Refused,
            "{:?}",
            content.get(..9)
        );
        assert_eq!(snapshot(&[time(), content], &[]), Refused, "in the second block");
    }
}

#[test]
fn a_message_of_a_snapshot_that_cannot_be_is_refused() {
    // What it has, flags; the steps to id and due; queue; the step to its version, priority.
    let kept = |version: u64, [flags, priority]: [u8; 2], queue: &str| {
        let has = u8::from(version != ONE) | u8::from(priority != 0) << 3;
        let mut bytes = [&[1, has, flags][..], &varint(2 * ONE), &[0], &text(queue)].concat();
        if version != ONE {
            bytes.extend_from_slice(&varint(version.wrapping_sub(ONE) << 1));
        }
        bytes.extend((priority != 0).then_some(priority));
        snapshot(&[entry(&[&bytes])], &[])
    };
    assert_eq!(kept(ONE, [0, 0], "jobs"), Believed);
    for (flags, priority, queue) in
        [(32, 0, "jobs"), (0, 10, "jobs"), (0, 0, ""), (0, 0, "a b"), (0, 0, "a\nb")]
    {
        assert_eq!(kept(ONE, [flags, priority], queue), Refused, "{flags} {priority} {queue:?}");
    }
    // It expires, it says, and then there is no when.
    assert_eq!(kept(ONE, [8, 0], "jobs"), Refused);
    // Its content is where there is none: in the middle of a record, in what comes later, in what never was.
    assert_eq!(kept(ONE + 8, [0, 0], "jobs"), RefusedLate);
    for version in [1 << 20, 1 << 61, 1 << 63] {
        assert_eq!(kept(version, [0, 0], "jobs"), Refused, "{version}");
    }
    // It is older than its message.
    let older = [&[1, 1, 0][..], &varint(2 * ONE), &[0], &text("jobs"), &[1]].concat();
    assert_eq!(snapshot(&[entry(&[&older])], &[]), Refused);
    let dead = |queue: &str, attempts: u64| {
        let fixed = fields(&[4096, 4096, attempts, 0]);
        let texts = [text(queue), text("rejected"), text("")].concat();
        snapshot(&[entry(&[&[2], &fixed, &texts])], &[])
    };
    assert_eq!(dead("a b", 1), Refused);
    assert_eq!(dead("jobs", 1 << 32), Refused);
    let guarded = |queue: &str| {
        let texts = [text(queue), text("k")].concat();
        snapshot(&[entry(&[&[3], &fields(&[u64::MAX, u64::MAX]), &texts])], &[])
    };
    assert_eq!(guarded("a b"), Refused);
    assert_eq!(guarded("jobs"), Believed);
}
