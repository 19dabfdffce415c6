//! redb: a store of keys and values, used as a queue whose keys are numbers.
//!
//! A commit is on the disk when it returns, or for `redb-none` nowhere that a kill does not reach: there is nothing
//! between. Messages are taken and deleted in two commits, as a queue must that delivers at least once.

use std::sync::Arc;

use redb::{Database, Durability, ReadableTable, Table, TableDefinition};

use crate::job::{Answer, Failure, Job};
use crate::works::{self, Consumer, Producer};

/// Attempts and body by number.
const MESSAGES: TableDefinition<'_, u64, (u32, &[u8])> = TableDefinition::new("messages");

pub(crate) fn play(job: &Job) -> Answer {
    let store = Store::open(job)?;
    let mut entrance = Entrance { store: store.clone(), body: works::body(job)?, next: 0 };
    match &*job.work {
        "enqueue" => works::enqueue(job, &mut entrance),
        "checkout" => works::checkout(job, &mut entrance, &mut Exit(store)),
        _ => job.unknown(),
    }
}

#[derive(Clone)]
struct Store {
    database: Arc<Database>,
    durability: Durability,
}

impl Store {
    fn open(job: &Job) -> Result<Self, Failure> {
        let durability = match &*job.peer {
            "redb-none" => Durability::None,
            _ => Durability::Immediate,
        };
        let database = Database::create(job.directory.join("queue.redb"))?;
        Ok(Self { database: Arc::new(database), durability })
    }

    /// Changes the messages in one commit.
    fn change<T>(
        &self,
        change: impl FnOnce(&mut Table<'_, u64, (u32, &'static [u8])>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(self.durability)?;
        let answer = change(&mut transaction.open_table(MESSAGES)?)?;
        transaction.commit()?;
        Ok(answer)
    }
}

struct Entrance {
    store: Store,
    body: Vec<u8>,
    next: u64,
}

impl Producer for Entrance {
    fn put(&mut self, count: u32) -> Result<(), Failure> {
        let end = self.next + u64::from(count);
        self.store.change(|messages| {
            for key in self.next..end {
                messages.insert(key, (0, &*self.body))?;
            }
            Ok(())
        })?;
        self.next = end;
        Ok(())
    }
}

struct Exit(Store);

impl Consumer for Exit {
    fn handle(&mut self, work: impl FnOnce(&[u8]) -> Result<(), Failure>) -> Result<(), Failure> {
        let (key, body) = self.0.change(|messages| {
            let (key, attempts, body) = {
                let (key, found) = messages.first()?.ok_or("a message is missing")?;
                let (attempts, body) = found.value();
                (key.value(), attempts, body.to_vec())
            };
            messages.insert(key, (attempts + 1, &*body))?;
            Ok((key, body))
        })?;
        work(&body)?;
        self.0.change(|messages| Ok(messages.remove(key)?.map(drop)))?;
        Ok(())
    }
}
