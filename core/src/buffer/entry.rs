//! Entries: what the buffer writes into the journal, and into a snapshot.
//!
//! Every entry states an outcome in absolute terms, with the *version* of the message it means: the position of the
//! record that held its content. So an entry about another version changes nothing, and replaying entries over a state
//! that has some of them already ends in the same state. [`Entry::Acked`] names none: a message without a key is replaced by no
//! other, and what was acked is not written again.

use std::time::Duration;

use super::head::MessageHead;
use super::kept::{Before, Kept};
use crate::clock::Moment;
use crate::codec::{Reader, put_text};
use crate::journal::KIND_USER_MIN;

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
    /// A message was acked, and guards its key for a while.
    pub(crate) const DONE: u8 = KIND_USER_MIN + 7;
    /// More tokens may be given.
    pub(crate) const TOKENS: u8 = KIND_USER_MIN + 8;
    /// Messages were acked, and are gone.
    pub(crate) const ACKED: u8 = KIND_USER_MIN + 9;
}

/// A [`kind::MESSAGE`] record, taken apart: its head, its texts in their order, its headers and its body.
///
/// A header is the length of its name (1), the length of its value (2), name, value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MessageEntry<'a> {
    pub(crate) head: MessageHead,
    /// The name of its queue, which nobody has looked at: mostly it is that of the message before.
    pub(crate) queue: &'a [u8],
    pub(crate) key: Option<&'a str>,
    pub(crate) correlation_id: Option<&'a str>,
    pub(crate) content_type: Option<&'a str>,
    pub(crate) group: Option<&'a str>,
    pub(crate) headers: &'a [u8],
    pub(crate) body: &'a [u8],
    /// All that is behind its head.
    pub(crate) behind_head: &'a [u8],
}

impl<'a> MessageEntry<'a> {
    /// The message that a record of this kind brings; none where it is of another kind, or makes no sense.
    pub(crate) fn of_record(kind: u8, body: &'a [u8]) -> Option<Self> {
        (kind == kind::MESSAGE).then(|| Self::decode(body)).flatten()
    }

    pub(crate) fn decode(bytes: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let head = MessageHead::decode(&mut reader)?;
        let behind_head = reader.clone().rest();
        let queue = reader.bytes(head.queue_len.into())?;
        let mut option = |length: u16| {
            // Mostly there is none, and to find that nothing is UTF-8 has its price.
            if length == 0 { Some(None) } else { reader.text(length.into()).map(Some) }
        };
        let key = option(head.key_len)?;
        let correlation_id = option(head.correlation_len)?;
        let content_type = option(head.type_len)?;
        let group = option(head.group_len)?;
        let headers = reader.bytes(usize::try_from(head.headers_len).ok()?)?;
        let body = reader.rest();
        Some(Self {
            head,
            queue,
            key,
            correlation_id,
            content_type,
            group,
            headers,
            body,
            behind_head,
        })
    }

