//! Metrics, as objects.

use libmq::{Metrics, QueueMetrics};
use napi::bindgen_prelude::Object;
use napi::{Env, Result};
use napi_derive::napi;

use crate::boundary::{ms, thrown};
use crate::broker::NativeBroker;

#[napi]
impl NativeBroker {
    /// The figures of the broker, and of its queues as pairs of name and figures.
    #[napi(catch_unwind)]
    pub fn metrics<'env>(&self, env: &'env Env) -> Result<Object<'env>> {
        let metrics = self.opened.owner.broker.metrics().map_err(thrown)?;
        let mut object = figures(env, &metrics.broker)?;
        broker_figures(env, &metrics, &mut object)?;
        let mut queues = env.create_array(0)?;
        for (name, queue) in &metrics.queues {
            let mut pair = env.create_array(0)?;
            pair.insert(name.as_str())?;
            pair.insert(figures(env, queue)?)?;
            queues.insert(pair)?;
        }
        object.set("queues", queues)?;
        Ok(object)
    }

    /// The figures as Prometheus text.
    #[napi(catch_unwind)]
    pub fn prometheus(&self) -> Result<String> {
        let metrics = self.opened.owner.broker.metrics().map_err(thrown)?;
        Ok(metrics.to_prometheus())
    }
}

fn broker_figures(env: &Env, metrics: &Metrics, object: &mut Object<'_>) -> Result<()> {
    object.set("journalBytes", metrics.journal_bytes as f64)?;
    object.set("segments", metrics.segments as f64)?;
    object.set("snapshots", metrics.snapshots as f64)?;
    object.set("syncs", metrics.syncs as f64)?;
    object.set("memoryBytes", metrics.memory_bytes as f64)?;
    let mut lsn = Object::new(env)?;
    lsn.set("reserved", metrics.lsn.reserved as f64)?;
    lsn.set("written", metrics.lsn.written as f64)?;
    lsn.set("durable", metrics.lsn.durable as f64)?;
    lsn.set("shown", metrics.lsn.shown as f64)?;
    object.set("lsn", lsn)
}

/// The figures of a queue, under the names of the documentation.
fn figures<'env>(env: &'env Env, figures: &QueueMetrics) -> Result<Object<'env>> {
    let mut object = Object::new(env)?;
    object.set("oldestReadyAge", figures.oldest_ready_age.map(ms))?;
    for (name, value) in [
        ("ready", figures.ready),
        ("inFlight", figures.in_flight),
        ("delayed", figures.delayed),
        ("dead", figures.dead),
        ("parallelism", figures.parallelism),
        ("enqueued", figures.enqueued),
        ("delivered", figures.delivered),
        ("acked", figures.acked),
        ("retried", figures.retried),
        ("released", figures.released),
        ("rejected", figures.rejected),
        ("deadLettered", figures.dead_lettered),
        ("replaced", figures.replaced),
        ("duplicates", figures.duplicates),
        ("expired", figures.expired),
        ("cancelled", figures.cancelled),
        ("staleSettles", figures.stale_settles),
        ("handlerErrors", figures.handler_errors),
        ("timeouts", figures.timeouts),
        ("crashes", figures.crashes),
        ("stuck", figures.stuck),
    ] {
        object.set(name, value as f64)?;
    }
    Ok(object)
}
