//! Entries: what the buffer writes into the journal, and into a snapshot.
//!
//! Every entry states an outcome in absolute terms, with the *version* of the message it means: the position of the
//! record that held its content. So an entry about another version changes nothing, and replaying entries over a state
//! that has some of them already ends in the same state.

use super::slot::Data;
use crate::clock::Moment;
use crate::codec::{Reader, put_text};
use crate::journal::{KIND_USER_MIN, Level};

/// Kinds of records. The numbers are the format's.
pub(crate) mod kind {
    use super::KIND_USER_MIN;

    /// A broker opened, and which messages were being handled when its last owner died.
    pub(crate) const OPEN: u8 = KIND_USER_MIN;
    /// A message, whole, as it is now: new, replaced, or written again.
    pub(crate) const MESSAGE: u8 = KIND_USER_MIN + 1;
    /// A message is gone.
    pub(crate) const GONE: u8 = KIND_USER_MIN + 2;
    /// A message waits again.
    pub(crate) const WAIT: u8 = KIND_USER_MIN + 3;
    /// A message is a dead letter.
    pub(crate) const DEAD: u8 = KIND_USER_MIN + 4;
    /// A dead letter is gone.
    pub(crate) const UNDEAD: u8 = KIND_USER_MIN + 5;
    /// A manual clock was advanced.
    pub(crate) const TIME: u8 = KIND_USER_MIN + 6;
}

/// The fixed part of a [`kind::MESSAGE`] record.
///
/// ```text
/// offset  bytes
///      0      8  id; 0 = the record's own position
///      8      8  enqueued at
///     16      8  due
///     24      4  attempts that have ended and count
///     28      1  crashes
///     29      1  flags: bit 0 = waits behind the message in flight with its key, bit 1 = level sync
///     30      1  priority
///     31      1  bytes of the queue's name
///     32      2  bytes of the key, 0 = none
///     34      2  bytes of the correlation id, 0 = none
///     36      2  bytes of the content type, 0 = none
///     38      2  bytes of the group, 0 = none
///     40      4  bytes of the headers
///     44         queue, key, correlation id, content type, group, headers; the rest is the body
/// ```
///
/// A header is the length of its name (1), the length of its value (2), name, value.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct MessageHead {
    pub(crate) id: u64,
    pub(crate) enqueued_at: Moment,
    pub(crate) due: Moment,
    pub(crate) attempts: u32,
    pub(crate) crashes: u8,
    pub(crate) behind: bool,
    pub(crate) sync: bool,
    pub(crate) priority: u8,
    pub(crate) queue_len: u8,
    pub(crate) key_len: u16,
    pub(crate) correlation_len: u16,
    pub(crate) type_len: u16,
    pub(crate) group_len: u16,
    pub(crate) headers_len: u32,
}

/// Bytes of a [`MessageHead`].
pub(crate) const MESSAGE_HEAD_BYTES: usize = 44;

const FLAG_BEHIND: u8 = 1;
const FLAG_SYNC: u8 = 2;

impl MessageHead {
    pub(crate) fn encode(&self) -> [u8; MESSAGE_HEAD_BYTES] {
        let mut bytes = [0; MESSAGE_HEAD_BYTES];
        let flags = [(self.behind, FLAG_BEHIND), (self.sync, FLAG_SYNC)];
        let flags = flags.iter().map(|(set, flag)| if *set { *flag } else { 0 }).sum();
        let mut rest = bytes.as_mut_slice();
        let mut put = |field: &[u8]| {
            let (place, after) = std::mem::take(&mut rest).split_at_mut(field.len());
            place.copy_from_slice(field);
            rest = after;
        };
        put(&self.id.to_le_bytes());
        put(&self.enqueued_at.0.to_le_bytes());
        put(&self.due.0.to_le_bytes());
        put(&self.attempts.to_le_bytes());
        put(&[self.crashes, flags, self.priority, self.queue_len]);
        for length in [self.key_len, self.correlation_len, self.type_len, self.group_len] {
            put(&length.to_le_bytes());
        }
        put(&self.headers_len.to_le_bytes());
        bytes
    }

    fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        let mut head = Self {
            id: reader.u64()?,
            enqueued_at: Moment(reader.u64()?),
            due: Moment(reader.u64()?),
            attempts: reader.u32()?,
            crashes: reader.u8()?,
            ..Self::default()
        };
        let flags = reader.u8()?;
        head.behind = flags & FLAG_BEHIND != 0;
        head.sync = flags & FLAG_SYNC != 0;
        head.priority = reader.u8()?;
        head.queue_len = reader.u8()?;
        head.key_len = reader.u16()?;
        head.correlation_len = reader.u16()?;
        head.type_len = reader.u16()?;
        head.group_len = reader.u16()?;
        head.headers_len = reader.u32()?;
        Some(head)
    }
}

/// A [`kind::MESSAGE`] record, taken apart.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MessageEntry<'a> {
    pub(crate) head: MessageHead,
    pub(crate) queue: &'a str,
    pub(crate) key: Option<&'a str>,
    pub(crate) correlation_id: Option<&'a str>,
    pub(crate) content_type: Option<&'a str>,
    pub(crate) headers: &'a [u8],
    pub(crate) body: &'a [u8],
}

impl<'a> MessageEntry<'a> {
    pub(crate) fn decode(bytes: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let head = MessageHead::decode(&mut reader)?;
        let queue = reader.text(head.queue_len.into())?;
        let mut option = |length: u16| {
            let text = reader.text(length.into())?;
            Some((length > 0).then_some(text))
        };
        let key = option(head.key_len)?;
        let correlation_id = option(head.correlation_len)?;
        let content_type = option(head.type_len)?;
        let _group = option(head.group_len)?;
        let headers = reader.bytes(usize::try_from(head.headers_len).ok()?)?;
        Some(Self { head, queue, key, correlation_id, content_type, headers, body: reader.rest() })
    }

    /// The headers, in the order they were given; ends early where they make no sense.
    pub(crate) fn headers(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let mut reader = Reader::new(self.headers);
        std::iter::from_fn(move || {
            let name = reader.u8()?;
            let value = reader.u16()?;
            Some((reader.text(name.into())?, reader.text(value.into())?))
        })
    }
}

/// Appends a header as [`MessageEntry::headers`] reads it. Its lengths were checked.
pub(crate) fn put_header(out: &mut Vec<u8>, name: &str, value: &str) {
    out.push(u8::try_from(name.len()).unwrap_or(0));
    out.extend_from_slice(&u16::try_from(value.len()).unwrap_or(0).to_le_bytes());
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(value.as_bytes());
}

/// Every other record, and what a snapshot holds of a message or a dead letter.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Entry {
    Open {
        opens: u64,
        at: Moment,
        /// Ids of the messages that were being handled.
        held: Vec<u64>,
    },
    Gone {
        id: u64,
        version: u64,
        next: u64,
        at: Moment,
    },
    Wait {
        id: u64,
        version: u64,
        attempts: u32,
        due: Moment,
        at: Moment,
    },
    Dead {
        id: u64,
        version: u64,
        next: u64,
        attempts: u32,
        at: Moment,
        reason: String,
        error: String,
    },
    Undead {
        id: u64,
    },
    Time {
        at: Moment,
    },
}

impl Entry {
    pub(crate) fn kind(&self) -> u8 {
        match self {
            Self::Open { .. } => kind::OPEN,
            Self::Gone { .. } => kind::GONE,
            Self::Wait { .. } => kind::WAIT,
            Self::Dead { .. } => kind::DEAD,
            Self::Undead { .. } => kind::UNDEAD,
            Self::Time { .. } => kind::TIME,
        }
    }

