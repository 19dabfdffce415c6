//! Signals that are sent to the process: which of its threads take them.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use libmq::{Broker, HandlerOptions, Message, Options};

use crate::bare::{self, block, blocked};

static TAKEN: AtomicU64 = AtomicU64::new(0);
static TAKER: AtomicI32 = AtomicI32::new(0);

extern "C" fn take(_: i32) {
    TAKER.store(bare::thread(), Ordering::Relaxed);
    TAKEN.fetch_add(1, Ordering::Relaxed);
}

fn send(signal: i32) {
    // SAFETY: kill(2) takes no pointer, and the signal has a handler.
    assert_eq!(unsafe { libc::kill(libc::getpid(), signal) }, 0);
}

/// By their names, the threads of this process but for this one.
fn others() -> Vec<(String, i32)> {
    let me = bare::thread();
    let threads = std::fs::read_dir("/proc/self/task").unwrap().map(|entry| {
        let thread: i32 = entry.unwrap().file_name().to_str().unwrap().parse().unwrap();
        let name = std::fs::read_to_string(format!("/proc/self/task/{thread}/comm"));
        (name.unwrap_or_default().trim().to_owned(), thread)
    });
    threads.filter(|(_, thread)| *thread != me).collect()
}

/// While the only thread of the host's does not want it, a signal waits; then that thread takes it, and no other ever.
pub fn for_the_process(place: &Path) {
    bare::on_signal(libc::SIGUSR1, take);
    let options = Options::new().segment_bytes(64 << 10).log(|_| {});
    let broker = Broker::open(place.join("queue"), options).unwrap();
    broker.start().unwrap();
    let (tell, told) = channel();
    for number in 0..200 {
        let tell = tell.clone();
        let message = Message::new("q", vec![b'x'; 3000]);
        broker.enqueue_then(message, move |done| tell.send((number, done)).unwrap()).unwrap();
        assert!(told.recv().unwrap().1.is_ok());
    }
    let names: BTreeSet<String> = others().into_iter().map(|(name, _)| name).collect();
    let known = [
        "libmq-callback",
        "libmq-disk",
        "libmq-log",
        "libmq-snapshot",
        "libmq-supply",
        "libmq-time",
    ];
    assert!(known.iter().all(|name| names.contains(*name)), "{names:?}");
    let mut waited = 0;
    for round in 0..100 {
        let before = TAKEN.load(Ordering::Relaxed);
        block(libc::SIGUSR1, true);
        send(libc::SIGUSR1);
        // They have something to do, each of them, and with that every occasion to take it.
        broker.enqueue(Message::new("q", vec![b'x'; 3000])).unwrap();
        if round % 10 == 0 {
            broker.snapshot().unwrap();
            std::thread::sleep(Duration::from_millis(60));
        }
        assert_eq!(
            TAKEN.load(Ordering::Relaxed),
            before,
            "{} took it",
            TAKER.load(Ordering::Relaxed)
        );
        block(libc::SIGUSR1, false);
        assert_eq!(TAKEN.load(Ordering::Relaxed), before + 1);
        assert_eq!(TAKER.load(Ordering::Relaxed), bare::thread());
        waited += 1;
    }
    broker.close(Duration::from_secs(5)).unwrap();
    println!("{waited} signals waited for the host's thread beside {names:?}");
}

/// A handler's thread blocks what whoever registered it did, also where another thread of libmq's has started it.
pub fn of_handlers(place: &Path) {
    let broker = Broker::open(place.join("queue"), Options::new()).unwrap();
    block(libc::SIGUSR2, true);
    let mine = blocked(bare::thread());
    let (tell, told) = channel();
    let (free, freed) = channel::<()>();
    let freed = std::sync::Mutex::new(freed);
    let options = HandlerOptions::new()
        .timeout(Duration::from_millis(50))
        .cancel_grace(Duration::from_millis(50));
    broker
        .handle("q", options, move |context| {
            tell.send((bare::thread(), blocked(bare::thread()))).unwrap();
            if context.body() == b"stuck" {
                let _: Result<(), _> = freed.lock().unwrap().recv();
            }
            Ok(())
        })
        .unwrap();
    block(libc::SIGUSR2, false);
    broker.start().unwrap();
    broker.enqueue(Message::new("q", "stuck")).unwrap();
    let first = told.recv_timeout(Duration::from_secs(20)).unwrap();
    broker.enqueue(Message::new("q", "beside it")).unwrap();
    // It is stuck; whoever keeps the time starts another thread in its place.
    let second = told.recv_timeout(Duration::from_secs(20)).unwrap();
    assert_ne!(first.0, second.0);
    assert_eq!((first.1, second.1), (mine, mine));
    assert_ne!(mine & 1 << (libc::SIGUSR2 - 1), 0);
    drop(free);
    let end = Instant::now() + Duration::from_secs(20);
    while broker.close(Duration::from_secs(5)).is_err() {
        assert!(Instant::now() < end);
    }
    println!("a handler's thread and its substitute block {mine:#x}, as who registered them did");
}
