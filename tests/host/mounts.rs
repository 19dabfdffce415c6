//! File systems that are full, and some that are only to be read.

use crate::guests::play_with_mounts;

/// Of messages, it can be drained and has room again. Of others' files, what has no room is refused, and nothing is lost.
#[test]
fn a_full_file_system_refuses_and_loses_nothing() {
    play_with_mounts("a-full-disk");
}

/// An open there is `IO`, and makes nothing; who verifies may. Where it comes to be so while it is open, the next file is `IO`.
#[test]
fn a_read_only_mount_refuses_and_is_left_as_it_was() {
    play_with_mounts("a-read-only-mount");
}

/// A copy that was to take the place of a mount was written as a whole, and then `IO`; one that came to its broker's own
/// directory by another way lay in it.
#[test]
fn a_copy_takes_no_mounts_place_and_lies_not_in_its_brokers_directory() {
    play_with_mounts("targets-of-copies");
}
