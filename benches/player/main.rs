//! One run of one contender: `player PEER WORK DIRECTORY [KEY=VALUE]...` does the work in DIRECTORY and prints its figures as
//! JSON. Who is compared with whom, `peers` knows.
//!
//! Each run is a process of its own, so that nobody inherits another one's memory, threads or caches.

mod bare;
mod group;
mod job;
mod libmq;
mod line;
mod log;
mod memory;
mod ring;
mod sqlite;
mod threads;
mod wake;

use job::{Failure, Job};

/// Messages in a batch.
const BATCH: u32 = 100;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let job = Job::parse(&arguments)?;
    let figures = match &*job.peer {
        "libmq" => libmq::play(&job),
        "bare" | bare::READY => bare::play(&job),
        "group" => group::play(&job),
        "line" => line::play(&job),
        "log" => log::play(&job),
        "ring" => ring::play(&job),
        "channel" => ring::play_channel(&job),
        "sqlite" => sqlite::play(&job),
        "wake" => wake::play(&job),
        peer => Err(format!("there is no peer {peer}").into()),
    }?;
    println!("{}", figures.to_json());
    Ok(())
}
