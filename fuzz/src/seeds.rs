//! Makes the first inputs of the corpus, from real directories: `cargo run --package libmq-fuzz --bin seeds`.
//!
//! Salts and ids of brokers are random, so other bytes come each time; what they say is the same. For another format.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use libmq::limits::FORMAT_VERSION;
use libmq::{Broker, HandlerOptions, Message};
use libmq_fuzz::{pack, target};
use libmq_suite::{New, Rng, SimDisk, forge, model, new};

type Files = Vec<(String, Vec<u8>)>;

/// A broker's directory while it is being made.
struct Made {
    disk: SimDisk,
    broker: Broker,
}

impl Made {
    fn start() -> Self {
        let disk = SimDisk::default();
        let broker = open(&disk);
        Self { disk, broker }
    }

    fn enqueue(&self, messages: &[New]) {
        let level = libmq::Durability::Os;
        let messages: Vec<Message<'_>> =
            messages.iter().map(|message| message.message(level)).collect();
        self.broker.enqueue_batch(&messages).unwrap();
    }

    fn take(&self, queue: &str) -> libmq::Delivery {
        self.broker.receive(queue, Duration::ZERO, None).unwrap().unwrap()
    }

    fn closed(self) -> Files {
        self.broker.close(Duration::ZERO).unwrap();
        files(&self.disk)
    }

    fn dead(self) -> Files {
        drop(self.broker);
        files(&self.disk)
    }

    fn again(self) -> Self {
        drop(self.broker);
        let broker = open(&self.disk);
        Self { disk: self.disk, broker }
    }
}

fn open(disk: &SimDisk) -> Broker {
    let options = model::options().segment_bytes(64 << 10).capacity(100);
    Broker::open_on(disk.storage(), options).unwrap()
}

fn files(disk: &SimDisk) -> Files {
    let mut files = disk.contents();
    files.retain(|(name, _)| name.ends_with(".segment") || name.ends_with(".snapshot"));
    files
}

fn empty() -> Files {
    Made::start().closed()
}

/// Every kind of record, and every field of a message.
fn busy() -> Files {
    let made = Made::start();
    let full = new("jobs", "full").key("k").group("g").priority(9).expires(60).window(60);
    made.enqueue(&[full.clone(), new("jobs", "second").group("g"), new("mail", "later").delay(30)]);
    let message = Message::new("mail", "texts").header("name", "value").correlation_id("c");
    made.broker.enqueue(message.content_type("text/plain")).unwrap();
    made.take("jobs").ack().unwrap();
    made.take("jobs").fail("why").unwrap();
    made.take("mail").reject("unwanted").unwrap();
    made.enqueue(&[new("jobs", "of a key").key("k"), new("jobs", "of a key again").key("k")]);
    let held = made.take("jobs");
    made.enqueue(&[new("jobs", "behind").key("k")]);
    held.enqueue(Message::new("mail", "child")).unwrap();
    held.ack().unwrap();
    made.broker.advance(Duration::from_secs(10)).unwrap();
    made.broker.dead_letters().replay_all(None).unwrap();
    made.take("mail").reject("again").unwrap();
    made.broker.dead_letters().purge(None).unwrap();
    made.enqueue(&[new("handled", "one"), new("handled", "two"), new("handled", "three")]);
    made.broker.handle("handled", HandlerOptions::new(), |_| Ok(())).unwrap();
    made.broker.start().unwrap();
    while made.broker.metrics().unwrap().queues["handled"].acked < 3 {
        std::thread::yield_now();
    }
    made.broker.stop(Duration::from_secs(10)).unwrap();
    made.dead()
}

