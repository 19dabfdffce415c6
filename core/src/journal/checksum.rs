//! Checksums of what is written again and again: the low half of XXH3-64.
//!
//! Any damage passes once in 2^32. What begins a file has CRC-32s instead, the first of which all versions of the format have in
//! common.

use twox_hash::XxHash3_64;

use crate::codec::array_at;

/// Of bytes.
pub(super) fn checksum(bytes: &[u8]) -> u32 {
    low_half(XxHash3_64::oneshot(bytes))
}

/// Of bytes in a place of their own, which the seed names: elsewhere they have another one. Inlined, since of a length that is
/// known it takes few instructions.
#[inline]
pub(super) fn seeded(seed: u64, bytes: &[u8]) -> u32 {
    low_half(XxHash3_64::oneshot_with_seed(seed, bytes))
}

fn low_half(hash: u64) -> u32 {
    u32::from_le_bytes(array_at(&hash.to_le_bytes(), 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is on disk has these for ever, whatever becomes of the library: of so many first bytes of 1 to 255 again and again,
    /// without a seed and seeded with 42, by another library's reckoning.
    #[test]
    fn checksums_are_those_of_the_format() {
        let bytes: Vec<u8> = (1..=u8::MAX).cycle().take(70_001).collect();
        let known = [
            (0, 0x38d3_94c2, 0xf43d_84d2),
            (1, 0xeb86_ceeb, 0xab64_dc93),
            (3, 0x32ae_733b, 0xac8a_bfd8),
            (8, 0x1623_2297, 0x7774_1fda),
            (16, 0x3245_0f6a, 0x1299_4ac3),
            (32, 0x2d15_02eb, 0x83a1_264d),
            (100, 0xc84f_a8fb, 0xebd1_26dc),
            (128, 0x1068_51df, 0x7789_2aef),
            (200, 0x651f_c36a, 0xd062_b98a),
            (240, 0xd7e0_65b0, 0x2329_45d4),
            (241, 0x0cdd_4ce5, 0x5ebe_0f2d),
            (1000, 0xc5d7_ca00, 0xb2f3_f90f),
            (1024, 0x53da_5dca, 0x177c_8a95),
            (1025, 0xce6e_b5c2, 0x557c_dd0c),
            (2000, 0xe1e9_8f75, 0x7e0a_eb6a),
            (70_001, 0x3099_2fc9, 0x119d_1fe2),
        ];
        for (length, plain, with_seed) in known {
            let bytes = &bytes[..length];
            assert_eq!((checksum(bytes), seeded(42, bytes)), (plain, with_seed), "{length}");
        }
    }
}
