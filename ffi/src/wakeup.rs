//! Wakeups: descriptors by which an event loop learns that a queue may have something.
//!
//! A wakeup is one of a pair of sockets. A byte is sent to it when its queue may have got a message, and once when it is
//! opened; whoever then receives until there is nothing finds it empty again. They are datagram sockets because sending to
//! one that the program has closed by itself must not raise a signal, as a pipe would.

use std::ffi::{c_char, c_int};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;
use std::sync::{Arc, Mutex, PoisonError};

use libmq::{Broker, Error, Result, Watch};

use crate::boundary;
use crate::from_c::{from_c, invalid};
use crate::handles::{libmq_broker, libmq_error};
use crate::status::libmq_status;

/// Opens a descriptor for an event loop (`poll`, `epoll`, `kqueue`), readable while the queue may have something, and when
/// the broker was closed; a receive from the queue that answers `LIBMQ_E_EMPTY` clears it. So: when it is readable, receive
/// with a timeout of 0 until that is answered. Nothing is to be read from it or written to it.
///
/// Any thread. The caller closes it with `libmq_wakeup_close`; freeing the broker closes it too. `*out_fd` is -1 on failure.
/// Answers `LIBMQ_E_INVALID` for a name that is none; `LIBMQ_E_IO` where the process may have no more descriptors;
/// `LIBMQ_E_CLOSED`.
// SAFETY: the caller keeps what the head of the header asks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libmq_wakeup_open(
    broker: *mut libmq_broker,
    queue: *const c_char,
    out_fd: *mut c_int,
    err: *mut *mut libmq_error,
) -> libmq_status {
    let c = from_c!();
    let out_fd = c.emptied("out_fd", out_fd, -1);
    boundary::broker(&c, broker, err, |open| {
        let queue = c.queue(queue)?;
        let out_fd = out_fd?;
        out_fd.write(open.wakeups.open(&open.broker, queue)?);
        Ok(())
    })
}

/// Closes a descriptor of `libmq_wakeup_open`; also after the broker was closed.
///
/// Any thread; not while another one waits for it. Answers `LIBMQ_E_INVALID` for one that this broker did not open, or that was
/// closed already; `LIBMQ_E_CLOSED` for such a one after the close of the broker.
// SAFETY: the caller keeps what the head of the header asks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libmq_wakeup_close(
    broker: *mut libmq_broker,
    fd: c_int,
    err: *mut *mut libmq_error,
) -> libmq_status {
    boundary::broker(&from_c!(), broker, err, |open| {
        if open.wakeups.close(fd) {
            return Ok(());
        }
        open.broker.check_open()?;
        Err(invalid(format!("fd is {fd}, which is no wakeup of this broker")))
    })
}

/// The wakeups of a broker.
#[derive(Debug, Default)]
pub(crate) struct Wakeups(Mutex<Vec<Arc<Wakeup>>>);

#[derive(Debug)]
struct Wakeup {
    queue: String,
    watch: Watch,
    inner: Arc<UnixDatagram>,
    /// Whose descriptor the program has.
    outer: UnixDatagram,
}

impl Wakeups {
    fn open(&self, broker: &Broker, queue: &str) -> Result<c_int> {
        let (inner, outer) =
            pair().map_err(|cause| Error::system("make a pair of sockets", &cause))?;
        let inner = Arc::new(inner);
        let rung = Arc::clone(&inner);
        let watch = broker.watch(queue, move || ring(&rung))?;
        let fd = outer.as_raw_fd();
        let wakeup = Arc::new(Wakeup { queue: queue.into(), watch, inner, outer });
        // There may be something already.
        ring(&wakeup.inner);
        self.all().push(wakeup);
        Ok(fd)
    }

    /// Closes a wakeup; answers whether it was one.
    fn close(&self, fd: c_int) -> bool {
        let mut all = self.all();
        let Some(place) = all.iter().position(|wakeup| wakeup.outer.as_raw_fd() == fd) else {
            return false;
        };
        let closed = all.swap_remove(place);
        // Not under the lock: that of the queue is taken to end the watch.
        drop(all);
        drop(closed);
        true
    }

    /// Has a look at a queue that was found empty once more, with its wakeups cleared: a message that came before the look
    /// is seen by it, and one that comes after it rings.
    pub(crate) fn look_again<T: Default>(
        &self,
        queue: &str,
        look: impl FnOnce() -> Result<T>,
        is_nothing: impl FnOnce(&T) -> bool,
    ) -> Result<T> {
        let mut of_queue = self.all().clone();
        of_queue.retain(|wakeup| wakeup.queue == queue);
        if of_queue.is_empty() {
            return Ok(T::default());
        }
        of_queue.iter().for_each(|wakeup| wakeup.clear());
        let found = look();
        if !found.as_ref().is_ok_and(is_nothing) {
            // There may be more, and the receive does not say that there is nothing.
            of_queue.iter().for_each(|wakeup| ring(&wakeup.inner));
        }
        found
    }

    fn all(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Wakeup>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wakeup {
    fn clear(&self) {
        while self.outer.recv(&mut [0]).is_ok() {}
        self.watch.listen();
    }
}

fn pair() -> std::io::Result<(UnixDatagram, UnixDatagram)> {
    let (inner, outer) = UnixDatagram::pair()?;
    inner.set_nonblocking(true)?;
    outer.set_nonblocking(true)?;
    Ok((inner, outer))
}

/// Makes the other one readable; where it is full of bytes, it is.
fn ring(inner: &UnixDatagram) {
    let _ = inner.send(&[1]);
}
