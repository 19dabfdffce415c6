//! What C passes by address: read and written here, and nowhere else.
//!
//! Nothing is followed before it was checked as far as a program can: null, alignment, and every length against a limit,
//! so that no more is read than the limit allows. What cannot be checked is what the head of the header asks of C: that
//! an address, if it is not null, leads to what the function says, for as long as the call takes.

use std::borrow::Cow;
use std::ffi::{c_char, c_void};
use std::marker::PhantomData;
use std::ptr;
use std::slice;

use libmq::limits;
use libmq::{Error, ErrorKind, Result};

/// The largest struct that a later version may pass.
pub(crate) const STRUCT_BYTES_MAX: usize = 4096;

/// Says that the addresses that a function was given are what the header asks for. Borrowed by what is read, so that
/// nothing outlives the call.
#[derive(Debug)]
pub(crate) struct FromC(());

/// A place that C wants a value in.
#[derive(Debug)]
pub(crate) struct Out<'a, T> {
    place: *mut T,
    call: PhantomData<&'a FromC>,
}

/// A struct whose first field is its size in bytes, as the caller was compiled.
///
/// # Safety
/// The type is `repr(C)`, begins with a `u32`, and all bytes zero are a value of it, as are the bytes that C puts there.
pub(crate) unsafe trait Extensible: Sized {
    /// The size that it had in the first version, less than which nobody can have been compiled with. It never changes: what
    /// later versions add comes behind it.
    const FIRST_SIZE: usize;
}

/// Makes the witness for the body of an exported function.
macro_rules! from_c {
    () => {{
        // SAFETY: used in exported functions alone, whose callers keep what the head of the header asks of them.
        unsafe { $crate::from_c::FromC::new() }
    }};
}
pub(crate) use from_c;

impl FromC {
    /// # Safety
    /// Until the witness is dropped, every address given to its methods is null, misaligned, or leads to what the method
    /// reads or writes: strings end in NUL, arrays have the length given with them, structs the size they say.
    pub(crate) unsafe fn new() -> Self {
        Self(())
    }

    /// A string of at most `bytes_max` bytes; none for null.
    #[inline]
    pub(crate) fn text(
        &self,
        name: &str,
        text: *const c_char,
        bytes_max: usize,
    ) -> Result<Option<&str>> {
        if text.is_null() { Ok(None) } else { self.required_text(name, text, bytes_max).map(Some) }
    }

    /// A string that must be there.
    pub(crate) fn required_text(
        &self,
        name: &str,
        text: *const c_char,
        bytes_max: usize,
    ) -> Result<&str> {
        let bytes = self.string(text, bytes_max + 1).ok_or_else(|| null(name))?;
        if bytes.len() > bytes_max {
            return Err(too_long(name, bytes_max));
        }
        if bytes.iter().fold(0, |all, byte| all | byte).is_ascii() {
            // SAFETY: what is ASCII is UTF-8.
            return Ok(unsafe { str::from_utf8_unchecked(bytes) });
        }
        str::from_utf8(bytes).map_err(|_| not_utf8(name))
    }

    /// A queue's name.
    pub(crate) fn queue(&self, queue: *const c_char) -> Result<&str> {
        self.required_text("queue", queue, limits::QUEUE_NAME_BYTES_MAX)
    }

    /// A queue's name, or null for all queues.
    pub(crate) fn queue_or_all(&self, queue: *const c_char) -> Result<Option<&str>> {
        self.text("queue", queue, limits::QUEUE_NAME_BYTES_MAX)
    }

