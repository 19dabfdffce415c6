//! Threads of libmq's own, and which signals they take.
//!
//! A signal that is sent to a process is handled on whichever of its threads does not block it: code of the host's, on a
//! thread that the host knows nothing of, while the call that the signal was to interrupt sleeps on. So the threads that
//! do libmq's own work block signals. A handler's thread has the signals of whoever registered the handler: it runs the
//! host's code, and programs that this starts inherit what it blocks, up to and including the signals that end them.
//!
//! What a thread brings upon itself is never blocked: the kernel would end the process without asking the host's handler.
//! Nor is the signal of profilers, which are to see what is done here.

use std::io;
use std::mem::MaybeUninit;
use std::thread::{Builder, JoinHandle};

/// Signals that no thread of libmq's blocks.
const OPEN: [libc::c_int; 7] = [
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGILL,
    libc::SIGTRAP,
    libc::SIGSYS,
    libc::SIGPROF,
];

/// Starts a thread that takes no signal which is meant for the process.
pub(crate) fn spawn_quiet<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    // Blocked here already, since a new thread begins with what its maker blocks: there is no moment in which it is not.
    let before = Signals::quiet().replace();
    let spawned = Builder::new().name(name.into()).spawn(work);
    before.replace();
    spawned
}

/// Which signals a thread blocks.
#[derive(Clone, Copy)]
pub(crate) struct Signals(libc::sigset_t);

impl Signals {
    /// All that do not stay open.
    fn quiet() -> Self {
        let mut set = MaybeUninit::uninit();
        // SAFETY: sigfillset(3) initializes the set it is given, a writable one of this frame, and cannot fail with it;
        // sigdelset(3) changes an initialized set.
        let set = unsafe {
            libc::sigfillset(set.as_mut_ptr());
            for signal in OPEN {
                libc::sigdelset(set.as_mut_ptr(), signal);
            }
            set.assume_init()
        };
        Self(set)
    }

    /// Those of this thread.
    pub(crate) fn of_this_thread() -> Self {
        Self::change(None)
    }

    /// Has this thread block these, and answers what it blocked before.
    pub(crate) fn replace(self) -> Self {
        Self::change(Some(self))
    }

    fn change(to: Option<Self>) -> Self {
        let mut before = MaybeUninit::uninit();
        let to = to.as_ref().map_or(std::ptr::null(), |to| &raw const to.0);
        // SAFETY: the new set is none or initialized; the old one is a writable set of this frame, emptied first, so that
        // it is initialized whatever the call does. That cannot fail with these arguments.
        unsafe {
            libc::sigemptyset(before.as_mut_ptr());
            libc::pthread_sigmask(libc::SIG_SETMASK, to, before.as_mut_ptr());
            Self(before.assume_init())
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn blocks(signals: Signals, signal: libc::c_int) -> bool {
        // SAFETY: the set is initialized, as every `Signals`.
        unsafe { libc::sigismember(&raw const signals.0, signal) == 1 }
    }

    #[test]
    fn a_quiet_thread_takes_no_signal_and_its_maker_takes_those_it_took() {
        let of_it = spawn_quiet("libmq-test", Signals::of_this_thread).unwrap().join().unwrap();
        for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGALRM, libc::SIGCHLD, libc::SIGUSR1] {
            assert!(blocks(of_it, signal), "{signal}");
            assert!(!blocks(Signals::of_this_thread(), signal), "{signal}");
        }
        assert!(OPEN.iter().all(|signal| !blocks(of_it, *signal)));
    }
}
