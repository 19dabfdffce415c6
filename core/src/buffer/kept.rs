//! What a snapshot says of a message, in few bytes: what most messages are not is left out, and what one has nearly in common with
//! the one before it is told from there.

use super::flags::{Flag, Flags};
use crate::clock::Moment;
use crate::codec::{Reader, put_step, put_text, put_varint};

/// A message: where its content is, and what it is doing.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Kept<'a> {
    pub(crate) id: u64,
    pub(crate) version: u64,
    pub(crate) due: Moment,
    pub(crate) attempts: u32,
    pub(crate) crashes: u8,
    pub(crate) flags: Flags,
    pub(crate) priority: u8,
    /// Its group's number, or 0.
    pub(crate) group: u64,
    pub(crate) expires: Option<Moment>,
    /// The text of its last failure, if it expires.
    pub(crate) error: &'a str,
    pub(crate) queue: &'a str,
    pub(crate) key: Option<&'a str>,
}

/// What is needed of the message before, which for the first one is all zeros.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Before {
    id: u64,
    due: Moment,
}

/// What an entry has beside what all have.
mod has {
    /// A version that is not its id.
    pub(super) const VERSION: u8 = 1;
    /// Attempts, or crashes.
    pub(super) const ATTEMPTS: u8 = 2;
    pub(super) const GROUP: u8 = 4;
    pub(super) const PRIORITY: u8 = 8;
    pub(super) const KEY: u8 = 16;
    pub(super) const ALL: u8 = 31;
}

impl<'a> Kept<'a> {
    /// It, as the next one needs it.
    pub(crate) fn before(&self) -> Before {
        Before { id: self.id, due: self.due }
    }

    /// Appends its fields, those that it has; an empty key is none.
    pub(super) fn encode(&self, before: Before, out: &mut Vec<u8>) {
        let key = self.key.unwrap_or_default();
        let has = [
            (has::VERSION, self.version != self.id),
            (has::ATTEMPTS, self.attempts != 0 || self.crashes != 0),
            (has::GROUP, self.group != 0),
            (has::PRIORITY, self.priority != 0),
            (has::KEY, !key.is_empty()),
        ];
        let has = has.iter().fold(0, |all, (bit, is)| if *is { all | bit } else { all });
        let flags = self.flags.stored().with(Flag::Expires, self.expires.is_some());
        out.extend_from_slice(&[has, flags.0]);
        put_step(out, before.id, self.id);
        put_step(out, before.due.0, self.due.0);
        // Though it mostly is that of the one before: the room that is kept for the next snapshot goes by what a message takes in
        // the last one, and must not depend on which messages stand beside each other.
        put_text(out, self.queue);
        if has & has::VERSION != 0 {
            put_step(out, self.id, self.version);
        }
        if has & has::ATTEMPTS != 0 {
            put_varint(out, self.attempts.into());
            out.push(self.crashes);
        }
        if has & has::GROUP != 0 {
            out.extend_from_slice(&self.group.to_le_bytes());
        }
        if has & has::PRIORITY != 0 {
            out.push(self.priority);
        }
        if let Some(expires) = self.expires {
            put_step(out, self.due.0, expires.0);
            put_text(out, self.error);
        }
        if has & has::KEY != 0 {
            put_text(out, key);
        }
    }

