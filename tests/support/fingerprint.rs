//! A number made of many bytes, quickly: disks are told apart by it, millions of times.

/// What it is of so far.
#[derive(Debug, Default)]
pub(crate) struct Fingerprint(u64);

impl Fingerprint {
    /// Adds bytes, and how many they are.
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks();
        words.iter().for_each(|word| self.add_number(u64::from_le_bytes(*word)));
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        self.add_number(u64::from_le_bytes(last));
        self.add_number(bytes.len() as u64);
    }

    /// Each bit of the number changes about half of what it comes to.
    pub(crate) fn add_number(&mut self, number: u64) {
        /// The golden ratio's digits.
        const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
        let product = u128::from(self.0.rotate_left(32) ^ number) * u128::from(FACTOR);
        self.0 = product as u64 ^ (product >> 64) as u64;
    }

    pub(crate) fn number(&self) -> u64 {
        self.0
    }
}

#[test]
fn one_bit_anywhere_changes_it_and_nothing_else_does() {
    let of = |bytes: &[u8]| {
        let mut print = Fingerprint::default();
        print.add(bytes);
        print.number()
    };
    let mut seen = std::collections::HashSet::new();
    for length in 0..40 {
        let mut bytes = vec![0; length];
        assert!(seen.insert(of(&bytes)), "{length} zeros");
        for bit in 0..length * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(seen.insert(of(&bytes)), "bit {bit} of {length}");
            assert_eq!(of(&bytes), of(&bytes.clone()));
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }
}
