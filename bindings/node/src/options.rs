//! Options as JavaScript gives them: checked there for their types, here for nothing, and in the core for their ranges.

use libmq::{Backoff, ClockMode, Durability, HandlerOptions, OnCorruption, OnFull, Options};
use napi_derive::napi;

use crate::boundary::{duration, whole, whole_size, whole32};

/// A broker's options; times in milliseconds.
#[napi(object)]
#[derive(Debug, Default)]
pub struct BrokerInit {
    pub durability: Option<String>,
    pub capacity: Option<f64>,
    pub max_bytes: Option<f64>,
    pub max_message_bytes: Option<f64>,
    pub max_batch_bytes: Option<f64>,
    pub max_dead_letters: Option<f64>,
    pub on_full: Option<String>,
    pub block_timeout: Option<f64>,
    pub snapshot_interval: Option<f64>,
    pub snapshot_threshold: Option<f64>,
    pub segment_bytes: Option<f64>,
    pub cache_bytes: Option<f64>,
    pub sync_interval: Option<f64>,
    pub default_timeout: Option<f64>,
    pub default_max_retries: Option<f64>,
    pub max_crashes: Option<f64>,
    pub default_backoff: Option<BackoffInit>,
    pub on_corruption: Option<String>,
    pub lock_timeout: Option<f64>,
    pub clock: Option<String>,
}

/// A backoff: steps, or what an exponential one is made of.
#[napi(object)]
#[derive(Debug, Default)]
pub struct BackoffInit {
    pub steps: Option<Vec<f64>>,
    pub base: Option<f64>,
    pub factor: Option<f64>,
    pub cap: Option<f64>,
    pub jitter: Option<f64>,
}

/// A handler's options; times in milliseconds.
#[napi(object)]
#[derive(Debug, Default)]
pub struct HandlerInit {
    pub max_parallelism: Option<f64>,
    pub min_parallelism: Option<f64>,
    pub timeout: Option<f64>,
    pub max_retries: Option<f64>,
    pub backoff: Option<BackoffInit>,
    pub cancel_grace: Option<f64>,
    pub lease_extension_enabled: Option<bool>,
}

/// Sets an option if it was given.
macro_rules! set {
    ($options:ident, $init:ident: $($name:ident = $convert:expr),* $(,)?) => {
        $(if let Some(value) = $init.$name {
            $options = $options.$name($convert(value));
        })*
    };
}

impl BrokerInit {
    /// Whether the broker has files, as far as the options say.
    pub(crate) fn has_files(&self) -> bool {
        self.durability.as_deref() != Some("memory")
    }

    pub(crate) fn options(self) -> Options {
        let mut options = Options::new();
        set!(options, self:
            durability = |name: String| level(&name),
            capacity = whole_size,
            max_bytes = whole,
            max_message_bytes = whole_size,
            max_batch_bytes = whole_size,
            max_dead_letters = whole_size,
            on_full = |name: String| if name == "block" { OnFull::Block } else { OnFull::Fail },
            block_timeout = duration,
            snapshot_interval = duration,
            snapshot_threshold = whole,
            segment_bytes = whole,
            cache_bytes = whole,
            sync_interval = duration,
            default_timeout = duration,
            default_max_retries = whole32,
            max_crashes = whole32,
            default_backoff = |init: BackoffInit| init.backoff(),
            on_corruption = |name: String| match name.as_str() {
                "quarantine" => OnCorruption::Quarantine,
                _ => OnCorruption::Refuse,
            },
            lock_timeout = duration,
            clock = |name: String| match name.as_str() {
                "manual" => ClockMode::Manual,
                _ => ClockMode::System,
            },
        );
        options
    }
}

impl BackoffInit {
    fn backoff(self) -> Backoff {
        if let Some(steps) = self.steps {
            return Backoff::steps(steps.into_iter().map(duration));
        }
        Backoff::exponential(
            duration(self.base.unwrap_or(1_000.0)),
            self.factor.unwrap_or(2.0),
            duration(self.cap.unwrap_or(600_000.0)),
            self.jitter.unwrap_or(1.0),
        )
    }
}

impl HandlerInit {
    pub(crate) fn options(self) -> HandlerOptions {
        let mut options = HandlerOptions::new();
        set!(options, self:
            max_parallelism = whole32,
            min_parallelism = whole32,
            timeout = duration,
            max_retries = whole32,
            backoff = |init: BackoffInit| init.backoff(),
            cancel_grace = duration,
            lease_extension_enabled = |enabled: bool| enabled,
        );
        options
    }
}

/// A durability by its name, which JavaScript checked.
pub(crate) fn level(name: &str) -> Durability {
    match name {
        "os" => Durability::Os,
        "memory" => Durability::Memory,
        _ => Durability::Sync,
    }
}