    /// A text for people, which is better kept damaged than not at all.
    pub(crate) fn remark(&self, text: *const c_char) -> Option<Cow<'_, str>> {
        self.string(text, limits::ERROR_TEXT_BYTES_MAX + 1).map(String::from_utf8_lossy)
    }

    /// Bytes; null only where there are none.
    #[inline]
    pub(crate) fn bytes(
        &self,
        name: &str,
        bytes: *const c_void,
        len: usize,
        bytes_max: usize,
    ) -> Result<&[u8]> {
        if len > bytes_max {
            return Err(too_large(name, len, bytes_max));
        }
        if len == 0 {
            return Ok(&[]);
        }
        if bytes.is_null() {
            return Err(null_of_length(name, len));
        }
        // SAFETY: not null, bytes are always aligned, and the length is below every limit; that so many can be read
        // until the witness is dropped was promised in `FromC::new`.
        Ok(unsafe { slice::from_raw_parts(bytes.cast(), len) })
    }

    /// An array of at most `len_max`; null only where it is empty.
    pub(crate) fn array<T: Copy>(
        &self,
        name: &str,
        items: *const T,
        len: usize,
        len_max: usize,
    ) -> Result<&[T]> {
        if len > len_max {
            return Err(invalid(format!("{name} are {len}, but at most {len_max}")));
        }
        if len == 0 {
            return Ok(&[]);
        }
        check_address(name, items)?;
        // SAFETY: not null and aligned, and the length is below every limit; that so many items can be read until the
        // witness is dropped was promised in `FromC::new`.
        Ok(unsafe { slice::from_raw_parts(items, len) })
    }

    /// Reads a struct: what an older caller does not know is zero, and what a newer one sets is refused.
    #[inline(always)]
    pub(crate) fn with_structure<T: Extensible, R>(
        &self,
        name: &str,
        from: *const T,
        read: impl FnOnce(&T) -> Result<R>,
    ) -> Result<R> {
        let size = self.struct_size(name, from)?;
        let copy;
        let known = if size == size_of::<T>() {
            // SAFETY: not null and aligned; so many bytes can be read until the witness is dropped, as promised in
            // `FromC::new`, and any bytes that C puts there are a value of an extensible struct.
            unsafe { &*from }
        } else {
            copy = self.sized(name, from.cast(), size)?;
            &copy
        };
        read(known)
    }

    /// Something of what a struct had in its first version, even where [`FromC::with_structure`] would refuse the struct; none
    /// where it is not there, or says that it is shorter.
    pub(crate) fn first_part<T: Extensible, R>(
        &self,
        from: *const T,
        part: impl FnOnce(&T) -> R,
    ) -> Option<R> {
        check_address("", from).ok()?;
        // SAFETY: not null and aligned, as in `FromC::struct_size`.
        let size = unsafe { from.cast::<u32>().read() } as usize;
        if size < T::FIRST_SIZE {
            return None;
        }
        self.sized("", from.cast(), T::FIRST_SIZE).ok().map(|first| part(&first))
    }

    /// Copies of structs that lie in an array, each as long as the first says.
    pub(crate) fn structures<T: Extensible>(
        &self,
        name: &str,
        from: *const T,
        len: usize,
    ) -> Result<Vec<T>> {
        if len > limits::BATCH_MESSAGES_MAX {
            let most = limits::BATCH_MESSAGES_MAX;
            return Err(invalid(format!("a batch has {len} {name}, but at most {most}")));
        }
        if len == 0 {
            return Ok(Vec::new());
        }
        let size = self.struct_size(name, from)?;
        let at = |index: usize| from.cast::<u8>().wrapping_add(index * size);
        let mut structs = Vec::with_capacity(len);
        for index in 0..len {
            if self.struct_size(name, at(index).cast::<T>())? != size {
                let text = format!("{name}[{index}] has another struct_size than the first");
                return Err(invalid(text));
            }
            structs.push(self.sized(name, at(index), size)?);
        }
        Ok(structs)
    }

    /// The size that a struct says it has.
    #[inline]
    pub(crate) fn struct_size<T: Extensible>(&self, name: &str, from: *const T) -> Result<usize> {
        check_address(name, from)?;
        // SAFETY: not null and aligned; an extensible struct begins with a u32, which can be read as promised in
        // `FromC::new`.
        let size = unsafe { from.cast::<u32>().read() } as usize;
        // A multiple of the alignment ends where a field ends: the structs are laid out so.
        let is_one = (T::FIRST_SIZE..=STRUCT_BYTES_MAX).contains(&size)
            && size.is_multiple_of(align_of::<T>());
        if is_one { Ok(size) } else { Err(no_size(name, size)) }
    }

    /// A place that must be there, in which a call leaves something. It says that there is nothing from now on: made before
    /// the handle is looked at, it does so whatever the call fails of.
    #[inline]
    pub(crate) fn emptied<T>(&self, name: &str, place: *mut T, nothing: T) -> Result<Out<'_, T>> {
        let out = self.out(name, place)?;
        out.write(nothing);
        Ok(out)
    }

    /// As [`FromC::emptied`], of a place that may be null.
    #[inline]
    pub(crate) fn optional_emptied<T>(
        &self,
        name: &str,
        place: *mut T,
        nothing: T,
    ) -> Result<Option<Out<'_, T>>> {
        if place.is_null() { Ok(None) } else { self.emptied(name, place, nothing).map(Some) }
    }

    /// As [`FromC::optional_emptied`], of an array with room for `len`, of which `len_max` are used at most.
    pub(crate) fn optional_emptied_array<T: Copy>(
        &self,
        name: &str,
        place: *mut T,
        len: usize,
        len_max: usize,
        nothing: T,
    ) -> Result<Option<Out<'_, T>>> {
        if place.is_null() {
            return Ok(None);
        }
        let out = self.out(name, place)?;
        // Such a length is refused, so that nothing is known of the place behind it.
        if len <= len_max {
            (0..len).for_each(|index| out.write_at(index, nothing));
        }
        Ok(Some(out))
    }

    /// A place that must be there.
    #[inline]
    pub(crate) fn out<T>(&self, name: &str, place: *mut T) -> Result<Out<'_, T>> {
        check_address(name, place)?;
        Ok(Out { place, call: PhantomData })
    }

    /// A place that need not be there: none where it is null or misaligned.
    #[inline]
    pub(crate) fn place<T>(&self, place: *mut T) -> Option<Out<'_, T>> {
        let is_there = !place.is_null() && place.is_aligned();
        is_there.then_some(Out { place, call: PhantomData })
    }

    /// Writes a struct as far as its reader knows it, and zero where a newer reader knows more.
    pub(crate) fn write_structure<T: Extensible>(
        &self,
        name: &str,
        to: *mut T,
        value: &T,
    ) -> Result<()> {
        let size = self.struct_size(name, to)?;
        let known = size.min(size_of::<T>());
        // SAFETY: `to` is not null, and `size` bytes can be written there as promised in `FromC::new`; `known` bytes can
        // be read from `value`, which is not among them, being ours.
        unsafe {
            ptr::copy_nonoverlapping(ptr::from_ref(value).cast::<u8>(), to.cast::<u8>(), known);
            to.cast::<u8>().add(known).write_bytes(0, size - known);
        }
        Ok(())
    }

    /// Up to `bytes_max` bytes of a string; none for null.
    fn string(&self, text: *const c_char, bytes_max: usize) -> Option<&[u8]> {
        if text.is_null() {
            return None;
        }
        // SAFETY: not null; that a NUL ends it, before which everything can be read until the witness is dropped, was
        // promised in `FromC::new`, and strnlen(3) reads no further than that.
        unsafe {
            let len = libc::strnlen(text, bytes_max);
            Some(slice::from_raw_parts(text.cast(), len))
        }
    }

    /// A copy of the struct of this size, which may be that of an older or a newer caller.
    #[inline(never)]
    fn sized<T: Extensible>(&self, name: &str, from: *const u8, size: usize) -> Result<T> {
        let known = size.min(size_of::<T>());
        let rest = size - known;
        // SAFETY: `size` bytes can be read as promised in `FromC::new`; the part beyond what is known lies within.
        let rest = unsafe { slice::from_raw_parts(from.add(known), rest) };
        if rest.iter().any(|byte| *byte != 0) {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("{name} sets fields that this version of libmq does not know"),
            ));
        }
        // SAFETY: all bytes zero are a value of an extensible struct, and so is every beginning that C wrote over them,
        // since `known` ends where a field ends. The copy stays within both.
        unsafe {
            let mut value = std::mem::MaybeUninit::<T>::zeroed();
            ptr::copy_nonoverlapping(from, value.as_mut_ptr().cast(), known);
            Ok(value.assume_init())
        }
    }
}