    /// Its content type, without the rest.
    pub(crate) fn content_type(bytes: &'a [u8]) -> Option<&'a str> {
        let mut reader = Reader::new(bytes);
        let head = MessageHead::decode(&mut reader)?;
        let before = [head.queue_len.into(), head.key_len, head.correlation_len];
        reader.bytes(before.into_iter().map(usize::from).sum())?;
        (head.type_len > 0).then(|| reader.text(head.type_len.into()))?
    }

    /// Its body, without the rest.
    pub(crate) fn body(bytes: &'a [u8]) -> Option<&'a [u8]> {
        let mut reader = Reader::new(bytes);
        let head = MessageHead::decode(&mut reader)?;
        let MessageHead { key_len, correlation_len, type_len, group_len, .. } = head;
        let texts = [head.queue_len.into(), key_len, correlation_len, type_len, group_len];
        reader.bytes(texts.into_iter().map(usize::from).sum())?;
        reader.bytes(usize::try_from(head.headers_len).ok()?)?;
        Some(reader.rest())
    }

    /// Its `dedup_window`, without the rest.
    pub(crate) fn window(bytes: &[u8]) -> Duration {
        MessageHead::decode(&mut Reader::new(bytes)).map_or(Duration::ZERO, |head| head.window)
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
        /// The opening, by its first token.
        opening: u64,
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
        /// Why it has failed, if it expires: then that may be what is said of it. Empty where it has not.
        error: String,
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
    Tokens {
        /// Everything below may be given.
        end: u64,
    },
    Done {
        id: u64,
        version: u64,
        /// Until when its key is guarded.
        until: Moment,
        at: Moment,
    },
    Acked {
        at: Moment,
        ids: Vec<u64>,
    },
}

impl Entry {
    /// Bytes of what it says of a failure.
    pub(crate) fn text_bytes(&self) -> usize {
        match self {
            Self::Wait { error, .. } => error.len(),
            Self::Dead { reason, error, .. } => reason.len() + error.len(),
            _ => 0,
        }
    }

    pub(crate) fn kind(&self) -> u8 {
        match self {
            Self::Open { .. } => kind::OPEN,
            Self::Gone { .. } => kind::GONE,
            Self::Wait { .. } => kind::WAIT,
            Self::Dead { .. } => kind::DEAD,
            Self::Undead { .. } => kind::UNDEAD,
            Self::Time { .. } => kind::TIME,
            Self::Tokens { .. } => kind::TOKENS,
            Self::Done { .. } => kind::DONE,
            Self::Acked { .. } => kind::ACKED,
        }
    }

    /// Appends the record's body to `out`: fixed fields in the order of their declaration, then texts.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let mut put = |fields: &[u64]| {
            fields.iter().for_each(|field| out.extend_from_slice(&field.to_le_bytes()));
        };
        match self {
            Self::Open { opening, at, held } => {
                put(&[*opening, at.0]);
                put(held);
            }
            Self::Gone { id, version, next, at } => put(&[*id, *version, *next, at.0]),
            Self::Wait { id, version, attempts, due, at, error } => {
                put(&[*id, *version, u64::from(*attempts), due.0, at.0]);
                put_text(out, error);
            }
            Self::Dead { id, version, next, attempts, at, reason, error } => {
                put(&[*id, *version, *next, u64::from(*attempts), at.0]);
                put_text(out, reason);
                put_text(out, error);
            }
            Self::Undead { id } => put(&[*id]),
            Self::Time { at } => put(&[at.0]),
            Self::Tokens { end } => put(&[*end]),
            Self::Done { id, version, until, at } => put(&[*id, *version, until.0, at.0]),
            Self::Acked { at, ids } => out.extend(acked(*at, ids.iter().copied())),
        }
    }

    /// Reads the body of a record of this kind; none where it makes no sense.
    pub(crate) fn decode(kind: u8, body: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(body);
        let r = &mut reader;
        let entry = match kind {
            kind::OPEN => Self::Open {
                opening: r.u64()?,
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
                error: r.short_text()?.to_owned(),
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
            kind::TOKENS => Self::Tokens { end: r.u64()? },
            kind::DONE => Self::Done {
                id: r.u64()?,
                version: r.u64()?,
                until: Moment(r.u64()?),
                at: Moment(r.u64()?),
            },
            kind::ACKED => Self::Acked {
                at: Moment(r.u64()?),
                ids: Some(std::iter::from_fn(|| r.u64()).collect())
                    .filter(|ids: &Vec<_>| !ids.is_empty())?,
            },
            _ => return None,
        };
        reader.is_empty().then_some(entry)
    }
}

/// The body of an [`Entry::Acked`] of one, which is logged so often that it goes without a [`Vec`].
pub(crate) fn acked_alone(at: Moment, id: u64) -> [[u8; 8]; 2] {
    [at.0, id].map(u64::to_le_bytes)
}

/// The body of an [`Entry::Acked`].
pub(crate) fn acked(at: Moment, ids: impl Iterator<Item = u64>) -> Vec<u8> {
    std::iter::once(at.0).chain(ids).flat_map(u64::to_le_bytes).collect()
}

/// A key that a message guards which is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Guarded<'a> {
    pub(crate) id: u64,
    pub(crate) until: Moment,
    pub(crate) queue: &'a str,
    pub(crate) key: &'a str,
}

impl<'a> Guarded<'a> {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.push(TAG_GUARDED);
        out.extend_from_slice(&self.id.to_le_bytes());
        out.extend_from_slice(&self.until.0.to_le_bytes());
        put_text(out, self.queue);
        put_text(out, self.key);
    }

