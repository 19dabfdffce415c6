//! Telemetry: metrics and spans of OpenTelemetry, through its global tracer and a meter of the program's choice.
//!
//! A span of the kind *producer* covers each enqueue, and its context travels with the messages in the header
//! `traceparent`. A span of the kind *consumer* covers each call of a handler in Rust and links to the producer's. No span
//! has anything in it of a body, a key or another header's value.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use opentelemetry::global::{self, BoxedTracer};
use opentelemetry::metrics::{AsyncInstrument, Meter};
use opentelemetry::trace::{
    Link, SpanContext, SpanId, SpanKind, Status, TraceContextExt, TraceFlags, TraceId, TraceState,
    Tracer,
};
use opentelemetry::{Context, KeyValue};

use super::broker::Broker;
use super::delivery::Delivery;
use super::message::{Message, TRACEPARENT};
use super::metrics::{
    FIGURES, Figure, Kind, LSN, Metrics, OLDEST_READY_AGE, OWN_FIGURES, QueueMetrics,
};
use crate::error::Result;
use crate::sync::{Arc, Weak};

/// How long metrics are good for that were read for one instrument, for the others.
const READING_TIME: Duration = Duration::from_millis(50);

/// The tracer of a broker.
pub(crate) struct Telemetry(BoxedTracer);

impl Telemetry {
    /// The global tracer, as it is now.
    pub(crate) fn new() -> Self {
        Self(global::tracer("libmq"))
    }

