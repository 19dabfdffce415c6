//! A part of a file as memory shared with the kernel.
//!
//! Stores into it are in the kernel's pages at once and survive the process. The file's space is allocated before it is
//! mapped, so a store cannot run out of space, where the file system can allocate; where it cannot, a full disk makes a
//! store a SIGBUS. So does a file that somebody cuts short meanwhile, as for any program that maps files.

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

/// A mapped part of a file, as words.
#[derive(Debug)]
pub(in crate::storage) struct Mapping {
    start: NonNull<AtomicU64>,
    bytes: usize,
}

// SAFETY: the mapping is reached through `&[AtomicU64]` alone, which any thread may share, and it stays mapped until the
// value is dropped, on whichever thread.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `bytes` bytes of a file from `offset`, both multiples of a page, inside the file's length.
    pub(in crate::storage) fn new(file: &File, offset: u64, bytes: usize) -> io::Result<Self> {
        let offset = libc::off_t::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
        // SAFETY: a shared mapping at an address of the kernel's choice touches no memory of ours; the descriptor is
        // open because `file` is borrowed.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                offset,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, bytes })
    }
}

impl Deref for Mapping {
    type Target = [AtomicU64];

    fn deref(&self) -> &[AtomicU64] {
        // SAFETY: `new` mapped these bytes, readable and writable, at a page's start, which is aligned for a word; they
        // stay mapped while `self` lives, and everybody reaches them as atomics.
        unsafe {
            std::slice::from_raw_parts(self.start.as_ptr(), self.bytes / size_of::<AtomicU64>())
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range is the mapping that `new` made, and no reference into it outlives `self`.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;
    use std::sync::atomic::Ordering;

    use super::*;

    #[test]
    fn stores_are_in_the_file_at_once() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(8192).unwrap();
        let mapping = Mapping::new(&file, 4096, 4096).unwrap();
        assert_eq!(mapping.len(), 512);
        mapping[1].store(0x0102_0304, Ordering::Release);
        let mut word = [0; 8];
        file.read_exact_at(&mut word, 4096 + 8).unwrap();
        assert_eq!(u64::from_ne_bytes(word), 0x0102_0304);
    }

    #[test]
    fn a_place_that_is_no_page_is_refused() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(8192).unwrap();
        assert!(Mapping::new(&file, 100, 4096).is_err());
    }
}
