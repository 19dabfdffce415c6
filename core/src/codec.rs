//! Little-endian fields, read with every length checked and written without ceremony.

/// Reads fields one after another; every read answers none once the bytes do not suffice.
#[derive(Clone, Debug)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(count)?;
        self.bytes = rest;
        Some(taken)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// A number in as few bytes as [`put_varint`] gives it; none in more.
    pub(crate) fn varint(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            number |= bits << shift;
            if byte < 0x80 {
                let is_whole = bits << shift >> shift == bits;
                let is_shortest = bits != 0 || shift == 0;
                return (is_whole && is_shortest).then_some(number);
            }
        }
        None
    }

    /// A number that [`put_step`] has written as seen from this one.
    pub(crate) fn step(&mut self, from: u64) -> Option<u64> {
        let step = self.varint()?;
        let distance = step >> 1;
        Some(from.wrapping_add(if step & 1 == 0 { distance } else { !distance }))
    }

    /// What has a fixed form.
    pub(crate) fn form<const N: usize>(&mut self) -> Option<&'a [u8; N]> {
        self.bytes(N)?.first_chunk()
    }

    /// UTF-8 text of this many bytes.
    pub(crate) fn text(&mut self, count: usize) -> Option<&'a str> {
        std::str::from_utf8(self.bytes(count)?).ok()
    }

    /// Text behind a 16-bit length, as [`put_text`] writes it.
    pub(crate) fn short_text(&mut self) -> Option<&'a str> {
        let count = self.u16()?;
        self.text(count.into())
    }

    pub(crate) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.bytes)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }
}

/// The bytes of a field of what has a fixed form. A look at all of it tells the compiler that each field is there.
#[inline]
pub(crate) fn array_at<const N: usize, const M: usize>(bytes: &[u8; M], at: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&bytes[at..at + N]);
    field
}

/// Appends a number, seven bits a byte, the lowest first; all but the last one have their highest bit set.
#[inline]
pub(crate) fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    out.push(number.to_le_bytes()[0]);
}

/// Appends a number as seen from another one, in fewer bytes the nearer they are: twice the distance, or for what is before it one
/// less.
#[inline]
pub(crate) fn put_step(out: &mut Vec<u8>, from: u64, to: u64) {
    let distance = to.wrapping_sub(from);
    let is_before = distance >> 63;
    put_varint(out, distance << 1 ^ is_before.wrapping_neg());
}

/// Appends text behind a 16-bit length; what is longer than that can say is cut at a character.
pub(crate) fn put_text(out: &mut Vec<u8>, text: &str) {
    let text = text.get(..text.floor_char_boundary(usize::from(u16::MAX))).unwrap_or_default();
    let length = u16::try_from(text.len()).unwrap_or(0);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_a_fixed_form_is_there_whole_or_not_at_all() {
        let bytes = [1, 2, 3, 4, 5, 6];
        let mut reader = Reader::new(&bytes);
        let form: &[u8; 4] = reader.form().unwrap();
        assert_eq!(form, &[1, 2, 3, 4]);
        assert_eq!((array_at(form, 0), array_at(form, 1)), ([1, 2, 3, 4], [2, 3]));
        assert_eq!(array_at(form, 3), [4]);
        assert!(reader.form::<3>().is_none());
        assert_eq!(reader.form(), Some(&[5, 6]));
    }

    #[test]
    fn fields_come_back_in_order_and_no_read_goes_beyond() {
        let mut out = vec![1];
        out.extend_from_slice(&2u16.to_le_bytes());
        out.extend_from_slice(&3u32.to_le_bytes());
        out.extend_from_slice(&4u64.to_le_bytes());
        put_text(&mut out, "five");
        let mut reader = Reader::new(&out);
        assert_eq!(reader.u8(), Some(1));
        assert_eq!(reader.u16(), Some(2));
        assert_eq!(reader.u32(), Some(3));
        assert_eq!(reader.u64(), Some(4));
        assert!(!reader.is_empty());
        assert_eq!(reader.clone().rest(), b"\x04\0five");
        assert_eq!(reader.short_text(), Some("five"));
        assert_eq!(reader.u8(), None);
        assert!(reader.is_empty());
    }

    #[test]
    fn a_number_takes_the_bytes_it_needs_and_has_no_other_form() {
        for (number, length) in [
            (0, 1),
            (127, 1),
            (128, 2),
            (16_383, 2),
            (16_384, 3),
            ((1 << 63) - 1, 9),
            (1 << 63, 10),
            (u64::MAX, 10),
        ] {
            let mut out = Vec::new();
            put_varint(&mut out, number);
            assert_eq!(out.len(), length, "{number}");
            assert_eq!(Reader::new(&out).varint(), Some(number));
            for end in 0..length {
                assert_eq!(Reader::new(&out[..end]).varint(), None, "{end} bytes of {number}");
            }
            // The same number with a zero behind it.
            out[length - 1] |= 0x80;
            out.push(0);
            assert_eq!(Reader::new(&out).varint(), None, "{number} and a zero");
        }
        assert_eq!(Reader::new(&[&[0xff; 9][..], &[2]].concat()).varint(), None, "65 bits");
        assert_eq!(Reader::new(&[0xff; 11]).varint(), None);
    }

    #[test]
    fn a_number_is_told_by_its_distance_whichever_way() {
        for (from, to, length) in [
            (0, 0, 1),
            (1000, 1063, 1),
            (1000, 936, 1),
            (1000, 1064, 2),
            (1000, 935, 2),
            (0, u64::MAX, 1),
            (u64::MAX, 0, 1),
            (0, 1 << 63, 10),
            (1 << 63, 0, 10),
            (5, (1 << 62) + 5, 10),
            (5, (1 << 62) + 4, 9),
        ] {
            let mut out = Vec::new();
            put_step(&mut out, from, to);
            assert_eq!(Reader::new(&out).step(from), Some(to), "from {from} to {to}");
            assert_eq!(out.len(), length, "from {from} to {to}");
        }
    }

    #[test]
    fn a_length_beyond_the_end_is_none() {
        assert_eq!(Reader::new(&[255, 255, b'x']).short_text(), None);
    }

    #[test]
    fn long_text_is_cut_at_a_character() {
        let mut out = Vec::new();
        put_text(&mut out, &"é".repeat(40_000));
        assert_eq!(Reader::new(&out).short_text().map(str::len), Some(65_534));
    }
}
