//! Handlers: how one is run, and how it says that an attempt failed.

use std::fmt;
use std::time::Duration;

use super::backoff::Backoff;
use super::options::Options;
use crate::buffer::reason;
use crate::dispatch::{HandlerSettings, Retries};
use crate::error::{Error, Result};
use crate::limits;

/// How a handler is run. What is not set is the broker's default.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct HandlerOptions {
    max_parallelism: Option<u32>,
    min_parallelism: Option<u32>,
    timeout: Option<Duration>,
    max_retries: Option<u32>,
    backoff: Option<Backoff>,
    cancel_grace: Option<Duration>,
    lease_extension_disabled: bool,
}

impl HandlerOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many run at once. Default 1, 1 to 1024.
    pub fn max_parallelism(mut self, count: u32) -> Self {
        self.max_parallelism = Some(count);
        self
    }

    /// How many threads stay when idle. Default 1, 0 to `max_parallelism`; one stays in any case.
    pub fn min_parallelism(mut self, count: u32) -> Self {
        self.min_parallelism = Some(count);
        self
    }

    /// How long an attempt may run before it is cancelled. Default the broker's; more than zero, up to ten years.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Retries after the first attempt. Default the broker's, 0 to 1,000,000.
    pub fn max_retries(mut self, retries: u32) -> Self {
        self.max_retries = Some(retries);
        self
    }

    /// The wait before a retry. Default the broker's.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = Some(backoff);
        self
    }

    /// From cancellation to the loss of the lease. Default 5 s, zero to ten years.
    pub fn cancel_grace(mut self, grace: Duration) -> Self {
        self.cancel_grace = Some(grace);
        self
    }

    /// Whether a handler may extend its lease. Default true.
    pub fn lease_extension_enabled(mut self, enabled: bool) -> Self {
        self.lease_extension_disabled = !enabled;
        self
    }

    /// Fills in the broker's defaults and refuses what is out of range, naming the option.
    pub(crate) fn resolve(self, broker: &Options) -> Result<HandlerSettings> {
        let max_parallelism = self.max_parallelism.unwrap_or(1);
        let min_parallelism = self.min_parallelism.unwrap_or(1);
        let settings = HandlerSettings {
            max_parallelism,
            min_parallelism,
            timeout: self.timeout.unwrap_or(broker.default_timeout),
            retries: Retries {
                max: self.max_retries.unwrap_or(broker.default_max_retries),
                backoff: self.backoff.unwrap_or_else(|| broker.default_backoff.clone()),
            },
            cancel_grace: self.cancel_grace.unwrap_or(Duration::from_secs(5)),
            may_extend: !self.lease_extension_disabled,
        };
        let range = |name: &str, value: u32, min: u32, max: u32| {
            if (min..=max).contains(&value) {
                Ok(())
            } else {
                Err(Error::invalid(format!("{name} is {value}, but goes from {min} to {max}")))
            }
        };
        range("max_parallelism", max_parallelism, 1, limits::PARALLELISM_MAX)?;
        range("min_parallelism", min_parallelism, 0, max_parallelism)?;
        range("max_retries", settings.retries.max, 0, limits::RETRIES_MAX)?;
        if settings.timeout.is_zero() || settings.timeout > limits::DURATION_MAX {
            return Err(Error::invalid("timeout takes more than zero, up to ten years"));
        }
        if settings.cancel_grace > limits::DURATION_MAX {
            return Err(Error::invalid("cancel_grace is above ten years"));
        }
        settings.retries.backoff.check("backoff")?;
        Ok(settings)
    }
}

/// How an attempt ended that did not succeed. Every error becomes a failed attempt with `?`.
#[derive(Debug)]
#[must_use]
pub struct HandlerError(pub(crate) Failure);

/// What a handler asks for.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Tried again after the backoff, or after this time, counted.
    Failed { delay: Option<Duration>, error: String, asked: bool },
    /// To the dead letters.
    Rejected { reason: String, error: String },
    /// Given back, not counted.
    Released { delay: Duration },
}

impl Failure {
    /// The wait that is asked for.
    pub(crate) fn delay(&self) -> Option<Duration> {
        match self {
            Self::Failed { delay, .. } => *delay,
            Self::Rejected { .. } => None,
            Self::Released { delay } => Some(*delay),
        }
    }
}

impl HandlerError {
    /// A failed attempt: tried again after the backoff. Of the text 4 KiB are kept with a dead letter.
    pub fn failed(error: impl fmt::Display) -> Self {
        Self(Failure::Failed { delay: None, error: error.to_string(), asked: false })
    }

    /// To the dead letters, for this reason, of which 4 KiB are kept.
    pub fn reject(reason: impl Into<String>) -> Self {
        Self(Failure::Rejected { reason: reason.into(), error: String::new() })
    }

    /// As [`HandlerError::reject`], with a text that is kept beside the reason: for the bindings.
    #[doc(hidden)]
    pub fn reject_because(reason: impl Into<String>, error: impl Into<String>) -> Self {
        Self(Failure::Rejected { reason: reason.into(), error: error.into() })
    }

    /// To the dead letters, because the body is not what it says it is: for the bindings, which decode it.
    #[doc(hidden)]
    pub fn undecodable(error: impl fmt::Display) -> Self {
        Self(Failure::Rejected { reason: reason::DECODE.into(), error: error.to_string() })
    }

    /// Tried again after this time, up to ten years, or after the backoff; counted as an attempt.
    pub fn retry(delay: impl Into<Option<Duration>>) -> Self {
        let error = "the handler asked for a retry".into();
        Self(Failure::Failed { delay: delay.into(), error, asked: true })
    }

    /// As [`HandlerError::retry`], with a text that is kept with a dead letter: for the bindings.
    #[doc(hidden)]
    pub fn retry_because(delay: Option<Duration>, error: impl Into<String>) -> Self {
        Self(Failure::Failed { delay, error: error.into(), asked: true })
    }

    /// Given back, and ready again after this time, up to ten years; not counted as an attempt. With none the handler is
    /// called again at once, as fast as the machine goes.
    pub fn release(delay: Duration) -> Self {
        Self(Failure::Released { delay })
    }
}

impl<E: std::error::Error> From<E> for HandlerError {
    fn from(error: E) -> Self {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            text = format!("{text}: {cause}");
            source = cause.source();
        }
        Self(Failure::Failed { delay: None, error: text, asked: false })
    }
}
