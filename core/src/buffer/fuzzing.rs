//! What fuzzing reaches of the buffer: its codecs, each as *take these bytes apart, and put together what they say*.
//!
//! Nothing is decided here. What has to be true of the answers, the targets in `fuzz/` say.

use super::entry::{Entry, MessageEntry, SnapshotEntry, kind, put_header};
use super::kept::Before;

/// The body of a record of this kind; none where it makes no sense.
#[must_use]
pub fn record_body(kind: u8, body: &[u8]) -> Option<Vec<u8>> {
    if kind == kind::MESSAGE { message(body) } else { entry(kind, body) }
}

/// An entry of a snapshot, before which there is no message; none where it makes no sense.
#[must_use]
pub fn snapshot_entry(bytes: &[u8]) -> Option<Vec<u8>> {
    let (mut out, before) = (Vec::new(), Before::default());
    match SnapshotEntry::decode(bytes, before)? {
        SnapshotEntry::Time(at) => SnapshotEntry::encode_time(at, &mut out),
        SnapshotEntry::Tokens { opening, end } => {
            SnapshotEntry::encode_tokens(opening, end, &mut out)
        }
        SnapshotEntry::Kept(kept) => SnapshotEntry::encode_kept(&kept, before, &mut out),
        SnapshotEntry::Dead(letter) => letter.encode(&mut out),
        SnapshotEntry::Guarded(guarded) => guarded.encode(&mut out),
    }
    Some(out)
}

fn entry(kind: u8, body: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    Entry::decode(kind, body)?.encode(&mut out);
    Some(out)
}

fn message(body: &[u8]) -> Option<Vec<u8>> {
    let message = MessageEntry::decode(body)?;
    let texts = [message.key, message.correlation_id, message.content_type, message.group];
    let texts = texts.map(Option::unwrap_or_default).concat();
    let mut headers = Vec::new();
    message.headers().for_each(|(name, value)| put_header(&mut headers, name, value));
    // They end where they make no sense; what is behind that is taken as it is.
    headers.extend_from_slice(message.headers.get(headers.len()..)?);
    let head = message.head.encode();
    Some([&head, message.queue, texts.as_bytes(), &headers, message.body].concat())
}
