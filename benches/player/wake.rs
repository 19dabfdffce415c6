//! The bound of dispatch: how long an idle thread takes to wake from a condition variable.

use std::sync::mpsc::channel;
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use crate::job::{Answer, Failure, Figures, Job};
use crate::libmq::IDLE;

pub(crate) fn play(job: &Job) -> Answer {
    if job.work != "idle" {
        return job.unknown();
    }
    let messages: u32 = job.get("messages")?;
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
        for _ in 0..messages {
            thread::sleep(IDLE);
            let began = Instant::now();
            *is_sent.lock().unwrap_or_else(PoisonError::into_inner) = true;
            bell.notify_one();
            times.push(wakes.recv()?.duration_since(began));
        }
        Ok::<_, Failure>(times)
    })?;
    Ok(Figures::new().with_times(times))
}
