//! Metrics: what a broker counts, and what its opening found.

use std::ffi::{CString, c_char};
use std::ptr;

use libmq::{Error, ErrorKind, Metrics, QueueMetrics, Recovery, Result};

use crate::boundary;
use crate::from_c::{Extensible, FromC, from_c};
use crate::handles::{libmq_broker, libmq_error};
use crate::slab;
use crate::status::libmq_status;

/// The figures of a queue, or of the whole broker: six gauges, then counters since the open. Begin with
/// `LIBMQ_METRICS_INIT`, which sets `struct_size`.
#[repr(C)]
#[derive(Debug)]
pub struct libmq_metrics {
    /// `sizeof(libmq_metrics)`.
    pub struct_size: u32,
    /// 0.
    pub reserved: u32,
    /// Messages that could run now.
    pub ready: u64,
    /// Messages that are held.
    pub in_flight: u64,
    /// Messages that are not due yet, retries too.
    pub delayed: u64,
    /// Dead letters.
    pub dead: u64,
    /// The handler's `max_parallelism`, 0 without one.
    pub parallelism: u64,
    /// How long the first ready message has been ready, in milliseconds; -1 where none is.
    pub oldest_ready_age_ms: i64,
    /// Messages enqueued, replacements too.
    pub enqueued: u64,
    /// Attempts begun.
    pub delivered: u64,
    /// Attempts that ended with an ack.
    pub acked: u64,
    /// Attempts that failed, timed out, or lost a pulled lease.
    pub retried: u64,
    /// Attempts that were given back.
    pub released: u64,
    /// Attempts that ended with a reject.
    pub rejected: u64,
    /// Messages that became dead letters.
    pub dead_lettered: u64,
    /// Messages that a newer one of their key took the place of.
    pub replaced: u64,
    /// Enqueues answered with a message that was there.
    pub duplicates: u64,
    /// Messages that expired.
    pub expired: u64,
    /// Messages that were cancelled.
    pub cancelled: u64,
    /// Settles that came too late.
    pub stale_settles: u64,
    /// Attempts that the handler failed.
    pub handler_errors: u64,
    /// Attempts that ran beyond their timeout.
    pub timeouts: u64,
    /// Attempts in which the process died, found at the open.
    pub crashes: u64,
    /// Handlers that ran on beyond their grace.
    pub stuck: u64,
    /// From here on figures of the broker, which are 0 for a queue. Bytes of the journal's segments and the snapshot.
    pub journal_bytes: u64,
    /// Segments of the journal.
    pub segments: u64,
    /// Snapshots taken since the open.
    pub snapshots: u64,
    /// Syncs of the journal since the open.
    pub syncs: u64,
    /// The position in the log that was given to records.
    pub lsn_reserved: u64,
    /// The position up to which they are in the kernel.
    pub lsn_written: u64,
    /// The position up to which they are synced.
    pub lsn_durable: u64,
    /// The position up to which they are visible.
    pub lsn_shown: u64,
    /// Bytes of memory held for messages and recent journal.
    pub memory_bytes: u64,
}

// SAFETY: repr(C), begins with a u32, and numbers may have any bits.
unsafe impl Extensible for libmq_metrics {
    const FIRST_SIZE: usize = 256;
}

/// Reads the figures of a queue, or with NULL the sums of all.
///
/// Any thread. Answers `LIBMQ_E_NOT_FOUND` for a queue that had no enqueue, handler or receive yet; `LIBMQ_E_INVALID` for a
/// name that is none and where `out->struct_size` is not set; `LIBMQ_E_CLOSED`. On failure all figures are those of nothing.
// SAFETY: the caller keeps what the head of the header asks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libmq_metrics_read(
    broker: *mut libmq_broker,
    queue_or_null: *const c_char,
    out: *mut libmq_metrics,
    err: *mut *mut libmq_error,
) -> libmq_status {
    let c = from_c!();
    let size = libmq_metrics::empty(&c, out);
    boundary::broker(&c, broker, err, |open| {
        let size = size?;
        let metrics = open.broker.metrics()?;
        let figures = match c.queue_or_all(queue_or_null)? {
            None => libmq_metrics::of_broker(&metrics, size),
            Some(queue) => {
                open.broker.check_queue(queue)?;
                let figures = metrics.queues.get(queue).ok_or_else(|| not_found(queue))?;
                libmq_metrics::of(figures, size)
            }
        };
        c.write_structure("out", out, &figures)
    })
}

