//! Handlers: functions that libmq calls with messages.

use std::ffi::{c_char, c_void};
use std::time::Duration;

use libmq::{Delivery, Error, ErrorKind, HandlerError, HandlerOptions, Result};

use crate::boundary;
use crate::callback::{Running, refuse_in_drop, run};
use crate::from_c::{Extensible, FromC, from_c, invalid};
use crate::handles::{Handle, HeldDelivery, OpenBroker, libmq_broker, libmq_delivery, libmq_error};
use crate::message::time;
use crate::settings::FACTOR_PERMILLE_MAX;
use crate::slab::Found;
use crate::status::{LIBMQ_NONE, libmq_status};

/// A handler's answer: done.
pub const LIBMQ_ACK: i32 = 1;
/// A handler's answer: failed; tried again after the backoff, up to `max_retries` times.
pub const LIBMQ_RETRY: i32 = 2;
/// A handler's answer: to the dead letters, with the reason "rejected".
pub const LIBMQ_REJECT: i32 = 3;
/// A handler's answer: given back, ready again at once, not counted as an attempt. A handler that answers this while
/// something is not there is called again and again without a pause: use `libmq_delivery_release` with a delay, and
/// `LIBMQ_DEFER`.
pub const LIBMQ_RELEASE: i32 = 4;
/// A handler's answer: the delivery is settled already, or will be, from any thread. Until then it takes one of the
/// `max_parallelism` places, and its timeout runs. So: `libmq_delivery_retry(d, 5000, "why", NULL); return LIBMQ_DEFER;`.
pub const LIBMQ_DEFER: i32 = 5;

/// A handler. Called with its context and a delivery, on a thread of the broker, up to `max_parallelism` at once; answers
/// `LIBMQ_ACK`, `LIBMQ_RETRY`, `LIBMQ_REJECT`, `LIBMQ_RELEASE` or `LIBMQ_DEFER`. Any other number, 0 included, is a failed
/// attempt and counted as the handler's error. A delivery that it settled itself stays settled, whatever it answers.
pub type libmq_handle_fn =
    Option<unsafe extern "C" fn(ctx: *mut c_void, delivery: *mut libmq_delivery) -> i32>;

/// A handler and how it is run. Begin with `LIBMQ_HANDLER_INIT`; a field left 0 is its default.
#[repr(C)]
#[derive(Debug)]
pub struct libmq_handler {
    /// `sizeof(libmq_handler)`.
    pub struct_size: u32,
    /// How many run at once, 1 to 1024. Default 1.
    pub max_parallelism: i32,
    /// How many threads stay when idle, 1 (default) to `max_parallelism`. One stays in any case: `LIBMQ_NONE` is 1.
    pub min_parallelism: i32,
    /// Retries after the first attempt, up to 1,000,000. Default the broker's; `LIBMQ_NONE`: none.
    pub max_retries: i32,
    /// Not 0: `libmq_delivery_extend` answers `LIBMQ_E_UNSUPPORTED`.
    pub no_lease_extension: i32,
    /// How long an attempt may run before it is cancelled, in milliseconds, from 1; as every time here up to ten years.
    /// Default the broker's.
    pub timeout_ms: i64,
    /// From cancellation to the loss of the lease, in milliseconds. Default 5,000; `LIBMQ_NONE`: 0.
    pub cancel_grace_ms: i64,
    /// The wait before the first retry, in milliseconds. Default the broker's; `LIBMQ_NONE`: 0.
    pub backoff_base_ms: i64,
    /// No wait is longer, in milliseconds. Default the broker's; `LIBMQ_NONE`: 0.
    pub backoff_cap_ms: i64,
    /// Each wait to the one before, in thousandths, 1,000 to 1,000,000. Default the broker's.
    pub backoff_factor_permille: i32,
    /// The part of a wait that is left to chance, in thousandths, up to 1,000. Default the broker's; `LIBMQ_NONE`: 0.
    pub backoff_jitter_permille: i32,
    /// What `handle` and `drop` are called with. May be NULL.
    pub ctx: *mut c_void,
    /// The function. Must be there.
    pub handle: libmq_handle_fn,
    /// Called once with `ctx` when it is needed no more. May be NULL.
    pub drop: Option<unsafe extern "C" fn(ctx: *mut c_void)>,
}

