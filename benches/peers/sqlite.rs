//! SQLite's side: a table as a queue, in WAL mode, with prepared statements.
//!
//! `synchronous = FULL` is what libmq's `sync` promises, `NORMAL` is at most what `os` promises. Messages are taken
//! and deleted in two transactions, as a queue must that delivers at least once: a message that was only read is not
//! known to have been attempted, and one deleted before its work is done is lost in a crash.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::contest::{Failure, Figure};
use crate::engine::{BATCH, BODY, for_a_while};

const INSERT: &str = "INSERT INTO message (queue, body) VALUES ('bench', ?1)";
const TAKE: &str = "UPDATE message SET attempts = attempts + 1
    WHERE id = (SELECT id FROM message ORDER BY id LIMIT 1) RETURNING id, body";
const DELETE: &str = "DELETE FROM message WHERE id = ?1";
const TAKE_AND_DELETE: &str =
    "DELETE FROM message WHERE id = (SELECT id FROM message ORDER BY id LIMIT 1) RETURNING body";

/// How far a commit goes before it returns.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Synchronous {
    Full,
    Normal,
}

fn connect(directory: &Path, synchronous: Synchronous) -> Result<Connection, Failure> {
    let connection = Connection::open(directory.join("queue.sqlite"))?;
    connection.busy_timeout(Duration::from_secs(60))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(
        None,
        "synchronous",
        match synchronous {
            Synchronous::Full => "FULL",
            Synchronous::Normal => "NORMAL",
        },
    )?;
    connection.execute_batch(
        "CREATE TABLE IF NOT EXISTS message (
            id INTEGER PRIMARY KEY, queue TEXT NOT NULL, body BLOB NOT NULL, attempts INTEGER NOT NULL DEFAULT 0
        )",
    )?;
    Ok(connection)
}

fn insert(connection: &Connection) -> rusqlite::Result<()> {
    connection.prepare_cached(INSERT)?.execute([&BODY[..]]).map(drop)
}

/// One producer, one transaction a message.
pub(crate) fn one_by_one(directory: &Path, synchronous: Synchronous, messages: u32) -> Figure {
    let connection = connect(directory, synchronous)?;
    let began = Instant::now();
    for _ in 0..messages {
        insert(&connection)?;
    }
    Ok(f64::from(messages) / began.elapsed().as_secs_f64())
}

/// Many producers that share one connection under a mutex.
pub(crate) fn threads_shared(directory: &Path, count: u32, time: Duration) -> Figure {
    let shared = Arc::new(Mutex::new(connect(directory, Synchronous::Full)?));
    for_a_while(count, time, || {
        let shared = Arc::clone(&shared);
        Ok(move || Ok(insert(&shared.lock().unwrap_or_else(PoisonError::into_inner))?))
    })
}

/// Many producers with a connection each.
pub(crate) fn threads_apart(directory: &Path, count: u32, time: Duration) -> Figure {
    for_a_while(count, time, || {
        let connection = connect(directory, Synchronous::Full)?;
        Ok(move || Ok(insert(&connection)?))
    })
}

/// Takes and deletes, in two transactions a message. Putting them in is not timed.
pub(crate) fn take_then_delete(directory: &Path, messages: u32) -> Figure {
    let connection = filled(directory, messages)?;
    let began = Instant::now();
    for _ in 0..messages {
        let (id, body) = connection
            .prepare_cached(TAKE)?
            .query_row([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?)))?;
        check(&body)?;
        connection.prepare_cached(DELETE)?.execute([id])?;
    }
    Ok(f64::from(messages) / began.elapsed().as_secs_f64())
}

/// Takes by deleting, in one transaction: faster, and what is at work in a crash is lost.
pub(crate) fn take_by_deleting(directory: &Path, messages: u32) -> Figure {
    let connection = filled(directory, messages)?;
    let began = Instant::now();
    for _ in 0..messages {
        let body: Vec<u8> =
            connection.prepare_cached(TAKE_AND_DELETE)?.query_row([], |row| row.get(0))?;
        check(&body)?;
    }
    Ok(f64::from(messages) / began.elapsed().as_secs_f64())
}

fn filled(directory: &Path, messages: u32) -> Result<Connection, Failure> {
    let connection = connect(directory, Synchronous::Normal)?;
    for _ in 0..messages / BATCH {
        connection.execute_batch("BEGIN")?;
        for _ in 0..BATCH {
            insert(&connection)?;
        }
        connection.execute_batch("COMMIT")?;
    }
    Ok(connection)
}

fn check(body: &[u8]) -> Result<(), Failure> {
    if body == BODY { Ok(()) } else { Err("a body changed on its way".into()) }
}