    /// Begins the span of an enqueue, in what is under way on this thread.
    pub(super) fn send(&self, messages: &[Message<'_>]) -> Context {
        let queue = messages.first().map_or("", |message| &*message.queue);
        let count = i64::try_from(messages.len()).unwrap_or(i64::MAX);
        let span = self
            .0
            .span_builder(format!("send {queue}"))
            .with_kind(SpanKind::Producer)
            .with_attributes([
                KeyValue::new("messaging.system", "libmq"),
                KeyValue::new("messaging.operation.type", "send"),
                KeyValue::new("messaging.destination.name", queue.to_owned()),
                KeyValue::new("messaging.batch.message_count", count),
            ])
            .start(&self.0);
        Context::current_with_span(span)
    }

    /// Begins the span of an attempt.
    pub(crate) fn process(&self, delivery: &Delivery) -> Context {
        let producer = delivery.header(TRACEPARENT).and_then(parse);
        let span = self
            .0
            .span_builder(format!("process {}", delivery.queue()))
            .with_kind(SpanKind::Consumer)
            .with_attributes([
                KeyValue::new("messaging.system", "libmq"),
                KeyValue::new("messaging.operation.type", "process"),
                KeyValue::new("messaging.destination.name", delivery.queue().to_owned()),
                KeyValue::new("messaging.message.id", delivery.id().to_string()),
                KeyValue::new("libmq.attempt", i64::from(delivery.attempt())),
            ])
            .with_links(producer.map(Link::with_context).into_iter().collect::<Vec<_>>())
            .start_with_context(&self.0, &Context::new());
        Context::new().with_span(span)
    }
}

/// Ends a span.
pub(crate) fn end(context: &Context, succeeded: bool) {
    if !succeeded {
        context.span().set_status(Status::error(""));
    }
    context.span().end();
}

/// The value of the header for what happens in this context; none where nobody traces.
pub(super) fn traceparent(context: &Context) -> Option<String> {
    let span = context.span().span_context().clone();
    span.is_valid().then(|| {
        let flags = span.trace_flags().to_u8();
        format!("00-{:032x}-{:016x}-{flags:02x}", span.trace_id(), span.span_id())
    })
}

/// The context that a header tells of; none where it is none.
fn parse(header: &str) -> Option<SpanContext> {
    let mut parts = header.split('-');
    let version = parts.next()?;
    let trace = TraceId::from_hex(parts.next().filter(|hex| hex.len() == 32)?).ok()?;
    let span = SpanId::from_hex(parts.next().filter(|hex| hex.len() == 16)?).ok()?;
    let flags = u8::from_str_radix(parts.next().filter(|hex| hex.len() == 2)?, 16).ok()?;
    let context =
        SpanContext::new(trace, span, TraceFlags::new(flags), true, TraceState::default());
    (version.len() == 2 && version != "ff" && context.is_valid()).then_some(context)
}

impl Broker {
    /// Has a meter of OpenTelemetry observe the figures of [`Broker::metrics`], by their names: `libmq.ready`,
    /// `libmq.acked`, `libmq.oldest_ready_age` in seconds and so on, each queue's with the attribute
    /// `messaging.destination.name`; and the broker's own, as `libmq.journal_bytes`, of which `libmq.lsn` has the attribute
    /// `mark`. Until the broker is closed.
    ///
    /// # Errors
    /// `CLOSED`, `FORKED`.
    pub fn observe(&self, meter: &Meter) -> Result<()> {
        self.check_open()?;
        let reading =
            Arc::new(Reading { shared: Arc::downgrade(self.shared()), last: Mutex::default() });
        for figure in FIGURES {
            let read = Arc::clone(&reading);
            observe(meter, figure, move |observer| {
                read.each_queue(|attributes, figures| {
                    observer.observe((figure.of)(figures), attributes);
                });
            });
        }
        for figure in OWN_FIGURES {
            let read = Arc::clone(&reading);
            observe(meter, figure, move |observer| {
                if let Some(metrics) = read.metrics() {
                    observer.observe((figure.of)(&metrics), &[]);
                }
            });
        }
        let read = Arc::clone(&reading);
        let age = meter.f64_observable_gauge("libmq.oldest_ready_age").with_unit("s");
        let _kept_by_its_meter = age
            .with_description(OLDEST_READY_AGE)
            .with_callback(move |observer| {
                read.each_queue(|attributes, figures| {
                    if let Some(age) = figures.oldest_ready_age {
                        observer.observe(age.as_secs_f64(), attributes);
                    }
                });
            })
            .build();
        let lsn = meter.u64_observable_gauge("libmq.lsn").with_description(LSN);
        let _kept_by_its_meter = lsn
            .with_callback(move |observer| {
                for (mark, position) in reading.metrics().iter().flat_map(|m| m.lsn.marks()) {
                    observer.observe(position, &[KeyValue::new("mark", mark)]);
                }
            })
            .build();
        Ok(())
    }
}

/// Has a meter observe what `figures` tells of a figure.
fn observe<M>(
    meter: &Meter,
    figure: &Figure<M>,
    figures: impl Fn(&dyn AsyncInstrument<u64>) + Send + Sync + 'static,
) {
    let (name, meaning) = (format!("libmq.{}", figure.name), figure.meaning.trim().to_owned());
    match figure.kind {
        Kind::Gauge => {
            let instrument = meter.u64_observable_gauge(name).with_description(meaning);
            let _kept_by_its_meter = instrument.with_callback(figures).build();
        }
        Kind::Counter => {
            let instrument = meter.u64_observable_counter(name).with_description(meaning);
            let _kept_by_its_meter = instrument.with_callback(figures).build();
        }
    }
}

/// Metrics that were read a moment ago.
struct Reading {
    shared: Weak<super::shared::Shared>,
    last: Mutex<Option<(Instant, Arc<Metrics>)>>,
}

impl Reading {
    /// Tells of each queue, with the attributes that name it; of none once the broker is closed.
    fn each_queue(&self, tell: impl Fn(&[KeyValue], &QueueMetrics)) {
        let metrics = self.metrics();
        for (queue, figures) in metrics.iter().flat_map(|metrics| &metrics.queues) {
            tell(&[KeyValue::new("messaging.destination.name", queue.clone())], figures);
        }
    }

    /// The metrics; none once the broker is closed.
    fn metrics(&self) -> Option<Arc<Metrics>> {
        let shared = self.shared.upgrade()?;
        shared.check_open().ok()?;
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, metrics)) = &*last
            && at.elapsed() < READING_TIME
        {
            return Some(Arc::clone(metrics));
        }
        let metrics = Arc::new(Metrics::read(&shared));
        *last = Some((Instant::now(), Arc::clone(&metrics)));
        Some(metrics)
    }
}

impl std::fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Telemetry")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_is_read_as_it_is_written() {
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let context = Context::new().with_remote_span_context(parse(text).unwrap());
        assert_eq!(traceparent(&context).unwrap(), text);
        for bad in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
            "00-xbf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert!(parse(bad).is_none(), "{bad}");
        }
        assert_eq!(traceparent(&Context::new()), None);
    }
}
