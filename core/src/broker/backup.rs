//! Backups: a copy of a broker's directory as it was at one moment, made while work goes on.
//!
//! The moment is that of the image, which is taken after the call has begun; nothing is held up for it but snapshots, and
//! those only until the image's files are open. The copy gets its name when all of it is durable.

use std::path::Path;

use super::broker::MEMORY_PATH;
use super::shared::Shared;
use crate::error::{Error, Result};
use crate::journal::Image;
use crate::storage::{DiskStorage, NewDirectory, Storage};

/// Writes a copy to a directory that is not there yet, or is empty.
pub(super) fn write(shared: &Shared, to: &Path) -> Result<()> {
    write_through(shared, to, |storage| Box::new(storage))
}

/// Writes a copy to a storage that is empty, which is not made nor given a name.
pub(super) fn write_on(shared: &Shared, target: &dyn Storage) -> Result<()> {
    shared.check_open()?;
    copy(shared, &shared.snapshots.image(&shared.engine)?, target)
}

/// As [`write()`], through a storage that `through` may put before the disk.
fn write_through(
    shared: &Shared,
    to: &Path,
    through: impl FnOnce(DiskStorage) -> Box<dyn Storage>,
) -> Result<()> {
    shared.check_open()?;
    if to == Path::new(MEMORY_PATH) {
        let text = format!(
            "{MEMORY_PATH} is the path of a broker without files: no copy there can be opened"
        );
        return Err(Error::invalid(text).at(to));
    }
    shared.engine.buffer.journal.check()?;
    let new = NewDirectory::begin(to, &shared.path)?;
    let image = shared.snapshots.image(&shared.engine)?;
    copy(shared, &image, &*through(new.storage()))?;
    new.finish()
}

