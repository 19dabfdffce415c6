//! The one public error: a stable kind shared with C, a message that says what to do, and where it happened.
//!
//! Messages are lowercase, actionable and carry names, paths and offsets; they never carry a body, a key or a
//! header value.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::limits::FORMAT_VERSION;

/// What a libmq call answers.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of libmq. One word wide.
#[derive(Clone)]
pub struct Error(Box<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    message: String,
    path: Option<PathBuf>,
    /// Where in the file, for damage.
    offset: Option<u64>,
    os_code: Option<i32>,
    owner: Option<LockOwner>,
}

/// Declares the kinds once: the Rust name, the stable C code, the name used by every language.
macro_rules! error_kinds {
    ($($(#[$doc:meta])* $variant:ident = $code:literal, $name:literal;)*) => {
        /// The kind of an [`Error`]. The numbers and names are shared with C, Python and Node and never change.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        #[repr(i32)]
        pub enum ErrorKind {
            $($(#[$doc])* $variant = $code,)*
        }

        impl ErrorKind {
            /// Every kind, in the order of the documentation.
            pub const ALL: &'static [ErrorKind] = &[$(ErrorKind::$variant),*];

            /// The stable code, always negative.
            #[must_use]
            pub const fn code(self) -> i32 {
                match self { $(ErrorKind::$variant => $code,)* }
            }

            /// The stable name, such as `"FULL"`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(ErrorKind::$variant => $name,)* }
            }
        }
    };
}

error_kinds! {
    /// An argument is out of its range; the message names it. Nothing was changed.
    Invalid = -1, "INVALID";
    /// The broker is closed.
    Closed = -2, "CLOSED";
    /// No message, dead letter or queue of that name or id.
    NotFound = -3, "NOT_FOUND";
    /// A C handle that was freed, is of another type, or never was one.
    BadHandle = -4, "BAD_HANDLE";
    /// Memory for this call could not be had; nothing was changed.
    NoMemory = -5, "NO_MEMORY";
    /// This build, file or situation does not support what was asked.
    Unsupported = -6, "UNSUPPORTED";
    /// The operating system refused a file operation.
    Io = -100, "IO";
    /// Bytes on disk that were known to be durable are damaged or missing; the files were left alone.
    Corrupt = -101, "CORRUPT";
    /// Another broker owns the directory.
    Locked = -102, "LOCKED";
    /// An earlier write or sync failed, so nothing more is promised: close and open again.
    Poisoned = -103, "POISONED";
    /// The disk, or `max_bytes`, has no room for the next segment; asked again, it is tried again.
    StorageFull = -104, "STORAGE_FULL";
    /// `capacity` live messages are in the broker.
    Full = -200, "FULL";
    /// A body with its headers, or the bytes of a batch, are beyond their limit. Other limits are `INVALID`.
    TooLarge = -201, "TOO_LARGE";
    /// The time given to `stop` or `close` ran out.
    Timeout = -202, "TIMEOUT";
    /// The delivery was settled before, or its lease was lost.
    StaleLease = -203, "STALE_LEASE";
    /// Nothing came (C only).
    Empty = -204, "EMPTY";
    /// A bug inside libmq was caught at the C boundary; the broker is poisoned.
    Panic = -300, "PANIC";
    /// The process forked; a child cannot use its parent's broker.
    Forked = -301, "FORKED";
    /// The call would wait for itself.
    Deadlock = -302, "DEADLOCK";
}

/// Who holds a locked directory, as far as its lock file tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LockOwner {
    /// Process id.
    pub pid: u32,
    /// The command's name.
    pub command: String,
    /// When the owner opened the broker, in milliseconds since the epoch.
    pub since_ms: u64,
}

impl Error {
    /// An error of this kind with this message. Meant for the bindings, which speak for the core.
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            message: message.into(),
            path: None,
            offset: None,
            os_code: None,
            owner: None,
        }))
    }

    /// What the operating system refused where no file is concerned. Meant for the bindings.
    #[doc(hidden)]
    #[must_use]
    pub fn system(doing: &str, cause: &io::Error) -> Self {
        let mut error = Self::new(ErrorKind::Io, format!("cannot {doing}: {cause}"));
        error.0.os_code = cause.raw_os_error();
        error
    }

    /// What went wrong, as a stable kind.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The file or directory concerned, if there is one.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.0.path.as_deref()
    }

    pub(crate) fn offset(&self) -> Option<u64> {
        self.0.offset
    }

    /// The operating system's error number, if it was asked.
    #[must_use]
    pub fn os_code(&self) -> Option<i32> {
        self.0.os_code
    }

    /// The owner of the directory, for [`ErrorKind::Locked`].
    #[must_use]
    pub fn owner(&self) -> Option<&LockOwner> {
        self.0.owner.as_ref()
    }

    /// Whether the same call can succeed later without anything being mended.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        use ErrorKind as K;
        matches!(self.0.kind, K::Full | K::StorageFull | K::Empty | K::Locked | K::NoMemory)
    }

    /// Whether it says that the log has no place for a record now, on the disk, in memory or for want of a file: nothing was
    /// logged, the broker is as sound as before, and the same can succeed another time. A failed write or sync is none of
    /// these, but `POISONED`.
    pub(crate) fn has_logged_nothing(&self) -> bool {
        use ErrorKind as K;
        matches!(self.0.kind, K::StorageFull | K::NoMemory | K::Io)
    }

    /// Whether this broker is beyond use and has to be opened again. `CORRUPT` says so of an open, and where a message was
    /// to be handed out. Of a dead letter, a snapshot or a backup it says that bytes on the disk are damaged: the broker
    /// goes on, and what needs those bytes fails again.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        use ErrorKind as K;
        matches!(self.0.kind, K::Poisoned | K::Corrupt | K::Closed | K::Forked | K::Panic)
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    /// The same, of a part of what was given. Meant for the bindings.
    #[doc(hidden)]
    #[must_use]
    pub fn within(mut self, part: impl fmt::Display) -> Self {
        self.0.message = format!("{part}: {}", self.0.message);
        self
    }

    pub(crate) fn closed() -> Self {
        Self::new(ErrorKind::Closed, "the broker is closed")
    }

    pub(crate) fn io(doing: &str, path: impl Into<PathBuf>, cause: &io::Error) -> Self {
        let path = path.into();
        let mut error =
            Self::new(ErrorKind::Io, format!("cannot {doing} {}: {cause}", path.display()));
        error.0.os_code = cause.raw_os_error();
        error.0.path = Some(path);
        error
    }

    /// As [`Error::io`], but `STORAGE_FULL` where there is no room, which can change.
    pub(crate) fn storage(doing: &str, path: impl Into<PathBuf>, cause: &io::Error) -> Self {
        use io::ErrorKind as C;
        let error = Self::io(doing, path, cause);
        match cause.kind() {
            C::StorageFull | C::QuotaExceeded | C::FileTooLarge => {
                error.with_kind(ErrorKind::StorageFull)
            }
            _ => error,
        }
    }

    pub(crate) fn corrupt(path: impl Into<PathBuf>, offset: u64, what: impl fmt::Display) -> Self {
        let path = path.into();
        let text = format!("{} is damaged at offset {offset}: {what}", path.display());
        let mut error = Self::new(ErrorKind::Corrupt, text).at(path);
        error.0.offset = Some(offset);
        error
    }

    /// A sound file of another version of the format.
    pub(crate) fn other_version(path: impl Into<PathBuf>, version: u32) -> Self {
        let path = path.into();
        let text =
            format!("{} has format version {version}, this is {FORMAT_VERSION}", path.display());
        Self::new(ErrorKind::Unsupported, text).at(path)
    }

    pub(crate) fn stale_lease() -> Self {
        Self::new(ErrorKind::StaleLease, "the delivery was settled before, or its lease was lost")
    }

    pub(crate) fn at(mut self, path: impl Into<PathBuf>) -> Self {
        self.0.path = Some(path.into());
        self
    }

    pub(crate) fn with_kind(mut self, kind: ErrorKind) -> Self {
        self.0.kind = kind;
        self
    }

    pub(crate) fn owned_by(mut self, owner: LockOwner) -> Self {
        self.0.owner = Some(owner);
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.kind.name(), self.0.message)
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_word_wide() {
        assert_eq!(size_of::<Error>(), size_of::<usize>());
    }

    #[test]
    fn codes_and_names_are_unique_and_negative() {
        for (i, kind) in ErrorKind::ALL.iter().enumerate() {
            assert!(kind.code() < 0, "{kind:?}");
            for other in &ErrorKind::ALL[i + 1..] {
                assert_ne!(kind.code(), other.code());
                assert_ne!(kind.name(), other.name());
            }
        }
    }

    #[test]
    fn an_io_error_names_its_path_and_number() {
        let error = Error::io("open", "/nowhere", &io::Error::from_raw_os_error(2));
        assert_eq!(error.kind(), ErrorKind::Io);
        assert_eq!(error.os_code(), Some(2));
        assert_eq!(error.path(), Some(Path::new("/nowhere")));
        assert!(error.to_string().starts_with("cannot open /nowhere: "));
    }
}
