//! A disk without much room, and a broker that lives on it for long.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use libmq::storage::{Marks, Storage, StorageFile};
use libmq::{Broker, Delivery, ErrorKind, Message};
use libmq_suite::{SimDisk, Times};

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
        self.room.check(end.saturating_sub(self.len()?))?;
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
const BYTES_MAX: u64 = 1 << 20;

fn open(storage: &Arc<Crowded>) -> libmq::Result<Broker> {
    let storage = Arc::clone(storage) as Arc<dyn Storage>;
    Broker::open_on(storage, options().capacity(1_000_000))
}

/// Several segments full of what a retry takes.
const RETRIES: u64 = 4_000;

/// Enqueues until there is no room for more; answers how many there are.
fn fill(broker: &Broker, bytes: usize) -> u64 {
    let message = Message::new("jobs", vec![1; bytes]);
    let full = (0..100_000).find_map(|_| broker.enqueue(message.clone()).err()).unwrap();
    assert_eq!(full.kind(), ErrorKind::StorageFull, "{full}");
    broker.metrics().unwrap().broker.ready
}

/// Acks all there is; where there is no room for that, it comes.
fn drain(broker: &Broker) {
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

/// As well where they die while they open it: at each call to the disk, one after the other.
#[test]
fn a_full_disk_can_be_opened_wherever_its_owners_died_in_their_openings() {
    for bytes in [1, 3_000] {
        let disk = SimDisk::default();
        let storage = Crowded::new(&disk, BYTES_MAX);
        let filled = fill(&open(&storage).unwrap(), bytes);
        let calls = || {
            let before = disk.calls();
            drop(open(&storage).unwrap());
            disk.calls() - before
        };
        let most = 2 * calls();
        for call in (0..most).chain((0..most).rev()) {
            disk.fail_at(disk.calls() + call, libc::EIO, Times::ForEver);
            drop(open(&storage));
            disk.mend();
        }
        let broker = open(&storage).unwrap();
        assert_eq!(broker.recovery().messages, filled);
        drain(&broker);
    }
}

/// Retries take room, and nothing goes for them. The segment that was kept for settles was full of them, and as they had all
/// been overtaken by newer ones a snapshot would have freed it, if there had been another one to go on in: no handler's end
/// could be written any more until the directory was opened again.
#[test]
fn a_full_disk_has_room_for_retries_without_end() {
    let storage = Crowded::new(&SimDisk::default(), BYTES_MAX);
    let options = options().capacity(1_000_000).sync_interval(Duration::from_millis(5));
    let options = options.default_max_retries(1_000_000);
    let broker = Broker::open_on(Arc::clone(&storage) as Arc<dyn Storage>, options).unwrap();
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
    let storage = Crowded::new(&SimDisk::default(), 6 * BYTES_MAX);
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
