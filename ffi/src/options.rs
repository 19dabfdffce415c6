//! Options: what a broker is opened with, by name.

use std::ffi::{CString, c_char, c_void};
use std::ptr;
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use libmq::{
    Backoff, ClockMode, Durability, Error, ErrorKind, Event, OnCorruption, OnFull, Options, Result,
    limits,
};

use crate::boundary;
use crate::from_c::{FromC, from_c, invalid};
use crate::handles::{Handle, libmq_error, libmq_options};
use crate::status::{LIBMQ_NONE, libmq_status};

/// Bytes of an option's name, and of a text given to it.
const TEXT_BYTES_MAX: usize = 256;

/// The largest factor of a backoff, in thousandths.
pub(crate) const FACTOR_PERMILLE_MAX: u32 = 1_000_000;
/// The whole of a wait, in thousandths.
const JITTER_PERMILLE_MAX: u32 = 1_000;

/// A log hook: `level` is 1 for an error, 2 a warning, 3 information, 4 detail; `fields_json` is a JSON object.
pub type libmq_log_fn = Option<
    unsafe extern "C" fn(
        ctx: *mut c_void,
        level: i32,
        event: *const c_char,
        fields_json: *const c_char,
    ),
>;

/// Options with their defaults. NULL only when memory runs out.
///
/// Any thread. The caller frees them, at any time after the open.
#[unsafe(no_mangle)]
pub extern "C" fn libmq_options_new() -> *mut libmq_options {
    let made = boundary::guarded(|| libmq_options::give(Settings::default().into()), || {});
    made.unwrap_or(ptr::null_mut())
}

/// Frees options. NULL, and what was freed before, is let be.
///
/// Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn libmq_options_free(options: *mut libmq_options) {
    boundary::free(options);
}

/// Sets a number. A value set here is meant: 0 is zero.
///
/// | name | default | range |
/// |---|---|---|
/// | `capacity` | 1,000,000 | live messages, 1 to 2^30 |
/// | `max_bytes` | `LIBMQ_NONE` | bytes the directory may take, snapshots included, from 524,288; beyond it an enqueue is `STORAGE_FULL` |
/// | `max_message_bytes` | 16 MiB | body and headers, up to 1 GiB |
/// | `max_batch_bytes` | 64 MiB | bodies and headers of a batch, up to 1 GiB |
/// | `max_dead_letters` | 100,000 | 1 to 2^30 |
/// | `block_timeout_ms` | 30,000 | with `on_full` = `block` |
/// | `snapshot_interval_ms` | 30,000 | from 1 |
/// | `snapshot_threshold` | 100,000 | operations, from 1 |
/// | `segment_bytes` | 64 MiB | 64 KiB to 1 GiB; fewer where the disk has no room for sixteen at open |
/// | `cache_bytes` | 64 MiB | recent journal kept in memory, up to 1 TiB |
/// | `sync_interval_ms` | 50 | what is written is synced by then; from 1 |
/// | `default_timeout_ms` | 120,000 | how long an attempt may run; from 1 |
/// | `default_max_retries` | 5 | after the first attempt, up to 1,000,000 |
/// | `max_crashes` | 3 | 1 to 100 |
/// | `default_backoff_base_ms` | 1,000 | the wait before the first retry |
/// | `default_backoff_cap_ms` | 600,000 | no wait is longer |
/// | `default_backoff_factor_permille` | 2,000 | each wait to the one before, 1,000 to 1,000,000 |
/// | `default_backoff_jitter_permille` | 1,000 | the part of a wait that is left to chance, 0 to 1,000 |
/// | `lock_timeout_ms` | 0 | how long `open` waits for another owner to leave |
///
/// Times go up to ten years. Any thread. Answers `LIBMQ_E_INVALID` for an unknown name, naming it, and for a number below
/// zero or beyond 32 bits where no larger one is in the range; what else is out of range is answered by
/// `libmq_broker_open`.
// SAFETY: the caller keeps what the head of the header asks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libmq_options_set_int(
    options: *mut libmq_options,
    name: *const c_char,
    value: i64,
    err: *mut *mut libmq_error,
) -> libmq_status {
    let c = from_c!();
    set(&c, options, err, |settings| {
        settings.set_int(c.required_text("name", name, TEXT_BYTES_MAX)?, value)
    })
}

