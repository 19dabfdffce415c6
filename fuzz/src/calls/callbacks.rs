//! What the library calls: functions that do as their context's number says, and end soon.

use std::ffi::{c_char, c_void};
use std::ptr;

use mq::{
    LIBMQ_DEFER, libmq_delivery, libmq_delivery_ack, libmq_delivery_body, libmq_delivery_enqueue,
    libmq_delivery_free, libmq_delivery_retry, libmq_message, libmq_receipt, libmq_status,
};

/// A handler. The lower bits are its answer, the others what it does first.
// SAFETY: the library gives a delivery that there is for the time of the call.
pub(super) unsafe extern "C" fn handle(ctx: *mut c_void, delivery: *mut libmq_delivery) -> i32 {
    let told = ctx.addr();
    let mut length = 0;
    // SAFETY: the addresses are of what is there for the time of the call, and a message may be all zeros.
    unsafe {
        libmq_delivery_body(delivery, &raw mut length);
        match told >> 4 & 7 {
            1 => _ = libmq_delivery_ack(delivery, ptr::null_mut()),
            2 => _ = libmq_delivery_retry(delivery, 0, c"again".as_ptr(), ptr::null_mut()),
            3 => libmq_delivery_free(delivery),
            4 => {
                let mut message: libmq_message = std::mem::zeroed();
                message.struct_size = size_of::<libmq_message>() as u32;
                let next = c"mail".as_ptr();
                libmq_delivery_enqueue(delivery, next, &raw const message, ptr::null_mut());
            }
            // Deferred, and settled at once, so that nobody waits for it.
            5 => {
                libmq_delivery_ack(delivery, ptr::null_mut());
                return LIBMQ_DEFER;
            }
            _ => {}
        }
    }
    i32::try_from(told & 15).unwrap_or(0) % 5
}

// SAFETY: it does nothing.
pub(super) unsafe extern "C" fn dropped(_ctx: *mut c_void) {}

// SAFETY: it does nothing.
pub(super) unsafe extern "C" fn enqueued(
    _ctx: *mut c_void,
    _status: libmq_status,
    _receipt: libmq_receipt,
) {
}

/// A log hook, which reads what it is told.
// SAFETY: the library gives two strings for the time of the call.
pub(super) unsafe extern "C" fn log(
    _ctx: *mut c_void,
    _level: i32,
    event: *const c_char,
    fields: *const c_char,
) {
    // SAFETY: both are strings for the time of the call.
    let told = unsafe { [event, fields].map(|text| std::ffi::CStr::from_ptr(text)) };
    assert!(told.iter().all(|text| text.to_str().is_ok()), "an event is not UTF-8");
}
