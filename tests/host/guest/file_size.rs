//! A process whose files may have no more than so many bytes, and that does not ignore `SIGXFSZ`.

use std::path::Path;
use std::time::Duration;

use libmq::{Broker, Durability, ErrorKind, Options};

use crate::promises::Promises;
use crate::rlimit;

fn options() -> Options {
    Options::new().segment_bytes(64 << 10).durability(Durability::Os)
}

/// Nothing that an open makes may be too large: lock, marks, segment.
pub fn at_open(place: &Path) {
    let mut refused = 0;
    for limit in [0, 1, 10, 100, 1000, 4096, 60_000, 65_535, 70_000, 100_000, 131_071] {
        let directory = place.join(format!("limit-{limit}"));
        rlimit::set(libc::RLIMIT_FSIZE, limit);
        let error = Broker::open(&directory, options()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StorageFull, "{limit}: {error}");
        refused += 1;
        // What was left behind is in nobody's way.
        rlimit::lift(libc::RLIMIT_FSIZE);
        let broker = Broker::open(&directory, options()).unwrap();
        let mut promises = Promises::default();
        promises.enqueue(&broker, 100).unwrap();
        broker.close(Duration::from_secs(5)).unwrap();
    }
    // Room for the marks, and not for a segment.
    rlimit::set(libc::RLIMIT_FSIZE, 200_000);
    let large = || options().segment_bytes(1 << 20);
    let directory = place.join("large");
    let error = Broker::open(&directory, large()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}");
    assert!(
        !std::fs::read_dir(&directory)
            .unwrap()
            .any(|entry| { entry.unwrap().file_name().to_str().unwrap().contains("segment") })
    );
    rlimit::lift(libc::RLIMIT_FSIZE);
    Broker::open(&directory, large()).unwrap().close(Duration::from_secs(5)).unwrap();
    println!("{refused} limits refused an open as STORAGE_FULL, and none killed the process");
}

/// What lies beyond the limit in a segment that is there, and what grows later: a snapshot, the marks, a large message's segment.
pub fn later(place: &Path) {
    let directory = place.join("queue");
    let broker = Broker::open(&directory, options()).unwrap();
    let mut promises = Promises::default();
    // Above what is written, and below what would be made ready for that: who tried it would be killed.
    rlimit::set(libc::RLIMIT_FSIZE, 20_000);
    for _ in 0..160 {
        promises.enqueue(&broker, 10).unwrap();
    }
    rlimit::set(libc::RLIMIT_FSIZE, 150_000);
    for _ in 0..5000 {
        promises.enqueue(&broker, 10).unwrap();
    }
    // Less than these take in one.
    rlimit::set(libc::RLIMIT_FSIZE, 20_000);
    let error = broker.snapshot().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}");
    rlimit::set(libc::RLIMIT_FSIZE, 150_000);
    let error = promises.enqueue(&broker, 200_000).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}");
    // More in flight than the first of the marks have room for.
    let held = broker.receive_batch("promised", 4000, Duration::ZERO, None);
    let held = held.map_or(0, |held| held.len());
    assert!((1..=2048).contains(&held), "{held} in flight");
    let copy = place.join("copy");
    broker.backup(&copy).unwrap();
    // All of it is given back, and there is room for all as soon as the limit is gone.
    rlimit::lift(libc::RLIMIT_FSIZE);
    promises.enqueue(&broker, 200_000).unwrap();
    broker.snapshot().unwrap();
    promises.hold(&broker);
    broker.close(Duration::from_secs(5)).unwrap();
    println!(
        "a snapshot, a large message and the marks of more than {held} in flight were refused as STORAGE_FULL; {} \
         acked, 0 lost",
        promises.acked
    );
}