/// The figures as Prometheus reads them (text format 0.0.4): each queue's under its name as label `queue`, as in
/// `libmq_ready{queue="orders"} 3`; counters end in `_total`, durations in `_seconds`.
///
/// Any thread. The caller frees `*out_prometheus` with `libmq_string_free`; on failure it is NULL. Answers `LIBMQ_E_CLOSED`.
// SAFETY: the caller keeps what the head of the header asks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libmq_metrics_text(
    broker: *mut libmq_broker,
    out_prometheus: *mut *mut c_char,
    err: *mut *mut libmq_error,
) -> libmq_status {
    let c = from_c!();
    let out = c.emptied("out_prometheus", out_prometheus, ptr::null_mut());
    boundary::broker(&c, broker, err, |open| {
        let out = out?;
        let text = open.broker.metrics()?.to_prometheus();
        out.write(CString::new(text).unwrap_or_default().into_raw());
        Ok(())
    })
}

/// What opening found, as a JSON object of numbers: `messages` live, `dead_letters`, `suspects` (in hand when the last
/// process died; they run alone from now on), `records` read, `dropped_bytes` of a torn tail, `snapshot` (the position it
/// begins at, or null), `duration_ms`.
///
/// Any thread. The caller frees `*out` with `libmq_string_free`; on failure it is NULL. Answers `LIBMQ_E_CLOSED`.
// SAFETY: the caller keeps what the head of the header asks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libmq_recovery_json(
    broker: *mut libmq_broker,
    out: *mut *mut c_char,
    err: *mut *mut libmq_error,
) -> libmq_status {
    let c = from_c!();
    let out = c.emptied("out", out, ptr::null_mut());
    boundary::broker(&c, broker, err, |open| {
        let out = out?;
        open.broker.check_open()?;
        let json = CString::new(json(open.broker.recovery())).unwrap_or_default();
        out.write(json.into_raw());
        Ok(())
    })
}

/// Frees a string that one of these functions made. Does nothing for NULL, and for a handle.
///
/// Any thread. Once for each: a string is no handle, and freeing it twice is not noticed.
// SAFETY: the caller keeps what the head of the header asks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libmq_string_free(string: *mut c_char) {
    if !string.is_null() && !slab::is_handle(string.addr()) {
        // SAFETY: not null, and no handle; that it came from `CString::into_raw` here, and is freed once, is what the header asks.
        drop(unsafe { CString::from_raw(string) });
    }
}

impl libmq_metrics {
    /// Clears the figures; answers the size that they have for whoever asks.
    fn empty(c: &FromC, out: *mut Self) -> Result<u32> {
        let size = u32::try_from(c.struct_size("out", out)?).unwrap_or_default();
        c.write_structure("out", out, &Self::of(&QueueMetrics::default(), size))?;
        Ok(size)
    }

    fn of(figures: &QueueMetrics, struct_size: u32) -> Self {
        let age = figures.oldest_ready_age.map(|age| i64::try_from(age.as_millis()));
        Self {
            struct_size,
            reserved: 0,
            ready: figures.ready,
            in_flight: figures.in_flight,
            delayed: figures.delayed,
            dead: figures.dead,
            parallelism: figures.parallelism,
            oldest_ready_age_ms: age.map_or(-1, |age| age.unwrap_or(i64::MAX)),
            enqueued: figures.enqueued,
            delivered: figures.delivered,
            acked: figures.acked,
            retried: figures.retried,
            released: figures.released,
            rejected: figures.rejected,
            dead_lettered: figures.dead_lettered,
            replaced: figures.replaced,
            duplicates: figures.duplicates,
            expired: figures.expired,
            cancelled: figures.cancelled,
            stale_settles: figures.stale_settles,
            handler_errors: figures.handler_errors,
            timeouts: figures.timeouts,
            crashes: figures.crashes,
            stuck: figures.stuck,
            journal_bytes: 0,
            segments: 0,
            snapshots: 0,
            syncs: 0,
            lsn_reserved: 0,
            lsn_written: 0,
            lsn_durable: 0,
            lsn_shown: 0,
            memory_bytes: 0,
        }
    }

    fn of_broker(metrics: &Metrics, struct_size: u32) -> Self {
        Self {
            journal_bytes: metrics.journal_bytes,
            segments: metrics.segments,
            snapshots: metrics.snapshots,
            syncs: metrics.syncs,
            lsn_reserved: metrics.lsn.reserved,
            lsn_written: metrics.lsn.written,
            lsn_durable: metrics.lsn.durable,
            lsn_shown: metrics.lsn.shown,
            memory_bytes: metrics.memory_bytes,
            ..Self::of(&metrics.broker, struct_size)
        }
    }
}

fn not_found(queue: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("there is no queue {queue}"))
}

fn json(recovery: &Recovery) -> String {
    let Recovery { messages, dead_letters, suspects, records, dropped_bytes, .. } = recovery;
    let snapshot = recovery.snapshot.map_or("null".into(), |begin| begin.to_string());
    let duration_ms = recovery.duration.as_secs_f64() * 1000.0;
    format!(
        "{{\"messages\":{messages},\"dead_letters\":{dead_letters},\"suspects\":{suspects},\
         \"records\":{records},\"dropped_bytes\":{dropped_bytes},\"snapshot\":{snapshot},\
         \"duration_ms\":{duration_ms:.3}}}"
    )
}