/// Sets a word.
///
/// | name | default | other |
/// |---|---|---|
/// | `durability` | `sync` | `os`; `memory`: a broker without files |
/// | `on_full` | `fail` | `block`: wait for room, at most `block_timeout_ms`; in a handler `fail` |
/// | `on_corruption` | `refuse` | `quarantine`; not supported by this version |
/// | `clock` | `system` | `manual`: time stands still but for `libmq_advance`; for tests |
///
/// Any thread. Answers `LIBMQ_E_INVALID` for an unknown name or word, naming it.
// SAFETY: the caller keeps what the head of the header asks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libmq_options_set_str(
    options: *mut libmq_options,
    name: *const c_char,
    value: *const c_char,
    err: *mut *mut libmq_error,
) -> libmq_status {
    let c = from_c!();
    set(&c, options, err, |settings| {
        let name = c.required_text("name", name, TEXT_BYTES_MAX)?;
        settings.set_str(name, c.required_text("value", value, TEXT_BYTES_MAX)?)
    })
}

/// Has `log` called with what happens in brokers opened with these options that is worth a line in a log: one event after
/// another, on one thread of each broker, `libmq-log`, with `ctx`.
///
/// | `event` | level | fields |
/// |---|---|---|
/// | `open` | 3 | `path`, `messages`, `dead_letters`, `suspects`, `records`, `duration_ms` |
/// | `torn_tail` | 2 | `path`, `dropped_bytes` |
/// | `close` | 3 | `path` |
/// | `dead_letter` | 2 | `queue`, `id`, `attempts`, `reason`: the engine's own, or `rejected` |
/// | `timeout`, `stuck` | 2 | `queue`, `id`, `attempt` |
/// | `all_stuck` | 1 | `queue`, `stuck`: as many as there may be, so that nothing more is handled until one comes back |
/// | `storage_full`, `storage_room` | 2, 3 | `journal_bytes` |
/// | `poisoned` | 1 | `error` |
/// | `snapshot` | 4 | `bytes`, `duration_ms` |
/// | `not_cleaned` | 2 | `error`: what could not be read of an old segment, which stays |
/// | `no_thread` | 2 | `thread`, `error`: a handler's, tried again in a second |
/// | `events_missed` | 2 | `count`, which the hook was too slow for |
///
/// `fields_json` is an object; it and `event` are valid during the call. No field has anything of a body, a key, or a
/// header's value. The hook may call anything but `libmq_broker_close`, which is `LIBMQ_E_DEADLOCK` there. It is called for the
/// last time before `libmq_broker_close` returns or, without a close, before `libmq_broker_free` and every call of another
/// thread that was under way have; so `ctx` lives until then.
///
/// Any thread. Answers `LIBMQ_E_INVALID` where `log` is NULL.
// SAFETY: the caller keeps what the head of the header asks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libmq_options_set_log(
    options: *mut libmq_options,
    log: libmq_log_fn,
    ctx: *mut c_void,
    err: *mut *mut libmq_error,
) -> libmq_status {
    set(&from_c!(), options, err, |settings| {
        let log = log.ok_or_else(|| invalid("log is NULL".into()))?;
        let hook = LogHook { log, ctx };
        settings.change(|options| options.log(move |event| hook.tell(event)))
    })
}

/// A log hook, and what it is called with.
#[derive(Debug)]
struct LogHook {
    log: unsafe extern "C" fn(*mut c_void, i32, *const c_char, *const c_char),
    ctx: *mut c_void,
}

// SAFETY: C gives the context to be used from the threads of logs; it is never followed here.
unsafe impl Send for LogHook {}
// SAFETY: as for Send.
unsafe impl Sync for LogHook {}

