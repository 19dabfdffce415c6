//! Signals, stops, closed files, and what the process makes.

use std::path::Path;
use std::time::Duration;

use crate::guests::{Guest, play, play_with, scratch, told};

/// On a disk, and in memory, where many kernels give an allocation up when a signal comes.
#[test]
fn calls_that_are_interrupted_all_the_time_carry_on() {
    let shared = Path::new("/dev/shm");
    let shared =
        shared.is_dir().then(|| tempfile::Builder::new().prefix("libmq-host-").tempdir_in(shared));
    match shared {
        Some(Ok(shared)) => play_with("interrupted-calls", &[shared.path().into()]),
        _ => play("interrupted-calls"),
    }
}

/// The kernel may give a signal to any thread that takes it. One of libmq's took it: the host's handler ran there, and the
/// call that it was to interrupt slept on.
#[test]
fn a_signal_for_the_process_is_taken_by_a_thread_of_the_hosts() {
    play("signals-for-the-process");
}

/// Programs that a handler starts inherit what it blocks: they must be no harder to end than elsewhere.
#[test]
fn a_handlers_thread_has_the_signals_of_whoever_registered_it() {
    play("signals-of-handlers");
}

#[test]
fn a_host_without_standard_files_writes_into_none_of_ours() {
    play("no-standard-files");
}

#[test]
fn whatever_the_umask_what_is_made_is_the_owners_alone() {
    play("a-loose-umask");
}

#[test]
fn directories_that_are_made_have_their_names_for_good_before_anything_is_in_them() {
    play("new-directories");
}

/// A segment's number was another file's: what was written there was called durable, and lost.
#[test]
fn a_host_that_closes_our_descriptors_hears_that_nothing_more_is_durable() {
    play("closed-descriptors");
}

#[test]
fn plain_copies_of_a_directory_at_work_are_damaged_or_right_and_never_wrong() {
    play("copies-of-the-directory");
}

/// What it held is somebody else's by then: its late settles are `STALE_LEASE`, and change nothing.
#[test]
fn a_process_that_is_stopped_beyond_its_leases_settles_nothing_that_it_lost() {
    let scratch = scratch();
    let mut guest = Guest::start("a-stop-beyond-the-lease", scratch.path(), &[]);
    let mut last = String::new();
    let mut stops = 0;
    while let Some(line) = guest.hear() {
        if line == "stop me" {
            let send = |signal| {
                let id = i32::try_from(guest.id()).unwrap();
                // SAFETY: kill(2) takes no pointer; the process is a child that nobody has waited for.
                assert_eq!(unsafe { libc::kill(id, signal) }, 0);
            };
            send(libc::SIGSTOP);
            std::thread::sleep(Duration::from_millis(400));
            send(libc::SIGCONT);
            stops += 1;
        } else {
            last = line;
        }
    }
    assert!(stops > 5, "{stops} stops");
    let (_, end) = guest.end();
    told("a-stop-beyond-the-lease", &last, end);
}
