//! fjall: a store of keys and values, used as a queue whose keys are numbers.
//!
//! A commit goes to the kernel before it returns, which is fjall's default, or to the disk: `fjall-sync`. Messages are
//! taken and deleted in two commits, as a queue must that delivers at least once.

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use crate::job::{Answer, Failure, Job};
use crate::works::{self, Consumer, Producer};

/// Bytes in front of a body, which count the attempts.
const ATTEMPTS_BYTES: usize = 4;

pub(crate) fn play(job: &Job) -> Answer {
    let store = Store::open(job)?;
    let mut entrance =
        Entrance { store: store.clone(), value: value(0, &works::body(job)?), next: 0 };
    match &*job.work {
        "enqueue" => works::enqueue(job, &mut entrance),
        "checkout" => works::checkout(job, &mut entrance, &mut Exit { store, next: 0 }),
        _ => job.unknown(),
    }
}

#[derive(Clone)]
struct Store {
    database: Database,
    messages: Keyspace,
    mode: PersistMode,
}

impl Store {
    fn open(job: &Job) -> Result<Self, Failure> {
        let database = Database::builder(&job.directory).open()?;
        let messages = database.keyspace("messages", KeyspaceCreateOptions::default)?;
        let mode = match &*job.peer {
            "fjall-sync" => PersistMode::SyncData,
            _ => PersistMode::Buffer,
        };
        Ok(Self { database, messages, mode })
    }

    /// Values under keys that begin here, in one commit.
    fn insert(&self, first: u64, count: u32, value: &[u8]) -> Result<(), Failure> {
        // The short way takes less than a batch of one, and goes to the kernel.
        if count == 1 && self.mode == PersistMode::Buffer {
            return Ok(self.messages.insert(first.to_be_bytes(), value)?);
        }
        let mut batch = self.database.batch().durability(Some(self.mode));
        for key in first..first + u64::from(count) {
            batch.insert(&self.messages, key.to_be_bytes(), value);
        }
        Ok(batch.commit()?)
    }

    fn remove(&self, key: u64) -> Result<(), Failure> {
        if self.mode == PersistMode::Buffer {
            return Ok(self.messages.remove(key.to_be_bytes())?);
        }
        let mut batch = self.database.batch().durability(Some(self.mode));
        batch.remove(&self.messages, key.to_be_bytes());
        Ok(batch.commit()?)
    }
}

/// A body behind how often it was attempted.
fn value(attempts: u32, body: &[u8]) -> Vec<u8> {
    [&attempts.to_be_bytes(), body].concat()
}

struct Entrance {
    store: Store,
    value: Vec<u8>,
    next: u64,
}

impl Producer for Entrance {
    fn put(&mut self, count: u32) -> Result<(), Failure> {
        self.store.insert(self.next, count, &self.value)?;
        self.next += u64::from(count);
        Ok(())
    }
}

struct Exit {
    store: Store,
    /// Where to look for the first: a search from the beginning would walk over all that was removed, which stays there
    /// for a while.
    next: u64,
}

impl Consumer for Exit {
    fn handle(&mut self, work: impl FnOnce(&[u8]) -> Result<(), Failure>) -> Result<(), Failure> {
        let first = self.store.messages.range(self.next.to_be_bytes()..).next();
        let (key, found) = first.ok_or("a message is missing")?.into_inner()?;
        let key = u64::from_be_bytes(key.as_ref().try_into()?);
        let (attempts, body) =
            found.split_first_chunk::<ATTEMPTS_BYTES>().ok_or("a value has no attempts")?;
        let attempts = u32::from_be_bytes(*attempts) + 1;
        self.store.insert(key, 1, &value(attempts, body))?;
        work(body)?;
        self.store.remove(key)?;
        self.next = key + 1;
        Ok(())
    }
}