impl LogHook {
    fn tell(&self, event: &Event) {
        let name = CString::new(event.name).unwrap_or_default();
        // A control character in a text is escaped, so there is no NUL.
        let fields = CString::new(event.fields_json()).unwrap_or_default();
        // SAFETY: the function came with the context; both texts end in NUL and live until it returns.
        unsafe { (self.log)(self.ctx, event.level.code(), name.as_ptr(), fields.as_ptr()) }
    }
}

/// Options as C sets them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    options: Options,
    pub(crate) backoff: BackoffParts,
}

/// A backoff in numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BackoffParts {
    pub(crate) base_ms: u64,
    pub(crate) cap_ms: u64,
    pub(crate) factor_permille: u32,
    pub(crate) jitter_permille: u32,
}

impl Settings {
    /// The options for an open.
    ///
    /// # Errors
    /// `INVALID`, as [`BackoffParts::to_backoff`].
    pub(crate) fn to_options(&self) -> Result<Options> {
        Ok(self.options.clone().default_backoff(self.backoff.to_backoff("default_backoff")?))
    }

    fn set_int(&mut self, name: &str, value: i64) -> Result<()> {
        if name == "max_bytes" && value == i64::from(LIBMQ_NONE) {
            return self.change(|options| options.max_bytes(None));
        }
        let number = u64::try_from(value)
            .map_err(|_| invalid(format!("{name} is {value}, but goes from 0")))?;
        let time = Duration::from_millis(number);
        let count = usize::try_from(number).unwrap_or(usize::MAX);
        let small = |most: u32| match u32::try_from(number) {
            Ok(small) => Ok(small),
            Err(_) => Err(invalid(format!("{name} is {value}, but goes up to {most}"))),
        };
        match name {
            "capacity" => self.change(|options| options.capacity(count)),
            "max_bytes" => self.change(|options| options.max_bytes(number)),
            "max_message_bytes" => self.change(|options| options.max_message_bytes(count)),
            "max_batch_bytes" => self.change(|options| options.max_batch_bytes(count)),
            "max_dead_letters" => self.change(|options| options.max_dead_letters(count)),
            "block_timeout_ms" => self.change(|options| options.block_timeout(time)),
            "snapshot_interval_ms" => self.change(|options| options.snapshot_interval(time)),
            "snapshot_threshold" => self.change(|options| options.snapshot_threshold(number)),
            "segment_bytes" => self.change(|options| options.segment_bytes(number)),
            "cache_bytes" => self.change(|options| options.cache_bytes(number)),
            "sync_interval_ms" => self.change(|options| options.sync_interval(time)),
            "default_timeout_ms" => self.change(|options| options.default_timeout(time)),
            "default_max_retries" => {
                let retries = small(limits::RETRIES_MAX)?;
                self.change(|options| options.default_max_retries(retries))
            }
            "max_crashes" => {
                let crashes = small(limits::CRASHES_MAX)?;
                self.change(|options| options.max_crashes(crashes))
            }
            "lock_timeout_ms" => self.change(|options| options.lock_timeout(time)),
            "default_backoff_base_ms" => self.change_backoff(|backoff| backoff.base_ms = number),
            "default_backoff_cap_ms" => self.change_backoff(|backoff| backoff.cap_ms = number),
            "default_backoff_factor_permille" => {
                let factor = small(FACTOR_PERMILLE_MAX)?;
                self.change_backoff(|backoff| backoff.factor_permille = factor)
            }
            "default_backoff_jitter_permille" => {
                let jitter = small(JITTER_PERMILLE_MAX)?;
                self.change_backoff(|backoff| backoff.jitter_permille = jitter)
            }
            _ => Err(unknown(name, "a number")),
        }
    }

