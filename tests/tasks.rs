//! Handlers that are tasks: async functions on a tokio runtime, and what is injected into them.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use libmq::{
    AsyncContext, Body, Broker, ErrorKind, HandlerError, HandlerOptions, Json, Message, Options,
    Scope, Scoped, State, States,
};
use serde::Deserialize;

/// Far longer than what it bounds takes.
const LONG: Duration = Duration::from_secs(30);

type Ended = Result<(), HandlerError>;

#[derive(Debug, Deserialize)]
struct Order {
    number: u32,
}

/// What happened, in order.
#[derive(Clone, Debug, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn add(&self, line: impl Into<String>) {
        self.0.lock().unwrap().push(line.into());
    }

    fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

fn open(options: Options) -> Broker {
    Broker::open(":memory:", options).unwrap()
}

fn order(number: u32) -> Message<'static> {
    Message::new("orders", format!(r#"{{"number": {number}}}"#))
}

/// Runs a call that blocks, beside the tasks.
async fn blocking<R: Send + 'static>(
    broker: &Broker,
    call: impl FnOnce(&Broker) -> R + Send + 'static,
) -> R {
    let broker = broker.clone();
    tokio::task::spawn_blocking(move || call(&broker)).await.unwrap()
}

async fn idle(broker: &Broker) {
    assert!(blocking(broker, |broker| broker.wait_idle(LONG).unwrap()).await, "it is not idle");
}

