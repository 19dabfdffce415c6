//! Flags: what a message is or is not, in its slot and on disk.

/// One of them. The bits are the format's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Flag {
    /// It waits behind the message in flight with its key.
    Behind = 1,
    /// Its content was asked to reach the level sync.
    Sync = 2,
    /// It was handed out and came back: its group waits for it.
    Holds = 4,
    /// It expires.
    Expires = 8,
    /// It guards its key when it is done.
    Window = 16,
    /// It was cancelled in somebody's hands, and is not to come back. Not on disk: that ends with the process.
    Cancelled = 128,
}

/// The flags of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flags(pub(crate) u8);

impl Flags {
    /// Flags as they are on disk; none where one is set that there is not.
    pub(crate) fn read(bits: u8) -> Option<Self> {
        const STORED: u8 = 31;
        (bits & !STORED == 0).then_some(Self(bits))
    }

    pub(crate) fn has(self, flag: Flag) -> bool {
        self.0 & flag as u8 != 0
    }

    /// Those that are on disk.
    pub(crate) fn stored(self) -> Self {
        self.with(Flag::Cancelled, false)
    }

    pub(crate) fn set(&mut self, flag: Flag, is: bool) {
        *self = self.with(flag, is);
    }

    /// These flags with that one so.
    #[must_use]
    pub(crate) fn with(self, flag: Flag, is: bool) -> Self {
        Self(if is { self.0 | flag as u8 } else { self.0 & !(flag as u8) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_is_set_and_cleared_without_the_others() {
        let mut flags = Flags::default().with(Flag::Behind, true).with(Flag::Expires, true);
        flags.set(Flag::Behind, false);
        assert_eq!(flags, Flags(8));
        assert!(flags.has(Flag::Expires) && !flags.has(Flag::Window));
    }

    /// A later format's flags would be misread by a library that takes any.
    #[test]
    fn a_flag_that_there_is_not_is_refused() {
        assert_eq!(Flags::read(31), Some(Flags(31)));
        assert!((5..8).all(|bit| Flags::read(1 << bit).is_none()));
    }
}
