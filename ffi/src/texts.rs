//! Texts: a message's strings, each ended by NUL, kept as long as the handle that was asked for them.
//!
//! One allocation holds them all, made when the first is asked for. A text with a NUL inside, which only another language
//! can have given, ends there for C.

use std::ffi::c_char;

/// Strings by place: those of fixed meaning first, then the headers' names and values in turns.
#[derive(Debug)]
pub(crate) struct Texts {
    bytes: Box<[u8]>,
    /// Where each begins; none where there is no such text.
    starts: Box<[Option<usize>]>,
    fixed: usize,
}

impl Texts {
    /// Texts of fixed meaning, of which some may be absent, and headers.
    pub(crate) fn new<'a>(
        fixed: &[Option<&str>],
        headers: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> Self {
        let (mut bytes, mut starts) = (Vec::new(), Vec::with_capacity(fixed.len()));
        let mut push = |text: Option<&str>| {
            starts.push(text.map(|_| bytes.len()));
            if let Some(text) = text {
                bytes.extend_from_slice(text.as_bytes());
                bytes.push(0);
            }
        };
        fixed.iter().for_each(|text| push(*text));
        for (name, value) in headers {
            push(Some(name));
            push(Some(value));
        }
        Self { bytes: bytes.into(), starts: starts.into(), fixed: fixed.len() }
    }

    /// A text of fixed meaning; none where it is absent.
    pub(crate) fn fixed(&self, index: usize) -> Option<*const c_char> {
        if index < self.fixed { self.at(index) } else { None }
    }

    pub(crate) fn headers_len(&self) -> usize {
        (self.starts.len() - self.fixed) / 2
    }

    /// A header's name and value.
    pub(crate) fn header(&self, index: usize) -> Option<(*const c_char, *const c_char)> {
        let name = index.checked_mul(2)?.checked_add(self.fixed)?;
        Some((self.at(name)?, self.at(name + 1)?))
    }

    fn at(&self, place: usize) -> Option<*const c_char> {
        let start = (*self.starts.get(place)?)?;
        Some(self.bytes.get(start..)?.as_ptr().cast())
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::CStr;

    use super::*;

    fn read(text: Option<*const c_char>) -> Option<String> {
        // SAFETY: what `Texts` answers ends in NUL and lives as long as it does.
        text.map(|text| unsafe { CStr::from_ptr(text) }.to_str().unwrap().to_owned())
    }

    #[test]
    fn texts_are_found_by_place() {
        let headers = [("a", "1"), ("b", "")];
        let texts = Texts::new(&[Some("queue"), None, Some("")], headers.into_iter());
        assert_eq!(read(texts.fixed(0)).unwrap(), "queue");
        assert!(texts.fixed(1).is_none());
        assert_eq!(read(texts.fixed(2)).unwrap(), "");
        assert!(texts.fixed(3).is_none());
        assert_eq!(texts.headers_len(), 2);
        let (name, value) = texts.header(1).unwrap();
        assert_eq!(
            (read(Some(name)).unwrap(), read(Some(value)).unwrap()),
            ("b".into(), "".into())
        );
        assert!(texts.header(2).is_none() && texts.header(usize::MAX).is_none());
    }
}
