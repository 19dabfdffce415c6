//! What a broker is opened with. Every option is checked in [`Options::check`], at `open`, by its name.

use std::time::Duration;

use super::backoff::Backoff;
use crate::error::{Error, Result};
use crate::events::{Event, Hook};
use crate::limits;

/// How far a message has come when its enqueue returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Durability {
    /// An fdatasync that covers it has succeeded: it survives power loss. The default.
    Sync,
    /// Its bytes are in the kernel: it survives the death of the process, and power loss but for the last
    /// `sync_interval`.
    Os,
    /// It is in memory, and nowhere else. For a whole broker, not for a message.
    Memory,
}

/// What an enqueue does when `capacity` is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OnFull {
    /// Answer `FULL` at once. The default, and always so inside a handler.
    Fail,
    /// Wait for room, at most `block_timeout`, first come first served; but not for a batch of more than `capacity`.
    Block,
}

/// What recovery does with a record whose header is intact and whose body is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OnCorruption {
    /// Refuse to open. The default.
    Refuse,
    /// Make that one message a dead letter with reason `corrupt`; all other damage is refused all the same.
    Quarantine,
}

/// Where a broker's time comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ClockMode {
    /// The system's clocks; a step of the wall clock while the broker is open changes nothing. The default.
    System,
    /// Time stands still but for [`advance`](crate::Broker::advance). For tests.
    Manual,
}

/// Options of a broker, each with its default.
#[derive(Clone, Debug)]
#[must_use]
pub struct Options {
    pub(crate) durability: Durability,
    pub(crate) capacity: usize,
    pub(crate) max_bytes: Option<u64>,
    pub(crate) max_message_bytes: usize,
    pub(crate) max_batch_bytes: usize,
    pub(crate) max_dead_letters: usize,
    pub(crate) on_full: OnFull,
    pub(crate) block_timeout: Duration,
    pub(crate) snapshot_interval: Duration,
    pub(crate) snapshot_threshold: u64,
    pub(crate) segment_bytes: u64,
    pub(crate) cache_bytes: u64,
    pub(crate) sync_interval: Duration,
    pub(crate) default_timeout: Duration,
    pub(crate) default_max_retries: u32,
    pub(crate) max_crashes: u32,
    pub(crate) default_backoff: Backoff,
    pub(crate) on_corruption: OnCorruption,
    pub(crate) lock_timeout: Duration,
    pub(crate) clock: ClockMode,
    pub(crate) log: Log,
    #[cfg(feature = "tokio")]
    pub(crate) states: std::sync::Arc<crate::tasks::States>,
}

/// A log hook, if there is one.
#[derive(Clone, Default)]
pub(crate) struct Log(pub(crate) Option<std::sync::Arc<Hook>>);

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Log({})", self.0.is_some())
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            durability: Durability::Sync,
            capacity: 1_000_000,
            max_bytes: None,
            max_message_bytes: 16 << 20,
            max_batch_bytes: 64 << 20,
            max_dead_letters: 100_000,
            on_full: OnFull::Fail,
            block_timeout: Duration::from_secs(30),
            snapshot_interval: Duration::from_secs(30),
            snapshot_threshold: 100_000,
            segment_bytes: 64 << 20,
            cache_bytes: 64 << 20,
            sync_interval: Duration::from_millis(50),
            default_timeout: Duration::from_secs(120),
            default_max_retries: 5,
            max_crashes: 3,
            default_backoff: Backoff::default(),
            on_corruption: OnCorruption::Refuse,
            lock_timeout: Duration::ZERO,
            clock: ClockMode::System,
            log: Log::default(),
            #[cfg(feature = "tokio")]
            states: std::sync::Arc::default(),
        }
    }
}

impl Options {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// How far a message has come when its enqueue returns. Default [`Durability::Sync`].
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Live messages at most: waiting, delayed, in flight, behind a key. 1 to 2^30, default 1,000,000. Memory
    /// follows the messages there are, not this number.
    pub fn capacity(mut self, messages: usize) -> Self {
        self.capacity = messages;
        self
    }

    /// Bytes the directory may take, snapshots included. Default none; at least 512 KiB. Segments become smaller where
    /// sixteen of them would not fit, down to 64 KiB. Where it has no room, an enqueue is `STORAGE_FULL`, and what is there
    /// is settled all the same: a twelfth of it and up to six segments are kept for that and for the next open, and what
    /// snapshots take.
    pub fn max_bytes(mut self, bytes: impl Into<Option<u64>>) -> Self {
        self.max_bytes = bytes.into();
        self
    }