    /// Appends the record's body to `out`: fixed fields in the order of their declaration, then texts.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let mut put = |fields: &[u64]| {
            fields.iter().for_each(|field| out.extend_from_slice(&field.to_le_bytes()));
        };
        match self {
            Self::Open { opens, at, held } => {
                put(&[*opens, at.0]);
                put(held);
            }
            Self::Gone { id, version, next, at } => put(&[*id, *version, *next, at.0]),
            Self::Wait { id, version, attempts, due, at } => {
                put(&[*id, *version, u64::from(*attempts), due.0, at.0]);
            }
            Self::Dead { id, version, next, attempts, at, reason, error } => {
                put(&[*id, *version, *next, u64::from(*attempts), at.0]);
                put_text(out, reason);
                put_text(out, error);
            }
            Self::Undead { id } => put(&[*id]),
            Self::Time { at } => put(&[at.0]),
        }
    }

    /// Reads the body of a record of this kind; none where it makes no sense.
    pub(crate) fn decode(kind: u8, body: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(body);
        let r = &mut reader;
        let entry = match kind {
            kind::OPEN => Self::Open {
                opens: r.u64()?,
                at: Moment(r.u64()?),
                held: std::iter::from_fn(|| r.u64()).collect(),
            },
            kind::GONE => {
                Self::Gone { id: r.u64()?, version: r.u64()?, next: r.u64()?, at: Moment(r.u64()?) }
            }
            kind::WAIT => Self::Wait {
                id: r.u64()?,
                version: r.u64()?,
                attempts: r.u64()?.try_into().ok()?,
                due: Moment(r.u64()?),
                at: Moment(r.u64()?),
            },
            kind::DEAD => Self::Dead {
                id: r.u64()?,
                version: r.u64()?,
                next: r.u64()?,
                attempts: r.u64()?.try_into().ok()?,
                at: Moment(r.u64()?),
                reason: r.short_text()?.to_owned(),
                error: r.short_text()?.to_owned(),
            },
            kind::UNDEAD => Self::Undead { id: r.u64()? },
            kind::TIME => Self::Time { at: Moment(r.u64()?) },
            _ => return None,
        };
        reader.is_empty().then_some(entry)
    }
}

/// What a snapshot says of a message: where its content is, and what it is doing.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Kept<'a> {
    pub(crate) id: u64,
    pub(crate) version: u64,
    pub(crate) due: Moment,
    pub(crate) attempts: u32,
    pub(crate) crashes: u8,
    pub(crate) behind: bool,
    pub(crate) sync: bool,
    pub(crate) queue: &'a str,
    pub(crate) key: Option<&'a str>,
}

impl<'a> Kept<'a> {
    /// What there is to say of a slot's data.
    pub(crate) fn of(data: &Data, queue: &'a str, key: Option<&'a str>) -> Self {
        Self {
            id: data.id,
            version: data.version,
            due: data.due,
            attempts: data.attempts,
            crashes: data.crashes,
            behind: data.behind,
            sync: data.level == Level::Sync,
            queue,
            key,
        }
    }

    /// Appends the entry: its tag, its fields, its texts; an empty key is none.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.push(TAG_KEPT);
        for field in [self.id, self.version, self.due.0] {
            out.extend_from_slice(&field.to_le_bytes());
        }
        out.extend_from_slice(&self.attempts.to_le_bytes());
        let flags = [(self.behind, FLAG_BEHIND), (self.sync, FLAG_SYNC)];
        out.push(self.crashes);
        out.push(flags.iter().map(|(set, bit)| if *set { *bit } else { 0 }).sum());
        put_text(out, self.queue);
        put_text(out, self.key.unwrap_or_default());
    }

    fn decode(reader: &mut Reader<'a>) -> Option<Self> {
        let (id, version, due) = (reader.u64()?, reader.u64()?, Moment(reader.u64()?));
        let (attempts, crashes, flags) = (reader.u32()?, reader.u8()?, reader.u8()?);
        let (queue, key) = (reader.short_text()?, reader.short_text()?);
        Some(Self {
            id,
            version,
            due,
            attempts,
            crashes,
            behind: flags & FLAG_BEHIND != 0,
            sync: flags & FLAG_SYNC != 0,
            queue,
            key: Some(key).filter(|key| !key.is_empty()),
        })
    }
}

/// A dead letter, but for its content, which stays in the log at its version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DeadLetterEntry {
    pub(crate) id: u64,
    pub(crate) version: u64,
    pub(crate) queue: String,
    pub(crate) attempts: u32,
    pub(crate) at: Moment,
    pub(crate) reason: String,
    pub(crate) error: String,
}

impl DeadLetterEntry {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.push(TAG_DEAD);
        for field in [self.id, self.version, u64::from(self.attempts), self.at.0] {
            out.extend_from_slice(&field.to_le_bytes());
        }
        put_text(out, &self.queue);
        put_text(out, &self.reason);
        put_text(out, &self.error);
    }

    fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        Some(Self {
            id: reader.u64()?,
            version: reader.u64()?,
            attempts: reader.u64()?.try_into().ok()?,
            at: Moment(reader.u64()?),
            queue: reader.short_text()?.to_owned(),
            reason: reader.short_text()?.to_owned(),
            error: reader.short_text()?.to_owned(),
        })
    }
}

