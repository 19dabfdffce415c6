//! One run of one queue or store that others have written: `others PEER WORK DIRECTORY [KEY=VALUE]...` does the work in
//! DIRECTORY, or with the server on `port=`, and prints its figures as JSON. Who is compared with whom, `peers` knows.
//!
//! It is a workspace of its own, so that nothing of what it is built from counts among what libmq is built from.

mod beanstalkd;
mod effectum;
mod fjall;
#[path = "../player/job.rs"]
mod job;
mod nats;
mod redb;
mod redis;
#[path = "../player/threads.rs"]
mod threads;
mod works;
mod yaque;

use job::{Failure, Job};

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let job = Job::parse(&arguments)?;
    let figures = match &*job.peer {
        "beanstalkd" => beanstalkd::play(&job),
        "effectum" => effectum::play(&job),
        "fjall" | "fjall-sync" => fjall::play(&job),
        "nats" => nats::play(&job),
        "redb" | "redb-none" => redb::play(&job),
        "redis" => redis::play(&job),
        "yaque" | "yaque-each" => yaque::play(&job),
        peer => Err(format!("there is no peer {peer}").into()),
    }?;
    println!("{}", figures.to_json());
    Ok(())
}
