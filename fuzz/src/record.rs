//! The target `record`: a record's header, its body, and an entry of a snapshot.

use libmq::fuzzing;
use libmq_suite::forge;

use crate::input::Input;
use crate::memory;

const MENDED: u8 = 1;

/// Flags, salt, position, header, and then the body.
pub(crate) fn record(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (flags, salt, position) = (input.u8(), input.u32(), input.u64());
    let mut record = [&input.array::<{ forge::RECORD_HEADER_BYTES }>()[..], input.rest()].concat();
    if flags & MENDED != 0 {
        forge::mend_record(&mut record, position, salt);
    }
    let (header, body) = record.split_first_chunk().expect("it begins with a header");
    // Texts are kept as they are, and a list of ids as numbers.
    memory::bounded(1024 + 8 * bytes.len(), || {
        let again = fuzzing::record_header(header, position, salt);
        assert!(again.is_none_or(|again| again == *header));
        // A checksum alone makes no header, and with one nothing else is asked of it than this.
        let is_possible = header[4] != 0
            && header[5] <= 1
            && header[6..8] == [0, 0]
            && forge::u64_at(header, 16) <= position;
        assert!(flags & MENDED == 0 || again.is_some() == is_possible);
        if let Some(again) = fuzzing::record_body(header[4], body) {
            assert_eq!(again, body);
        }
        if let Some(again) = fuzzing::snapshot_entry(body) {
            assert_eq!(again, body);
        }
    });
}