const TAG_TIME: u8 = 0;
const TAG_KEPT: u8 = 1;
const TAG_DEAD: u8 = 2;

/// An entry of a snapshot.
#[derive(Debug)]
pub(crate) enum SnapshotEntry<'a> {
    Time(Moment),
    Kept(Kept<'a>),
    Dead(DeadLetterEntry),
}

impl<'a> SnapshotEntry<'a> {
    /// Appends the time of the snapshot.
    pub(crate) fn encode_time(at: Moment, out: &mut Vec<u8>) {
        out.push(TAG_TIME);
        out.extend_from_slice(&at.0.to_le_bytes());
    }

    pub(crate) fn decode(bytes: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let entry = match reader.u8()? {
            TAG_TIME => Self::Time(Moment(reader.u64()?)),
            TAG_KEPT => Self::Kept(Kept::decode(&mut reader)?),
            TAG_DEAD => Self::Dead(DeadLetterEntry::decode(&mut reader)?),
            _ => return None,
        };
        reader.is_empty().then_some(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries() -> Vec<Entry> {
        let at = Moment(77);
        vec![
            Entry::Open { opens: 3, at, held: vec![5, 6] },
            Entry::Gone { id: 1, version: 2, next: 9, at },
            Entry::Wait { id: 1, version: 2, attempts: 3, due: Moment(99), at },
            Entry::Dead {
                id: 1,
                version: 2,
                next: 0,
                attempts: 6,
                at,
                reason: "max_retries".into(),
                error: "no".into(),
            },
            Entry::Undead { id: 5 },
            Entry::Time { at },
        ]
    }

    #[test]
    fn entries_survive_the_round_trip_and_no_shorter_or_longer_body_passes() {
        for entry in entries() {
            let mut body = Vec::new();
            entry.encode(&mut body);
            assert_eq!(Entry::decode(entry.kind(), &body), Some(entry.clone()));
            assert_eq!(Entry::decode(entry.kind(), &body[..body.len() - 1]), None);
            body.push(0);
            assert_eq!(Entry::decode(entry.kind(), &body), None);
        }
    }

    #[test]
    fn a_message_is_taken_apart_as_it_was_put_together() {
        let mut headers = Vec::new();
        put_header(&mut headers, "a", "1");
        put_header(&mut headers, "bb", "");
        let head = MessageHead {
            id: 5,
            enqueued_at: Moment(6),
            due: Moment(7),
            attempts: 8,
            crashes: 1,
            behind: true,
            sync: true,
            queue_len: 6,
            key_len: 1,
            type_len: 4,
            headers_len: headers.len().try_into().unwrap(),
            ..MessageHead::default()
        };
        let bytes = [&head.encode()[..], b"ordersktext", &headers, b"body"].concat();
        let entry = MessageEntry::decode(&bytes).unwrap();
        assert_eq!((entry.queue, entry.key, entry.correlation_id), ("orders", Some("k"), None));
        assert_eq!((entry.content_type, entry.body), (Some("text"), &b"body"[..]));
        assert_eq!(entry.headers().collect::<Vec<_>>(), [("a", "1"), ("bb", "")]);
        assert!(entry.head.behind && entry.head.sync);
        assert_eq!((entry.head.id, entry.head.attempts, entry.head.crashes), (5, 8, 1));
    }

    #[test]
    fn snapshot_entries_survive_the_round_trip() {
        let kept = Kept {
            id: 1,
            version: 2,
            due: Moment(3),
            attempts: 4,
            crashes: 5,
            behind: true,
            sync: true,
            queue: "orders",
            key: Some("k"),
        };
        let mut out = Vec::new();
        kept.encode(&mut out);
        assert!(
            matches!(SnapshotEntry::decode(&out), Some(SnapshotEntry::Kept(found)) if found == kept)
        );
        let dead = DeadLetterEntry {
            id: 1,
            version: 2,
            queue: "orders".into(),
            attempts: 3,
            at: Moment(4),
            reason: "crashed".into(),
            error: String::new(),
        };
        let mut out = Vec::new();
        dead.encode(&mut out);
        assert!(
            matches!(SnapshotEntry::decode(&out), Some(SnapshotEntry::Dead(found)) if found == dead)
        );
    }
}
