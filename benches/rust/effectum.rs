//! effectum: jobs in SQLite, for tokio.
//!
//! It sets `synchronous = normal`, and WAL mode by a pragma `journal`, which SQLite does not know and passes over. So
//! the rollback journal stays, and a commit syncs it and the database before it returns: a kill costs nothing, and a
//! power cut at most the last commit, because that the journal was deleted is not synced.

use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use effectum::{Job as Task, JobRunner, Queue, RunningJob, Worker};
use tokio::runtime::Runtime;

use crate::job::{Answer, Failure, Figures, Job};
use crate::works::{self, Entry, Producer};

const QUEUE: &str = "bench";
/// Jobs that a worker takes at once, as in effectum's own example: with one alone it takes each in a transaction.
const CONCURRENCY: u16 = 10;
/// How often it is asked how many jobs are done, which it tells nobody by itself.
const GLANCE: Duration = Duration::from_micros(100);

pub(crate) fn play(job: &Job) -> Answer {
    let runtime = Runtime::new()?;
    // A queue that is dropped starts a task.
    let _inside = runtime.enter();
    let queue = runtime.block_on(Queue::new(&job.directory.join("queue.sqlite")))?;
    let entrance = &mut Entrance { runtime: &runtime, queue: &queue, body: works::body(job)? };
    match &*job.work {
        "enqueue" => works::enqueue(job, entrance),
        "end-to-end" => end_to_end(job, entrance),
        "idle" => idle(job, entrance),
        _ => job.unknown(),
    }
}

struct Entrance<'a> {
    runtime: &'a Runtime,
    queue: &'a Queue,
    body: Vec<u8>,
}

impl Entrance<'_> {
    fn task(&self) -> Task {
        Task::builder(QUEUE).payload(self.body.clone()).build()
    }

    /// A worker that says when it has a job.
    fn worker(&self, entered: Sender<Entry>) -> Result<Worker, Failure> {
        let body = self.body.clone();
        let runner = JobRunner::builder(QUEUE, move |job: RunningJob, ()| {
            let now = Instant::now();
            let sent = entered.send(works::compare(&job.payload, &body).map(|()| now));
            async move { sent.map_err(|_| "nobody waits for it") }
        });
        let worker = Worker::builder(self.queue, ()).max_concurrency(CONCURRENCY);
        Ok(self.runtime.block_on(worker.jobs([runner.build()]).build())?)
    }
}

impl Producer for Entrance<'_> {
    fn put(&mut self, count: u32) -> Result<(), Failure> {
        if count == 1 {
            self.runtime.block_on(self.queue.add_job(self.task()))?;
        } else {
            let tasks = (0..count).map(|_| self.task()).collect();
            self.runtime.block_on(self.queue.add_jobs(tasks))?;
        }
        Ok(())
    }
}

/// Jobs in and done, each by itself.
fn end_to_end(job: &Job, entrance: &mut Entrance<'_>) -> Answer {
    let messages: u32 = job.get("messages")?;
    let (entered, entries) = channel();
    let worker = entrance.worker(entered)?;
    let began = Instant::now();
    (0..messages).try_for_each(|_| entrance.put(1))?;
    for _ in 0..messages {
        entries.recv()??;
    }
    while worker.counts().finished < u64::from(messages) {
        thread::sleep(GLANCE);
    }
    Ok(Figures::rate(messages, began.elapsed()))
}

fn idle(job: &Job, entrance: &mut Entrance<'_>) -> Answer {
    let (entered, entries) = channel();
    let _worker = entrance.worker(entered)?;
    works::wakes(job.get("messages")?, entrance, &entries)
}
