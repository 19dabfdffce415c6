//! A process that can have no more memory.

use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use libmq::{Broker, Durability, ErrorKind, Message, Options};

use crate::promises::{Promises, QUEUE, body};
use crate::rlimit;

const MIB: u64 = 1 << 20;

fn options() -> Options {
    Options::new().segment_bytes(1 << 20).durability(Durability::Os)
}

/// What this process has mapped, in bytes, once its threads have come so far that they map no more: one that starts has an
/// arena of 64 MiB for a moment or for good, and could start in no other memory.
fn mapped() -> u64 {
    let look = || {
        let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
        let pages: u64 = pages.split(' ').next().unwrap().parse().unwrap();
        pages * 4096
    };
    let (mut bytes, mut same) = (look(), 0);
    while same < 100 {
        std::thread::sleep(Duration::from_millis(1));
        let now = look();
        same = if now == bytes { same + 1 } else { 0 };
        bytes = now;
    }
    bytes
}

/// What is large is asked for, and refused.
pub fn refused(place: &Path) {
    let broker = Broker::open(place.join("queue"), options()).unwrap();
    let mut promises = Promises::default();
    for _ in 0..100 {
        promises.enqueue(&broker, 1000).unwrap();
    }
    let large = vec![b'x'; 16 << 20];
    let batch: Vec<Message<'_>> = (0..3).map(|_| Message::new(QUEUE, &large[..15 << 20])).collect();
    let large = Message::new(QUEUE, &large[..(16 << 20) - 100]);
    rlimit::set(libc::RLIMIT_AS, mapped() + 12 * MIB);
    let mut refused = 0;
    for _ in 0..20 {
        let error = broker.enqueue(large.clone()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoMemory, "{error}");
        let error = broker.enqueue_batch(&batch).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoMemory, "{error}");
        refused += 2;
        promises.enqueue(&broker, 1000).unwrap();
    }
    rlimit::lift(libc::RLIMIT_AS);
    promises.hold(&broker);
    broker.enqueue(large).unwrap();
    broker.receive(QUEUE, Duration::ZERO, None).unwrap().unwrap().ack().unwrap();
    broker.close(Duration::from_secs(5)).unwrap();
    println!(
        "{refused} enqueues were NO_MEMORY and changed nothing; {} acked, 0 lost",
        promises.acked
    );
}

/// What is small ends the process, in the middle of anything. Every number that it says was enqueued.
pub fn exhausted(place: &Path) {
    let broker = Broker::open(place.join("queue"), options()).unwrap();
    rlimit::set(libc::RLIMIT_AS, mapped() + 24 * MIB);
    let mut line = String::with_capacity(64);
    let mut output = std::io::stdout().lock();
    for number in 0..1_000_000 {
        let body = body(number, 1000);
        if let Err(error) = broker.enqueue(Message::new(QUEUE, body)) {
            assert_eq!(error.kind(), ErrorKind::NoMemory, "{error}");
            std::process::abort();
        }
        line.clear();
        std::fmt::Write::write_fmt(&mut line, format_args!("enqueued {number}\n")).unwrap();
        output.write_all(line.as_bytes()).unwrap();
        output.flush().unwrap();
    }
}

/// So many messages are there, from the first one on.
pub fn left(place: &Path, words: &[String]) {
    let count: u64 = words[0].parse().unwrap();
    let mut promises = Promises::default();
    (0..count).for_each(|number| promises.add(number));
    // The one whose enqueue the end cut short may be there.
    let broker = Broker::open(place.join("queue"), options()).unwrap();
    let found = broker.recovery().messages;
    assert!((count..=count + 1).contains(&found), "{found} of {count}");
    (count..found).for_each(|number| promises.add(number));
    promises.hold(&broker);
    broker.close(Duration::from_secs(5)).unwrap();
    println!("the process ended for want of memory after {count} enqueues, and {found} are there");
}