/// Copies an image. A close does not wait for this to end, but ends it.
fn copy(shared: &Shared, image: &Image, target: &dyn Storage) -> Result<()> {
    image.copy(target, &|| shared.engine.buffer.journal.check())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use super::*;
    use crate::error::ErrorKind;
    use crate::storage::{Marks, StorageFile};
    use crate::sync::Arc;
    use crate::{Broker, Message, Options, verify};

    /// A disk whose calls that change it are counted, and fail from some number on.
    #[derive(Debug)]
    struct Failing<T: ?Sized> {
        calls: Arc<AtomicU64>,
        good: u64,
        code: i32,
        inner: Box<T>,
    }

    impl<T: ?Sized> Failing<T> {
        fn call(&self) -> io::Result<()> {
            if self.calls.fetch_add(1, Ordering::Relaxed) < self.good {
                return Ok(());
            }
            Err(io::Error::from_raw_os_error(self.code))
        }
    }

    impl Storage for Failing<DiskStorage> {
        fn path(&self) -> &Path {
            self.inner.path()
        }

        fn prepare(&self) -> Result<()> {
            self.inner.prepare()
        }

        fn lock(&self, timeout: Duration) -> Result<Box<dyn Send + Sync>> {
            self.inner.lock(timeout)
        }

        fn marks(&self, count: usize) -> Result<Arc<Marks>> {
            self.inner.marks(count)
        }

        fn list(&self) -> io::Result<Vec<String>> {
            self.inner.list()
        }

        fn create(&self, name: &str, bytes: u64) -> io::Result<Arc<dyn StorageFile>> {
            self.call()?;
            let inner = Box::new(self.inner.create(name, bytes)?);
            let calls = Arc::clone(&self.calls);
            Ok(Arc::new(Failing { calls, good: self.good, code: self.code, inner }))
        }

        fn open(&self, name: &str) -> io::Result<Arc<dyn StorageFile>> {
            self.inner.open(name)
        }

        fn rename(&self, from: &str, to: &str) -> io::Result<()> {
            self.call()?;
            self.inner.rename(from, to)
        }

        fn remove(&self, name: &str) -> io::Result<()> {
            self.call()?;
            self.inner.remove(name)
        }

        fn sync_dir(&self) -> io::Result<()> {
            self.call()?;
            self.inner.sync_dir()
        }
    }

    impl StorageFile for Failing<Arc<dyn StorageFile>> {
        fn len(&self) -> io::Result<u64> {
            self.inner.len()
        }

        fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
            self.inner.read_at(buffer, offset)
        }

        fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
            self.call()?;
            self.inner.write_at(bytes, offset)
        }

        fn truncate(&self, bytes: u64) -> io::Result<()> {
            self.call()?;
            self.inner.truncate(bytes)
        }

        fn sync(&self) -> io::Result<()> {
            self.call()?;
            self.inner.sync()
        }
    }

    /// A broker whose log has a few segments, one of them kept for what lives in it.
    fn broker(path: &Path) -> Broker {
        let options = Options::new().segment_bytes(64 << 10);
        let broker = Broker::open(path, options).unwrap();
        for queue in ["kept"; 2].into_iter().chain(["jobs"; 10]) {
            broker.enqueue(Message::new(queue, vec![7; 20_000])).unwrap();
        }
        for _ in 0..8 {
            broker.receive("jobs", None, None).unwrap().unwrap().ack().unwrap();
        }
        broker
    }

    /// It made a directory of that name, which no open opens: that path is a broker in memory.
    #[test]
    fn no_copy_is_written_where_it_could_not_be_opened() {
        let broker = Broker::open(MEMORY_PATH, Options::new()).unwrap();
        let refused = broker.backup(MEMORY_PATH).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid);
        assert!(refused.to_string().contains("without files"), "{refused}");
        assert!(!Path::new(MEMORY_PATH).exists());
        let refused = verify(MEMORY_PATH).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid);
        assert!(refused.to_string().contains("has no files"), "{refused}");
    }

    #[test]
    fn a_copy_that_fails_at_any_call_leaves_nothing_and_the_broker_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let broker = broker(&dir.path().join("broker"));
        let to = dir.path().join("to");
        let held = broker.receive("jobs", None, None).unwrap().unwrap();
        let failing = |good, code| {
            let calls = Arc::new(AtomicU64::new(0));
            let counted = Arc::clone(&calls);
            let written = write_through(&held.shared, &to, move |disk| {
                Box::new(Failing { calls: counted, good, code, inner: Box::new(disk) })
            });
            (written, calls.load(Ordering::Relaxed))
        };
        let (written, calls) = failing(u64::MAX, 0);
        written.unwrap();
        assert!(calls >= 12, "{calls}");
        assert_eq!(verify(&to).unwrap().messages, 4);
        fs::remove_dir_all(&to).unwrap();
        for good in 0..calls {
            for (code, kind) in [(libc::ENOSPC, ErrorKind::StorageFull), (libc::EIO, ErrorKind::Io)]
            {
                let error = failing(good, code).0.unwrap_err();
                assert_eq!((error.kind(), error.os_code()), (kind, Some(code)), "call {good}");
                assert!(error.path().unwrap().starts_with(dir.path()), "{error}");
                let left = fs::read_dir(dir.path()).unwrap();
                let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
                assert_eq!(left, ["broker"], "call {good}");
            }
        }
        broker.enqueue(Message::new("jobs", "after")).unwrap();
        broker.backup(&to).unwrap();
        assert_eq!(verify(&to).unwrap().messages, 5);
    }

    /// Whatever ended in `.snapshot` was taken for a snapshot: one with a name behind those of libmq was copied in place of
    /// the snapshot, and the copy was damaged; one with a name before them was removed.
    #[test]
    fn a_file_of_somebody_else_is_neither_copied_nor_removed_whatever_its_name_ends_in() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("broker");
        let foreign = ["notes.snapshot", "!.snapshot", "cafe.snapshot", "notes.segment.tmp"];
        let broker = broker(&path);
        for name in foreign {
            fs::write(path.join(name), "somebody else's").unwrap();
        }
        broker.snapshot().unwrap();
        let to = dir.path().join("to");
        broker.backup(&to).unwrap();
        broker.close(Duration::from_secs(5)).unwrap();
        Broker::open(&path, Options::new()).unwrap().close(Duration::from_secs(5)).unwrap();
        for name in foreign {
            assert!(path.join(name).exists(), "{name}");
            assert!(!to.join(name).exists(), "{name}");
        }
        let report = verify(&to).unwrap();
        assert!(report.sound() && report.snapshot.is_some(), "{report:?}");
    }

    /// Nothing waits for a copy that takes long: neither who enqueues nor who takes a snapshot and cleans.
    #[test]
    fn what_happens_while_a_copy_is_written_is_not_in_it_and_not_held_up() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("broker");
        let broker = broker(&path);
        let held = broker.receive("jobs", None, None).unwrap().unwrap();
        let shared = Arc::clone(&held.shared);
        let to = dir.path().join("to");
        write_through(&shared, &to, |disk| {
            held.ack().unwrap();
            for queue in ["kept", "kept", "jobs"] {
                broker.receive(queue, None, None).unwrap().unwrap().ack().unwrap();
            }
            for _ in 0..6 {
                broker.enqueue(Message::new("new", vec![7; 20_000])).unwrap();
            }
            broker.snapshot().unwrap();
            assert!(!path.join("00000001.segment").exists());
            Box::new(disk)
        })
        .unwrap();
        let report = verify(&to).unwrap();
        assert!(report.sound() && report.closed, "{report:?}");
        assert_eq!(report.messages, 4);
        let copy = Broker::open(&to, Options::new()).unwrap();
        for queue in ["kept", "kept", "jobs", "jobs"] {
            let delivery = copy.receive(queue, Duration::ZERO, None).unwrap().unwrap();
            assert_eq!((delivery.body(), delivery.attempt()), (&[7; 20_000][..], 1));
        }
        assert!(copy.receive("new", Duration::ZERO, None).unwrap().is_none());
    }

    #[test]
    fn a_close_ends_a_copy_that_is_under_way_and_does_not_wait_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let broker = broker(&dir.path().join("broker"));
        let held = broker.receive("jobs", None, None).unwrap().unwrap();
        let shared = Arc::clone(&held.shared);
        drop(held);
        let written = write_through(&shared, &dir.path().join("to"), |disk| {
            broker.close(Duration::from_secs(5)).unwrap();
            Box::new(disk)
        });
        assert_eq!(written.unwrap_err().kind(), ErrorKind::Closed);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
