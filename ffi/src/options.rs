//! Options: what a broker is opened with, by name.

use std::ffi::{CString, c_char, c_void};
use std::ptr;

use libmq::{Event, Result};

use crate::boundary;
use crate::callback::in_parent;
use crate::from_c::{FromC, from_c, invalid};
use crate::handles::{Handle, libmq_error, libmq_options};
use crate::settings::{Settings, Versions};
use crate::status::libmq_status;

/// Bytes of an option's name, and of a text given to it.
const TEXT_BYTES_MAX: usize = 256;

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
    let made = boundary::guarded(|| libmq_options::give(Versions::new()?), || {});
    made.unwrap_or(ptr::null_mut())
}

/// Frees options. Does nothing for NULL, or for what was freed before.
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
/// | `max_bytes` | `LIBMQ_NONE` | bytes the directory may take, snapshots included, from 524,288, some of which is kept for what settles; beyond it an enqueue is `STORAGE_FULL` |
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
/// zero; what else is out of range is answered here or by `libmq_broker_open`.
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
/// thread that was under way have; so `ctx` lives until then. Where a hook frees its own broker, or two of them each other's at
/// the same time, the free does not wait for the call that is under way, and that is the last one.
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
#[derive(Clone, Copy, Debug)]
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
        in_parent(|| unsafe {
            (self.log)(self.ctx, event.level.code(), name.as_ptr(), fields.as_ptr());
        });
    }
}

fn set(
    c: &FromC,
    options: *mut libmq_options,
    err: *mut *mut libmq_error,
    work: impl Fn(&mut Settings) -> Result<()>,
) -> libmq_status {
    boundary::plain(c, err, || libmq_options::find(options)?.change(work))
}
