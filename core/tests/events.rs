//! What a broker tells: to a hook, and to tracing. Nothing of a body, a key or a header's value is in any of it.

#![expect(clippy::unwrap_used, reason = "a test's helpers are the test's own")]

mod canary;

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Barrier, Mutex};
use std::time::{Duration, Instant};

use libmq::{Broker, Event, EventLevel, Field, HandlerError, HandlerOptions, Message, Options};

use canary::{CANARY, secret};
use tracing_subscriber::fmt::MakeWriter;

const LONG: Duration = Duration::from_secs(20);

/// Events of a hook.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<Event>>>);

impl Told {
    fn hook(&self) -> impl Fn(&Event) + Send + Sync + 'static {
        let told = Arc::clone(&self.0);
        move |event| told.lock().unwrap().push(event.clone())
    }

    fn names(&self) -> Vec<&'static str> {
        self.0.lock().unwrap().iter().map(|event| event.name).collect()
    }

    fn wait_for(&self, name: &str) -> Event {
        let end = Instant::now() + LONG;
        loop {
            if let Some(event) = self.0.lock().unwrap().iter().find(|event| event.name == name) {
                return event.clone();
            }
            assert!(Instant::now() < end, "{name} was not told, but {:?}", self.names());
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

fn number(event: &Event, name: &str) -> u64 {
    match event.fields.iter().find(|(field, _)| *field == name) {
        Some((_, Field::Number(number))) => *number,
        other => panic!("{name} is {other:?}"),
    }
}

/// Text that tracing writes.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Lines {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

/// Does a bit of everything with messages full of what nobody is to be told.
fn work(dir: &std::path::Path, told: &Told) {
    let options = Options::new().log(told.hook()).default_max_retries(0);
    let broker = Broker::open(dir, options).unwrap();
    broker.enqueue(secret("fails")).unwrap();
    broker.enqueue_batch(&[secret("acks"), secret("acks")]).unwrap();
    broker.enqueue(secret("pulled")).unwrap();
    broker
        .handle("fails", HandlerOptions::new(), |_| {
            Err(HandlerError::failed(format!("error {CANARY}")))
        })
        .unwrap();
    broker
        .handle("acks", HandlerOptions::new(), |context| {
            context.enqueue(secret("children"))?;
            Ok(())
        })
        .unwrap();
    let timeout = Duration::from_millis(10);
    let options = HandlerOptions::new().timeout(timeout).cancel_grace(timeout);
    broker
        .handle("stuck", options, |_| {
            std::thread::sleep(Duration::from_millis(200));
            Ok(())
        })
        .unwrap();
    broker.start().unwrap();
    broker
        .receive("pulled", LONG, None)
        .unwrap()
        .unwrap()
        .reject(&format!("reason {CANARY}"))
        .unwrap();
    broker.enqueue(secret("stuck")).unwrap();
    told.wait_for("stuck");
    assert!(broker.wait_idle(LONG).unwrap());
    broker.snapshot().unwrap();
    broker.purge("children").unwrap();
    broker.close(LONG).unwrap();
}

/// Nothing told that a queue had come to a standstill.
#[test]
fn that_as_many_are_stuck_as_may_be_is_told() {
    let told = Told::default();
    let broker = Broker::open(":memory:", Options::new().log(told.hook())).unwrap();
    let short = Duration::from_millis(10);
    let options = HandlerOptions::new().timeout(short).cancel_grace(short).max_retries(0);
    let (free, freed) = std::sync::mpsc::channel::<()>();
    let freed = Mutex::new(freed);
    let wait = move |_: &libmq::Context| {
        let _ = freed.lock().unwrap().recv();
        Ok(())
    };
    broker.handle("q", options.max_parallelism(2), wait).unwrap();
    broker.start().unwrap();
    for count in 1..=4 {
        assert!(!told.names().contains(&"all_stuck"), "{count}");
        broker.enqueue(Message::new("q", "")).unwrap();
        let end = Instant::now() + LONG;
        while broker.metrics().unwrap().broker.stuck < count {
            assert!(Instant::now() < end);
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    let event = told.wait_for("all_stuck");
    assert_eq!((event.level, number(&event, "stuck")), (EventLevel::Error, 4));
    drop(free);
    broker.close(LONG).unwrap();
}

#[test]
fn what_happens_is_told_and_nothing_of_what_is_in_messages() {
    let (told, lines) = (Told::default(), Lines::default());
    let subscriber = tracing_subscriber::fmt()
        .with_writer(lines.clone())
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_span_events(tracing_subscriber::fmt::format::FmtSpan::ENTER)
        .with_ansi(false)
        .finish();
    tracing::subscriber::set_global_default(subscriber).unwrap();
    let dir = tempfile::tempdir().unwrap();
    work(dir.path(), &told);

    let open = told.wait_for("open");
    assert_eq!((open.level, number(&open, "messages")), (EventLevel::Info, 0));
    let letters: Vec<Event> = told
        .0
        .lock()
        .unwrap()
        .iter()
        .filter(|event| event.name == "dead_letter")
        .cloned()
        .collect();
    assert_eq!(letters.len(), 3);
    assert!(letters.iter().all(|letter| letter.level == EventLevel::Warn));
    let reason = |letter: &Event| {
        letter.fields.iter().find(|(name, _)| *name == "reason").cloned().unwrap().1
    };
    let mut reasons: Vec<String> =
        letters.iter().map(|letter| format!("{:?}", reason(letter))).collect();
    reasons.sort();
    assert_eq!(
        reasons,
        [r#"Text("max_retries")"#, r#"Text("max_retries")"#, r#"Text("rejected")"#]
    );
    for name in ["timeout", "stuck", "snapshot", "close"] {
        told.wait_for(name);
    }
    assert_eq!(told.names().last(), Some(&"close"));

    let text = lines.text();
    for expected in [
        "libmq: open path=",
        "enqueue{queue=\"fails\" messages=1}",
        "enqueue{queue=\"acks\" messages=2}",
        "libmq: enqueue queue=\"acks\" id=",
        "libmq: deliver queue=\"pulled\" id=",
        "handle{queue=\"fails\" id=",
        "outcome=\"ack\"",
        "outcome=\"reject\"",
        "libmq: dead_letter queue=",
        "libmq: stuck queue=\"stuck\"",
        "libmq: snapshot bytes=",
        "libmq: close path=",
    ] {
        assert!(text.contains(expected), "{expected} is not in\n{text}");
    }
    assert!(!text.contains(CANARY), "{text}");
    let hooked: String = told.0.lock().unwrap().iter().map(Event::fields_json).collect();
    assert!(!hooked.contains(CANARY), "{hooked}");
}

#[test]
fn a_torn_tail_and_what_it_held_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::open(dir.path(), Options::new()).unwrap();
    broker.enqueue(Message::new("q", "kept")).unwrap();
    let written = broker.metrics().unwrap().lsn.written;
    drop(broker);
    // As a power failure leaves a write that was under way: its first bytes alone.
    let segment = dir.path().join("00000001.segment");
    let file = std::fs::OpenOptions::new().write(true).open(segment).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[9; 40], written).unwrap();
    let told = Told::default();
    let broker = Broker::open(dir.path(), Options::new().log(told.hook())).unwrap();
    let torn = told.wait_for("torn_tail");
    assert_eq!(torn.level, EventLevel::Warn);
    assert_eq!(number(&torn, "dropped_bytes"), broker.recovery().dropped_bytes);
    assert!(broker.recovery().dropped_bytes > 0);
}

#[test]
fn a_hook_may_call_the_broker() {
    let told = Told::default();
    let (record, place) = (told.hook(), Arc::new(Mutex::new(None::<Broker>)));
    let inner = Arc::clone(&place);
    let hook = move |event: &Event| {
        if event.name == "dead_letter" {
            let broker = inner.lock().unwrap().take().unwrap();
            assert_eq!(broker.close(LONG).unwrap_err().kind(), libmq::ErrorKind::Deadlock);
            broker.enqueue(Message::new("told", "")).unwrap();
            broker.start().unwrap();
            broker.stop(LONG).unwrap();
        }
        record(event);
    };
    let broker = Broker::open(":memory:", Options::new().log(hook)).unwrap();
    *place.lock().unwrap() = Some(broker.clone());
    broker.enqueue(Message::new("q", "")).unwrap();
    broker.receive("q", LONG, None).unwrap().unwrap().reject("no").unwrap();
    told.wait_for("dead_letter");
    assert_eq!(broker.metrics().unwrap().queues["told"].ready, 1);
    broker.close(LONG).unwrap();
}

/// A hook that is slow, and counts the calls that are under way or come after it may be called no more.
struct Slow {
    calls: Arc<AtomicU32>,
    freed: Arc<AtomicBool>,
    late: Arc<AtomicU32>,
}

impl Slow {
    fn new() -> Self {
        let (calls, freed, late) = Default::default();
        Self { calls, freed, late }
    }

    fn options(&self) -> Options {
        let (calls, freed, late) =
            (Arc::clone(&self.calls), Arc::clone(&self.freed), Arc::clone(&self.late));
        Options::new().log(move |_| {
            calls.fetch_add(1, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(20));
            late.fetch_add(freed.load(Ordering::SeqCst).into(), Ordering::SeqCst);
        })
    }

    /// A broker whose hook has something to be told of.
    fn broker(&self) -> Broker {
        let broker = Broker::open(":memory:", self.options()).unwrap();
        broker.enqueue(Message::new("q", "")).unwrap();
        broker.receive("q", LONG, None).unwrap().unwrap().reject("no").unwrap();
        broker
    }
}

/// Who dropped a broker in a callback of an enqueue did not wait for its hook, which used what was freed behind that.
#[test]
fn a_broker_that_is_dropped_in_a_callback_of_an_enqueue_calls_its_hook_no_more() {
    let (own, other) = (Slow::new(), Slow::new());
    let (broker, also) = (own.broker(), other.broker());
    let (hand_over, handed) = channel();
    let (told, tells) = channel();
    let freed = [Arc::clone(&own.freed), Arc::clone(&other.freed)];
    let done = move |_| {
        drop(also);
        // The last handle there is.
        drop(handed.recv());
        freed.iter().for_each(|freed| freed.store(true, Ordering::SeqCst));
        let _ = told.send(());
    };
    broker.enqueue_then(Message::new("q", ""), done).unwrap();
    hand_over.send(broker).unwrap();
    tells.recv_timeout(LONG).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    for slow in [own, other] {
        assert!(slow.calls.load(Ordering::SeqCst) >= 2);
        assert_eq!(slow.late.load(Ordering::SeqCst), 0);
    }
}

#[test]
fn a_broker_that_is_dropped_in_the_hook_of_another_one_calls_its_own_no_more() {
    let slow = Slow::new();
    let place = Mutex::new(Some(slow.broker()));
    let freed = Arc::clone(&slow.freed);
    let hook = move |_: &Event| {
        drop(place.lock().unwrap().take());
        freed.store(true, Ordering::SeqCst);
    };
    let broker = Broker::open(":memory:", Options::new().log(hook)).unwrap();
    broker.close(LONG).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    assert!(slow.calls.load(Ordering::SeqCst) >= 2);
    assert_eq!(slow.late.load(Ordering::SeqCst), 0);
}

/// It was told what was left behind its own end.
#[test]
fn a_hook_that_drops_its_broker_is_called_no_more() {
    let (hand_over, handed) = channel::<Broker>();
    let (handed, calls) = (Mutex::new(handed), Arc::new(AtomicU32::new(0)));
    let (counted, (told, tells)) = (Arc::clone(&calls), channel());
    let hook = move |_: &Event| {
        counted.fetch_add(1, Ordering::SeqCst);
        drop(handed.lock().unwrap().recv());
        let _ = told.send(());
    };
    let broker = Broker::open(":memory:", Options::new().log(hook)).unwrap();
    for _ in 0..10 {
        broker.enqueue(Message::new("q", "")).unwrap();
        broker.receive("q", LONG, None).unwrap().unwrap().reject("no").unwrap();
    }
    hand_over.send(broker).unwrap();
    tells.recv_timeout(LONG).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

/// One of two hooks that drop each other's brokers waits for the other, and that one not for it.
#[test]
fn hooks_that_drop_each_others_brokers_do_not_wait_for_each_other() {
    let meet = Arc::new(Barrier::new(2));
    let places: [Arc<Mutex<Option<Broker>>>; 2] = Default::default();
    let (told, tells) = channel();
    let brokers = [0, 1].map(|number| {
        let (meet, place) = (Arc::clone(&meet), Arc::clone(&places[1 - number]));
        let told = Mutex::new(told.clone());
        let hook = move |event: &Event| {
            if event.name == "dead_letter" {
                meet.wait();
                drop(place.lock().unwrap().take());
                let _ = told.lock().unwrap().send(());
            }
        };
        Broker::open(":memory:", Options::new().log(hook)).unwrap()
    });
    for (broker, place) in brokers.iter().zip(&places) {
        broker.enqueue(Message::new("q", "")).unwrap();
        *place.lock().unwrap() = Some(broker.clone());
    }
    for broker in brokers {
        broker.receive("q", LONG, None).unwrap().unwrap().reject("no").unwrap();
    }
    for _ in 0..2 {
        tells.recv_timeout(LONG).unwrap();
    }
}
