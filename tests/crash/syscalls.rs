//! System calls that are interrupted, and those that do less than they were asked for: below everything, on real files.
//!
//! The storage carries on after both, so nobody above may notice either. The calls of this program go through functions of
//! the same names as the system's, which is where they are meddled with: each call of a workload once, and all from there on.

#![cfg(all(target_os = "linux", target_pointer_width = "64"))]
#![expect(
    unsafe_code,
    reason = "what stands in for the system's own functions is unsafe as they are"
)]

use std::ffi::{c_int, c_void};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use libmq::Durability::{Os, Sync};
use libmq::{Broker, verify};
use libmq_suite::{Times, new};

use crate::run::options;
use crate::view::View;

/// What happens to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meddling {
    /// It is interrupted before it has done anything.
    Interrupted,
    /// It does half of what it was asked for.
    Short,
}

/// Which call is meddled with, and how.
#[derive(Clone, Copy, Debug)]
struct Plan {
    at: u64,
    meddling: Meddling,
    times: Times,
}

static PLAN: Mutex<Option<Plan>> = Mutex::new(None);
static CALLS: AtomicU64 = AtomicU64::new(0);
static MEDDLED: AtomicU64 = AtomicU64::new(0);
/// The last call was interrupted: it is made again, and not interrupted for ever.
static AGAIN: AtomicBool = AtomicBool::new(false);

fn plan() -> MutexGuard<'static, Option<Plan>> {
    PLAN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How many bytes of a call are to be done; none where it is interrupted.
fn meddle(bytes: usize) -> Option<usize> {
    let number = CALLS.fetch_add(1, Ordering::SeqCst);
    let plan = *plan();
    let hit = |plan: &Plan| match plan.times {
        Times::Once => number == plan.at,
        Times::ForEver => number >= plan.at,
    };
    match plan.filter(hit).map(|plan| plan.meddling) {
        Some(Meddling::Interrupted) if !AGAIN.fetch_xor(true, Ordering::SeqCst) => {
            MEDDLED.fetch_add(1, Ordering::SeqCst);
            None
        }
        Some(Meddling::Short) if bytes > 1 => {
            MEDDLED.fetch_add(1, Ordering::SeqCst);
            Some(bytes / 2)
        }
        _ => Some(bytes),
    }
}

/// The answer of a call that was interrupted.
fn interrupted() -> isize {
    // SAFETY: the pointer is to this thread's own errno, which is always there.
    unsafe { *libc::__errno_location() = libc::EINTR };
    -1
}

/// Stands in for pread(2).
///
/// # Safety
/// As that.
#[unsafe(no_mangle)]
unsafe extern "C" fn pread64(file: c_int, to: *mut c_void, bytes: usize, offset: i64) -> isize {
    let Some(bytes) = meddle(bytes) else { return interrupted() };
    // SAFETY: the arguments are the caller's, and fewer bytes than it has room for are none too many.
    unsafe { libc::syscall(libc::SYS_pread64, file, to, bytes, offset) as isize }
}

/// Stands in for pwrite(2).
///
/// # Safety
/// As that.
#[unsafe(no_mangle)]
unsafe extern "C" fn pwrite64(file: c_int, of: *const c_void, bytes: usize, offset: i64) -> isize {
    let Some(bytes) = meddle(bytes) else { return interrupted() };
    // SAFETY: the arguments are the caller's, and fewer bytes than it has are none too many.
    unsafe { libc::syscall(libc::SYS_pwrite64, file, of, bytes, offset) as isize }
}

/// Stands in for fdatasync(2).
#[unsafe(no_mangle)]
extern "C" fn fdatasync(file: c_int) -> c_int {
    if meddle(0).is_none() {
        return interrupted() as c_int;
    }
    // SAFETY: the call takes no pointer.
    unsafe { libc::syscall(libc::SYS_fdatasync, file) as c_int }
}

/// Stands in for fsync(2).
#[unsafe(no_mangle)]
extern "C" fn fsync(file: c_int) -> c_int {
    if meddle(0).is_none() {
        return interrupted() as c_int;
    }
    // SAFETY: the call takes no pointer.
    unsafe { libc::syscall(libc::SYS_fsync, file) as c_int }
}