// SAFETY: repr(C), begins with a u32; numbers and addresses may have any bits, and functions are null or come from C.
unsafe impl Extensible for libmq_handler {
    const FIRST_SIZE: usize = 88;
}

/// Registers a queue's handler. Before the start it waits for it; after it, it is called at once. A second handler for a
/// queue replaces the first when its calls have ended.
///
/// `drop` is called once, after the last call has ended: when the handler is replaced, before `libmq_broker_close` returns,
/// when the broker is freed, or at once when this call fails; of a `handler` that is NULL, misaligned, or smaller than the
/// first version of the struct, there is no `drop` to be read. A call may outlive the close (which answered
/// `LIBMQ_E_TIMEOUT`, or does not count one that had lost its lease before) and the free: it is waited for by `drop`, not by
/// them. So where a handler may be stuck, free `ctx` in `drop` and nowhere else. In `drop` what waits for handlers (start,
/// stop, close, wait for idleness, register) is `LIBMQ_E_DEADLOCK`.
///
/// Any thread, not in a `drop`. In a handler a new queue may be given one; to replace one is `LIBMQ_E_DEADLOCK` there, and so
/// is any while another thread starts, stops or closes. Answers `LIBMQ_E_INVALID`, naming the field, and `LIBMQ_E_CLOSED`.
// SAFETY: the caller keeps what the head of the header asks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libmq_handle(
    broker: *mut libmq_broker,
    queue: *const c_char,
    handler: *const libmq_handler,
    err: *mut *mut libmq_error,
) -> libmq_status {
    let c = from_c!();
    // Before the broker is looked at: what is registered here is dropped if the broker is none.
    let mut context = Context::of(&c, handler);
    boundary::broker(&c, broker, err, |open| {
        refuse_in_drop("handle")?;
        let queue = c.queue(queue)?;
        let (handle, options) = c.with_structure("handler", handler, |handler| {
            let handle = handler.handle.ok_or_else(|| invalid("handle is NULL".into()))?;
            Ok((handle, handler.options(open)?))
        })?;
        let context = context.take();
        open.broker.handle_returning(queue, options, move |delivery| {
            let ctx = context.as_ref().map_or(std::ptr::null_mut(), |context| context.ctx);
            // SAFETY: the function came with the context, which is dropped with this closure, after the last call. C
            // gave it to be called from any thread.
            call(delivery, |delivery| unsafe { handle(ctx, delivery) })
        })
    })
}

/// Hands a delivery to a handler; answers what to do about it, and nothing where somebody else does.
fn call(
    delivery: Delivery,
    handle: impl FnOnce(*mut libmq_delivery) -> i32,
) -> Option<(Found<'static, HeldDelivery>, std::result::Result<(), HandlerError>)> {
    // Without a handle the delivery is dropped here, which releases it.
    let handed = libmq_delivery::give(HeldDelivery::new(delivery)).ok()?;
    let answer = run(Running::Handler(handed.addr()), || handle(handed));
    let result = match answer {
        LIBMQ_DEFER => return None,
        LIBMQ_ACK => Ok(()),
        LIBMQ_RETRY => Err(HandlerError::retry(None)),
        LIBMQ_REJECT => Err(HandlerError::reject("rejected")),
        LIBMQ_RELEASE => Err(HandlerError::release(Duration::ZERO)),
        other => Err(HandlerError::failed(Error::new(
            ErrorKind::Invalid,
            format!("the handler answered {other}"),
        ))),
    };
    // Gone where the handler has settled it.
    Some((libmq_delivery::slab().take(handed.addr())?, result))
}

/// A handler's context, dropped once.
#[derive(Debug)]
struct Context {
    ctx: *mut c_void,
    drop: Option<unsafe extern "C" fn(ctx: *mut c_void)>,
}

