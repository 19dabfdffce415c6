//! A disk without much room, and a broker that lives on it for long.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use libmq::storage::{Marks, Storage, StorageFile};
use libmq::{Broker, Delivery, Durability, ErrorKind, Message};
use libmq_suite::{SimDisk, Times};

use crate::extent::Extent;
use crate::run::options;
use crate::waiting::wait_until;

/// A disk that has room for so many bytes.
#[derive(Debug)]
pub struct Crowded {
    disk: SimDisk,
    room: Arc<Room>,
}

#[derive(Debug)]
struct Room {
    disk: SimDisk,
    bytes_max: AtomicU64,
}

/// A file that grows in such a room.
#[derive(Debug)]
struct CrowdedFile {
    file: Arc<dyn StorageFile>,
    room: Arc<Room>,
}

impl Crowded {
    pub fn new(disk: &SimDisk, bytes_max: u64) -> Arc<Self> {
        let room = Room { disk: disk.clone(), bytes_max: AtomicU64::new(bytes_max) };
        Arc::new(Self { disk: disk.clone(), room: Arc::new(room) })
    }

    /// Others have written to the disk, or removed what they had there, and have left room for so many bytes.
    pub fn leave(&self, bytes: u64) {
        let bytes_max = self.disk.bytes().unwrap() + bytes;
        self.room.bytes_max.store(bytes_max, Ordering::SeqCst);
    }

    fn file(&self, file: Arc<dyn StorageFile>) -> Arc<dyn StorageFile> {
        Arc::new(CrowdedFile { file, room: Arc::clone(&self.room) })
    }
}

impl Room {
    fn left(&self) -> io::Result<u64> {
        Ok(self.bytes_max.load(Ordering::SeqCst).saturating_sub(self.disk.bytes()?))
    }

    fn check(&self, bytes: u64) -> io::Result<()> {
        match self.left()? {
            left if bytes <= left => Ok(()),
            _ => Err(io::Error::from_raw_os_error(libc::ENOSPC)),
        }
    }
}

impl StorageFile for CrowdedFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    fn data_from(&self, offset: u64) -> io::Result<Option<u64>> {
        self.file.data_from(offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let end = offset + bytes.len() as u64;
        let full = self.room.check(end.saturating_sub(self.len()?));
        if full.is_err() {
            // What there is room for is written, and takes it.
            let fits = (self.len()? + self.room.left()?).saturating_sub(offset) as usize;
            self.file.write_at(&bytes[..fits.min(bytes.len())], offset)?;
        }
        full?;
        self.file.write_at(bytes, offset)
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.file.truncate(bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }

    fn drop_cached(&self) {
        self.file.drop_cached();
    }
}

impl Storage for Crowded {
    fn path(&self) -> &Path {
        self.disk.path()
    }

    fn prepare(&self) -> libmq::Result<()> {
        self.disk.prepare()
    }

    fn lock(&self, timeout: Duration) -> libmq::Result<Box<dyn Send + Sync>> {
        self.disk.lock(timeout)
    }

    fn marks(&self, count: usize) -> libmq::Result<Arc<Marks>> {
        self.disk.marks(count)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.disk.list()
    }

    fn free_bytes(&self) -> Option<u64> {
        self.room.left().ok()
    }