async fn until(done: impl Fn() -> bool) {
    let end = Instant::now() + LONG;
    while !done() {
        assert!(Instant::now() < end, "it did not come");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn arguments_are_what_they_say() {
    let log = Log::default();
    let broker = open(Options::new().state(log.clone()).state(7_u64));
    let handler = |order: Json<Order>,
                   body: Body,
                   log: State<Log>,
                   seven: State<u64>,
                   context: AsyncContext| async move {
        context.enqueue(Message::new("paid", order.number.to_string()))?;
        log.add(format!("{} {} {} {}", order.number, body.0.len(), *seven, context.attempt()));
        assert_eq!(context.state::<u64>(), Some(7));
        Ok(())
    };
    broker.handle_async("orders", HandlerOptions::new(), handler).unwrap();
    let paid = |body: Body, State(log): State<Log>| async move {
        log.add(format!("paid {}", String::from_utf8(body.0)?));
        Ok(())
    };
    broker.handle_async("paid", HandlerOptions::new(), paid).unwrap();
    broker.enqueue(order(3)).unwrap();
    broker.start().unwrap();
    idle(&broker).await;
    assert_eq!(log.lines(), ["3 13 7 1", "paid 3"]);
    assert_eq!(broker.metrics().unwrap().broker.acked, 2);
}

#[tokio::test]
async fn a_function_of_nothing_is_a_handler_too_and_errors_are_failed_attempts() {
    let broker = open(Options::new().default_max_retries(0));
    broker.handle_async("plain", HandlerOptions::new(), || async { Ok(()) }).unwrap();
    let fails = |_: AsyncContext| async { Err(std::io::Error::other("no"))? };
    broker.handle_async("fails", HandlerOptions::new(), fails).unwrap();
    let panics = |context: AsyncContext| async move { panic!("at {}", context.queue()) };
    broker.handle_async("panics", HandlerOptions::new(), panics).unwrap();
    let rejects = |_: Json<Order>| async { Err(HandlerError::reject("not today")) };
    broker.handle_async("orders", HandlerOptions::new(), rejects).unwrap();
    for queue in ["plain", "fails", "panics"] {
        broker.enqueue(Message::new(queue, "")).unwrap();
    }
    broker.enqueue(order(1)).unwrap();
    broker.enqueue(Message::new("orders", "not JSON")).unwrap();
    broker.start().unwrap();
    idle(&broker).await;
    let mut letters: Vec<_> = broker.dead_letters().list(None, 10, None).unwrap();
    letters.sort_by_key(|letter| letter.id());
    let told: Vec<_> =
        letters.iter().map(|letter| (letter.queue(), letter.reason(), letter.error())).collect();
    assert_eq!(told[0], ("fails", "max_retries", "no"));
    assert_eq!(told[1], ("panics", "max_retries", "the handler panicked: at panics"));
    assert_eq!(told[2].1, "not today");
    assert_eq!(told[3].1, "decode");
    assert_eq!(broker.metrics().unwrap().broker.acked, 1);
}

/// A session that notes its life.
struct Session {
    log: Log,
    number: u32,
}

/// What sessions are to do when they are closed.
#[derive(Clone, Default)]
struct Closing(Arc<AtomicBool>);

impl Scope for Session {
    fn check(states: &States) -> libmq::Result<()> {
        states.require::<Log>()
    }

    async fn begin(context: &AsyncContext) -> Result<Self, HandlerError> {
        let log: Log = context.state().unwrap();
        log.add(format!("begin {}", context.attempt()));
        Ok(Self { log, number: 0 })
    }

    async fn finish(self, succeeded: bool) -> Ended {
        tokio::time::sleep(Duration::from_millis(1)).await;
        self.log.add(format!("finish {} {succeeded}", self.number));
        Ok(())
    }
}

/// A transaction whose commit may fail.
struct Commit(Option<Closing>, Log);

impl Scope for Commit {
    async fn begin(context: &AsyncContext) -> Result<Self, HandlerError> {
        Ok(Self(context.state(), context.state().unwrap()))
    }

    async fn finish(self, succeeded: bool) -> Ended {
        self.1.add(format!("commit {succeeded}"));
        let fails =
            succeeded && self.0.is_some_and(|closing| closing.0.swap(false, Ordering::SeqCst));
        if fails { Err(HandlerError::failed("the commit failed")) } else { Ok(()) }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scopes_are_opened_once_an_attempt_and_closed_before_its_ack() {
    let (log, closing) = (Log::default(), Closing(Arc::new(AtomicBool::new(true))));
    let options = Options::new()
        .state(log.clone())
        .state(closing)
        .default_backoff(libmq::Backoff::fixed(Duration::ZERO));
    let broker = open(options);
    let handler = |mut session: Scoped<Session>, commit: Scoped<Commit>, context: AsyncContext| async move {
        session.number = context.attempt() * 10;
        session.log.add("handle");
        drop(commit);
        if context.attempt() == 2 { Err(HandlerError::failed("second")) } else { Ok(()) }
    };
    broker.handle_async("jobs", HandlerOptions::new(), handler).unwrap();
    broker.enqueue(Message::new("jobs", "")).unwrap();
    broker.start().unwrap();
    idle(&broker).await;
    assert_eq!(
        log.lines(),
        [
            "begin 1",
            "handle",
            "commit true",
            "finish 10 false",
            "begin 2",
            "handle",
            "commit false",
            "finish 20 false",
            "begin 3",
            "handle",
            "commit true",
            "finish 30 true",
        ]
    );
    let metrics = broker.metrics().unwrap().broker;
    assert_eq!((metrics.acked, metrics.retried, metrics.handler_errors), (1, 2, 2));
}

#[tokio::test]
async fn a_scoped_value_that_outlives_its_attempt_fails_it() {
    let broker = open(Options::new().state(Log::default()).default_max_retries(0));
    let handler = |session: Scoped<Session>| async move {
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(200)).await;
            drop(session);
        });
        Ok(())
    };
    broker.handle_async("jobs", HandlerOptions::new(), handler).unwrap();
    broker.enqueue(Message::new("jobs", "")).unwrap();
    broker.start().unwrap();
    until(|| broker.metrics().unwrap().broker.dead == 1).await;
    let letter = broker.dead_letters().list(None, 1, None).unwrap().remove(0);
    assert!(letter.error().contains("outlived its attempt"), "{}", letter.error());
}

#[tokio::test]
async fn what_a_handler_was_not_given_is_said_when_it_is_registered() {
    let broker = open(Options::new());
    let handler = |_: State<Log>| async { Ok(()) };
    let error = broker.handle_async("jobs", HandlerOptions::new(), handler).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("Log"), "{error}");
    let handler = |_: Scoped<Session>| async { Ok(()) };
    let error = broker.handle_async("jobs", HandlerOptions::new(), handler).unwrap_err();
    assert!(error.to_string().contains("Log"), "{error}");
    let refused = broker.handle_async("no name", HandlerOptions::new(), || async { Ok(()) });
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Invalid);
}