    /// Bytes of one message's body and headers at most. Default 16 MiB, 1 byte to 1 GiB.
    pub fn max_message_bytes(mut self, bytes: usize) -> Self {
        self.max_message_bytes = bytes;
        self
    }

    /// Bytes of one batch's bodies and headers at most. Default 64 MiB, 1 byte to 1 GiB. A message alone, also as a batch
    /// of one, is held to `max_message_bytes` only.
    pub fn max_batch_bytes(mut self, bytes: usize) -> Self {
        self.max_batch_bytes = bytes;
        self
    }

    /// Dead letters that cost no room. Default 100,000, 1 to 2^30. Further ones are kept too, but parked: each counts
    /// against `capacity` until there are fewer.
    pub fn max_dead_letters(mut self, count: usize) -> Self {
        self.max_dead_letters = count;
        self
    }

    /// What an enqueue does at `capacity`, and for no other want of room. Default [`OnFull::Fail`], which it is in a handler in
    /// any case.
    pub fn on_full(mut self, on_full: OnFull) -> Self {
        self.on_full = on_full;
        self
    }

    /// How long [`OnFull::Block`] waits. Default 30 s, zero to ten years.
    pub fn block_timeout(mut self, timeout: Duration) -> Self {
        self.block_timeout = timeout;
        self
    }

    /// A snapshot is due this long after the last one, if enough was written since: four times as much as that one was large, or as
    /// one of now would be, a message counted as 50 bytes at least. Default 30 s, 1 ms to ten years.
    pub fn snapshot_interval(mut self, interval: Duration) -> Self {
        self.snapshot_interval = interval;
        self
    }

    /// A snapshot is due after this many operations, if enough was written since, as above. Default 100,000, at least 1.
    pub fn snapshot_threshold(mut self, operations: u64) -> Self {
        self.snapshot_threshold = operations;
        self
    }

    /// Bytes of a journal segment, preallocated. Default 64 MiB, 64 KiB to 1 GiB; fewer where the disk, or `max_bytes`, has no
    /// room for sixteen when the directory is opened.
    pub fn segment_bytes(mut self, bytes: u64) -> Self {
        self.segment_bytes = bytes;
        self
    }

    /// Bytes of recent journal kept in memory for handlers to read from. Default 64 MiB, 0 to 1 TiB.
    pub fn cache_bytes(mut self, bytes: u64) -> Self {
        self.cache_bytes = bytes;
        self
    }

    /// What is written is synced within this time. Default 50 ms, 1 ms to ten years.
    pub fn sync_interval(mut self, interval: Duration) -> Self {
        self.sync_interval = interval;
        self
    }

    /// How long a handler may run where it names no timeout of its own. Default 2 min, 1 ms to ten years.
    pub fn default_timeout(mut self, timeout: Duration) -> Self {
        self.default_timeout = timeout;
        self
    }

    /// Retries after the first attempt, where a handler names none. Default 5, 0 to 1,000,000.
    pub fn default_max_retries(mut self, retries: u32) -> Self {
        self.default_max_retries = retries;
        self
    }

    /// Times the process may die in a message's handler before it is a dead letter `crashed`. Default 3, 1 to 100.
    pub fn max_crashes(mut self, crashes: u32) -> Self {
        self.max_crashes = crashes;
        self
    }

    /// The wait before a retry, where a handler names none. Default exponential from 1 s, doubled, at most 10 min,
    /// full jitter.
    pub fn default_backoff(mut self, backoff: Backoff) -> Self {
        self.default_backoff = backoff;
        self
    }

    /// What recovery does with one damaged body. Default [`OnCorruption::Refuse`].
    pub fn on_corruption(mut self, on_corruption: OnCorruption) -> Self {
        self.on_corruption = on_corruption;
        self
    }

    /// How long `open` waits for another owner to leave. Default 0, which does not wait, up to ten years.
    pub fn lock_timeout(mut self, timeout: Duration) -> Self {
        self.lock_timeout = timeout;
        self
    }

    /// Where time comes from. Default [`ClockMode::System`].
    pub fn clock(mut self, clock: ClockMode) -> Self {
        self.clock = clock;
        self
    }

