//! yaque: a queue in files, for one sender and one receiver.
//!
//! What is sent has been written when the call returns, and is never synced. How far the receiver has come is written
//! every 250 messages, which is yaque's default: that many come again after a kill, although they were acked. As
//! `yaque-each` it is written for each, so that an ack survives too. Attempts are not counted.

use tokio::runtime::{Builder, Runtime};
use yaque::{Receiver, ReceiverBuilder, Sender};

use crate::job::{Answer, Failure, Job};
use crate::works::{self, Consumer, Producer};

pub(crate) fn play(job: &Job) -> Answer {
    match &*job.work {
        "enqueue" => works::enqueue(job, &mut Entrance::open(job)?),
        "checkout" => works::checkout(job, &mut Entrance::open(job)?, &mut Exit::open(job)?),
        "end-to-end" => works::end_to_end(job, &mut Entrance::open(job)?, Exit::open(job)?),
        "idle" => works::idle(job, &mut Entrance::open(job)?, Exit::open(job)?),
        _ => job.unknown(),
    }
}

struct Entrance {
    sender: Sender,
    body: Vec<u8>,
}

impl Entrance {
    fn open(job: &Job) -> Result<Self, Failure> {
        Ok(Self { sender: Sender::open(&job.directory)?, body: works::body(job)? })
    }
}

impl Producer for Entrance {
    fn put(&mut self, count: u32) -> Result<(), Failure> {
        // It only waits where it was given a limit.
        if count == 1 {
            self.sender.try_send(&self.body).map_err(|error| error.to_string())?;
        } else {
            let bodies = (0..count).map(|_| &self.body);
            self.sender.try_send_batch(bodies).map_err(|_| "yaque took no batch")?;
        }
        Ok(())
    }
}

struct Exit {
    receiver: Receiver,
    runtime: Runtime,
}

impl Exit {
    fn open(job: &Job) -> Result<Self, Failure> {
        let builder = match &*job.peer {
            "yaque-each" => ReceiverBuilder::new().save_every_nth(Some(1)),
            _ => ReceiverBuilder::new(),
        };
        let receiver = builder.open(&job.directory)?;
        Ok(Self { receiver, runtime: Builder::new_current_thread().build()? })
    }
}

impl Consumer for Exit {
    fn handle(&mut self, work: impl FnOnce(&[u8]) -> Result<(), Failure>) -> Result<(), Failure> {
        let message = self.runtime.block_on(self.receiver.recv())?;
        work(&message)?;
        Ok(message.commit()?)
    }
}
