//! Metrics and spans of OpenTelemetry, as the SDK's exporters get them.

use std::time::Duration;

use libmq::{Broker, HandlerError, HandlerOptions, Message, Options};
use opentelemetry::metrics::MeterProvider;
use opentelemetry::trace::{SpanId, SpanKind, Status, TraceContextExt, Tracer};
use opentelemetry::{KeyValue, global};
use opentelemetry_sdk::metrics::data::{AggregatedMetrics, MetricData};
use opentelemetry_sdk::metrics::{InMemoryMetricExporter, PeriodicReader, SdkMeterProvider};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};

const LONG: Duration = Duration::from_secs(30);

/// What must be in no span.
const CANARY: &str = "canary7F3A";

fn secret(queue: &'static str) -> Message<'static> {
    Message::new(queue, format!("body {CANARY}"))
        .dedup_key(format!("key-{CANARY}"))
        .correlation_id(format!("correlation-{CANARY}"))
        .header("name", format!("value-{CANARY}"))
}

/// The spans of this name, in the order of their ends.
fn named<'a>(spans: &'a [SpanData], name: &str) -> Vec<&'a SpanData> {
    spans.iter().filter(|span| span.name == name).collect()
}

fn attribute(span: &SpanData, key: &str) -> Option<String> {
    let found = span.attributes.iter().find(|attribute| attribute.key.as_str() == key);
    found.map(|attribute| attribute.value.to_string())
}

fn links(span: &SpanData) -> Vec<SpanId> {
    span.links.iter().map(|link| link.span_context.span_id()).collect()
}

/// Whether these are of a queue, or of none.
fn is_of<'a>(attributes: impl Iterator<Item = &'a KeyValue>, queue: Option<&str>) -> bool {
    let mut named = attributes.filter(|found| found.key.as_str() == "messaging.destination.name");
    named.next().map(|found| found.value.to_string()).as_deref() == queue
}

/// One test: the tracer is a global one.
#[test]
fn a_trace_goes_from_the_producer_through_the_handlers_of_a_chain() {
    let exporter = InMemorySpanExporter::default();
    let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
    global::set_tracer_provider(provider.clone());
    let broker = Broker::open(":memory:", Options::new().default_max_retries(0)).unwrap();
    broker
        .handle("first", HandlerOptions::new(), |context| {
            assert!(opentelemetry::Context::current().span().span_context().is_valid());
            context.enqueue(secret("second"))?;
            Ok(())
        })
        .unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let handler = |context: libmq::AsyncContext| async move {
            tokio::time::sleep(Duration::from_millis(1)).await;
            context.enqueue(secret("third"))?;
            Ok(())
        };
        broker.handle_async("second", HandlerOptions::new(), handler).unwrap();
    });
    let fails = |_: &libmq::Context| Err(HandlerError::failed(format!("error {CANARY}")));
    broker.handle("third", HandlerOptions::new(), fails).unwrap();
    broker.start().unwrap();
    global::tracer("test").in_span("request", |_| {
        broker.enqueue(secret("first")).unwrap();
    });
    broker.enqueue_batch(&[secret("batch"), secret("batch")]).unwrap();
    assert!(broker.wait_idle(LONG).unwrap());
    broker.close(LONG).unwrap();
    provider.force_flush().unwrap();

    let spans = exporter.get_finished_spans().unwrap();
    let one = |name: &str| match named(&spans, name)[..] {
        [span] => span,
        ref other => panic!("{} spans {name}", other.len()),
    };
    let request = one("request");
    let send = one("send first");
    assert_eq!(send.span_kind, SpanKind::Producer);
    assert_eq!(send.parent_span_id, request.span_context.span_id());
    assert_eq!(send.span_context.trace_id(), request.span_context.trace_id());
    assert_eq!(attribute(send, "messaging.destination.name").as_deref(), Some("first"));
    assert_eq!(attribute(one("send batch"), "messaging.batch.message_count").as_deref(), Some("2"));
    let process = ["first", "second", "third"].map(|queue| one(&format!("process {queue}")));
    assert!(process.iter().all(|span| span.span_kind == SpanKind::Consumer));
    assert_eq!(links(process[0]), [send.span_context.span_id()]);
    assert_eq!(links(process[1]), [process[0].span_context.span_id()]);
    assert_eq!(links(process[2]), [process[1].span_context.span_id()]);
    assert_eq!(process[0].status, Status::Unset);
    assert_eq!(process[2].status, Status::error(""));
    assert_eq!(attribute(process[1], "libmq.attempt").as_deref(), Some("1"));
    assert!(!format!("{spans:?}").contains(CANARY), "{spans:?}");
}

