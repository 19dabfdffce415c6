//! Enqueueing: messages in.

use std::ffi::{c_char, c_void};

use libmq::{Receipt, Result, limits};

use crate::boundary;
use crate::callback::in_parent;
use crate::from_c::{from_c, invalid};
use crate::handles::{libmq_broker, libmq_error};
use crate::message::{libmq_message, libmq_receipt};
use crate::status::{LIBMQ_OK, libmq_status};

/// Enqueues a message, and returns when it has reached its durability.
///
/// Any thread. `out` may be NULL. Answers `LIBMQ_E_INVALID`, `LIBMQ_E_TOO_LARGE`, `LIBMQ_E_UNSUPPORTED`, `LIBMQ_E_FULL`,
/// `LIBMQ_E_STORAGE_FULL`, `LIBMQ_E_NO_MEMORY`, `LIBMQ_E_CLOSED`: not enqueued. `LIBMQ_E_POISONED`: unknown.
// SAFETY: the caller keeps what the head of the header asks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libmq_enqueue(
    broker: *mut libmq_broker,
    queue: *const c_char,
    message: *const libmq_message,
    out: *mut libmq_receipt,
    err: *mut *mut libmq_error,
) -> libmq_status {
    let c = from_c!();
    let out = c.optional_emptied("out", out, libmq_receipt::NONE);
    boundary::broker(&c, broker, err, |open| {
        let queue = c.queue(queue)?;
        c.with_structure("message", message, |message| {
            let out = out?;
            let enqueue = |message: &_| open.broker.enqueue_until(message, &open.freed);
            let receipt = message.with(&c, queue, enqueue);
            let receipt = receipt.map_err(|error| open.unless_freed(error))?;
            if let Some(out) = out {
                out.write(receipt.into());
            }
            Ok(())
        })
    })
}

/// Enqueues up to 10,000 messages, all or none, with one commit. They lie in an array, each `messages[0].struct_size`
/// bytes after the one before, and all have that size. Receipts come in the order of the messages.
///
/// Any thread. `out` is NULL or has room for `n`; beyond 10,000 it is left as it was. Answers as `libmq_enqueue`;
/// `LIBMQ_E_TOO_LARGE` beyond `max_batch_bytes`; more of them than `capacity` wait for no room, whatever `on_full` says.
// SAFETY: the caller keeps what the head of the header asks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libmq_enqueue_batch(
    broker: *mut libmq_broker,
    queue: *const c_char,
    messages: *const libmq_message,
    n: usize,
    out: *mut libmq_receipt,
    err: *mut *mut libmq_error,
) -> libmq_status {
    let c = from_c!();
    let most = limits::BATCH_MESSAGES_MAX;
    let out = c.optional_emptied_array("out", out, n, most, libmq_receipt::NONE);
    boundary::broker(&c, broker, err, |open| {
        let queue = c.queue(queue)?;
        // A batch of nothing names a queue all the same.
        open.broker.check_queue(queue)?;
        let structs = c.structures("messages", messages, n)?;
        let out = out?;
        let read = |(index, each): (usize, &libmq_message)| {
            let message = each.read(&c, queue);
            message.map_err(|error| error.within(format_args!("messages[{index}]")))
        };
        let messages: Result<Vec<_>> = structs.iter().enumerate().map(read).collect();
        let receipts = open.broker.enqueue_batch_until(&messages?, &open.freed);
        let receipts = receipts.map_err(|error| open.unless_freed(error))?;
        if let Some(out) = out {
            for (index, receipt) in receipts.into_iter().enumerate() {
                out.write_at(index, receipt.into());
            }
        }
        Ok(())
    })
}

/// Told what became of an enqueue: on one thread, `libmq-callback`, in the order of the commits. `status` is what
/// `libmq_enqueue` would have answered; unless it is `LIBMQ_OK`, `receipt` is all 0. May call anything but
/// `libmq_broker_close`, which is `LIBMQ_E_DEADLOCK` there; while it runs, the others wait.
pub type libmq_enqueued_fn =
    Option<unsafe extern "C" fn(ctx: *mut c_void, status: libmq_status, receipt: libmq_receipt)>;

/// Enqueues a message and returns at once, without waiting for the disk or for room; `done` is called with `ctx`, once, when
/// the message has reached its durability or has failed to. The message, its body too, may be let go of when this returns.
///
/// Any thread. `libmq_broker_close` and `libmq_broker_free` see to it that what was begun is told. Answers what is wrong with
/// the call: `LIBMQ_E_INVALID`, `LIBMQ_E_UNSUPPORTED`, `LIBMQ_E_TOO_LARGE`, `LIBMQ_E_FULL` (unless `on_full` is `block`),
/// `LIBMQ_E_STORAGE_FULL`, `LIBMQ_E_NO_MEMORY`, `LIBMQ_E_POISONED`, `LIBMQ_E_CLOSED`; then `done` is not called.
// SAFETY: the caller keeps what the head of the header asks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libmq_enqueue_async(
    broker: *mut libmq_broker,
    queue: *const c_char,
    message: *const libmq_message,
    done: libmq_enqueued_fn,
    ctx: *mut c_void,
    err: *mut *mut libmq_error,
) -> libmq_status {
    let c = from_c!();
    boundary::broker(&c, broker, err, |open| {
        let queue = c.queue(queue)?;
        open.broker.check_queue(queue)?;
        c.with_structure("message", message, |message| {
            let call = done.ok_or_else(|| invalid("done is NULL".into()))?;
            let told = Told { call, ctx };
            open.broker.enqueue_then(message.read(&c, queue)?, move |outcome| told.tell(outcome))
        })
    })
}

/// Who is told of an enqueue.
#[derive(Debug)]
struct Told {
    call: unsafe extern "C" fn(ctx: *mut c_void, status: libmq_status, receipt: libmq_receipt),
    ctx: *mut c_void,
}

// SAFETY: C gives the context to be used from the thread of callbacks; it is never followed here.
unsafe impl Send for Told {}

impl Told {
    fn tell(self, outcome: Result<Receipt>) {
        let (status, receipt) = match outcome {
            Ok(receipt) => (LIBMQ_OK, receipt.into()),
            Err(error) => (error.kind().code(), libmq_receipt::NONE),
        };
        // SAFETY: the function came with the context, and C gave it to be called once from that thread.
        in_parent(|| unsafe { (self.call)(self.ctx, status, receipt) });
    }
}
