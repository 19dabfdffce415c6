//! Calls that may wait long, and which a signal ends early.
//!
//! Python runs its signal handlers on the main thread and between its own instructions only, so a main thread that sleeps
//! in the core would sleep through Ctrl-C. There the call runs on a thread of its own, which knows nothing of Python; the
//! main thread waits at a pipe into which both that thread and, through `signal.set_wakeup_fd`, the signals write.
//! Nothing is missed, whichever thread a signal is delivered to, and nothing wakes up to look.

use std::io::{PipeReader, PipeWriter, Read, Write, pipe};
use std::os::fd::AsRawFd;
use std::panic::resume_unwind;
use std::thread;
use std::time::Duration;

use libmq::{Broker, Error, ErrorKind, Result};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyBytes;

use crate::calling::call;
use crate::entering::caught;
use crate::error::{OrRaise, exception};
use crate::outside::outside;

/// The function of the package that says what the thread is that calls it.
static ROLE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// What the thread writes that ran the call; no signal has this number.
const DONE: u8 = 0;

/// Runs a call of a broker that may wait. A signal whose handler raises has it interrupted, and what it then answers is
/// dropped.
pub(crate) fn waiting<R: Send>(
    py: Python<'_>,
    broker: &Broker,
    call: impl FnOnce() -> Result<R> + Send,
    interrupt: impl Fn(),
) -> PyResult<R> {
    attended(py, || caught(broker, call), interrupt)?.or_raise(py)
}

/// Runs something that may wait, and attends to signals meanwhile; `interrupt` is called if one of their handlers
/// raises.
pub(crate) fn attended<R: Send>(
    py: Python<'_>,
    call: impl FnOnce() -> R + Send,
    interrupt: impl Fn(),
) -> PyResult<R> {
    if Thread::this(py)? != Thread::Main {
        return Ok(outside(py, call));
    }
    let Ok((reader, writer, done)) = pipes() else {
        // There are no more files to be had. A close is not to fail for that: signals wait until the call has ended.
        return Ok(outside(py, call));
    };
    let mut signals = Signals::listen(py, reader, writer)?;
    let ended = thread::scope(|scope| {
        let call = || {
            let _done = Done(done);
            call()
        };
        let thread = thread::Builder::new().name("libmq-wait".into()).spawn_scoped(scope, call);
        let thread = thread.map_err(|cause| {
            let text = format!("there is no thread to be had that could wait: {cause}");
            exception(py, &Error::new(ErrorKind::Io, text))
        })?;
        let raised = signals.until_done(py, interrupt);
        let answer = outside(py, || thread.join());
        // What panics here is not the core, and poisons nothing.
        let answer = answer.unwrap_or_else(|panic| resume_unwind(panic));
        raised.map(|()| answer)
    });
    signals.restore(py)?;
    ended
}

/// Both ends of a pipe, and the end to write to once more.
fn pipes() -> std::io::Result<(PipeReader, PipeWriter, PipeWriter)> {
    let (reader, writer) = pipe()?;
    let done = writer.try_clone()?;
    Ok((reader, writer, done))
}

/// Tells the main thread that the call has ended, however it did.
struct Done(PipeWriter);

impl Drop for Done {
    fn drop(&mut self) {
        // The pipe is as good as empty, and its reader waits: there is nothing that could go wrong.
        let _ = self.0.write_all(&[DONE]);
    }
}

/// Sleeps a little, unless a signal's handler raises. One that came before is seen before the sleep, one that comes in
/// it ends it, and one that comes between the two is seen next time.
pub(crate) fn pause(py: Python<'_>, time: Duration) -> PyResult<()> {
    py.check_signals()?;
    call(&py.import("time")?.getattr("sleep")?, (time.as_secs_f64(),)).map(drop)
}

/// What Python says of the thread that calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Thread {
    /// On it signals are handled.
    Main,
    /// The end of the program waits for it.
    Waited,
    Daemon,
}

impl Thread {
    pub(crate) fn this(py: Python<'_>) -> PyResult<Self> {
        let role = call(ROLE.import(py, "libmq._leaving", "role")?, ())?;
        Ok(match role.extract::<&str>()? {
            "main" => Self::Main,
            "daemon" => Self::Daemon,
            _ => Self::Waited,
        })
    }
}

/// A pipe into which signals write.
struct Signals {
    reader: PipeReader,
    writer: PipeWriter,
    /// Into which they wrote before, -1 for nowhere.
    before: i32,
    /// What has come meanwhile, for it.
    came: Vec<u8>,
}

impl Signals {
    fn listen(py: Python<'_>, reader: PipeReader, writer: PipeWriter) -> PyResult<Self> {
        // A signal's handler must never wait.
        py.import("os")?.call_method1("set_blocking", (writer.as_raw_fd(), false))?;
        let before = set_wakeup_fd(py, writer.as_raw_fd())?;
        Ok(Self { reader, writer, before, came: Vec::new() })
    }

    /// Waits until the call has ended. Where a signal's handler raises it is interrupted, and waited for all the same; so
    /// it is with every further one.
    fn until_done(&mut self, py: Python<'_>, interrupt: impl Fn()) -> PyResult<()> {
        let mut raised = None;
        loop {
            // What came before the pipe was there.
            if let Err(error) = py.check_signals() {
                interrupt();
                raised = Some(error);
            }
            let mut bytes = [0; 64];
            let read = outside(py, || self.reader.read(&mut bytes));
            let bytes = match read {
                Ok(count) => bytes.get(..count).unwrap_or_default(),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    interrupt();
                    return Err(error.into());
                }
            };
            self.came.extend(bytes.iter().filter(|byte| **byte != DONE));
            if bytes.contains(&DONE) {
                // What came together with the end is looked at now, while the answer can still be dropped with care.
                return raised.map_or_else(|| py.check_signals(), Err);
            }
        }
    }

    /// As it was before; whoever listened is told what has come.
    fn restore(self, py: Python<'_>) -> PyResult<()> {
        set_wakeup_fd(py, self.before)?;
        // Nobody writes into it any more.
        drop(self.writer);
        if self.before >= 0 && !self.came.is_empty() {
            py.import("os")?.call_method1("write", (self.before, PyBytes::new(py, &self.came)))?;
        }
        Ok(())
    }
}

fn set_wakeup_fd(py: Python<'_>, fd: i32) -> PyResult<i32> {
    py.import("signal")?.call_method1("set_wakeup_fd", (fd,))?.extract()
}