impl<T> Out<'_, T> {
    pub(crate) fn write(&self, value: T) {
        self.write_at(0, value);
    }

    /// Writes an item of an array, within the length that was given with it.
    pub(crate) fn write_at(&self, index: usize, value: T) {
        // SAFETY: the address was checked in `FromC::out`; that the items of the array can be written until the witness
        // is dropped was promised in `FromC::new`.
        unsafe { self.place.add(index).write(value) };
    }
}

#[inline]
fn check_address<T>(name: &str, address: *const T) -> Result<()> {
    if address.is_null() {
        return Err(null(name));
    }
    if !address.is_aligned() {
        return Err(misaligned(name, align_of::<T>()));
    }
    Ok(())
}

// What is refused is put into words apart, so that what is not pays nothing for them.

#[cold]
fn null(name: &str) -> Error {
    invalid(format!("{name} is NULL"))
}

#[cold]
fn misaligned(name: &str, alignment: usize) -> Error {
    invalid(format!("{name} is not aligned to {alignment} bytes"))
}

#[cold]
fn null_of_length(name: &str, len: usize) -> Error {
    invalid(format!("{name} is NULL, but its length is {len}"))
}

#[cold]
fn too_large(name: &str, len: usize, bytes_max: usize) -> Error {
    Error::new(ErrorKind::TooLarge, format!("{name} is {len} bytes, but at most {bytes_max}"))
}

#[cold]
fn too_long(name: &str, bytes_max: usize) -> Error {
    invalid(format!("{name} is longer than {bytes_max} bytes"))
}

#[cold]
fn not_utf8(name: &str) -> Error {
    invalid(format!("{name} is not UTF-8"))
}

#[cold]
fn no_size(name: &str, size: usize) -> Error {
    invalid(format!(
        "struct_size of {name} is {size}: begin with its initialiser, or set it to sizeof"
    ))
}

