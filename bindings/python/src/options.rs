//! What a broker and a handler are given, by the names of the contract.

use libmq::{ClockMode, Durability, HandlerOptions, OnCorruption, OnFull, Options, limits};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::backoff::Backoff;
use crate::error::{invalid, wrong_type};
use crate::values::{duration, text, truth, whole, word};

const DURABILITIES: &[(&str, Durability)] =
    &[("sync", Durability::Sync), ("os", Durability::Os), ("memory", Durability::Memory)];
const ON_FULLS: &[(&str, OnFull)] = &[("fail", OnFull::Fail), ("block", OnFull::Block)];
const ON_CORRUPTIONS: &[(&str, OnCorruption)] =
    &[("refuse", OnCorruption::Refuse), ("quarantine", OnCorruption::Quarantine)];
const CLOCKS: &[(&str, ClockMode)] =
    &[("system", ClockMode::System), ("manual", ClockMode::Manual)];

/// The options of a broker, and what the binding has to know of them.
#[derive(Debug, Default)]
pub(crate) struct BrokerOptions {
    pub(crate) core: Options,
    /// An enqueue may wait for room.
    pub(crate) blocks: bool,
    pub(crate) lock_timeout: std::time::Duration,
    /// Somebody listens to what the core has to tell.
    pub(crate) listens: bool,
}

impl BrokerOptions {
    /// None stands for the default.
    pub(crate) fn of(given: &Bound<'_, PyDict>) -> PyResult<Self> {
        let mut all = Self::default();
        for (name, value) in given {
            let name = text("an option's name", &name)?.to_owned();
            if !value.is_none() {
                all.take(&name, &value)?;
            }
        }
        Ok(all)
    }

    fn take(&mut self, name: &str, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let core = std::mem::take(&mut self.core);
        self.core = match name {
            "durability" => core.durability(word(name, value, DURABILITIES)?),
            "capacity" => core.capacity(whole(name, value, 1..=limits::CAPACITY_MAX)?),
            "max_bytes" => core.max_bytes(whole(name, value, limits::BYTES_MAX_MIN..=u64::MAX)?),
            "max_message_bytes" => {
                core.max_message_bytes(whole(name, value, 1..=limits::MESSAGE_BYTES_MAX)?)
            }
            "max_batch_bytes" => {
                core.max_batch_bytes(whole(name, value, 1..=limits::MESSAGE_BYTES_MAX)?)
            }
            "max_dead_letters" => {
                core.max_dead_letters(whole(name, value, 1..=limits::CAPACITY_MAX)?)
            }
            "on_full" => {
                let on_full = word(name, value, ON_FULLS)?;
                self.blocks = on_full == OnFull::Block;
                core.on_full(on_full)
            }
            "block_timeout" => core.block_timeout(duration(name, value)?),
            "snapshot_interval" => core.snapshot_interval(duration(name, value)?),
            "snapshot_threshold" => core.snapshot_threshold(whole(name, value, 1..=u64::MAX)?),
            "segment_bytes" => core.segment_bytes(whole(
                name,
                value,
                limits::SEGMENT_BYTES_MIN..=limits::SEGMENT_BYTES_MAX,
            )?),
            "cache_bytes" => core.cache_bytes(whole(name, value, 0..=limits::CACHE_BYTES_MAX)?),
            "sync_interval" => core.sync_interval(duration(name, value)?),
            "default_timeout" => core.default_timeout(duration(name, value)?),
            "default_max_retries" => {
                core.default_max_retries(whole(name, value, 0..=limits::RETRIES_MAX)?)
            }
            "max_crashes" => core.max_crashes(whole(name, value, 1..=limits::CRASHES_MAX)?),
            "default_backoff" => core.default_backoff(backoff(name, value)?),
            "on_corruption" => core.on_corruption(word(name, value, ON_CORRUPTIONS)?),
            "lock_timeout" => {
                self.lock_timeout = duration(name, value)?;
                core.lock_timeout(self.lock_timeout)
            }
            "clock" => core.clock(word(name, value, CLOCKS)?),
            "listens" => {
                self.listens = truth(name, value)?;
                core
            }
            _ => return Err(invalid(value.py(), format!("there is no option {name}"))),
        };
        Ok(())
    }
}

/// The options of a handler; None stands for the default.
pub(crate) fn handler(given: &Bound<'_, PyDict>) -> PyResult<HandlerOptions> {
    let mut options = HandlerOptions::new();
    for (name, value) in given {
        if value.is_none() {
            continue;
        }
        let name = text("an option's name", &name)?;
        let value = &value;
        options = match name {
            "max_parallelism" => {
                options.max_parallelism(whole(name, value, 1..=limits::PARALLELISM_MAX)?)
            }
            "min_parallelism" => {
                options.min_parallelism(whole(name, value, 0..=limits::PARALLELISM_MAX)?)
            }
            "timeout" => options.timeout(duration(name, value)?),
            "max_retries" => options.max_retries(whole(name, value, 0..=limits::RETRIES_MAX)?),
            "backoff" => options.backoff(backoff(name, value)?),
            "cancel_grace" => options.cancel_grace(duration(name, value)?),
            "lease_extension_enabled" => options.lease_extension_enabled(truth(name, value)?),
            _ => return Err(invalid(value.py(), format!("there is no option {name}"))),
        };
    }
    Ok(options)
}

fn backoff(name: &str, value: &Bound<'_, PyAny>) -> PyResult<libmq::Backoff> {
    let backoff =
        value.cast::<Backoff>().map_err(|_| wrong_type(name, "a libmq.Backoff", value))?;
    Ok(backoff.get().inner())
}
