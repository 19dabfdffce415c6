//! Heads: what the record of a message says before its texts and its body.
//!
//! ```text
//! offset  bytes
//!      0      8  enqueued at
//!      8      1  flags: bit 0 = waits behind the message in flight with its key, bit 1 = level sync, bit 2 = was handed
//!                out and came back, bit 3 = expires, bit 4 = guards its key when it is done
//!      9      1  what it has, one bit for each line below
//!     10      1  priority
//!     11      1  bytes of the queue's name
//!     12         bit 0: id (8); else it is the record's own position
//!                bit 1: due (8); else when it was enqueued
//!                bit 2: attempts that have ended and count (4), crashes (1)
//!                bit 3: bytes of the key (2)
//!                bit 4: bytes of the correlation id (2)
//!                bit 5: bytes of the content type (2)
//!                bit 6: bytes of the group (2)
//!                bit 7: bytes of the headers (4)
//!                with bit 3 of the flags: when it expires (8)
//!                with bit 4 of the flags: for how many microseconds it guards its key (8)
//!                then queue, key, correlation id, content type, group, headers; the rest is the body
//! ```
//!
//! What a message does not have takes no room, and is never said to be none: so there is one way to write a message.

use std::ops::Deref;
use std::time::Duration;

use super::flags::{Flag, Flags};
use crate::clock::Moment;
use crate::codec::{Reader, array_at};

/// What a message may have, by its bit.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
enum Part {
    Id,
    Due,
    Attempts,
    Key,
    Correlation,
    Type,
    Group,
    Headers,
}

/// Bytes of each.
const PART_BYTES: [usize; 8] = [8, 8, 5, 2, 2, 2, 2, 4];

/// Bytes of a time that goes with a flag.
const TIME_BYTES: usize = 8;

/// Bytes of what every message has.
const FIXED_BYTES: usize = 12;

/// Bytes of one that has everything.
const BYTES_MAX: usize = FIXED_BYTES + 8 + 8 + 5 + 4 * 2 + 4 + 2 * TIME_BYTES;

/// What a message has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Parts(u8);

impl Parts {
    const NONE: Self = Self(0);

    fn has(self, part: Part) -> bool {
        self.0 >> part as u8 & 1 == 1
    }

    fn with(self, part: Part, is: bool) -> Self {
        Self(self.0 | u8::from(is) << part as u8)
    }

    /// Bytes of all of them.
    fn bytes(self) -> usize {
        let each = PART_BYTES.iter().enumerate();
        each.filter(|(bit, _)| self.0 >> bit & 1 == 1).map(|(_, bytes)| bytes).sum()
    }
}

/// The head of a message's record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct MessageHead {
    /// Zero while it is the position of the record itself.
    pub(crate) id: u64,
    pub(crate) enqueued_at: Moment,
    pub(crate) due: Moment,
    pub(crate) attempts: u32,
    pub(crate) crashes: u8,
    pub(crate) flags: Flags,
    pub(crate) priority: u8,
    pub(crate) queue_len: u8,
    pub(crate) key_len: u16,
    pub(crate) correlation_len: u16,
    pub(crate) type_len: u16,
    pub(crate) group_len: u16,
    pub(crate) headers_len: u32,
    pub(crate) expires: Option<Moment>,
    pub(crate) window: Duration,
}

impl MessageHead {
    pub(crate) fn encode(&self) -> HeadBytes {
        let (flags, parts) = (self.stored_flags(), self.parts());
        let mut out = HeadBytes { bytes: [0; BYTES_MAX], len: 0 };
        out.put(&self.encode_fixed(flags, parts));
        self.encode_parts(flags, parts, &mut out);
        out
    }

    /// The same, if it has nothing that not every message has: most are so.
    #[inline]
    pub(super) fn encode_plain(&self) -> Option<[u8; FIXED_BYTES]> {
        let (flags, parts) = (self.stored_flags(), self.parts());
        is_plain(flags, parts).then(|| self.encode_fixed(flags, parts))
    }

    #[inline]
    fn encode_fixed(&self, flags: Flags, parts: Parts) -> [u8; FIXED_BYTES] {
        let mut fixed = [0; FIXED_BYTES];
        fixed[0..8].copy_from_slice(&self.enqueued_at.0.to_le_bytes());
        fixed[8..12].copy_from_slice(&[flags.0, parts.0, self.priority, self.queue_len]);
        fixed
    }

