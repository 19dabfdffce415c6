//! Names: what C calls that which the core has another word for, so that an error names what a C program has set.

use libmq::{Error, ErrorKind};

/// How the core's texts begin, and how C's do.
const BEGINNINGS: &[(&str, &str)] = &[
    ("advance takes", "ms takes"),
    ("backoff base and cap go", "backoff_base_ms and backoff_cap_ms go"),
    ("block_timeout is", "block_timeout_ms is"),
    ("cancel_grace is", "cancel_grace_ms is"),
    ("dedup_window is", "dedup_window_ms is"),
    ("default_backoff base and cap go", "default_backoff_base_ms and default_backoff_cap_ms go"),
    ("default_timeout is", "default_timeout_ms is"),
    ("delay and run_at exclude", "delay_ms and run_at_ms exclude"),
    ("delay is", "delay_ms is"),
    ("expires_in is", "expires_in_ms is"),
    ("extend takes", "ms takes"),
    ("lease takes", "lease_ms takes"),
    ("lock_timeout is", "lock_timeout_ms is"),
    ("run_at is", "run_at_ms is"),
    ("snapshot_interval is", "snapshot_interval_ms is"),
    ("sync_interval is", "sync_interval_ms is"),
    ("timeout takes", "timeout_ms takes"),
];

/// The error in C's words.
pub(crate) fn in_c(error: Error) -> Error {
    // Other kinds may have a path or a number, and speak of nothing that C calls otherwise.
    if !matches!(error.kind(), ErrorKind::Invalid | ErrorKind::TooLarge) {
        return error;
    }
    let text = error.to_string();
    // Of one of many messages: `items[3]: delay is above ten years`.
    let one_of_many = text.strip_prefix("items[").and_then(|text| text.split_once("]: "));
    let said = one_of_many.map_or(&*text, |(_, said)| said);
    let renamed = BEGINNINGS.iter().find_map(|(core, c)| {
        let rest = said.strip_prefix(core)?;
        Some(format!("{c}{rest}"))
    });
    match (renamed, one_of_many) {
        (None, None) => error,
        (Some(said), None) => Error::new(error.kind(), said),
        (renamed, Some((index, said))) => {
            let said = renamed.as_deref().unwrap_or(said);
            Error::new(error.kind(), format!("messages[{index}]: {said}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn renamed(text: &str) -> String {
        in_c(Error::new(ErrorKind::Invalid, text)).to_string()
    }

    #[test]
    fn what_a_text_begins_with_is_named_as_in_c() {
        assert_eq!(renamed("delay is above ten years"), "delay_ms is above ten years");
        assert_eq!(renamed("items[3]: run_at is odd"), "messages[3]: run_at_ms is odd");
        assert_eq!(renamed("priority is 10"), "priority is 10");
        assert_eq!(renamed("items[3]: priority is 10"), "messages[3]: priority is 10");
        let large = in_c(Error::new(ErrorKind::TooLarge, "items[3]: body and headers are 9 bytes"));
        assert_eq!(large.to_string(), "messages[3]: body and headers are 9 bytes");
        assert_eq!(large.kind(), ErrorKind::TooLarge);
        let closed = in_c(Error::new(ErrorKind::Closed, "delay is")).to_string();
        assert_eq!(closed, "delay is");
    }
}
