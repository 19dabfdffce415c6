//! Every limit by name. What depends on the size of data is answered with `TOO_LARGE`, everything else with
//! `INVALID`.

use std::time::Duration;

/// The version of everything on disk. A directory of another one is refused.
pub const FORMAT_VERSION: u32 = 8;
/// Bytes in a queue's name.
pub const QUEUE_NAME_BYTES_MAX: usize = 128;
/// Queues in a broker.
pub const QUEUES_MAX: usize = 10_000;
/// Bytes in a deduplication key, group, correlation id or content type.
pub const TEXT_BYTES_MAX: usize = 256;
/// Headers of a message.
pub const HEADERS_MAX: usize = 64;
/// Bytes in a header's name.
pub const HEADER_NAME_BYTES_MAX: usize = 64;
/// Bytes in a header's value.
pub const HEADER_VALUE_BYTES_MAX: usize = 4 * 1024;
/// Messages in a batch.
pub const BATCH_MESSAGES_MAX: usize = 10_000;
/// Bytes of a message's record beside its body and headers, at most: its queue's name and its texts, the lengths of its
/// headers, and what every record has.
pub const MESSAGE_OVERHEAD_BYTES_MAX: usize = 4 * 1024;
/// Any duration an option or call takes: ten years.
pub const DURATION_MAX: Duration = Duration::from_secs(10 * 366 * 24 * 3600);
/// What one `extend` may add.
pub const EXTEND_MAX: Duration = Duration::from_secs(24 * 3600);
/// Handlers of a queue that run at once.
pub const PARALLELISM_MAX: u32 = 1024;
/// The smallest segment.
pub const SEGMENT_BYTES_MIN: u64 = 64 * 1024;
/// Events that wait for a log hook; further ones are counted and not told.
pub const EVENTS_MAX: usize = 1024;
/// Segments that `max_bytes` has room for, made smaller if need be, as long as they are not smaller than the smallest.
pub const SEGMENTS_MIN: u64 = 16;
/// The smallest directory one may ask for.
pub const BYTES_MAX_MIN: u64 = 8 * SEGMENT_BYTES_MIN;
/// The largest segment one may ask for.
pub const SEGMENT_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// The largest cache of recent journal one may ask for.
pub const CACHE_BYTES_MAX: u64 = 1 << 40;
/// Live messages a broker may be sized for: slots are numbered in 32 bits, and the last number means "none".
pub const CAPACITY_MAX: usize = 1 << 30;
/// The largest body with its headers that `max_message_bytes` may allow.
pub const MESSAGE_BYTES_MAX: usize = 1024 * 1024 * 1024;
/// The highest priority of a message; the lowest is 0.
pub const PRIORITY_MAX: u8 = 9;
/// What a backoff may grow by from one retry to the next.
pub const BACKOFF_FACTOR_MAX: f64 = 1000.0;
/// Steps that a backoff may list.
pub const BACKOFF_STEPS_MAX: usize = 1000;
/// Retries that an option may allow.
pub const RETRIES_MAX: u32 = 1_000_000;
/// Crashes that `max_crashes` may allow.
pub const CRASHES_MAX: u32 = 100;
/// Bytes kept of a failure's text or of a reason; what is longer is cut at a character.
pub const ERROR_TEXT_BYTES_MAX: usize = 4 * 1024;
/// Deliveries that one `receive_batch` may ask for.
pub const RECEIVE_MAX: usize = 10_000;
/// Brokers with a directory that one process may have open.
pub const LOCKS_MAX: usize = 1024;
/// Problems that a `verify` reports; it looks no further when it has found so many.
pub const PROBLEMS_MAX: usize = 1000;

/// Whether a queue may be called so.
pub(crate) fn is_queue_name(name: &str) -> bool {
    is_name(name, QUEUE_NAME_BYTES_MAX)
}

/// Whether it is a name of at most so many bytes.
pub(crate) fn is_name(name: &str, bytes_max: usize) -> bool {
    (1..=bytes_max).contains(&name.len()) && name.bytes().all(|byte| is_name_char(byte.into()))
}

/// Whether names may have it.
pub(crate) fn is_name_char(char: char) -> bool {
    char.is_ascii_alphanumeric() || matches!(char, '.' | '_' | '-')
}