/// A snapshot with every kind of entry, with some of the log behind it.
fn snapped() -> Files {
    let made = Made::start();
    made.enqueue(&[
        new("jobs", "full").key("k").group("g").priority(3).expires(60).window(60),
        new("jobs", "done").key("done").window(600),
        new("mail", "dead"),
        new("mail", "later").delay(30),
    ]);
    made.take("jobs").fail("why").unwrap();
    made.take("jobs").ack().unwrap();
    made.take("mail").reject("unwanted").unwrap();
    made.broker.snapshot().unwrap();
    made.enqueue(&[new("jobs", "behind it")]);
    made.dead()
}

/// Several openings, one of which found somebody's work unfinished.
fn opened_often() -> Files {
    let made = Made::start();
    made.enqueue(&[new("jobs", "one"), new("jobs", "two")]);
    let held = made.take("jobs");
    let made = made.again();
    drop(held);
    made.enqueue(&[new("jobs", "three")]);
    made.again().closed()
}

/// More than one segment, each far smaller than a broker makes any.
fn rolled() -> Files {
    const SEGMENT_BYTES: u64 = 8 << 10;
    const BODY_BYTES: usize = 80;
    let made = Made::start();
    let large = "x".repeat(30_000);
    made.enqueue(&[new("jobs", &large)]);
    made.enqueue(&[new("jobs", &large)]);
    made.take("jobs").ack().unwrap();
    made.enqueue(&[new("jobs", &large), new("jobs", "small")]);
    let mut files = made.dead();
    for (number, (_, file)) in files.iter_mut().enumerate() {
        let records = forge::records(file).into_iter().map(|record| {
            let mut bytes = file[record].to_vec();
            bytes.truncate(forge::RECORD_HEADER_BYTES + BODY_BYTES);
            let length = u32::try_from(bytes.len() - forge::RECORD_HEADER_BYTES).unwrap();
            forge::put(&mut bytes, 0, &length.to_le_bytes());
            // No position is beyond what the log reaches now.
            forge::put(&mut bytes, 16, &[0; 8]);
            bytes.resize(bytes.len().next_multiple_of(8), 0);
            bytes
        });
        let records = records.collect::<Vec<_>>().concat();
        file.truncate(forge::SEGMENT_HEADER_BYTES);
        file.extend_from_slice(&records);
        forge::put(file, 40, &(number as u64 * SEGMENT_BYTES).to_le_bytes());
        forge::put(file, 48, &SEGMENT_BYTES.to_le_bytes());
    }
    files
}

fn main() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let write = |kind: &str, name: &str, bytes: &[u8]| {
        // What breaks its target is no seed.
        target(kind)(bytes);
        let folder = corpus.join(kind);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(name), bytes).unwrap();
    };
    let directories = [
        ("empty", empty()),
        ("busy", busy()),
        ("snapped", snapped()),
        ("opened-often", opened_often()),
        ("rolled", rolled()),
    ];
    let mut kinds = BTreeMap::new();
    for (name, files) in directories {
        write("directory", name, &pack(&files));
        for (file, bytes) in &files {
            let number = file.split('.').next().unwrap().trim_start_matches('0');
            if file.ends_with(".snapshot") {
                write("snapshot", name, &[&[1], &bytes[..]].concat());
                let entries = forge::entries(bytes).into_iter().filter(|entry| entry[0] != 255);
                kinds.extend(entries.map(|entry| (100 + entry[0], record(&[], &entry))));
                continue;
            }
            write("segment", &format!("{name}-{number}"), &pack(&[(file.clone(), bytes.clone())]));
            kinds.extend(forge::records(bytes).into_iter().map(|range| {
                let (header, body) = bytes[range].split_at(forge::RECORD_HEADER_BYTES);
                (header[4], record(header, body))
            }));
        }
    }
    for (kind, bytes) in kinds {
        // Those of a snapshot are told apart by their tags.
        let name = if kind < 100 { format!("kind-{kind}") } else { format!("tag-{}", kind - 100) };
        write("record", &name, &bytes);
    }
    snapshots(&write);
    for (name, bytes) in [("cycle", cycle()), ("handled", handled()), ("dead", dead())] {
        write("calls", name, &bytes);
    }
    for seed in 0..4 {
        write("calls", &format!("random-{seed}"), &Rng::new(seed).bytes(512));
    }
}