    fn encode_parts(&self, flags: Flags, parts: Parts, out: &mut HeadBytes) {
        let mut put = |part: Part, field: &[u8]| {
            if parts.has(part) {
                out.put(field);
            }
        };
        put(Part::Id, &self.id.to_le_bytes());
        put(Part::Due, &self.due.0.to_le_bytes());
        put(Part::Attempts, &self.attempts.to_le_bytes());
        put(Part::Attempts, &[self.crashes]);
        put(Part::Key, &self.key_len.to_le_bytes());
        put(Part::Correlation, &self.correlation_len.to_le_bytes());
        put(Part::Type, &self.type_len.to_le_bytes());
        put(Part::Group, &self.group_len.to_le_bytes());
        put(Part::Headers, &self.headers_len.to_le_bytes());
        if let Some(expires) = self.expires {
            out.put(&expires.0.to_le_bytes());
        }
        if flags.has(Flag::Window) {
            out.put(&u64::try_from(self.window.as_micros()).unwrap_or(u64::MAX).to_le_bytes());
        }
    }

    /// Takes a head off the reader, which then stands at the queue's name; none where it makes no sense.
    #[inline]
    pub(super) fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        let fixed: &[u8; FIXED_BYTES] = reader.form()?;
        let enqueued_at = Moment(u64::from_le_bytes(array_at(fixed, 0)));
        let [flags, parts, priority, queue_len] = array_at(fixed, 8);
        let (flags, parts) = (Flags::read(flags)?, Parts(parts));
        let due = enqueued_at;
        let head = Self { enqueued_at, due, flags, priority, queue_len, ..Self::default() };
        if is_plain(flags, parts) { Some(head) } else { head.decode_parts(parts, reader) }
    }

    fn decode_parts(mut self, parts: Parts, reader: &mut Reader<'_>) -> Option<Self> {
        if parts.has(Part::Id) {
            self.id = reader.u64()?;
        }
        if parts.has(Part::Due) {
            self.due = Moment(reader.u64()?);
        }
        if parts.has(Part::Attempts) {
            (self.attempts, self.crashes) = (reader.u32()?, reader.u8()?);
        }
        for (part, length) in [
            (Part::Key, &mut self.key_len),
            (Part::Correlation, &mut self.correlation_len),
            (Part::Type, &mut self.type_len),
            (Part::Group, &mut self.group_len),
        ] {
            if parts.has(part) {
                *length = reader.u16()?;
            }
        }
        if parts.has(Part::Headers) {
            self.headers_len = reader.u32()?;
        }
        if self.flags.has(Flag::Expires) {
            self.expires = Some(Moment(reader.u64()?));
        }
        if self.flags.has(Flag::Window) {
            self.window = Duration::from_micros(reader.u64()?);
        }
        // What is none is said by leaving it out.
        (self.parts() == parts && self.stored_flags() == self.flags).then_some(self)
    }

    /// Bytes that it takes.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        let (flags, parts) = (self.stored_flags(), self.parts());
        if is_plain(flags, parts) {
            return FIXED_BYTES;
        }
        let times = usize::from(flags.has(Flag::Expires)) + usize::from(flags.has(Flag::Window));
        FIXED_BYTES + parts.bytes() + TIME_BYTES * times
    }

    #[inline]
    fn parts(&self) -> Parts {
        Parts::NONE
            .with(Part::Id, self.id != 0)
            .with(Part::Due, self.due != self.enqueued_at)
            .with(Part::Attempts, self.attempts != 0 || self.crashes != 0)
            .with(Part::Key, self.key_len != 0)
            .with(Part::Correlation, self.correlation_len != 0)
            .with(Part::Type, self.type_len != 0)
            .with(Part::Group, self.group_len != 0)
            .with(Part::Headers, self.headers_len != 0)
    }

    #[inline]
    fn stored_flags(&self) -> Flags {
        let (expires, guards) = (self.expires.is_some(), !self.window.is_zero());
        self.flags.stored().with(Flag::Expires, expires).with(Flag::Window, guards)
    }
}

/// Whether a message has nothing that not every one has.
#[inline]
fn is_plain(flags: Flags, parts: Parts) -> bool {
    parts == Parts::NONE && !flags.has(Flag::Expires) && !flags.has(Flag::Window)
}

/// A [`MessageHead`] as it is written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeadBytes {
    bytes: [u8; BYTES_MAX],
    len: usize,
}

