//! beanstalkd, by its own protocol: put, reserve, delete, and what it answers to each.
//!
//! It writes a job, and later that it is deleted, to its binlog before it answers; how soon that is synced, the server
//! was told. That a job is reserved it keeps in memory.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use crate::job::{Answer, Failure, Job};
use crate::works::{self, Consumer, Producer};

/// Seconds until a reserved job is given to somebody else: what its clients are used to.
const TIME_TO_RUN: u32 = 120;

pub(crate) fn play(job: &Job) -> Answer {
    match &*job.work {
        "enqueue" => works::enqueue(job, &mut Connection::open(job)?),
        "checkout" => {
            works::checkout(job, &mut Connection::open(job)?, &mut Connection::open(job)?)
        }
        "end-to-end" => works::end_to_end(job, &mut Connection::open(job)?, Connection::open(job)?),
        "idle" => works::idle(job, &mut Connection::open(job)?, Connection::open(job)?),
        "threads" => works::producers(job, Connection::open),
        _ => job.unknown(),
    }
}

struct Connection {
    stream: BufReader<TcpStream>,
    /// The command that puts one message in.
    put: Vec<u8>,
}

impl Connection {
    fn open(job: &Job) -> Result<Self, Failure> {
        let stream = TcpStream::connect(("127.0.0.1", job.get("port")?))?;
        stream.set_nodelay(true)?;
        let body = works::body(job)?;
        let mut put = format!("put 0 0 {TIME_TO_RUN} {}\r\n", body.len()).into_bytes();
        put.extend_from_slice(&body);
        put.extend_from_slice(b"\r\n");
        Ok(Self { stream: BufReader::new(stream), put })
    }

    fn ask(&mut self, command: &[u8]) -> Result<(), Failure> {
        Ok(self.stream.get_mut().write_all(command)?)
    }

    /// What follows this word in the answer that comes next.
    fn answer(&mut self, word: &str) -> Result<String, Failure> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        let rest = line.trim_end().strip_prefix(word);
        Ok(rest.ok_or_else(|| format!("beanstalkd answered {line:?}"))?.trim_start().to_owned())
    }
}

impl Producer for Connection {
    fn put(&mut self, count: u32) -> Result<(), Failure> {
        let commands = self.put.repeat(count as usize);
        self.ask(&commands)?;
        (0..count).try_for_each(|_| self.answer("INSERTED").map(drop))
    }
}

impl Consumer for Connection {
    fn handle(&mut self, work: impl FnOnce(&[u8]) -> Result<(), Failure>) -> Result<(), Failure> {
        self.ask(b"reserve\r\n")?;
        let reserved = self.answer("RESERVED")?;
        let (id, bytes) = reserved.split_once(' ').ok_or("beanstalkd reserved no job")?;
        let mut body = vec![0; bytes.parse()?];
        self.stream.read_exact(&mut body)?;
        self.stream.read_exact(&mut [0; 2])?;
        work(&body)?;
        self.ask(format!("delete {id}\r\n").as_bytes())?;
        self.answer("DELETED").map(drop)
    }
}
