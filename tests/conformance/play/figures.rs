//! Figures: the metrics by their documented names.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use libmq::{Broker, QueueMetrics};

use crate::script::{Fields, Play, wrong};
use crate::{WAIT, answer};

/// Waits until the figures are as expected.
pub fn expect_metrics(broker: &Broker, step: &Fields) -> Play {
    let end = Instant::now() + WAIT;
    loop {
        let Some(metrics) = answer(step, broker.metrics())? else { return Ok(()) };
        let mut figures = BTreeMap::new();
        match step.get("queue") {
            Some(queue) => {
                if let Some(found) = metrics.queues.get(queue) {
                    figures = queue_figures(found);
                }
            }
            None => {
                figures = queue_figures(&metrics.broker);
                figures.insert("journal_bytes", metrics.journal_bytes);
                figures.insert("segments", metrics.segments);
                figures.insert("snapshots", metrics.snapshots);
                figures.insert("syncs", metrics.syncs);
                figures.insert("memory_bytes", metrics.memory_bytes);
            }
        }
        let expected = step.below("expect.");
        let off = expected.iter().find(|(name, value)| {
            figures.get(name).map(ToString::to_string).as_deref() != Some(*value)
        });
        let Some((name, value)) = off else { return Ok(()) };
        if Instant::now() > end {
            let found = figures.get(name).map_or("not there".into(), u64::to_string);
            return wrong(format!("{name} is {found}, but {value} was expected"));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Looks for lines in the figures as text.
pub fn expect_lines(broker: &Broker, step: &Fields) -> Play {
    let Some(metrics) = answer(step, broker.metrics())? else { return Ok(()) };
    let text = metrics.to_prometheus();
    let lines = step.list("expect.lines")?.unwrap_or_default();
    match lines.iter().find(|line| !text.lines().any(|found| found == **line)) {
        Some(line) => wrong(format!("there is no line {line} in\n{text}")),
        None => Ok(()),
    }
}

fn queue_figures(metrics: &QueueMetrics) -> BTreeMap<&'static str, u64> {
    macro_rules! figures {
        ($($name:ident)*) => { BTreeMap::from([$((stringify!($name), metrics.$name)),*]) };
    }
    let mut figures = figures! {
        ready in_flight delayed dead parallelism enqueued delivered acked retried released rejected
        dead_lettered replaced duplicates expired cancelled stale_settles handler_errors timeouts
        crashes stuck
    };
    if let Some(age) = metrics.oldest_ready_age {
        figures.insert("oldest_ready_age_ms", u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
    }
    figures
}
