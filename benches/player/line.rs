//! What two threads cost each other at least: one line of memory, which goes from one processor to another and back.

use std::hint;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Instant;

use crate::job::{Answer, Figures, Job};

/// A number with nothing else in its line, nor in the next one, which processors fetch together.
#[repr(align(128))]
struct Line(AtomicU32);

pub(crate) fn play(job: &Job) -> Answer {
    if job.work != "pass" {
        return job.unknown();
    }
    let messages: u32 = job.get("messages")?;
    let line = Line(AtomicU32::new(0));
    // One has the odd turns, and the other the even ones.
    let play = |first: u32| {
        for turn in (first..2 * messages).step_by(2) {
            while line.0.load(Ordering::Acquire) != turn {
                hint::spin_loop();
            }
            line.0.store(turn + 1, Ordering::Release);
        }
    };
    let began = Instant::now();
    thread::scope(|scope| {
        scope.spawn(|| play(1));
        play(0);
    });
    Ok(Figures::rate(messages, began.elapsed()))
}