/// An input of the target `record`: mended, under a salt, at the position that the header says.
fn record(header: &[u8], body: &[u8]) -> Vec<u8> {
    let mut padded = [0; forge::RECORD_HEADER_BYTES];
    padded[..header.len()].copy_from_slice(header);
    let position = forge::u64_at(&padded, 8).to_le_bytes();
    [&[1, 1, 2, 3, 4], &position[..], &padded, body].concat()
}

/// Snapshots that are not to be had of a small broker.
fn snapshots(write: &dyn Fn(&str, &str, &[u8])) {
    let mut header = [&b"libmq\0sn"[..], &FORMAT_VERSION.to_le_bytes(), &[0; 4], &[7; 16]].concat();
    for field in [5000_u64, 6000, 0] {
        header.extend_from_slice(&field.to_le_bytes());
    }
    header.resize(forge::SNAPSHOT_HEADER_BYTES, 0);
    let time = [&[9, 0][..], &77_u64.to_le_bytes()].concat();
    let block = |content: &[u8]| {
        let length = u32::try_from(content.len()).unwrap().to_le_bytes();
        [&length[..], &[0; 12], content].concat()
    };
    let all = |blocks: &[&[u8]]| [&[1], &header[..], &blocks.concat()].concat();
    write("snapshot", "nothing", &all(&[&block(&[])]));
    write("snapshot", "two-blocks", &all(&[&block(&time), &block(&time), &block(&[])]));
    write("snapshot", "no-end", &all(&[&block(&time)]));
    let beyond = [&[0xff; 4][..], &time].concat();
    write("snapshot", "entry-beyond-its-block", &all(&[&block(&beyond), &block(&[])]));
    let mut huge = block(&time);
    huge[..4].copy_from_slice(&u32::MAX.to_le_bytes());
    write("snapshot", "block-of-four-gibibytes", &all(&[&huge]));
    write("snapshot", "not-mended", &[&[0], &all(&[&block(&[])])[1..]].concat());
}

/// A broker without files and without options: see `calls/run.rs` for what the bytes are.
const OPEN: [u8; 4] = [0, 4, 0xfe, 0];
const ENQUEUE: [u8; 4] = [2, 0, 0, 4];

/// A message with this body's length and nothing set, sent, with a place for the error.
fn message(length: u8) -> Vec<u8> {
    [&[0, length, 0, 0, 0, 0][..], &[0; 8], &[0, 0]].concat()
}

fn cycle() -> Vec<u8> {
    let receive = [4, 0, 0, 0, 0, 0, 0];
    let (read, ack) = ([7, 1, 0, 0], [5, 0, 0, 0, 5, 0]);
    [&OPEN[..], &ENQUEUE, &message(9), &receive, &read, &ack, &read, &ack].concat()
}

fn handled() -> Vec<u8> {
    let handle = [2, 0, 0, 0, 0, 0x41, 2, 2, 0, 0, 0, 0, 0, 0, 0, 0];
    let (start, idle, close) = ([0, 0, 0, 0, 0], [0, 3, 0, 1, 0], [0, 2, 0, 1, 0]);
    [&OPEN[..], &handle, &start, &ENQUEUE, &message(3), &idle, &close, &idle].concat()
}

fn dead() -> Vec<u8> {
    let receive = [4, 0, 0, 0, 0, 0, 0];
    let (reject, list, read) = ([5, 0, 0, 0, 2, 0], [6, 0, 0, 0, 9, 7, 0], [7, 2, 0, 0, 0, 0, 0]);
    let replay = [6, 0, 0, 0, 11, 0];
    [&OPEN[..], &ENQUEUE, &message(1), &receive, &reject, &list, &read, &replay].concat()
}