    fn create(&self, name: &str, bytes: u64) -> io::Result<Arc<dyn StorageFile>> {
        self.room.check(bytes)?;
        Ok(self.file(self.disk.create(name, bytes)?))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn StorageFile>> {
        Ok(self.file(self.disk.open(name)?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.disk.sync_dir()
    }
}

/// What the disk has room for in these tests.
pub const BYTES_MAX: u64 = 1 << 20;

pub fn open(storage: &Arc<Crowded>) -> libmq::Result<Broker> {
    let storage = Arc::clone(storage) as Arc<dyn Storage>;
    Broker::open_on(storage, options().capacity(1_000_000).default_max_retries(1_000_000))
}

/// Several segments full of what a retry takes.
const RETRIES: u64 = 4_000;

/// Enqueues until there is no room for more; answers how many there are.
pub fn fill(broker: &Broker, bytes: usize) -> u64 {
    let message = Message::new("jobs", vec![1; bytes]);
    let full = (0..100_000).find_map(|_| broker.enqueue(message.clone()).err()).unwrap();
    assert_eq!(full.kind(), ErrorKind::StorageFull, "{full}");
    broker.metrics().unwrap().broker.ready
}

/// Acks all there is; where there is no room for that, it comes.
pub fn drain(broker: &Broker) {
    wait_until(|| {
        let found = broker.receive_batch("jobs", 100, Duration::ZERO, None);
        let acked = found.and_then(|found| found.into_iter().try_for_each(Delivery::ack));
        let full = acked.err().filter(|full| full.kind() != ErrorKind::StorageFull);
        assert!(full.is_none(), "{full:?}");
        let left = broker.metrics().unwrap().broker;
        left.ready + left.in_flight == 0
    });
}

/// Each owner of a full disk made a segment of its own, and died before the snapshot that would have freed those of the
/// owners before it. After some of them there was no room for one more, and nobody could open the directory.
#[test]
fn a_full_disk_can_be_opened_however_many_of_its_owners_die() {
    for bytes in [1, 3_000] {
        let storage = Crowded::new(&SimDisk::default(), BYTES_MAX);
        let filled = fill(&open(&storage).unwrap(), bytes);
        for life in 0..50 {
            let broker = open(&storage).unwrap_or_else(|full| panic!("life {life}: {full}"));
            // What it still settles is in its own segment.
            let found = broker.receive("jobs", Duration::ZERO, None).unwrap().unwrap();
            found.ack().unwrap();
        }
        let broker = open(&storage).unwrap();
        assert_eq!(broker.recovery().messages, filled - 50);
        drain(&broker);
    }
}

/// What was done on a full disk before its owner was no more. Answers how many messages there are then.
type Before = fn(&Broker, u64) -> u64;

/// Calls until there is no room for it; answers how often there was.
pub fn until_full(call: impl FnMut(u64) -> libmq::Result<()>) -> u64 {
    let mut done = 0;
    let full = (0..100_000).map(call).find_map(|called| {
        done += u64::from(called.is_ok());
        called.err()
    });
    let full = full.expect("there is always room");
    assert_eq!(full.kind(), ErrorKind::StorageFull, "{full}");
    done
}

pub fn next(broker: &Broker) -> Delivery {
    broker.receive("jobs", Duration::ZERO, None).unwrap().unwrap()
}

const BEFORE: [(&str, Before); 5] = [
    ("nothing", |_, filled| filled),
    ("records", |broker, filled| {
        until_full(|_| broker.advance(Duration::ZERO));
        filled
    }),
    ("a close", |broker, filled| {
        until_full(|_| broker.advance(Duration::ZERO));
        broker.close(Duration::from_secs(20)).unwrap();
        filled
    }),
    ("children", |broker, filled| {
        // As long as there is room: those that are smaller than their parents might go on without end.
        let child = Message::new("jobs", vec![2; 500]).durability(Durability::Os);
        let settle = |delivery: Delivery| {
            delivery.enqueue(child.clone())?;
            delivery.ack()
        };
        (0..500).map_while(|_| settle(next(broker)).ok()).for_each(drop);
        filled
    }),
    ("texts", |broker, filled| filled - until_full(|_| next(broker).reject(&"no ".repeat(1000)))),
];

/// A full disk with messages of so many bytes, on which that was done; and how many there are then.
fn full_disk(bytes: usize, before: Before) -> (SimDisk, u64) {
    let disk = SimDisk::default();
    let broker = open(&Crowded::new(&disk, BYTES_MAX)).unwrap();
    let left = before(&broker, fill(&broker, bytes));
    drop(broker);
    (disk, left)
}

/// Opens a disk, and dies at that call to it.
fn die_at(call: u64, disk: &SimDisk) {
    disk.fail_at(disk.calls() + call, libc::EIO, Times::ForEver);
    drop(open(&Crowded::new(disk, BYTES_MAX)));
    disk.mend();
}

/// Opens a disk; answers how many calls to it that takes.
fn can_be_opened(what: &str, disk: &SimDisk, left: u64) -> u64 {
    let before = disk.calls();
    let opened = open(&Crowded::new(disk, BYTES_MAX));
    let broker = opened.unwrap_or_else(|full| panic!("{what}: {full}"));
    assert_eq!(broker.recovery().messages, left, "{what}");
    disk.calls() - before
}

/// As well where they die while they open it: at each call to the disk, one after the other. What was done before has used up
/// most of what was kept: children had come to live in what is for settles, and long texts in the next snapshot.
#[test]
fn a_full_disk_can_be_opened_wherever_its_owners_died_in_their_openings() {
    for (what, before) in BEFORE {
        for bytes in [1, 1_500] {
            let (disk, left) = full_disk(bytes, before);
            let most = 2 * can_be_opened(what, &disk, left);
            (0..most).chain((0..most).rev()).for_each(|call| die_at(call, &disk));
            can_be_opened(what, &disk, left);
            drain(&open(&Crowded::new(&disk, BYTES_MAX)).unwrap());
        }
    }
}

/// A log that was closed with the last byte of a segment has its end behind that. A snapshot that began there had no segment to
/// begin in: the directory was damaged, as it seemed.
#[test]
fn a_full_disk_whose_log_ends_with_a_segment_can_be_opened() {
    const SEGMENT_BYTES: u64 = 64 << 10;
    const CLOSING_BYTES: u64 = 4096 + 2 * 32;
    let disk = SimDisk::default();
    let broker = open(&Crowded::new(&disk, u64::MAX)).unwrap();
    let reserved = || broker.metrics().unwrap().lsn.reserved;
    let enqueue = |bytes: u64| {
        broker.enqueue(Message::new("jobs", vec![1; bytes as usize])).unwrap();
    };
    let before = reserved();
    enqueue(8000);
    let overhead = reserved() - before - 8000;
    while reserved() < BYTES_MAX - 3 * SEGMENT_BYTES {
        enqueue(8000);
    }
    let left = || SEGMENT_BYTES - reserved() % SEGMENT_BYTES - CLOSING_BYTES;
    while left() > 9000 {
        enqueue(4000);
    }
    enqueue(left() - overhead);
    assert_eq!(left(), 0);
    let messages = broker.metrics().unwrap().broker.ready;
    broker.close(Duration::from_secs(20)).unwrap();
    drop(broker);
    let most = 2 * can_be_opened("the end", &SimDisk::new(disk.platter()), messages);
    (0..most).chain((0..most).rev()).for_each(|call| die_at(call, &disk));
    can_be_opened("the end", &disk, messages);
}

/// Of two that died, the second may meet anything that the first has left. In the default run a share of that is tried.
#[test]
fn a_full_disk_can_be_opened_wherever_two_owners_died_in_their_openings() {
    const SHARE: u64 = 8;
    let extent = Extent::of_environment();
    for (what, before) in BEFORE {
        let (disk, left) = full_disk(1_500, before);
        let full = disk.platter();
        let most = can_be_opened(what, &SimDisk::new(full.clone()), left) + 10;
        for first in (0..most).filter(|first| extent.takes(*first, SHARE)) {
            let disk = SimDisk::new(full.clone());
            die_at(first, &disk);
            let left_behind = disk.platter();
            for second in (0..most).filter(|second| extent.takes(first << 8 | second, SHARE / 2)) {
                let disk = SimDisk::new(left_behind.clone());
                die_at(second, &disk);
                can_be_opened(&format!("{what}, {first}, {second}"), &disk, left);
            }
        }
    }
}

/// Has what is held retried until that has taken several times what is kept for it.
pub fn retry_on(broker: &Broker) {
    let position = || broker.metrics().unwrap().lsn.reserved;
    let enough = position() + BYTES_MAX / 4;
    wait_until(|| {
        let held = broker.receive("held", Duration::ZERO, None);
        let full = held.and_then(|held| held.map_or(Ok(()), |held| held.retry(Duration::ZERO)));
        if let Err(full) = full {
            assert_eq!(full.kind(), ErrorKind::StorageFull, "{full}");
            // It would come by itself, a second later.
            broker.snapshot().unwrap();
        }
        position() > enough
    });
}

/// Long texts had come into the next snapshot, for which there was no room then: so nothing was cleaned, nothing could be settled
/// any more, and after a few openings there was no room for one.
#[test]
fn what_says_much_leaves_room_for_what_only_settles() {
    let storage = Crowded::new(&SimDisk::default(), BYTES_MAX);
    let broker = open(&storage).unwrap();
    // Those that are held live in every segment.
    let held = Message::new("held", vec![1; 3_000]);
    let full = (0..).find_map(|_| {
        let jobs = broker.enqueue(Message::new("jobs", vec![1; 3_000]));
        jobs.and_then(|_| broker.enqueue(held.clone())).err()
    });
    assert_eq!(full.unwrap().kind(), ErrorKind::StorageFull);
    until_full(|_| next(&broker).reject(&"no ".repeat(1000)));
    retry_on(&broker);
}

/// A snapshot for which there was no room stayed where it was being made, and took what there was.
#[test]
fn a_snapshot_without_room_leaves_nothing() {
    let disk = SimDisk::default();
    let storage = Crowded::new(&disk, BYTES_MAX);
    let broker = open(&storage).unwrap();
    broker.enqueue(Message::new("jobs", "one")).unwrap();
    storage.leave(100);
    assert_eq!(broker.snapshot().unwrap_err().kind(), ErrorKind::StorageFull);
    assert!(!disk.contents().iter().any(|(name, _)| name.contains("snapshot")));
}

/// Retries take room, and nothing goes for them. The segment that was kept for settles was full of them, and as they had all
/// been overtaken by newer ones a snapshot would have freed it, if there had been another one to go on in: no handler's end
/// could be written any more until the directory was opened again.
#[test]
fn a_full_disk_has_room_for_retries_without_end() {
    let storage = Crowded::new(&SimDisk::default(), BYTES_MAX);
    let broker = open(&storage).unwrap();
    fill(&broker, 3_000);
    let retried = AtomicU64::new(0);
    wait_until(|| {
        let found = broker.receive("jobs", Duration::ZERO, None);
        match found.and_then(|found| found.map(|found| found.retry(Duration::ZERO)).transpose()) {
            Ok(Some(())) => retried.fetch_add(1, Ordering::Relaxed) == RETRIES,
            // It is given back when there is room.
            Ok(None) => false,
            Err(full) => {
                assert_eq!(full.kind(), ErrorKind::StorageFull, "{full}");
                std::thread::sleep(Duration::from_millis(1));
                false
            }
        }
    });
    drain(&broker);
}

/// Keys that are guarded are in a snapshot, and no room was kept for them there: where they were many, a full disk had none
/// for the next snapshot, and without one nothing was cleaned.
#[test]
fn a_full_disk_has_room_for_a_snapshot_of_keys() {
    let storage = Crowded::new(&SimDisk::default(), 8 * BYTES_MAX);
    let broker = open(&storage).unwrap();
    let keyed = |number: u32| {
        let window = Duration::from_secs(3600);
        Message::new("jobs", "1").dedup_key(format!("key {number}")).dedup_window(window)
    };
    for first in (0..20_000).step_by(1000) {
        broker.enqueue_batch(&(first..first + 1000).map(keyed).collect::<Vec<_>>()).unwrap();
        drain(&broker);
        broker.snapshot().unwrap();
    }
    fill(&broker, 3_000);
    broker.snapshot().unwrap();
    drain(&broker);
}
