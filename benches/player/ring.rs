//! The bounds in memory: crossbeam's `ArrayQueue` and its channel, which keep nothing and promise nothing.

use std::hint::black_box;
use std::time::Instant;

use crossbeam_channel::bounded;
use crossbeam_queue::ArrayQueue;

use crate::job::{Answer, Failure, Figures, Job};

/// Places of each.
const PLACES: usize = 1024;

/// Puts each message into a ring and takes it out.
pub(crate) fn play(job: &Job) -> Answer {
    let ring = ArrayQueue::new(PLACES);
    pass(job, |message| {
        ring.push(message).map_err(|_| "the ring is full")?;
        black_box(ring.pop());
        Ok(())
    })
}

/// The same with a channel.
pub(crate) fn play_channel(job: &Job) -> Answer {
    let (sender, receiver) = bounded(PLACES);
    pass(job, |message| {
        sender.send(message)?;
        black_box(receiver.recv()?);
        Ok(())
    })
}

fn pass(job: &Job, turn: impl Fn(usize) -> Result<(), Failure>) -> Answer {
    if job.work != "pass" {
        return job.unknown();
    }
    let (messages, body): (u32, _) = (job.get("messages")?, vec![0x2a_u8; job.get("body")?]);
    let began = Instant::now();
    // An address is all that is passed on.
    (0..messages).try_for_each(|_| turn(body.as_ptr() as usize))?;
    Ok(Figures::rate(messages, began.elapsed()))
}
