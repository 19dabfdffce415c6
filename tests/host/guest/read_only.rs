//! A directory on a mount that is only to be read, from the beginning or from some moment on.

use std::path::Path;
use std::time::Duration;

use libmq::{Broker, ErrorKind, Options, verify};

use crate::promises::Promises;
use crate::rooms;

const BODY: usize = 2000;

fn options() -> Options {
    Options::new().segment_bytes(64 << 10)
}

pub fn run(place: &Path) {
    rooms::enter();
    rooms::small(place, 16 << 10);
    let directory = place.join("queue");
    let mut promises = Promises::default();
    let broker = Broker::open(&directory, options()).unwrap();
    for _ in 0..20 {
        promises.enqueue(&broker, BODY).unwrap();
    }

    // Later: who makes the next segment is refused, and only he; what is there goes on.
    rooms::only_to_read(place);
    let refused = promises.fill(&broker, BODY);
    assert_eq!(
        (refused.kind(), refused.os_code()),
        (ErrorKind::Io, Some(libc::EROFS)),
        "{refused}"
    );
    let later = promises.left();
    assert!(later >= 20);
    rooms::leave(place);
    promises.enqueue(&broker, BODY).unwrap();
    for _ in 0..40 {
        promises.enqueue(&broker, BODY).unwrap();
    }
    broker.close(Duration::from_secs(5)).unwrap();

    // From the beginning: an open changes nothing, and whoever verifies may.
    rooms::only_to_read(place);
    let before = entries(&directory);
    let refused = Broker::open(&directory, options()).unwrap_err();
    assert_eq!(
        (refused.kind(), refused.os_code()),
        (ErrorKind::Io, Some(libc::EROFS)),
        "{refused}"
    );
    let refused = Broker::open(place.join("new"), options()).unwrap_err();
    assert_eq!(
        (refused.kind(), refused.os_code()),
        (ErrorKind::Io, Some(libc::EROFS)),
        "{refused}"
    );
    let report = verify(&directory).unwrap();
    assert_eq!((report.sound(), report.messages), (true, promises.left() as u64), "{report:?}");
    assert_eq!(entries(&directory), before);
    rooms::leave(place);
    assert!(!place.join("new").exists());

    let broker = Broker::open(&directory, options()).unwrap();
    promises.hold(&broker);
    broker.close(Duration::from_secs(5)).unwrap();
    println!(
        "opens were refused and made nothing, a verify read {} messages; mounted so while it was open, it refused \
         after {later} messages and went on when that was over; {} acked, 0 lost",
        report.messages, promises.acked
    );
}

/// The names of a directory, and what is in the files.
fn entries(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| {
        let entry = entry.unwrap();
        (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap())
    });
    let mut entries: Vec<_> = entries.collect();
    entries.sort();
    entries
}