#[test]
fn without_a_runtime_there_is_no_task() {
    let broker = open(Options::new());
    let refused = broker.handle_async("jobs", HandlerOptions::new(), || async { Ok(()) });
    let error = refused.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("tokio"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_many_run_at_once_as_they_may() {
    let broker = open(Options::new());
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (running, highest) = (Arc::clone(&now), Arc::clone(&most));
    let handler = move || {
        let (running, highest) = (Arc::clone(&running), Arc::clone(&highest));
        async move {
            highest.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(5)).await;
            running.fetch_sub(1, Ordering::SeqCst);
            Ok(())
        }
    };
    let options = HandlerOptions::new().max_parallelism(20);
    broker.handle_async("jobs", options, handler).unwrap();
    let messages = vec![Message::new("jobs", ""); 200];
    broker.enqueue_batch(&messages).unwrap();
    broker.start().unwrap();
    idle(&broker).await;
    assert_eq!(most.load(Ordering::SeqCst), 20);
    broker.scale("jobs", 3).unwrap();
    most.store(0, Ordering::SeqCst);
    broker.enqueue_batch(&messages).unwrap();
    idle(&broker).await;
    assert_eq!(most.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_timeout_cancels_and_then_drops_the_handler() {
    let log = Log::default();
    let broker = open(Options::new().state(log.clone()).default_max_retries(0));
    let grace = Duration::from_millis(50);
    let options = HandlerOptions::new().timeout(Duration::from_millis(20)).cancel_grace(grace);
    let handler = |session: Scoped<Session>, context: AsyncContext| async move {
        context.cancellation().cancelled().await;
        session.log.add(context.cancel_reason().unwrap().name());
        std::future::pending::<()>().await;
        Ok(())
    };
    broker.handle_async("jobs", options, handler).unwrap();
    broker.enqueue(Message::new("jobs", "")).unwrap();
    broker.start().unwrap();
    until(|| broker.metrics().unwrap().broker.dead == 1).await;
    let metrics = broker.metrics().unwrap().broker;
    assert_eq!(metrics.timeouts, 1);
    until(|| log.lines().len() == 3).await;
    assert_eq!(log.lines(), ["begin 1", "timeout", "finish 0 false"]);
    // The dropped one has left its place.
    broker.enqueue(Message::new("jobs", "")).unwrap();
    until(|| broker.metrics().unwrap().broker.dead == 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_message_tells_its_handler_and_a_stop_gives_back() {
    let broker = open(Options::new());
    let handler = |context: AsyncContext| async move {
        context.cancellation().cancelled().await;
        Err(HandlerError::failed("cancelled"))
    };
    broker.handle_async("jobs", HandlerOptions::new(), handler).unwrap();
    let first = broker.enqueue(Message::new("jobs", "1")).unwrap().id;
    broker.start().unwrap();
    until(|| broker.metrics().unwrap().broker.in_flight == 1).await;
    assert!(broker.cancel(first).unwrap());
    idle(&broker).await;
    assert_eq!(broker.metrics().unwrap().broker.cancelled, 1);
    broker.enqueue(Message::new("jobs", "2")).unwrap();
    until(|| broker.metrics().unwrap().broker.in_flight == 1).await;
    let stopped = blocking(&broker, |broker| broker.stop(Duration::from_millis(10))).await;
    assert_eq!(stopped.unwrap_err().kind(), ErrorKind::Timeout);
    let metrics = broker.metrics().unwrap().broker;
    assert_eq!((metrics.ready, metrics.released), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_handler_takes_over_when_the_first_ones_calls_have_ended() {
    let (broker, log) = (open(Options::new()), Log::default());
    let first = {
        let log = log.clone();
        move || {
            let log = log.clone();
            async move {
                tokio::time::sleep(Duration::from_millis(50)).await;
                log.add("first");
                Ok(())
            }
        }
    };
    broker.handle_async("jobs", HandlerOptions::new(), first).unwrap();
    broker.enqueue(Message::new("jobs", "")).unwrap();
    broker.start().unwrap();
    until(|| broker.metrics().unwrap().broker.in_flight == 1).await;
    let second = {
        let log = log.clone();
        move || {
            log.add("second");
            async { Ok(()) }
        }
    };
    broker.handle_async("jobs", HandlerOptions::new(), second).unwrap();
    broker.enqueue(Message::new("jobs", "")).unwrap();
    idle(&broker).await;
    assert_eq!(log.lines(), ["first", "second"]);
    // A plain one may follow as well.
    blocking(&broker, |broker| broker.handle("jobs", HandlerOptions::new(), |_| Ok(())).unwrap())
        .await;
}

#[tokio::test]
async fn what_would_wait_for_itself_is_refused() {
    let broker = open(Options::new());
    let (inner, log) = (broker.clone(), Log::default());
    let told = log.clone();
    let handler = move || {
        let (broker, log) = (inner.clone(), told.clone());
        async move {
            let kind = |refused: libmq::Result<()>| format!("{:?}", refused.unwrap_err().kind());
            log.add(kind(broker.stop(LONG)));
            log.add(kind(broker.close(LONG)));
            log.add(kind(broker.wait_idle(LONG).map(drop)));
            log.add(kind(broker.handle_async("jobs", HandlerOptions::new(), || async { Ok(()) })));
            Ok(())
        }
    };
    broker.handle_async("jobs", HandlerOptions::new(), handler).unwrap();
    // On a runtime with one thread, also outside of a handler.
    let again = broker.handle_async("jobs", HandlerOptions::new(), || async { Ok(()) });
    assert_eq!(again.unwrap_err().kind(), ErrorKind::Deadlock);
    broker.enqueue(Message::new("jobs", "")).unwrap();
    broker.start().unwrap();
    idle(&broker).await;
    assert_eq!(log.lines(), ["Deadlock"; 4]);
    blocking(&broker, |broker| broker.close(LONG).unwrap()).await;
}

#[test]
fn a_runtime_that_ends_gives_back_what_its_handlers_had() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::open(dir.path(), Options::new()).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let handler = || async {
            std::future::pending::<()>().await;
            Ok(())
        };
        broker.handle_async("jobs", HandlerOptions::new(), handler).unwrap();
        broker.enqueue(Message::new("jobs", "")).unwrap();
        broker.start().unwrap();
        until(|| broker.metrics().unwrap().broker.in_flight == 1).await;
    });
    drop(runtime);
    let delivery = broker.receive("jobs", LONG, None).unwrap().unwrap();
    assert_eq!(delivery.attempt(), 1, "it was released");
    delivery.ack().unwrap();
    broker.close(LONG).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_is_dropped_with_its_broker() {
    let kept = Arc::new(());
    let broker = open(Options::new());
    let held = Arc::clone(&kept);
    let handler = move || {
        let held = Arc::clone(&held);
        async move {
            drop(held);
            Ok(())
        }
    };
    broker.handle_async("jobs", HandlerOptions::new(), handler).unwrap();
    broker.start().unwrap();
    broker.enqueue(Message::new("jobs", "")).unwrap();
    idle(&broker).await;
    blocking(&broker, |broker| broker.close(LONG).unwrap()).await;
    until(|| Arc::strong_count(&kept) == 1).await;
}

#[test]
fn a_handler_of_json_is_handed_what_it_asks_for() {
    let broker = open(Options::new());
    let (told, tells) = std::sync::mpsc::channel();
    broker
        .handle_json::<Order, _>("orders", HandlerOptions::new(), move |order, context| {
            told.send((order.number, context.attempt())).unwrap();
            Ok(())
        })
        .unwrap();
    broker.enqueue(order(5)).unwrap();
    broker.enqueue(Message::new("orders", r#"{"number": "five"}"#)).unwrap();
    broker.start().unwrap();
    assert!(broker.wait_idle(LONG).unwrap());
    assert_eq!(tells.recv().unwrap(), (5, 1));
    let letter = broker.dead_letters().list(None, 1, None).unwrap().remove(0);
    assert_eq!(letter.reason(), "decode");
    assert!(letter.error().contains("expected u32"), "{}", letter.error());
}

/// The pool of the README, and a transaction of it.
mod readme {
    use super::{
        AsyncContext, Broker, HandlerError, HandlerOptions, Json, Message, Options, Order, Scope,
        Scoped, State,
    };

    #[derive(Clone)]
    pub struct Pool;

    impl Pool {
        async fn begin(&self) -> std::io::Result<Tx> {
            Ok(Tx)
        }
    }

    struct Tx;

    impl Tx {
        async fn commit(self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[rustfmt::skip]
    impl Scope for Tx { // how it is opened for an attempt, and closed
        async fn begin(context: &AsyncContext) -> Result<Self, HandlerError> {
            let pool = context.state::<Pool>().ok_or_else(|| HandlerError::failed("no pool was given"))?;
            Ok(pool.begin().await?)
        }
        async fn finish(self, succeeded: bool) -> Result<(), HandlerError> {
            if succeeded { self.commit().await?; } // a failure fails the attempt; dropped, it is rolled back
            Ok(())
        }
    }

    #[expect(unused_variables, reason = "it shows what there is to be asked for")]
    #[rustfmt::skip]
    pub fn sample(pool: Pool) -> libmq::Result<Broker> {
        let options = Options::new().state(pool); // as long as the broker
        let broker = Broker::open("queue-data", options)?;
        broker.handle_async("orders", HandlerOptions::new(), |order: Json<Order>, pool: State<Pool>, tx: Scoped<Tx>, ctx: AsyncContext| async move {
            ctx.enqueue(Message::new("payments", order.number.to_string()))?;
            Ok(()) // tx is closed, and only then the message acked
        })?;
        Ok(broker)
    }
}

/// It is compiled above; that it is the one of the README is seen here.
#[test]
fn the_handler_of_the_readme_is_one() {
    let _: fn(readme::Pool) -> libmq::Result<Broker> = readme::sample;
    let readme = include_str!("../README.md");
    let shown = readme.split_once("```rust,ignore\n").unwrap().1.split_once("```").unwrap().0;
    let here = include_str!("tasks.rs");
    for line in shown.lines() {
        assert!(here.lines().any(|here| here.trim() == line.trim()), "{line}");
    }
}
