//! The bounds of dispatch: how long an idle thread takes to wake from a condition variable, and how long where a write comes
//! before that.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use libmq::storage::StorageFile;

use crate::bare;
use crate::job::{Answer, Failure, Figures, Job};
use crate::libmq::{IDLE, record_bytes};

/// How soon libmq syncs what was written.
const SYNC_INTERVAL: Duration = Duration::from_millis(50);

/// Where the first record goes: behind the header of a segment.
const FIRST: u64 = 4096;

pub(crate) fn play(job: &Job) -> Answer {
    let messages: u32 = job.get("messages")?;
    match &*job.work {
        "idle" => wakes(messages, |_| Ok(())),
        "write-idle" => {
            let (file, record) =
                (bare::make(&job.directory, 0)?, vec![0x5a; record_bytes(1, job.get("body")?)?]);
            synced(&file, || {
                wakes(messages, |number| {
                    let offset = FIRST + u64::from(number) * record.len() as u64;
                    Ok(file.write_at(&record, offset)?)
                })
            })
        }
        _ => job.unknown(),
    }
}

/// Wakes a thread that had nothing to do, `before` each time with something before it.
fn wakes(messages: u32, before: impl Fn(u32) -> Result<(), Failure>) -> Answer {
    let (is_sent, bell) = (Mutex::new(false), Condvar::new());
    let (woken, wakes) = channel();
    let times = thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..messages {
                let guard = is_sent.lock().unwrap_or_else(PoisonError::into_inner);
                let guard = bell.wait_while(guard, |is_sent| !*is_sent);
                let mut is_sent = guard.unwrap_or_else(PoisonError::into_inner);
                let now = Instant::now();
                *is_sent = false;
                drop(is_sent);
                let _ = woken.send(now);
            }
        });
        let mut times = Vec::new();
        for number in 0..messages {
            thread::sleep(IDLE);
            let began = Instant::now();
            before(number)?;
            *is_sent.lock().unwrap_or_else(PoisonError::into_inner) = true;
            bell.notify_one();
            times.push(wakes.recv()?.duration_since(began));
        }
        Ok::<_, Failure>(times)
    })?;
    Ok(Figures::new().with_times(times))
}

/// Has a thread sync the file as often as libmq does, while `work` is done.
fn synced(file: &Arc<dyn StorageFile>, work: impl FnOnce() -> Answer) -> Answer {
    let (is_over, over) = channel::<()>();
    thread::scope(|scope| {
        let keeper = scope.spawn(move || {
            while let Err(RecvTimeoutError::Timeout) = over.recv_timeout(SYNC_INTERVAL) {
                file.sync()?;
            }
            Ok::<_, Failure>(())
        });
        let answer = work();
        drop(is_over);
        keeper.join().map_err(|_| "the keeper panicked")??;
        answer
    })
}
