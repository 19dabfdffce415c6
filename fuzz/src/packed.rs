//! A directory as an input: only what says something is in it.
//!
//! ```text
//! a segment   flags (1) with bit 0 = 0, length (2), the 92 bytes of its header, as many bytes of records
//! a snapshot  flags (1) with bit 0 = 1, length (2), as many bytes
//! ```
//!
//! Flags: bit 1 = its header's checksum is mended, bit 2 = those of its records or blocks are. A segment is as long as it
//! says, and zero behind what is there, but no longer than [`FILE_BYTES_MAX`].

use libmq::storage::{MemoryStorage, Storage};
use libmq_suite::forge;

use crate::input::Input;

const SNAPSHOT: u8 = 1;
const HEADER_MENDED: u8 = 2;
const INSIDE_MENDED: u8 = 4;

/// Files of an input: more would only make it slow.
const FILES_MAX: usize = 8;

/// Of a file, so that a length that is held against it justifies no more.
const FILE_BYTES_MAX: u64 = 256 << 10;

/// The directory that an input stands for, and what its files are called.
#[must_use]
pub fn unpack(bytes: &[u8]) -> (MemoryStorage, Vec<String>) {
    let mut input = Input::new(bytes);
    let storage = MemoryStorage::new();
    let mut names = Vec::new();
    while !input.is_empty() && names.len() < FILES_MAX {
        let (flags, length) = (input.u8(), input.u16().into());
        let (name, file, bytes) = if flags & SNAPSHOT == 0 {
            let mut header = input.array::<{ forge::SEGMENT_FIELDS_BYTES }>();
            if flags & HEADER_MENDED != 0 {
                forge::mend_segment_header(&mut header);
            }
            let mut file = header.to_vec();
            file.resize(forge::SEGMENT_HEADER_BYTES, 0);
            file.extend_from_slice(input.bytes(length));
            if flags & INSIDE_MENDED != 0 {
                forge::mend_records(&mut file);
            }
            let capacity = forge::u64_at(&file, 48);
            (forge::segment_name(&file), file, capacity.min(FILE_BYTES_MAX))
        } else {
            let mut file = input.bytes(length).to_vec();
            let header = file.get(..forge::SNAPSHOT_HEADER_BYTES).unwrap_or_default().to_vec();
            if flags & INSIDE_MENDED != 0 {
                forge::mend_snapshot(&mut file);
            }
            if flags & HEADER_MENDED == 0 {
                forge::put(&mut file, 0, &header);
            }
            (forge::snapshot_name(&file), file, 0)
        };
        // Two of one name are one file.
        if let Ok(made) = storage.create(&name, bytes) {
            made.write_at(&file, 0).expect("memory takes what it is given");
            names.push(name);
        }
    }
    (storage, names)
}

/// The input that stands for a directory of these files, mended.
#[must_use]
pub fn pack(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, file) in files {
        let written = file.len() - file.iter().rev().take_while(|byte| **byte == 0).count();
        let (flags, header, rest) = if name.ends_with(".snapshot") {
            (SNAPSHOT, &[][..], &file[..])
        } else {
            let records = file.get(forge::SEGMENT_HEADER_BYTES..written).unwrap_or_default();
            (0, &file[..forge::SEGMENT_FIELDS_BYTES], records)
        };
        out.push(flags | HEADER_MENDED | INSIDE_MENDED);
        let length = u16::try_from(rest.len()).expect("seeds are small");
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(header);
        out.extend_from_slice(rest);
    }
    out
}
