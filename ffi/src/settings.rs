//! Settings: what options say, and its versions.
//!
//! Options are changed by putting another version in the place of the one before: whoever reads has one or the other, and
//! nobody waits, of whom a fork might leave no more than the lock.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use libmq::{Backoff, ClockMode, Durability, Error, OnCorruption, OnFull, Options, Result, limits};

use crate::from_c::invalid;
use crate::handles::SETTINGS;
use crate::slab::Found;
use crate::status::LIBMQ_NONE;

/// The largest factor of a backoff, in thousandths.
pub(crate) const FACTOR_PERMILLE_MAX: u32 = 1_000_000;
/// The whole of a wait, in thousandths.
const JITTER_PERMILLE_MAX: u32 = 1_000;

/// What an options' handle stands for: the settings of now.
#[derive(Debug)]
pub(crate) struct Versions {
    /// A handle of the slab of settings. Relaxed: what it leads to is acquired there, and no handle comes twice.
    now: AtomicUsize,
}

impl Versions {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self { now: AtomicUsize::new(SETTINGS.insert(Settings::default())?) })
    }

    /// The settings of now, which stay as they are while they are read.
    pub(crate) fn read(&self) -> Result<Found<'static, Settings>> {
        let mut now = self.now.load(Ordering::Relaxed);
        loop {
            if let Some(settings) = SETTINGS.find(now) {
                return Ok(settings);
            }
            // Others have come in its place between the two looks.
            let before = std::mem::replace(&mut now, self.now.load(Ordering::Relaxed));
            if before == now {
                return Err(SETTINGS.why_not(now));
            }
        }
    }

    /// Puts changed settings in the place of those of now; where they change meanwhile, `change` is asked again.
    pub(crate) fn change(&self, change: impl Fn(&mut Settings) -> Result<()>) -> Result<()> {
        loop {
            let now = self.now.load(Ordering::Relaxed);
            let Some(settings) = SETTINGS.find(now) else {
                drop(self.read()?);
                continue;
            };
            let mut changed = settings.clone();
            change(&mut changed)?;
            let next = SETTINGS.insert(changed)?;
            let (set, failed) = (Ordering::Relaxed, Ordering::Relaxed);
            let swapped = self.now.compare_exchange(now, next, set, failed);
            drop(SETTINGS.take(if swapped.is_ok() { now } else { next }));
            if swapped.is_ok() {
                return Ok(());
            }
        }
    }
}

impl Drop for Versions {
    fn drop(&mut self) {
        drop(SETTINGS.take(*self.now.get_mut()));
    }
}

/// Options as C sets them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    options: Options,
    pub(crate) backoff: BackoffParts,
}

/// A backoff in numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BackoffParts {
    pub(crate) base_ms: u64,
    pub(crate) cap_ms: u64,
    pub(crate) factor_permille: u32,
    pub(crate) jitter_permille: u32,
}

impl Settings {
    /// The options for an open.
    ///
    /// # Errors
    /// `INVALID`, as [`BackoffParts::to_backoff`].
    pub(crate) fn to_options(&self) -> Result<Options> {
        Ok(self.options.clone().default_backoff(self.backoff.to_backoff("default_backoff")?))
    }

    pub(crate) fn set_int(&mut self, name: &str, value: i64) -> Result<()> {
        if name == "max_bytes" && value == i64::from(LIBMQ_NONE) {
            return self.change(|options| options.max_bytes(None));
        }
        let number = u64::try_from(value)
            .map_err(|_| invalid(format!("{name} is {value}, but goes from 0")))?;
        let time = Duration::from_millis(number);
        let count = usize::try_from(number).unwrap_or(usize::MAX);
        let small = |most: u32| match u32::try_from(number) {
            Ok(small) => Ok(small),
            Err(_) => Err(invalid(format!("{name} is {value}, but goes up to {most}"))),
        };
        match name {
            "capacity" => self.change(|options| options.capacity(count)),
            "max_bytes" => self.change(|options| options.max_bytes(number)),
            "max_message_bytes" => self.change(|options| options.max_message_bytes(count)),
            "max_batch_bytes" => self.change(|options| options.max_batch_bytes(count)),
            "max_dead_letters" => self.change(|options| options.max_dead_letters(count)),
            "block_timeout_ms" => self.change(|options| options.block_timeout(time)),
            "snapshot_interval_ms" => self.change(|options| options.snapshot_interval(time)),
            "snapshot_threshold" => self.change(|options| options.snapshot_threshold(number)),
            "segment_bytes" => self.change(|options| options.segment_bytes(number)),
            "cache_bytes" => self.change(|options| options.cache_bytes(number)),
            "sync_interval_ms" => self.change(|options| options.sync_interval(time)),
            "default_timeout_ms" => self.change(|options| options.default_timeout(time)),
            "default_max_retries" => {
                let retries = small(limits::RETRIES_MAX)?;
                self.change(|options| options.default_max_retries(retries))
            }
            "max_crashes" => {
                let crashes = small(limits::CRASHES_MAX)?;
                self.change(|options| options.max_crashes(crashes))
            }
            "lock_timeout_ms" => self.change(|options| options.lock_timeout(time)),
            "default_backoff_base_ms" => self.change_backoff(|backoff| backoff.base_ms = number),
            "default_backoff_cap_ms" => self.change_backoff(|backoff| backoff.cap_ms = number),
            "default_backoff_factor_permille" => {
                let factor = small(FACTOR_PERMILLE_MAX)?;
                self.change_backoff(|backoff| backoff.factor_permille = factor)
            }
            "default_backoff_jitter_permille" => {
                let jitter = small(JITTER_PERMILLE_MAX)?;
                self.change_backoff(|backoff| backoff.jitter_permille = jitter)
            }
            _ => Err(unknown(name, "a number")),
        }
    }

