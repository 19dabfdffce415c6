//! Redis: a stream and a group of consumers, which is how it delivers at least once.
//!
//! The server writes its append-only file before it answers, except while it syncs in the background: what it answers
//! then is written up to two seconds later. An acked message is deleted too, in the same round trip, because a stream
//! keeps what was acked.

use redis::streams::{StreamId, StreamReadReply};
use redis::{Client, Connection, IntoConnectionInfo, cmd, pipe};

use crate::job::{Answer, Failure, Job};
use crate::works::{self, Consumer, Producer};

const STREAM: &str = "bench";
const GROUP: &str = "workers";
const FIELD: &str = "body";

pub(crate) fn play(job: &Job) -> Answer {
    match &*job.work {
        "enqueue" => works::enqueue(job, &mut Adder::open(job)?),
        "checkout" => works::checkout(job, &mut Adder::open(job)?, &mut Reader::open(job)?),
        "end-to-end" => works::end_to_end(job, &mut Adder::open(job)?, Reader::open(job)?),
        "idle" => works::idle(job, &mut Adder::open(job)?, Reader::open(job)?),
        "threads" => works::producers(job, Adder::open),
        _ => job.unknown(),
    }
}

fn connect(job: &Job) -> Result<Connection, Failure> {
    let address = ("127.0.0.1", job.get::<u16>("port")?).into_connection_info()?;
    let settings = redis::io::tcp::TcpSettings::default().set_nodelay(true);
    Ok(Client::open(address.set_tcp_settings(settings))?.get_connection()?)
}

struct Adder {
    connection: Connection,
    body: Vec<u8>,
}

impl Adder {
    fn open(job: &Job) -> Result<Self, Failure> {
        Ok(Self { connection: connect(job)?, body: works::body(job)? })
    }
}

impl Producer for Adder {
    fn put(&mut self, count: u32) -> Result<(), Failure> {
        let mut pipe = pipe();
        for _ in 0..count {
            pipe.cmd("XADD").arg(STREAM).arg("*").arg(FIELD).arg(&self.body);
        }
        let ids: Vec<String> = pipe.query(&mut self.connection)?;
        if ids.len() != count as usize {
            return Err("redis did not answer each message".into());
        }
        Ok(())
    }
}

struct Reader(Connection);

impl Reader {
    fn open(job: &Job) -> Result<Self, Failure> {
        let mut connection = connect(job)?;
        cmd("XGROUP").arg(&["CREATE", STREAM, GROUP, "0", "MKSTREAM"]).exec(&mut connection)?;
        Ok(Self(connection))
    }

    /// One message, waited for as long as it takes.
    fn take(&mut self) -> Result<StreamId, Failure> {
        let reply: StreamReadReply = cmd("XREADGROUP")
            .arg(&["GROUP", GROUP, "worker", "COUNT", "1", "BLOCK", "0", "STREAMS", STREAM, ">"])
            .query(&mut self.0)?;
        let id = reply.keys.into_iter().flat_map(|key| key.ids).next();
        Ok(id.ok_or("redis answered no message")?)
    }
}

impl Consumer for Reader {
    fn handle(&mut self, work: impl FnOnce(&[u8]) -> Result<(), Failure>) -> Result<(), Failure> {
        let message = self.take()?;
        let body: Vec<u8> = message.get(FIELD).ok_or("a message has no body")?;
        work(&body)?;
        let (acked, deleted): (u32, u32) = pipe()
            .cmd("XACK")
            .arg(&[STREAM, GROUP, &*message.id])
            .cmd("XDEL")
            .arg(&[STREAM, &*message.id])
            .query(&mut self.0)?;
        if (acked, deleted) != (1, 1) {
            return Err("redis acked no message".into());
        }
        Ok(())
    }
}
