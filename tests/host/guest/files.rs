//! A process that has no descriptors left.

use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

use libmq::{Broker, Durability, ErrorKind, Options};

use crate::promises::Promises;
use crate::rlimit;

/// More than any open needs at once.
const NEEDED_MAX: u64 = 60;

fn options() -> Options {
    Options::new().segment_bytes(64 << 10).durability(Durability::Os)
}

/// Descriptors and threads that this process has.
fn have() -> (usize, usize) {
    let count = |path: &str| fs::read_dir(path).unwrap().count();
    (count("/proc/self/fd"), count("/proc/self/task"))
}

fn names(directory: &Path) -> Vec<String> {
    let names = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}

/// With one more at a time, until it is enough.
pub fn at_open(place: &Path) {
    let directory = place.join("queue");
    let mut promises = Promises::default();
    let broker = Broker::open(&directory, options()).unwrap();
    for _ in 0..200 {
        promises.enqueue(&broker, 1000).unwrap();
    }
    // A crash while some are held: whoever opens next suspects them.
    let held = broker.receive_batch("promised", 3, Duration::ZERO, None).unwrap();
    drop(broker);
    drop(held);
    let (before, names) = (have(), names(&directory));
    let lowest =
        File::open("/dev/null").map(|file| std::os::fd::AsRawFd::as_raw_fd(&file)).unwrap();
    let mut refused = 0;
    for more in 0..NEEDED_MAX {
        rlimit::set(libc::RLIMIT_NOFILE, u64::try_from(lowest).unwrap() + more);
        let opened = Broker::open(&directory, options());
        rlimit::lift(libc::RLIMIT_NOFILE);
        match opened {
            Ok(broker) => {
                assert!(refused > 3, "{refused} opens were refused");
                assert_eq!(broker.recovery().suspects, 3);
                promises.hold(&broker);
                broker.close(Duration::from_secs(5)).unwrap();
                println!(
                    "{refused} opens without enough descriptors were IO and left nothing; 0 lost"
                );
                return;
            }
            Err(error) => {
                let is_it = (error.kind(), error.os_code()) == (ErrorKind::Io, Some(libc::EMFILE));
                assert!(is_it, "{more} more: {error}");
                assert_eq!(have(), before, "with {more} more");
                assert_eq!(self::names(&directory), names, "with {more} more");
                refused += 1;
            }
        }
    }
    panic!("{NEEDED_MAX} descriptors are not enough");
}

/// None left for the next segments, nor for a snapshot.
pub fn later(place: &Path) {
    let directory = place.join("queue");
    let broker = Broker::open(&directory, options()).unwrap();
    let mut promises = Promises::default();
    let mut refused = 0;
    for _ in 0..10 {
        let mut taken = Vec::new();
        rlimit::set(libc::RLIMIT_NOFILE, 200);
        while let Ok(file) = File::open("/dev/null") {
            taken.push(file);
        }
        let error = promises.fill(&broker, 1000);
        assert_eq!((error.kind(), error.os_code()), (ErrorKind::Io, Some(libc::EMFILE)), "{error}");
        let error = broker.snapshot().unwrap_err();
        assert_eq!((error.kind(), error.os_code()), (ErrorKind::Io, Some(libc::EMFILE)), "{error}");
        refused += 1;
        drop(taken);
        promises.enqueue(&broker, 1000).unwrap();
    }
    promises.hold(&broker);
    broker.close(Duration::from_secs(5)).unwrap();
    println!(
        "{refused} times there was no descriptor for a segment or a snapshot, answered IO, and it went on; {} acked, \
         0 lost",
        promises.acked
    );
}
