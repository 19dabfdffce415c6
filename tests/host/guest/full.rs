//! A file system that is really full: of messages, and of what others have written.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use libmq::{Broker, Durability, ErrorKind, Options};

use crate::promises::Promises;
use crate::rooms;

const KIB: u64 = 8 << 10;
const BODY: usize = 3000;

/// How long it may take until room that was made is taken.
const ROOM_MAX: Duration = Duration::from_secs(30);

fn options() -> Options {
    Options::new().segment_bytes(256 << 10).durability(Durability::Os)
}

pub fn run(place: &Path) {
    rooms::enter();
    rooms::small(place, KIB);
    let directory = place.join("queue");
    has_room_by_default(place);
    let mut promises = Promises::default();

    // Of messages alone: what there is can be drained, and then there is room again.
    let broker = Broker::open(&directory, options()).unwrap();
    let mut filled = Vec::new();
    for _ in 0..3 {
        let full = promises.fill(&broker, BODY);
        assert_eq!(full.kind(), ErrorKind::StorageFull, "{full}");
        filled.push(promises.left());
        assert!(promises.left() > 500, "full with {} messages", promises.left());
        promises.hold(&broker);
        broker.snapshot().unwrap();
    }
    // A full one is left as by a crash, opened, and drained.
    promises.fill(&broker, BODY);
    drop(broker);
    let broker = Broker::open(&directory, options()).unwrap();
    promises.hold(&broker);

    // Others take all that is left, the room for settles, too. Whatever is answered then, nothing is lost of what was
    // promised, and what cannot be done is refused as what it is.
    let mut refused = 0;
    for round in 0..4 {
        enqueue(&mut promises, &broker, 60 * round);
        let ballast = place.join("ballast");
        take_all(&ballast);
        let full = promises.fill(&broker, BODY);
        assert_eq!(full.kind(), ErrorKind::StorageFull, "{full}");
        while let (_, Some(error)) = promises.settle(&broker) {
            assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}");
            refused += 1;
            if refused % 3 == 0 {
                break;
            }
        }
        let _ = broker.snapshot().map_err(|error| {
            assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}");
        });
        // They go, and it goes on by itself.
        fs::remove_file(ballast).unwrap();
        promises.hold(&broker);
        enqueue(&mut promises, &broker, 100);
    }
    // Crashes, and no room for an opening but what it makes itself: refused when there is nothing to be made any more, until
    // there is some.
    drop(broker);
    let ballast = place.join("ballast");
    let full = (0..20).find_map(|_| {
        take_all(&ballast);
        Broker::open(&directory, options()).err()
    });
    let full = full.unwrap();
    assert_eq!(full.kind(), ErrorKind::StorageFull, "{full}");
    fs::remove_file(ballast).unwrap();
    let broker = Broker::open(&directory, options()).unwrap();
    let left = promises.left();
    promises.hold(&broker);
    broker.close(Duration::from_secs(5)).unwrap();
    println!(
        "{KIB} KiB were full with {filled:?} messages, drained and filled again; beside others' files {refused} \
         settles found no room; {} messages acked, {left} of them after a crash, 0 lost",
        promises.acked
    );
}

/// A broker of default options opened on a disk of less than some 250 MB, and never took a message.
fn has_room_by_default(place: &Path) {
    let directory = place.join("default");
    let broker = Broker::open(&directory, Options::new()).unwrap();
    let mut promises = Promises::default();
    let full = promises.fill(&broker, BODY);
    assert_eq!(full.kind(), ErrorKind::StorageFull, "{full}");
    assert!(promises.left() > 500, "full with {} messages", promises.left());
    promises.hold(&broker);
    broker.close(Duration::from_secs(5)).unwrap();
    fs::remove_dir_all(directory).unwrap();
}

/// Enqueues so many; the room of what was settled may come with the next snapshot only.
fn enqueue(promises: &mut Promises, broker: &Broker, count: u32) {
    let end = Instant::now() + ROOM_MAX;
    for _ in 0..count {
        while let Err(error) = promises.enqueue(broker, BODY) {
            assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}");
            assert!(Instant::now() < end, "there is room, and it is not taken: {error}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Writes until there is not a byte left.
fn take_all(ballast: &Path) {
    let mut file = File::create(ballast).unwrap();
    for bytes in [64 << 10, 4096, 1] {
        let piece = vec![b'x'; bytes];
        while file.write_all(&piece).is_ok() {}
    }
}