    fn decode(reader: &mut Reader<'a>) -> Option<Self> {
        let (id, until) = (reader.u64()?, Moment(reader.u64()?));
        Some(Self { id, until, queue: reader.short_text()?, key: reader.short_text()? })
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
    /// Bytes of what is said in it.
    pub(crate) fn text_bytes(&self) -> u64 {
        (self.reason.len() + self.error.len()) as u64
    }

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
const TAG_GUARDED: u8 = 3;
const TAG_TOKENS: u8 = 4;

/// An entry of a snapshot.
#[derive(Debug)]
pub(crate) enum SnapshotEntry<'a> {
    Time(Moment),
    Tokens { opening: u64, end: u64 },
    Kept(Kept<'a>),
    Guarded(Guarded<'a>),
    Dead(DeadLetterEntry),
}

impl<'a> SnapshotEntry<'a> {
    /// Appends the time of the snapshot.
    pub(crate) fn encode_time(at: Moment, out: &mut Vec<u8>) {
        out.push(TAG_TIME);
        out.extend_from_slice(&at.0.to_le_bytes());
    }

    /// Appends the opening that takes the snapshot, and where the tokens end that are reserved.
    pub(crate) fn encode_tokens(opening: u64, end: u64, out: &mut Vec<u8>) {
        out.push(TAG_TOKENS);
        out.extend_from_slice(&opening.to_le_bytes());
        out.extend_from_slice(&end.to_le_bytes());
    }

    /// Appends a message, which comes behind another one.
    pub(crate) fn encode_kept(kept: &Kept<'_>, before: Before, out: &mut Vec<u8>) {
        out.push(TAG_KEPT);
        kept.encode(before, out);
    }

    /// What an entry says that comes behind this message.
    pub(crate) fn decode(bytes: &'a [u8], before: Before) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let entry = match reader.u8()? {
            TAG_TIME => Self::Time(Moment(reader.u64()?)),
            TAG_KEPT => Self::Kept(Kept::decode(&mut reader, before)?),
            TAG_DEAD => Self::Dead(DeadLetterEntry::decode(&mut reader)?),
            TAG_GUARDED => Self::Guarded(Guarded::decode(&mut reader)?),
            TAG_TOKENS => Self::Tokens { opening: reader.u64()?, end: reader.u64()? },
            _ => return None,
        };
        reader.is_empty().then_some(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::super::flags::{Flag, Flags};
    use super::*;

    fn entries() -> Vec<Entry> {
        let at = Moment(77);
        vec![
            Entry::Tokens { end: 99 },
            Entry::Open { opening: 3, at, held: vec![5, 6] },
            Entry::Gone { id: 1, version: 2, next: 9, at },
            Entry::Wait { id: 1, version: 2, attempts: 3, due: Moment(99), at, error: "no".into() },
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
            Entry::Done { id: 1, version: 2, until: Moment(99), at },
            Entry::Acked { at, ids: vec![5, 6] },
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
    fn an_ack_of_nothing_makes_no_sense() {
        let mut body = Vec::new();
        Entry::Acked { at: Moment(77), ids: Vec::new() }.encode(&mut body);
        assert_eq!(Entry::decode(kind::ACKED, &body), None);
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
            flags: Flags::default().with(Flag::Behind, true).with(Flag::Sync, true),
            priority: 9,
            queue_len: 6,
            key_len: 1,
            type_len: 4,
            group_len: 1,
            headers_len: headers.len().try_into().unwrap(),
            expires: Some(Moment(9)),
            window: Duration::from_secs(1),
            ..MessageHead::default()
        };
        let bytes = [&head.encode()[..], b"ordersktextg", &headers, b"body"].concat();
        let entry = MessageEntry::decode(&bytes).unwrap();
        assert_eq!((entry.queue, entry.key), (&b"orders"[..], Some("k")));
        assert_eq!(entry.correlation_id, None);
        assert_eq!((entry.content_type, entry.body), (Some("text"), &b"body"[..]));
        assert_eq!(entry.headers().collect::<Vec<_>>(), [("a", "1"), ("bb", "")]);
        assert!(entry.head.flags.has(Flag::Behind) && entry.head.flags.has(Flag::Sync));
        assert_eq!((entry.head.priority, entry.group), (9, Some("g")));
        assert_eq!(entry.head.expires, Some(Moment(9)));
        assert_eq!(entry.head.window, Duration::from_secs(1));
        assert_eq!((entry.head.id, entry.head.attempts, entry.head.crashes), (5, 8, 1));
        for end in 0..=bytes.len() {
            let (bytes, entry) = (&bytes[..end], MessageEntry::decode(&bytes[..end]));
            assert_eq!(MessageEntry::body(bytes), entry.map(|entry| entry.body));
            if let Some(entry) = entry {
                assert_eq!(MessageEntry::content_type(bytes), entry.content_type);
            }
        }
    }

    #[test]
    fn snapshot_entries_survive_the_round_trip() {
        let before = Before::default();
        let guarded = Guarded { id: 1, until: Moment(2), queue: "orders", key: "k" };
        let mut out = Vec::new();
        guarded.encode(&mut out);
        assert!(
            matches!(SnapshotEntry::decode(&out, before), Some(SnapshotEntry::Guarded(found)) if found == guarded)
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
            matches!(SnapshotEntry::decode(&out, before), Some(SnapshotEntry::Dead(found)) if found == dead)
        );
    }
}