    pub(super) fn decode(reader: &mut Reader<'a>, before: Before) -> Option<Self> {
        let (has, flags) = (reader.u8()?, Flags::read(reader.u8()?)?);
        if has & !has::ALL != 0 {
            return None;
        }
        let has = |bit| has & bit != 0;
        let (id, due) = (reader.step(before.id)?, Moment(reader.step(before.due.0)?));
        let queue = reader.short_text()?;
        // What is said to be there is not what it is where nothing is said.
        let version = match has(has::VERSION) {
            true => reader.step(id).filter(|version| *version != id)?,
            false => id,
        };
        let (attempts, crashes) = match has(has::ATTEMPTS) {
            true => (reader.varint()?.try_into().ok()?, reader.u8()?),
            false => (0, 0),
        };
        (has(has::ATTEMPTS) == ((attempts, crashes) != (0, 0))).then_some(())?;
        let group = if has(has::GROUP) { reader.u64().filter(|group| *group != 0)? } else { 0 };
        let priority = if has(has::PRIORITY) { reader.u8().filter(|it| *it != 0)? } else { 0 };
        let (expires, error) = match flags.has(Flag::Expires) {
            true => (Some(Moment(reader.step(due.0)?)), reader.short_text()?),
            false => (None, ""),
        };
        let key = match has(has::KEY) {
            true => Some(reader.short_text().filter(|key| !key.is_empty())?),
            false => None,
        };
        Some(Self {
            id,
            version,
            due,
            attempts,
            crashes,
            flags,
            priority,
            group,
            expires,
            error,
            queue,
            key,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bare() -> Kept<'static> {
        Kept {
            id: 9_000,
            version: 9_000,
            due: Moment(7_000),
            attempts: 0,
            crashes: 0,
            flags: Flags::default(),
            priority: 0,
            group: 0,
            expires: None,
            error: "",
            queue: "jobs",
            key: None,
        }
    }

    fn full() -> Kept<'static> {
        Kept {
            version: 12_000,
            attempts: 300,
            crashes: 5,
            flags: Flags::default().with(Flag::Holds, true).with(Flag::Expires, true),
            priority: 6,
            group: u64::MAX,
            expires: Some(Moment(8)),
            error: "no",
            key: Some("k"),
            ..bare()
        }
    }

    fn encoded(kept: &Kept<'_>, before: Before) -> Vec<u8> {
        let mut out = Vec::new();
        kept.encode(before, &mut out);
        out
    }

    fn decoded(bytes: &[u8], before: Before) -> Option<Kept<'_>> {
        let mut reader = Reader::new(bytes);
        let kept = Kept::decode(&mut reader, before)?;
        reader.is_empty().then_some(kept)
    }

    #[test]
    fn each_field_comes_back_alone_and_with_all_others() {
        let (bare, full) = (bare(), full());
        let flags = |flag| Flags::default().with(flag, true);
        let each = [
            bare.clone(),
            Kept { version: 9_001, ..bare.clone() },
            Kept { attempts: u32::MAX, ..bare.clone() },
            Kept { crashes: 1, ..bare.clone() },
            Kept { flags: flags(Flag::Behind), ..bare.clone() },
            Kept { priority: 9, ..bare.clone() },
            Kept { group: 1, ..bare.clone() },
            Kept { flags: flags(Flag::Expires), expires: Some(Moment(0)), ..bare.clone() },
            Kept { key: Some("key"), ..bare.clone() },
            full.clone(),
        ];
        for before in [Before::default(), bare.before(), Kept { id: 10_000, ..full }.before()] {
            for kept in &each {
                let bytes = encoded(kept, before);
                assert_eq!(decoded(&bytes, before).as_ref(), Some(kept), "behind {before:?}");
                for end in 0..bytes.len() {
                    assert_eq!(decoded(&bytes[..end], before), None, "{end} bytes of {kept:?}");
                }
            }
        }
    }

    #[test]
    fn a_message_like_the_one_before_takes_few_bytes() {
        let next = Kept { id: 9_152, version: 9_152, due: Moment(7_050), ..bare() };
        assert_eq!(encoded(&next, bare().before()).len(), 5 + 2 + 4);
    }

    /// One message has one form; and what is said by a bit or a flag that there is not would be misread.
    #[test]
    fn what_is_there_though_it_is_not_is_refused() {
        let before = bare().before();
        let is_one = |has: u8, flags: u8, rest: &[u8]| {
            decoded(&[&[has, flags, 2, 2, 1, 0, b'q'], rest].concat(), before).is_some()
        };
        assert!(is_one(0, 0, &[]));
        for (has, nothing, something) in [
            (has::VERSION, &[0][..], &[2][..]),
            (has::ATTEMPTS, &[0, 0], &[0, 1]),
            (has::GROUP, &[0; 8], &[1; 8]),
            (has::PRIORITY, &[0], &[1]),
            (has::KEY, &[0, 0], &[1, 0, b'k']),
        ] {
            assert!(!is_one(has, 0, nothing) && is_one(has, 0, something), "{has}");
        }
        assert!(!is_one(has::ALL + 1, 0, &[]) && !is_one(0, 32, &[]));
        // More attempts than can be counted.
        assert!(!is_one(has::ATTEMPTS, 0, &[0x80, 0x80, 0x80, 0x80, 0x10, 0]));
    }
}
