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