impl HeadBytes {
    fn put(&mut self, field: &[u8]) {
        if let Some(place) = self.bytes.get_mut(self.len..self.len + field.len()) {
            place.copy_from_slice(field);
            self.len += field.len();
        }
    }
}

impl Deref for HeadBytes {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: MessageHead = MessageHead {
        id: 1,
        enqueued_at: Moment(2),
        due: Moment(3),
        attempts: 4,
        crashes: 5,
        flags: Flags(1 | 8 | 16),
        priority: 6,
        queue_len: 7,
        key_len: 8,
        correlation_len: 9,
        type_len: 10,
        group_len: 11,
        headers_len: 12,
        expires: Some(Moment(13)),
        window: Duration::from_micros(14),
    };

    fn decode(bytes: &[u8]) -> Option<MessageHead> {
        let mut reader = Reader::new(bytes);
        MessageHead::decode(&mut reader).filter(|_| reader.is_empty())
    }

    /// `FULL` without what these bits leave out: eight parts, and two times.
    fn some(bits: u32) -> MessageHead {
        let head = FULL;
        let has = |bit: u32| bits >> bit & 1 == 1;
        let of = |bit: u32, length: u16| if has(bit) { length } else { 0 };
        MessageHead {
            id: if has(0) { head.id } else { 0 },
            due: if has(1) { head.due } else { head.enqueued_at },
            attempts: if has(2) { head.attempts } else { 0 },
            crashes: if has(2) { head.crashes } else { 0 },
            key_len: of(3, head.key_len),
            correlation_len: of(4, head.correlation_len),
            type_len: of(5, head.type_len),
            group_len: of(6, head.group_len),
            headers_len: of(7, 12).into(),
            expires: head.expires.filter(|_| has(8)),
            window: if has(9) { head.window } else { Duration::ZERO },
            flags: head.flags.with(Flag::Expires, has(8)).with(Flag::Window, has(9)),
            ..head
        }
    }

    #[test]
    fn what_a_message_has_comes_back_and_nothing_else_takes_room() {
        for bits in 0..1 << 10 {
            let head = some(bits);
            let bytes = head.encode();
            assert_eq!(decode(&bytes), Some(head), "{bits:#b}");
            assert_eq!(bytes.len(), head.len(), "{bits:#b}");
            let plain = head.encode_plain().map(Vec::from);
            assert_eq!(plain, (bits == 0).then(|| bytes.to_vec()), "{bits:#b}");
            let sizes = [8, 8, 5, 2, 2, 2, 2, 4, 8, 8].into_iter().enumerate();
            let parts = sizes.filter(|(bit, _)| bits >> bit & 1 == 1).map(|(_, bytes)| bytes);
            assert_eq!(bytes.len(), 12 + parts.sum::<usize>(), "{bits:#b}");
            for end in 0..bytes.len() {
                assert_eq!(decode(&bytes[..end]), None, "{end} bytes of {bits:#b}");
            }
        }
        assert_eq!(FULL.len(), BYTES_MAX);
    }

    /// Attempts without a crash, and a crash without an attempt that counts.
    #[test]
    fn attempts_and_crashes_are_there_if_either_is() {
        for (attempts, crashes) in [(1, 0), (0, 1), (u32::MAX, u8::MAX)] {
            let head = MessageHead { attempts, crashes, ..some(0) };
            assert_eq!(head.len(), 17);
            assert_eq!(decode(&head.encode()), Some(head));
        }
    }

    /// Else there were two ways to write one message.
    #[test]
    fn what_is_said_to_be_there_and_is_none_makes_no_sense() {
        for (bit, zeros) in PART_BYTES.into_iter().enumerate() {
            let mut bytes = some(0).encode().to_vec();
            bytes[9] = 1 << bit;
            // A message is due when it was enqueued, unless it is said when.
            let none = if bit == 1 { FULL.enqueued_at.0 } else { 0 };
            bytes.extend_from_slice(&none.to_le_bytes()[..zeros]);
            assert_eq!(decode(&bytes), None, "bit {bit}");
        }
        let window = [&some(0).encode()[..8], &[16, 0, 0, 0], &[0; 8]].concat();
        assert_eq!(decode(&window), None);
        assert!(decode(&[&window[..12], &[1; 8]].concat()).is_some());
    }

    #[test]
    fn a_flag_that_is_not_on_disk_is_not_written() {
        let head = MessageHead { flags: Flags::default().with(Flag::Cancelled, true), ..some(0) };
        let read = decode(&head.encode()).unwrap();
        assert_eq!(read.flags, Flags::default());
    }
}