    pub(crate) fn set_str(&mut self, name: &str, value: &str) -> Result<()> {
        match (name, value) {
            ("durability", "sync") => self.change(|options| options.durability(Durability::Sync)),
            ("durability", "os") => self.change(|options| options.durability(Durability::Os)),
            ("durability", "memory") => {
                self.change(|options| options.durability(Durability::Memory))
            }
            ("on_full", "fail") => self.change(|options| options.on_full(OnFull::Fail)),
            ("on_full", "block") => self.change(|options| options.on_full(OnFull::Block)),
            ("on_corruption", "refuse") => {
                self.change(|options| options.on_corruption(OnCorruption::Refuse))
            }
            ("on_corruption", "quarantine") => {
                self.change(|options| options.on_corruption(OnCorruption::Quarantine))
            }
            ("clock", "system") => self.change(|options| options.clock(ClockMode::System)),
            ("clock", "manual") => self.change(|options| options.clock(ClockMode::Manual)),
            ("durability", _) => Err(other_word(name, value, "sync, os or memory")),
            ("on_full", _) => Err(other_word(name, value, "fail or block")),
            ("on_corruption", _) => Err(other_word(name, value, "refuse or quarantine")),
            ("clock", _) => Err(other_word(name, value, "system or manual")),
            _ => Err(unknown(name, "a word")),
        }
    }

    pub(crate) fn change(&mut self, change: impl FnOnce(Options) -> Options) -> Result<()> {
        self.options = change(std::mem::take(&mut self.options));
        Ok(())
    }

    fn change_backoff(&mut self, change: impl FnOnce(&mut BackoffParts)) -> Result<()> {
        change(&mut self.backoff);
        Ok(())
    }
}

impl Default for BackoffParts {
    fn default() -> Self {
        Self { base_ms: 1000, cap_ms: 600_000, factor_permille: 2000, jitter_permille: 1000 }
    }
}

impl BackoffParts {
    /// The backoff whose parts C names with this word in front.
    ///
    /// # Errors
    /// `INVALID` for what Rust would name otherwise.
    pub(crate) fn to_backoff(self, name: &str) -> Result<Backoff> {
        let parts = [
            ("factor", self.factor_permille, 1_000, FACTOR_PERMILLE_MAX),
            ("jitter", self.jitter_permille, 0, JITTER_PERMILLE_MAX),
        ];
        for (part, value, least, most) in parts {
            if !(least..=most).contains(&value) {
                let text =
                    format!("{name}_{part}_permille is {value}, but goes from {least} to {most}");
                return Err(invalid(text));
            }
        }
        Ok(Backoff::exponential(
            Duration::from_millis(self.base_ms),
            f64::from(self.factor_permille) / 1000.0,
            Duration::from_millis(self.cap_ms),
            f64::from(self.jitter_permille) / 1000.0,
        ))
    }
}

fn unknown(name: &str, what: &str) -> Error {
    invalid(format!("there is no option {name:?} that takes {what}"))
}

fn other_word(name: &str, value: &str, words: &str) -> Error {
    invalid(format!("{name} is {value:?}, but takes {words}"))
}

#[cfg(test)]
mod tests {
    use libmq::ErrorKind;

    use super::*;

    #[test]
    fn the_backoff_in_numbers_is_the_default_one() {
        assert_eq!(BackoffParts::default().to_backoff("backoff").unwrap(), Backoff::default());
    }

    #[test]
    fn unknown_names_and_words_are_named() {
        let mut settings = Settings::default();
        for error in [
            settings.set_int("capasity", 1).unwrap_err(),
            settings.set_int("durability", 1).unwrap_err(),
            settings.set_str("capasity", "1").unwrap_err(),
            settings.set_str("capacity", "1").unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.to_string().contains("there is no option"), "{error}");
        }
        let error = settings.set_str("durability", "none").unwrap_err();
        assert!(error.to_string().contains("durability is \"none\""), "{error}");
        let error = settings.set_int("capacity", -1).unwrap_err();
        assert!(error.to_string().contains("capacity is -1"), "{error}");
        settings.set_int("max_bytes", -1).unwrap();
        for name in ["default_max_retries", "max_crashes", "default_backoff_factor_permille"] {
            let error = settings.set_int(name, i64::MAX).unwrap_err();
            assert!(error.to_string().contains("is 9223372036854775807"), "{error}");
        }
    }
}
