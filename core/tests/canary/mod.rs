//! Messages full of what nobody is to be told or shown.

use libmq::{Dedup, Message};

/// What must not be seen.
pub(crate) const CANARY: &str = "canary7F3A";

pub(crate) fn secret(queue: &'static str) -> Message<'static> {
    Message::new(queue, format!("body {CANARY}"))
        .dedup_key(format!("key-{CANARY}"))
        .dedup(Dedup::Replace)
        .group(format!("group-{CANARY}"))
        .correlation_id(format!("correlation-{CANARY}"))
        .header("name", format!("value-{CANARY}"))
        .content_type(format!("text/{CANARY}"))
}
