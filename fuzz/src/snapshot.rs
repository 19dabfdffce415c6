//! The target `snapshot`: a snapshot file is read.

use libmq::fuzzing;
use libmq::storage::{MemoryStorage, Storage};
use libmq_suite::forge;

use crate::memory;

const MENDED: u8 = 1;

/// The tag of an entry that is the journal's own.
const SEGMENT: u8 = 255;

/// A block in one piece, and what its entries come to again.
const READING_BYTES: usize = 2 << 20;

/// Flags, and then the file.
pub(crate) fn snapshot(bytes: &[u8]) {
    let Some((flags, file)) = bytes.split_first() else { return };
    let mut file = file.to_vec();
    if flags & MENDED != 0 {
        forge::mend_snapshot(&mut file);
    }
    let name = forge::snapshot_name(&file);
    let storage = MemoryStorage::new();
    let made = storage.create(&name, 0).expect("it is the first");
    made.write_at(&file, 0).expect("memory takes what it is given");
    let justified = READING_BYTES + 16 * bytes.len();
    let read = memory::bounded(justified, || fuzzing::snapshot(&storage, &name));
    if let Some(read) = read {
        assert_eq!(read.header, file[..forge::SNAPSHOT_HEADER_BYTES]);
        let (of_journal, others): (Vec<_>, Vec<_>) =
            forge::entries(&file).into_iter().partition(|entry| entry[0] == SEGMENT);
        assert_eq!(read.entries, others);
        let segments = of_journal.into_iter().map(|entry| {
            assert_eq!(entry.len(), 13);
            (forge::u64_at(&entry, 1), forge::u32_at(&entry, 9))
        });
        assert_eq!(read.segments, segments.collect::<Vec<_>>());
    }
}
