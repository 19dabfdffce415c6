//! Texts: a message's strings, each ended by NUL, kept as long as the handle that was asked for them.
//!
//! They lie one behind the other, in the handle itself where they are few bytes: the name of a queue always is. More take one
//! allocation. A text with a NUL inside, which only another language can have given, ends there for C.

use std::ffi::c_char;

/// Bytes that need no allocation: a queue's longest name, or what messages usually have.
const FEW: usize = 160;
/// Bytes of a place in the table.
const PLACE: usize = size_of::<u32>();

/// Strings by place: those of fixed meaning first, then the headers' names and values in turns.
#[derive(Debug)]
pub(crate) struct Texts {
    /// A table of where each begins, 0 where there is no such text, and then the texts.
    bytes: Bytes,
    count: usize,
    fixed: usize,
}

#[derive(Debug)]
enum Bytes {
    Few([u8; FEW]),
    Many(Box<[u8]>),
}

impl Texts {
    /// Texts of fixed meaning, of which some may be absent, and headers, which are asked for twice.
    pub(crate) fn new<'a, H: Iterator<Item = (&'a str, &'a str)>>(
        fixed: &[Option<&'a str>],
        headers: impl Fn() -> H,
    ) -> Self {
        let all = || {
            let headers = headers().flat_map(|(name, value)| [Some(name), Some(value)]);
            fixed.iter().copied().chain(headers)
        };
        let (count, len) = all().fold((0, 0), |(count, len), text| {
            (count + 1, len + PLACE + text.map_or(0, |text| text.len() + 1))
        });
        let mut bytes = match len {
            0..=FEW => Bytes::Few([0; FEW]),
            _ => Bytes::Many(vec![0; len].into()),
        };
        let (table, mut rest) = bytes.all_mut().split_at_mut(count * PLACE);
        let mut start = table.len();
        for (place, text) in table.chunks_exact_mut(PLACE).zip(all()) {
            let Some(text) = text else { continue };
            let Some((here, behind)) = rest.split_at_mut_checked(text.len() + 1) else { break };
            here.iter_mut().zip(text.bytes()).for_each(|(here, byte)| *here = byte);
            place.copy_from_slice(&u32::try_from(start).unwrap_or_default().to_ne_bytes());
            start += here.len();
            rest = behind;
        }
        Self { bytes, count, fixed: fixed.len() }
    }

    /// A text of fixed meaning; none where it is absent.
    pub(crate) fn fixed(&self, index: usize) -> Option<*const c_char> {
        if index < self.fixed { self.at(index) } else { None }
    }

    /// A header's name and value.
    pub(crate) fn header(&self, index: usize) -> Option<(*const c_char, *const c_char)> {
        let name = index.checked_mul(2)?.checked_add(self.fixed)?;
        Some((self.at(name)?, self.at(name + 1)?))
    }

    fn at(&self, place: usize) -> Option<*const c_char> {
        if place >= self.count {
            return None;
        }
        let bytes = self.bytes.all();
        let start = bytes.chunks_exact(PLACE).nth(place)?.try_into().map(u32::from_ne_bytes);
        match start {
            Ok(0) | Err(_) => None,
            Ok(start) => Some(bytes.get(start as usize..)?.as_ptr().cast()),
        }
    }
}

impl Bytes {
    fn all(&self) -> &[u8] {
        match self {
            Self::Few(bytes) => bytes,
            Self::Many(bytes) => bytes,
        }
    }

    fn all_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Few(bytes) => bytes,
            Self::Many(bytes) => bytes,
        }
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

    /// Texts that fit into the handle, and some that do not.
    #[test]
    fn texts_are_found_by_place() {
        for value in ["", "1", &"x".repeat(FEW)] {
            let texts = Texts::new(&[Some("queue"), None, Some("")], || {
                [("a", "1"), ("b", value)].into_iter()
            });
            assert_eq!(matches!(texts.bytes, Bytes::Few(_)), value.len() < FEW);
            assert_eq!(read(texts.fixed(0)).unwrap(), "queue");
            assert!(texts.fixed(1).is_none());
            assert_eq!(read(texts.fixed(2)).unwrap(), "");
            assert!(texts.fixed(3).is_none());
            let (name, found) = texts.header(1).unwrap();
            assert_eq!(
                (read(Some(name)).unwrap(), read(Some(found)).unwrap()),
                ("b".into(), value.into())
            );
            assert!(texts.header(2).is_none() && texts.header(usize::MAX).is_none());
        }
    }

    #[test]
    fn the_longest_name_of_a_queue_needs_no_allocation() {
        let name = "q".repeat(libmq::limits::QUEUE_NAME_BYTES_MAX);
        let texts = Texts::new(&[Some(&*name), None, None], std::iter::empty);
        assert!(matches!(texts.bytes, Bytes::Few(_)));
        assert_eq!(read(texts.fixed(0)).unwrap(), name);
    }
}