    /// Calls `hook` with what happens that is worth a line in a log, as the opening, a dead letter, a handler that is stuck,
    /// a full disk or a poisoning; one at a time, in order, on the thread `libmq-log`. It may call anything but
    /// [`Broker::close`](crate::Broker::close). One that is too slow misses events, and is told how many. Default none.
    pub fn log(mut self, hook: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        self.log = Log(Some(std::sync::Arc::new(hook)));
        self
    }

    /// Hands a value to the handlers of [`Broker::handle_async`](crate::Broker::handle_async) that take a
    /// [`State`](crate::State) of its type: each call gets a clone. Given twice, the last one of a type counts.
    #[cfg(feature = "tokio")]
    pub fn state<T: Clone + Send + Sync + 'static>(mut self, value: T) -> Self {
        std::sync::Arc::make_mut(&mut self.states).insert(value);
        self
    }

    /// The first option in which these differ, those that make no difference to who shares the broker aside: for the bindings,
    /// where several may ask for the same one.
    #[doc(hidden)]
    #[must_use]
    pub fn difference(&self, other: &Self) -> Option<&'static str> {
        macro_rules! differing {
            ($($name:ident)*) => {
                $(if self.$name != other.$name {
                    return Some(stringify!($name));
                })*
            };
        }
        differing!(
            durability capacity max_bytes max_message_bytes max_batch_bytes max_dead_letters on_full block_timeout
            snapshot_interval snapshot_threshold segment_bytes cache_bytes sync_interval default_timeout
            default_max_retries max_crashes default_backoff on_corruption clock
        );
        None
    }

    /// Refuses what is out of range, naming the option. Every open does; for the bindings, where they may not come to that.
    ///
    /// # Errors
    /// `INVALID`.
    #[doc(hidden)]
    pub fn check(&self) -> Result<()> {
        let range = |name: &str, value: u64, min: u64, max: u64| {
            if (min..=max).contains(&value) {
                Ok(())
            } else {
                Err(Error::invalid(format!("{name} is {value}, but goes from {min} to {max}")))
            }
        };
        let duration = |name: &str, value: Duration, min: Duration| {
            if (min..=limits::DURATION_MAX).contains(&value) {
                Ok(())
            } else {
                let min = if min.is_zero() { "zero".into() } else { format!("{min:?}") };
                Err(Error::invalid(format!(
                    "{name} is {value:?}, but goes from {min} to ten years"
                )))
            }
        };
        let millisecond = Duration::from_millis(1);
        range("capacity", self.capacity as u64, 1, limits::CAPACITY_MAX as u64)?;
        range(
            "max_message_bytes",
            self.max_message_bytes as u64,
            1,
            limits::MESSAGE_BYTES_MAX as u64,
        )?;
        range("max_batch_bytes", self.max_batch_bytes as u64, 1, limits::MESSAGE_BYTES_MAX as u64)?;
        range("max_dead_letters", self.max_dead_letters as u64, 1, limits::CAPACITY_MAX as u64)?;
        range(
            "segment_bytes",
            self.segment_bytes,
            limits::SEGMENT_BYTES_MIN,
            limits::SEGMENT_BYTES_MAX,
        )?;
        range("cache_bytes", self.cache_bytes, 0, limits::CACHE_BYTES_MAX)?;
        range("snapshot_threshold", self.snapshot_threshold, 1, u64::MAX)?;
        range(
            "default_max_retries",
            self.default_max_retries.into(),
            0,
            limits::RETRIES_MAX.into(),
        )?;
        range("max_crashes", self.max_crashes.into(), 1, limits::CRASHES_MAX.into())?;
        duration("block_timeout", self.block_timeout, Duration::ZERO)?;
        duration("snapshot_interval", self.snapshot_interval, millisecond)?;
        duration("sync_interval", self.sync_interval, millisecond)?;
        duration("default_timeout", self.default_timeout, millisecond)?;
        duration("lock_timeout", self.lock_timeout, Duration::ZERO)?;
        if let Some(bytes) = self.max_bytes {
            range("max_bytes", bytes, limits::BYTES_MAX_MIN, u64::MAX)?;
        }
        self.default_backoff.check("default_backoff")
    }

    /// Bytes of a segment: as asked for, or fewer where `max_bytes`, or a disk that has room for so many in all, has none for
    /// several.
    pub(crate) fn segment_size(&self, disk: Option<u64>) -> u64 {
        let room = self.max_bytes.into_iter().chain(disk).min();
        let part = room.map_or(u64::MAX, |bytes| bytes / limits::SEGMENTS_MIN);
        self.segment_bytes.min(part).max(limits::SEGMENT_BYTES_MIN)
    }
}