// SAFETY: C gives the context to be used from any thread, at the same time too; it is never followed here.
unsafe impl Send for Context {}
// SAFETY: as for Send.
unsafe impl Sync for Context {}

impl Context {
    /// The context of a handler, as far as there is one to read.
    fn of(c: &FromC, handler: *const libmq_handler) -> Option<Self> {
        let (ctx, drop) = c.first_part(handler, |handler| (handler.ctx, handler.drop))?;
        Some(Self { ctx, drop })
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        if let Some(drop) = self.drop {
            // SAFETY: the function came with the context and is called once, here.
            run(Running::Drop, || unsafe { drop(self.ctx) });
        }
    }
}

impl libmq_handler {
    fn options(&self, open: &OpenBroker) -> Result<HandlerOptions> {
        let mut options =
            HandlerOptions::new().lease_extension_enabled(self.no_lease_extension == 0);
        if self.max_parallelism < 0 {
            let given = self.max_parallelism;
            return Err(invalid(format!("max_parallelism is {given}, but goes from 1 to 1024")));
        }
        if let Some(most) = count("max_parallelism", self.max_parallelism)? {
            options = options.max_parallelism(most);
        }
        if let Some(least) = count("min_parallelism", self.min_parallelism)? {
            let (given, most) = (self.min_parallelism, self.max_parallelism.max(1));
            if given > most {
                let text = format!("min_parallelism is {given}, but goes from 1 to {most}");
                return Err(invalid(text));
            }
            options = options.min_parallelism(least);
        }
        if let Some(retries) = count("max_retries", self.max_retries)? {
            options = options.max_retries(retries);
        }
        if self.timeout_ms < 0 {
            return Err(invalid(format!("timeout_ms is {}, but goes from 1", self.timeout_ms)));
        }
        if self.backoff_factor_permille < 0 {
            let (given, most) = (self.backoff_factor_permille, FACTOR_PERMILLE_MAX);
            let text = format!("backoff_factor_permille is {given}, but goes from 1000 to {most}");
            return Err(invalid(text));
        }
        if self.timeout_ms != 0 {
            options = options.timeout(time("timeout_ms", self.timeout_ms)?.unwrap_or_default());
        }
        if self.cancel_grace_ms != 0 {
            let grace = time("cancel_grace_ms", self.cancel_grace_ms)?;
            options = options.cancel_grace(grace.unwrap_or_default());
        }
        let mut backoff = open.backoff;
        let base = ms("backoff_base_ms", self.backoff_base_ms)?;
        let cap = ms("backoff_cap_ms", self.backoff_cap_ms)?;
        let factor = count("backoff_factor_permille", self.backoff_factor_permille)?;
        let jitter = count("backoff_jitter_permille", self.backoff_jitter_permille)?;
        backoff.base_ms = base.unwrap_or(backoff.base_ms);
        backoff.cap_ms = cap.unwrap_or(backoff.cap_ms);
        backoff.factor_permille = factor.unwrap_or(backoff.factor_permille);
        backoff.jitter_permille = jitter.unwrap_or(backoff.jitter_permille);
        Ok(options.backoff(backoff.to_backoff("backoff")?))
    }
}

/// A number in a struct: none for 0, which is the default; zero for `LIBMQ_NONE`.
fn count(name: &str, value: i32) -> Result<Option<u32>> {
    match value {
        0 => Ok(None),
        LIBMQ_NONE => Ok(Some(0)),
        _ => u32::try_from(value).map(Some).map_err(|_| negative(name, value.into())),
    }
}

/// A time in a struct: none for 0, which is the default; zero for `LIBMQ_NONE`.
fn ms(name: &str, value: i64) -> Result<Option<u64>> {
    if value == 0 {
        return Ok(None);
    }
    if value == i64::from(LIBMQ_NONE) {
        return Ok(Some(0));
    }
    u64::try_from(value).map(Some).map_err(|_| negative(name, value))
}

fn negative(name: &str, value: i64) -> Error {
    invalid(format!("{name} is {value}, but goes from 0, or is LIBMQ_NONE"))
}
