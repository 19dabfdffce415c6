//! What of a file is made ready ahead of what is written to it: see "zeros a little ahead" in `docs/design.md`.

use std::ops::Range;

/// For each byte that is written, so many behind it are made ready, and no fewer than these.
const TIMES: u64 = 8;
const LEAST: u64 = 16 << 10;

/// For a write of more nothing is made ready: it fills most of what it begins.
const WRITE_MAX: u64 = 128 << 10;

/// Zeros are written in pieces of this, which then are one piece of the system's memory each. To smaller ones it takes a write
/// longer for each; in larger ones it takes the system longer to find the place of a small write. A write need not find ready what
/// it fills itself of one.
pub(super) const PIECE_BYTES: usize = 64 << 10;

/// What is to be made ready of a file of so many bytes before those in `next` are written, where nothing was written so far, and all
/// below `ready` was written to or made ready. May be empty; the file is ready up to where it ends then.
#[must_use]
pub fn ahead(next: &Range<u64>, ready: u64, bytes: u64) -> Range<u64> {
    let length = next.end - next.start;
    if next.end <= ready {
        return ready..ready;
    }
    if length > WRITE_MAX {
        return next.end..next.end;
    }
    let piece = PIECE_BYTES as u64;
    let to = (next.end + (TIMES * length).max(LEAST)) / LEAST * LEAST;
    next.start.max(ready).max(next.end / piece * piece)..to.min(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: u64 = 4 << 20;
    const KIB: u64 = 1 << 10;

    #[test]
    fn what_is_made_ready_begins_where_nothing_is_and_is_enough_for_some_writes() {
        for (next, ready, expected) in [
            (4096..4260, 0, 4096..16 * KIB),
            (16_300..16_464, 16 * KIB, 16 * KIB..32 * KIB),
            (16_300..16_464, 32 * KIB, 32 * KIB..32 * KIB),
            // It goes over the end of a piece, and fills the first one itself.
            (60 * KIB..70 * KIB, 0, 64 * KIB..144 * KIB),
            (60 * KIB..70 * KIB, 64 * KIB, 64 * KIB..144 * KIB),
            (60 * KIB..64 * KIB, 60 * KIB, 64 * KIB..96 * KIB),
            (4 * KIB..100 * KIB, 0, 64 * KIB..864 * KIB),
            (4 * KIB..(4 * KIB + WRITE_MAX), 0, 128 * KIB..1152 * KIB),
            (4 * KIB..(5 * KIB + WRITE_MAX), 0, 133 * KIB..133 * KIB),
            // The end of the file.
            (FILE - 10..FILE, FILE - 20, FILE..FILE),
            (FILE - 50..FILE - 10, FILE - 60, FILE - 50..FILE),
        ] {
            assert_eq!(ahead(&next, ready, FILE), expected, "{next:?} and {ready}");
        }
    }

    /// Writes of such lengths, one after the other and over and over: of what they make ready nothing was written before, nor made
    /// ready; and there are enough of them between.
    #[test]
    fn nothing_is_made_ready_twice_or_behind_what_is_written() {
        for (lengths, times_max) in [
            (&[164][..], FILE / LEAST),
            (&[16_400], FILE / 16_400 / 6),
            (&[PIECE_BYTES as u64], 8),
            (&[70_001], 8),
            (&[WRITE_MAX], 4),
            (&[WRITE_MAX + 1], 1),
            (&[164, 16_400, 3, 70_001, 300_000, 200], 30),
            (&[4096, 1 << 20, 12_288], 10),
        ] {
            let (mut at, mut ready, mut times) = (4096, 0, 0);
            for length in lengths.iter().cycle() {
                let next = at..(at + length).min(FILE);
                if next.is_empty() {
                    break;
                }
                let made = ahead(&next, ready, FILE);
                assert!(made.start >= next.start.max(ready) && made.start <= made.end);
                assert!(made.end >= next.end && made.end <= FILE);
                assert!(made.end - next.end <= 1 << 20, "further than `docs/format.md` says");
                (at, ready, times) = (next.end, made.end, times + u64::from(!made.is_empty()));
            }
            assert!(times <= times_max, "{lengths:?}: {times}");
        }
    }
}