/// Stands in for ftruncate(2).
#[unsafe(no_mangle)]
extern "C" fn ftruncate64(file: c_int, bytes: i64) -> c_int {
    if meddle(0).is_none() {
        return interrupted() as c_int;
    }
    // SAFETY: the call takes no pointer.
    unsafe { libc::syscall(libc::SYS_ftruncate, file, bytes) as c_int }
}

/// Stands in for fallocate(2).
#[unsafe(no_mangle)]
extern "C" fn fallocate(file: c_int, mode: c_int, offset: i64, bytes: i64) -> c_int {
    if meddle(0).is_none() {
        return interrupted() as c_int;
    }
    // SAFETY: the call takes no pointer.
    unsafe { libc::syscall(libc::SYS_fallocate, file, mode, offset, bytes) as c_int }
}

/// Goes through all there is in a real directory; answers what is there in the end.
fn work(directory: &Path) -> libmq::Result<View> {
    let (queue, copy) = (directory.join("queue"), directory.join("copy"));
    let open = || Broker::open(&queue, options());
    let receive = |broker: &Broker, queue| {
        broker.receive(queue, Duration::ZERO, None).map(|delivery| delivery.unwrap())
    };
    let broker = open()?;
    broker.enqueue(new("jobs", "one").message(Sync))?;
    broker.enqueue(new("jobs", "two").key("k").message(Os))?;
    receive(&broker, "jobs")?.ack()?;
    broker.enqueue(new("jobs", &"three ".repeat(4000)).message(Os))?;
    receive(&broker, "jobs")?.reject("no")?;
    broker.snapshot()?;
    broker.enqueue(new("mail", &"four ".repeat(9000)).message(Sync))?;
    broker.enqueue(new("jobs", &"five ".repeat(6000)).message(Os))?;
    receive(&broker, "jobs")?.retry(None)?;
    broker.snapshot()?;
    let held = receive(&broker, "mail")?;
    drop(broker);
    drop(held);
    let broker = open()?;
    broker.enqueue(new("slow", "six").message(Sync))?;
    broker.backup(&copy)?;
    broker.close(Duration::ZERO)?;
    for directory in [&queue, &copy] {
        let found = verify(directory)?;
        assert!(found.problems.is_empty(), "{found:?}");
    }
    // How many segments there were is a matter of time, and ids are positions.
    Ok(View::of(&open()?)?.with_untold(|_| false, |number| number + 1))
}

/// Runs the workload so meddled with; answers what is there in the end, how many calls there were, and how many were met.
fn run(meddled: Option<Plan>) -> (libmq::Result<View>, u64, u64) {
    // In memory, where there is such a place: no disk has to be waited for.
    let memory = Path::new("/dev/shm");
    let directory =
        if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    let directory = directory.unwrap();
    *plan() = meddled;
    CALLS.store(0, Ordering::SeqCst);
    MEDDLED.store(0, Ordering::SeqCst);
    AGAIN.store(false, Ordering::SeqCst);
    let view = work(directory.path());
    *plan() = None;
    (view, CALLS.load(Ordering::SeqCst), MEDDLED.load(Ordering::SeqCst))
}

#[test]
fn nobody_notices_a_system_call_that_is_interrupted_or_short() {
    let (whole, calls, _) = run(None);
    let whole = whole.unwrap();
    assert!(calls > 50, "only {calls} calls");
    let (mut runs, mut met) = (0, 0);
    for at in 0..calls {
        for meddling in [Meddling::Interrupted, Meddling::Short] {
            for times in [Times::Once, Times::ForEver] {
                let plan = Plan { at, meddling, times };
                let (view, _, meddled) = run(Some(plan));
                let view = view.unwrap_or_else(|error| panic!("{plan:?}: {error}"));
                assert_eq!(view, whole, "{plan:?}");
                runs += 1;
                met += u64::from(meddled > 0);
            }
        }
    }
    println!("system calls: {calls}; {runs} runs, of which {met} met with it");
    // A sync cannot be short, so not all did.
    assert!(met * 10 > runs * 7, "{met} of {runs}");
}
