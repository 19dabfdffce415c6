//! NATS: a JetStream stream in a file and a durable consumer that pulls.
//!
//! A message is answered when the server has written it; it is synced within two minutes. An ack is answered as well
//! (NATS calls that a double ack): without an answer it may get lost.
//!
//! Each connection is driven by the thread that uses it, so that no answer has to be passed from one thread to another.

use async_nats::jetstream::consumer::{AckPolicy, pull};
use async_nats::jetstream::stream::{Config, RetentionPolicy, StorageType};
use async_nats::jetstream::{self, Context};
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::runtime::{Builder, Runtime};

use crate::job::{Answer, Failure, Job};
use crate::works::{self, Consumer, Producer};

const STREAM: &str = "bench";

pub(crate) fn play(job: &Job) -> Answer {
    match &*job.work {
        "enqueue" => works::enqueue(job, &mut Publisher::open(job)?),
        "checkout" => works::checkout(job, &mut Publisher::open(job)?, &mut Puller::open(job)?),
        "end-to-end" => works::end_to_end(job, &mut Publisher::open(job)?, Puller::open(job)?),
        "idle" => works::idle(job, &mut Publisher::open(job)?, Puller::open(job)?),
        "threads" => works::producers(job, Publisher::open),
        _ => job.unknown(),
    }
}

fn runtime() -> Result<Runtime, Failure> {
    Ok(Builder::new_current_thread().enable_all().build()?)
}

/// A connection, and the stream if there is none yet. What is acked is deleted from it.
async fn connect(job: &Job) -> Result<(Context, jetstream::stream::Stream), Failure> {
    let client = async_nats::connect(format!("127.0.0.1:{}", job.word("port")?)).await?;
    let context = jetstream::new(client);
    let stream = context
        .get_or_create_stream(Config {
            name: STREAM.into(),
            subjects: vec![STREAM.into()],
            retention: RetentionPolicy::WorkQueue,
            storage: StorageType::File,
            ..Config::default()
        })
        .await?;
    Ok((context, stream))
}

struct Publisher {
    context: Context,
    body: Bytes,
    runtime: Runtime,
}

impl Publisher {
    fn open(job: &Job) -> Result<Self, Failure> {
        let runtime = runtime()?;
        let (context, _) = runtime.block_on(connect(job))?;
        Ok(Self { context, body: works::body(job)?.into(), runtime })
    }
}

impl Producer for Publisher {
    fn put(&mut self, count: u32) -> Result<(), Failure> {
        let Self { context, body, runtime } = self;
        runtime.block_on(async {
            let mut answers = Vec::new();
            for _ in 0..count {
                answers.push(context.publish(STREAM, body.clone()).await?);
            }
            for answer in answers {
                answer.await?;
            }
            Ok(())
        })
    }
}

struct Puller {
    /// Asks for more before it has given out what it has.
    messages: pull::Stream,
    runtime: Runtime,
}

impl Puller {
    fn open(job: &Job) -> Result<Self, Failure> {
        let runtime = runtime()?;
        let messages = runtime.block_on(async {
            let (_, stream) = connect(job).await?;
            let consumer = stream
                .create_consumer(pull::Config {
                    durable_name: Some("worker".into()),
                    ack_policy: AckPolicy::Explicit,
                    ..pull::Config::default()
                })
                .await?;
            Ok::<_, Failure>(consumer.messages().await?)
        })?;
        Ok(Self { messages, runtime })
    }
}

impl Consumer for Puller {
    fn handle(&mut self, work: impl FnOnce(&[u8]) -> Result<(), Failure>) -> Result<(), Failure> {
        let Self { messages, runtime } = self;
        runtime.block_on(async {
            let message = messages.next().await.ok_or("the messages have ended")??;
            work(&message.payload)?;
            message.double_ack().await
        })
    }
}
