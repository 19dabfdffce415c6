//! SQLite's side: a table as a queue, in WAL mode, with prepared statements.
//!
//! `synchronous = FULL` is what libmq's `sync` promises, `NORMAL` is at most what `os` promises. Messages are taken
//! and deleted in two transactions, as a queue must that delivers at least once: a message that was only read is not
//! known to have been attempted, and one deleted before its work is done is lost in a crash.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::job::{Answer, Failure, Figures, Job};
use crate::threads;

const INSERT: &str = "INSERT INTO message (queue, body) VALUES ('bench', ?1)";
const TAKE: &str = "UPDATE message SET attempts = attempts + 1
    WHERE id = (SELECT id FROM message ORDER BY id LIMIT 1) RETURNING id, body";
const DELETE: &str = "DELETE FROM message WHERE id = ?1";
const TAKE_AND_DELETE: &str =
    "DELETE FROM message WHERE id = (SELECT id FROM message ORDER BY id LIMIT 1) RETURNING body";

pub(crate) fn play(job: &Job) -> Answer {
    match &*job.work {
        "enqueue" => enqueue(job),
        "threads-shared" => threads_shared(job),
        "threads-apart" => threads_apart(job),
        "checkout" => checkout(job, true),
        "checkout-at-once" => checkout(job, false),
        "open" => open(job),
        _ => job.unknown(),
    }
}

/// A connection on which a commit goes as far as `level` says before it returns: `FULL` or `NORMAL`.
fn connect(job: &Job) -> Result<Connection, Failure> {
    let connection = Connection::open(job.directory.join("queue.sqlite"))?;
    connection.busy_timeout(Duration::from_secs(60))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", job.word("level")?)?;
    connection.execute_batch(
        "CREATE TABLE IF NOT EXISTS message (
            id INTEGER PRIMARY KEY, queue TEXT NOT NULL, body BLOB NOT NULL, attempts INTEGER NOT NULL DEFAULT 0
        )",
    )?;
    Ok(connection)
}

fn body(job: &Job) -> Result<Vec<u8>, Failure> {
    Ok(vec![0x2a; job.get("body")?])
}

fn insert(connection: &Connection, body: &[u8]) -> rusqlite::Result<()> {
    connection.prepare_cached(INSERT)?.execute([body]).map(drop)
}

/// Puts messages in, a transaction for each `batch` of them.
fn put(connection: &Connection, messages: u32, batch: u32, body: &[u8]) -> Result<(), Failure> {
    if batch == 1 {
        return Ok((0..messages).try_for_each(|_| insert(connection, body))?);
    }
    for _ in 0..messages / batch {
        connection.execute_batch("BEGIN")?;
        (0..batch).try_for_each(|_| insert(connection, body))?;
        connection.execute_batch("COMMIT")?;
    }
    Ok(())
}

/// One producer.
fn enqueue(job: &Job) -> Answer {
    let messages = job.get("messages")?;
    let (connection, body) = (connect(job)?, body(job)?);
    let began = Instant::now();
    put(&connection, messages, job.get("batch")?, &body)?;
    Ok(Figures::rate(messages, began.elapsed()))
}

/// Many producers that share one connection under a mutex.
fn threads_shared(job: &Job) -> Answer {
    let shared = Arc::new(Mutex::new(connect(job)?));
    let body = body(job)?;
    threads::play(job, || {
        let (shared, body) = (Arc::clone(&shared), body.clone());
        Ok(move || Ok(insert(&shared.lock().unwrap_or_else(PoisonError::into_inner), &body)?))
    })
}

/// Many producers with a connection each.
fn threads_apart(job: &Job) -> Answer {
    let body = body(job)?;
    threads::play(job, || {
        let (connection, body) = (connect(job)?, body.clone());
        Ok(move || Ok(insert(&connection, &body)?))
    })
}

/// Takes and deletes what is there: in two transactions a message, or by deleting it at once, which is faster, and what is at
/// work in a crash is lost.
fn checkout(job: &Job, is_kept: bool) -> Answer {
    let messages = job.get("messages")?;
    let (connection, body) = (connect(job)?, body(job)?);
    put(&connection, messages, 100, &body)?;
    let began = Instant::now();
    for _ in 0..messages {
        let taken: Vec<u8> = if is_kept {
            let (id, body) = connection
                .prepare_cached(TAKE)?
                .query_row([], |row| Ok((row.get::<_, i64>(0)?, row.get(1)?)))?;
            connection.prepare_cached(DELETE)?.execute([id])?;
            body
        } else {
            connection.prepare_cached(TAKE_AND_DELETE)?.query_row([], |row| row.get(0))?
        };
        if taken != body {
            return Err("a body changed on its way".into());
        }
    }
    Ok(Figures::rate(messages, began.elapsed()))
}

/// Opens a database with messages and takes the first: there is nothing to recover but its log.
fn open(job: &Job) -> Answer {
    let messages = job.get("messages")?;
    put(&connect(job)?, messages, 100, &body(job)?)?;
    let began = Instant::now();
    let connection = connect(job)?;
    let _: Vec<u8> = connection.prepare_cached(TAKE)?.query_row([], |row| row.get(1))?;
    let time = began.elapsed();
    Ok(Figures::rate(messages, time).with("seconds", time.as_secs_f64()))
}
