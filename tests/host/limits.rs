//! Limits of the process: the size of its files, its descriptors, its memory.

use std::os::unix::process::ExitStatusExt as _;

use crate::guests::{Guest, play, scratch, told};

/// A host that did not ignore `SIGXFSZ` was killed by the first file that was to be larger than its limit: by the open, most
/// often, which made a segment.
#[test]
fn a_limit_to_the_size_of_files_refuses_an_open_and_kills_nobody() {
    play("a-limit-to-files-at-open");
}

/// It was killed by whatever grew beyond the limit: a snapshot, the marks, a segment for a large message.
#[test]
fn a_limit_to_the_size_of_files_refuses_what_grows_and_kills_nobody() {
    play("a-limit-to-files-later");
}

#[test]
fn an_open_without_descriptors_is_refused_and_leaves_nothing() {
    play("no-files-at-open");
}

#[test]
fn a_broker_without_descriptors_refuses_and_goes_on_when_there_are_some() {
    play("no-files-later");
}

#[test]
fn what_there_is_no_memory_for_is_refused_and_changes_nothing() {
    play("no-memory");
}

/// An allocation that cannot be asked for ends the process: a crash like another.
#[test]
fn a_process_that_ends_for_want_of_memory_loses_nothing() {
    let scratch = scratch();
    let mut guest = Guest::start("no-memory-at-all", scratch.path(), &[]);
    let mut enqueued = 0u64;
    while let Some(line) = guest.hear() {
        assert_eq!(line, format!("enqueued {enqueued}"));
        enqueued += 1;
    }
    let (_, end) = guest.end();
    assert_eq!(end.signal(), Some(libc::SIGABRT), "{end}, after {enqueued}");
    assert!(enqueued > 100, "{enqueued} found their memory");
    let words = [enqueued.to_string().into()];
    let (line, end) = Guest::start("what-is-left", scratch.path(), &words).end();
    told("no-memory-at-all", &line, end);
}
