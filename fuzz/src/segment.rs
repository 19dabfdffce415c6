//! The target `segment`: a directory of one file, a segment, is read and checked.

use libmq::storage::Storage;
use libmq::{ErrorKind, fuzzing, verify_on};
use libmq_suite::forge;

use crate::memory;
use crate::packed::unpack;

/// What reading takes, however little there is: a window along a file, and what is read from it in one piece.
const READING_BYTES: usize = 4 << 20;

/// As a directory of one file is packed.
pub(crate) fn segment(bytes: &[u8]) {
    let (storage, names) = unpack(bytes);
    let Some(name) = names.first() else { return };
    let file = storage.open(name).expect("it is there");
    let mut header = [0; forge::SEGMENT_FIELDS_BYTES];
    let read = file.read_at(&mut header, 0).expect("memory is read");
    if let Some(again) = fuzzing::segment_header(&header[..read]) {
        assert_eq!(again, header);
    }
    let length = storage.bytes().expect("memory has a length");
    let justified = READING_BYTES + 4 * usize::try_from(length).expect("it is small");
    let looked = memory::bounded(justified, || verify_on(&storage));
    match looked {
        Ok(report) => {
            assert!(report.bytes == length && report.dropped_bytes <= length, "{report:?}");
            assert!(report.records <= length / forge::RECORD_HEADER_BYTES as u64, "{report:?}");
            assert!(report.problems.iter().all(|problem| problem.kind == ErrorKind::Corrupt));
            // What was only read is as it was.
            assert_eq!(verify_on(&storage).expect("as before"), report);
        }
        Err(error) => {
            let kinds = [ErrorKind::Corrupt, ErrorKind::Invalid, ErrorKind::Unsupported];
            assert!(kinds.contains(&error.kind()), "{error:?}");
        }
    }
}