pub(crate) fn invalid(message: String) -> Error {
    Error::new(ErrorKind::Invalid, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[repr(C)]
    #[derive(Debug, Clone, Copy, PartialEq)]
    struct Known {
        struct_size: u32,
        small: i32,
        large: u64,
    }

    // SAFETY: repr(C), begins with a u32, and any bytes are a value.
    unsafe impl Extensible for Known {
        const FIRST_SIZE: usize = 8;
    }

    fn witness() -> FromC {
        // SAFETY: the tests pass what is there.
        unsafe { FromC::new() }
    }

    /// Four words, of which the first holds the size.
    fn words(size: u32, rest: [u64; 3]) -> [u64; 4] {
        [u64::from(size) | 7 << 32, rest[0], rest[1], rest[2]]
    }

    fn read(words: &[u64]) -> Result<Known> {
        witness().with_structure("known", words.as_ptr().cast::<Known>(), |known| Ok(*known))
    }

    #[test]
    fn a_struct_of_our_size_is_copied() {
        let known = read(&words(16, [9, 0, 0])).unwrap();
        assert_eq!(known, Known { struct_size: 16, small: 7, large: 9 });
    }

    #[test]
    fn a_shorter_struct_has_zeros_where_it_ends() {
        let known = read(&words(8, [9, 0, 0])).unwrap();
        assert_eq!(known, Known { struct_size: 8, small: 7, large: 0 });
    }

    #[test]
    fn a_longer_struct_may_hold_nothing_but_zeros() {
        assert_eq!(read(&words(32, [9, 0, 0])).unwrap().large, 9);
        let error = read(&words(32, [9, 0, 1])).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("known"), "{error}");
    }

    #[test]
    fn sizes_that_are_none_are_refused() {
        for size in [0, 1, 4, 7, 9, 4104, u32::MAX] {
            let error = read(&words(size, [0, 0, 0])).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{size}");
            assert!(error.to_string().contains("struct_size"), "{error}");
        }
    }

    #[test]
    fn structs_lie_as_far_apart_as_the_first_says() {
        let three = [words(32, [1, 0, 0]), words(32, [2, 0, 0]), words(32, [3, 0, 0])];
        let read = witness().structures("known", three.as_ptr().cast::<Known>(), 3).unwrap();
        assert_eq!(read.iter().map(|known| known.large).collect::<Vec<_>>(), [1, 2, 3]);
        let odd = [words(32, [1, 0, 0]), words(16, [2, 0, 0])];
        let error = witness().structures("known", odd.as_ptr().cast::<Known>(), 2).unwrap_err();
        assert!(error.to_string().contains("another struct_size"), "{error}");
    }

    #[test]
    fn a_struct_is_written_as_far_as_its_reader_knows_it() {
        let value = Known { struct_size: 16, small: 1, large: 2 };
        for (size, expected) in [(8, [5, 5]), (16, [2, 5]), (24, [2, 0])] {
            let mut words = words(size, [5, 5, 5]);
            witness().write_structure("known", words.as_mut_ptr().cast::<Known>(), &value).unwrap();
            assert_eq!(words[1..3], expected, "{size}");
            assert_eq!(words[3], 5);
        }
    }

    #[test]
    fn texts_are_read_no_further_than_their_limit() {
        // No NUL: reading on would leave the array.
        let text = [c_char::try_from(b'x').unwrap(); 9];
        let error = witness().text("queue", text.as_ptr(), 8).map(drop).unwrap_err();
        assert!(error.to_string().contains("queue is longer than 8"), "{error}");
        assert_eq!(witness().text("queue", c"eight888".as_ptr(), 8).unwrap(), Some("eight888"));
        assert_eq!(witness().text("queue", ptr::null(), 8).unwrap(), None);
        let error = witness().text("queue", c"\xff".as_ptr(), 8).map(drop).unwrap_err();
        assert!(error.to_string().contains("UTF-8"), "{error}");
    }

    #[test]
    fn misaligned_and_null_addresses_are_not_followed() {
        let words = words(16, [0, 0, 0]);
        let odd = words.as_ptr().cast::<u8>().wrapping_add(4).cast::<Known>();
        for address in [odd, ptr::null()] {
            assert_eq!(
                witness().with_structure("known", address, |known| Ok(*known)).unwrap_err().kind(),
                ErrorKind::Invalid
            );
            assert!(witness().emptied("known", address.cast_mut(), read(&words).unwrap()).is_err());
        }
        assert!(witness().bytes("body", ptr::null(), 1, 10).is_err());
        assert!(witness().bytes("body", ptr::null(), 0, 10).unwrap().is_empty());
        let error = witness().bytes("body", ptr::null(), 11, 10).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge);
    }
}