#[test]
fn a_meter_observes_the_figures_of_each_queue() {
    let exporter = InMemoryMetricExporter::default();
    let reader = PeriodicReader::builder(exporter.clone()).build();
    let provider = SdkMeterProvider::builder().with_reader(reader).build();
    let broker = Broker::open(":memory:", Options::new()).unwrap();
    broker.observe(&provider.meter("test")).unwrap();
    for queue in ["orders", "orders", "mail"] {
        broker.enqueue(Message::new(queue, "body")).unwrap();
    }
    broker.receive("mail", LONG, None).unwrap().unwrap().ack().unwrap();
    provider.force_flush().unwrap();
    let all = exporter.get_finished_metrics().unwrap();
    let data = |name: &str| {
        let metrics = all.iter().flat_map(|resource| resource.scope_metrics());
        let metric = metrics.flat_map(|scope| scope.metrics()).find(|metric| metric.name() == name);
        metric.unwrap_or_else(|| panic!("there is no {name}")).data()
    };
    let value = |name: &str, queue: Option<&str>| match data(name) {
        AggregatedMetrics::U64(MetricData::Gauge(gauge)) => gauge
            .data_points()
            .find(|point| is_of(point.attributes(), queue))
            .map(|point| point.value()),
        AggregatedMetrics::U64(MetricData::Sum(sum)) => {
            assert!(sum.is_monotonic());
            let mut points = sum.data_points();
            points.find(|point| is_of(point.attributes(), queue)).map(|point| point.value())
        }
        other => panic!("{name} is {other:?}"),
    };
    assert_eq!(value("libmq.enqueued", Some("orders")), Some(2));
    assert_eq!(value("libmq.ready", Some("orders")), Some(2));
    assert_eq!(value("libmq.ready", Some("mail")), Some(0));
    assert_eq!(value("libmq.acked", Some("mail")), Some(1));
    assert_eq!(value("libmq.segments", None), Some(1));
    // The first thing to watch was not observed, nor were these: only what `metrics` has as whole numbers of a queue was.
    let own = broker.metrics().unwrap();
    assert_eq!(value("libmq.snapshots", None), Some(own.snapshots));
    assert!(value("libmq.syncs", None) <= Some(own.syncs));
    let AggregatedMetrics::F64(MetricData::Gauge(ages)) = data("libmq.oldest_ready_age") else {
        panic!("the age is {:?}", data("libmq.oldest_ready_age"));
    };
    let ages: Vec<_> = ages.data_points().collect();
    assert!(ages.iter().all(|age| is_of(age.attributes(), Some("orders"))), "{ages:?}");
    assert!(matches!(&ages[..], [age] if (0.0..LONG.as_secs_f64()).contains(&age.value())));
    let AggregatedMetrics::U64(MetricData::Gauge(marks)) = data("libmq.lsn") else {
        panic!("the marks are {:?}", data("libmq.lsn"));
    };
    let mark = |name: &str| {
        let is_it = |found: &KeyValue| found.key.as_str() == "mark" && found.value.as_str() == name;
        marks.data_points().find(|point| point.attributes().any(is_it)).map(|point| point.value())
    };
    let lsn = own.lsn;
    let expected = [lsn.reserved, lsn.written, lsn.shown].map(Some);
    assert_eq!(["reserved", "written", "shown"].map(mark), expected);
    assert!(mark("durable").is_some());
    broker.close(LONG).unwrap();
    exporter.reset();
    provider.force_flush().unwrap();
}
