//! How long a message waits before it is tried again.

use std::time::Duration;

use crate::error::{Error, Result};
use crate::limits;

/// The wait before a retry. The default is exponential from 1 s, doubled, at most 10 min, with full jitter.
#[derive(Clone, Debug, PartialEq)]
pub struct Backoff {
    steps: Steps,
    jitter: f64,
}

#[derive(Clone, Debug, PartialEq)]
enum Steps {
    Exponential { base: Duration, factor: f64, cap: Duration },
    Listed(Vec<Duration>),
}

impl Default for Backoff {
    fn default() -> Self {
        Self::exponential(Duration::from_secs(1), 2.0, Duration::from_secs(600), 1.0)
    }
}

impl Backoff {
    /// `base · factor^n` for the n-th retry, at most `cap`; both go up to ten years. `factor` goes from 1 to 1,000.
    /// `jitter` j makes a wait of d uniform in [(1−j)·d, d] and goes from 0 to 1.
    #[must_use]
    pub fn exponential(base: Duration, factor: f64, cap: Duration, jitter: f64) -> Self {
        Self { steps: Steps::Exponential { base, factor, cap }, jitter }
    }

    /// Always the same wait, up to ten years, without jitter.
    #[must_use]
    pub fn fixed(delay: Duration) -> Self {
        Self { steps: Steps::Listed(vec![delay]), jitter: 0.0 }
    }

    /// One wait after another, and after the last, the last; without jitter. 1 to 1,000 steps, each up
    /// to ten years.
    #[must_use]
    pub fn steps(delays: impl IntoIterator<Item = Duration>) -> Self {
        Self { steps: Steps::Listed(delays.into_iter().collect()), jitter: 0.0 }
    }

    /// The wait before the retry that follows `failures` failed attempts (1 after the first); `random` in [0, 1).
    pub(crate) fn delay(&self, failures: u32, random: f64) -> Duration {
        let step = failures.saturating_sub(1);
        let whole = match &self.steps {
            Steps::Exponential { base, factor, cap } => {
                let exponent = f64::from(step.min(10_000));
                let seconds = base.as_secs_f64() * factor.powf(exponent);
                Duration::try_from_secs_f64(seconds).unwrap_or(*cap).min(*cap)
            }
            Steps::Listed(delays) => {
                let last = delays.len().saturating_sub(1);
                delays.get(last.min(step as usize)).copied().unwrap_or(Duration::ZERO)
            }
        };
        whole.mul_f64(1.0 - self.jitter * random)
    }

    /// What a use of it would refuse, said of the option of this name.
    ///
    /// # Errors
    /// `INVALID`.
    #[doc(hidden)]
    pub fn check(&self, name: &str) -> Result<()> {
        if !(0.0..=1.0).contains(&self.jitter) {
            return Err(Error::invalid(format!(
                "{name} jitter is {}, but goes from 0 to 1",
                self.jitter
            )));
        }
        let too_long = |delay: &Duration| *delay > limits::DURATION_MAX;
        match &self.steps {
            Steps::Exponential { base, factor, cap } => {
                if !(1.0..=limits::BACKOFF_FACTOR_MAX).contains(factor) {
                    let most = limits::BACKOFF_FACTOR_MAX;
                    return Err(Error::invalid(format!(
                        "{name} factor is {factor}, but goes from 1 to {most}"
                    )));
                }
                if too_long(base) || too_long(cap) {
                    return Err(Error::invalid(format!("{name} base and cap go up to ten years")));
                }
            }
            Steps::Listed(delays) => {
                if !(1..=limits::BACKOFF_STEPS_MAX).contains(&delays.len()) {
                    return Err(Error::invalid(format!(
                        "{name} has {} steps, but takes 1 to {}",
                        delays.len(),
                        limits::BACKOFF_STEPS_MAX
                    )));
                }
                if delays.iter().any(too_long) {
                    return Err(Error::invalid(format!("{name} has a step above ten years")));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn exponential_doubles_up_to_its_cap() {
        let backoff = Backoff::exponential(SECOND, 2.0, 10 * SECOND, 0.0);
        let waits: Vec<u64> = (1..=6).map(|n| backoff.delay(n, 0.9).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 10, 10]);
        assert_eq!(backoff.delay(u32::MAX, 0.5), 10 * SECOND);
    }

    #[test]
    fn jitter_shortens_and_never_lengthens() {
        let backoff = Backoff::exponential(SECOND, 2.0, 10 * SECOND, 0.5);
        assert_eq!(backoff.delay(1, 0.0), SECOND);
        assert!(backoff.delay(1, 0.999) >= SECOND / 2);
    }

    #[test]
    fn steps_stay_at_the_last() {
        let backoff = Backoff::steps([SECOND, 5 * SECOND]);
        let waits: Vec<u64> = (1..=4).map(|n| backoff.delay(n, 0.3).as_secs()).collect();
        assert_eq!(waits, [1, 5, 5, 5]);
    }

    #[test]
    fn what_is_out_of_range_is_named() {
        let bad = [
            Backoff::exponential(SECOND, 0.5, SECOND, 0.0),
            Backoff::exponential(SECOND, f64::NAN, SECOND, 0.0),
            Backoff::exponential(SECOND, 2.0, SECOND, 1.5),
            Backoff::steps([]),
            Backoff::fixed(Duration::MAX),
        ];
        for backoff in bad {
            let error = backoff.check("default_backoff").unwrap_err();
            assert!(error.to_string().contains("default_backoff"), "{error}");
        }
    }
}