    fn set_str(&mut self, name: &str, value: &str) -> Result<()> {
        match (name, value) {
            ("durability", "sync") => self.change(|options| options.durability(Durability::Sync)),
            ("durability", "os") => self.change(|options| options.durability(Durability::Os)),
            ("durability", "memory") => {
                self.change(|options| options.durability(Durability::Memory))
            }
            ("on_full", "fail") => self.change(|options| options.on_full(OnFull::Fail)),
            ("on_full", "block") => self.change(|options| options.on_full(OnFull::Block)),
            ("on_corruption", "refuse") => {
                self.change(|options| options.on_corruption(OnCorruption::Refuse))
            }
            ("on_corruption", "quarantine") => {
                self.change(|options| options.on_corruption(OnCorruption::Quarantine))
            }
            ("clock", "system") => self.change(|options| options.clock(ClockMode::System)),
            ("clock", "manual") => self.change(|options| options.clock(ClockMode::Manual)),
            ("durability", _) => Err(other_word(name, value, "sync, os or memory")),
            ("on_full", _) => Err(other_word(name, value, "fail or block")),
            ("on_corruption", _) => Err(other_word(name, value, "refuse or quarantine")),
            ("clock", _) => Err(other_word(name, value, "system or manual")),
            _ => Err(unknown(name, "a word")),
        }
    }

    fn change(&mut self, change: impl FnOnce(Options) -> Options) -> Result<()> {
        self.options = change(std::mem::take(&mut self.options));
        Ok(())
    }

    fn change_backoff(&mut self, change: impl FnOnce(&mut BackoffParts)) -> Result<()> {
        change(&mut self.backoff);
        Ok(())
    }
}

impl Default for BackoffParts {
    fn default() -> Self {
        Self { base_ms: 1000, cap_ms: 600_000, factor_permille: 2000, jitter_permille: 1000 }
    }
}

impl BackoffParts {
    /// The backoff whose parts C names with this word in front.
    ///
    /// # Errors
    /// `INVALID` for what Rust would name otherwise.
    pub(crate) fn to_backoff(self, name: &str) -> Result<Backoff> {
        let parts = [
            ("factor", self.factor_permille, 1_000, FACTOR_PERMILLE_MAX),
            ("jitter", self.jitter_permille, 0, JITTER_PERMILLE_MAX),
        ];
        for (part, value, least, most) in parts {
            if !(least..=most).contains(&value) {
                let text =
                    format!("{name}_{part}_permille is {value}, but goes from {least} to {most}");
                return Err(invalid(text));
            }
        }
        Ok(Backoff::exponential(
            Duration::from_millis(self.base_ms),
            f64::from(self.factor_permille) / 1000.0,
            Duration::from_millis(self.cap_ms),
            f64::from(self.jitter_permille) / 1000.0,
        ))
    }
}

fn set(
    c: &FromC,
    options: *mut libmq_options,
    err: *mut *mut libmq_error,
    work: impl FnOnce(&mut MutexGuard<'_, Settings>) -> Result<()>,
) -> libmq_status {
    boundary::plain(c, err, || {
        let settings = libmq_options::find(options)?;
        work(&mut settings.lock().unwrap_or_else(PoisonError::into_inner))
    })
}

fn unknown(name: &str, what: &str) -> Error {
    invalid(format!("there is no option {name} that takes {what}"))
}

fn other_word(name: &str, value: &str, words: &str) -> Error {
    Error::new(ErrorKind::Invalid, format!("{name} is {value}, but takes {words}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_backoff_in_numbers_is_the_default_one() {
        assert_eq!(BackoffParts::default().to_backoff("backoff").unwrap(), Backoff::default());
    }

    #[test]
    fn unknown_names_and_words_are_named() {
        let mut settings = Settings::default();
        for error in [
            settings.set_int("capasity", 1).unwrap_err(),
            settings.set_int("durability", 1).unwrap_err(),
            settings.set_str("capasity", "1").unwrap_err(),
            settings.set_str("capacity", "1").unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.to_string().contains("there is no option"), "{error}");
        }
        let error = settings.set_str("durability", "none").unwrap_err();
        assert!(error.to_string().contains("durability is none"), "{error}");
        let error = settings.set_int("capacity", -1).unwrap_err();
        assert!(error.to_string().contains("capacity is -1"), "{error}");
        settings.set_int("max_bytes", -1).unwrap();
        for name in ["default_max_retries", "max_crashes", "default_backoff_factor_permille"] {
            let error = settings.set_int(name, i64::MAX).unwrap_err();
            assert!(error.to_string().contains("is 9223372036854775807"), "{error}");
        }
    }
}
