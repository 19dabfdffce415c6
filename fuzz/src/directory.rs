//! The target `directory`: recovery of a whole directory, and what is served from it.
//!
//! It is verified, opened, left as by a crash, and opened again. Both openings have the same state, and what verifying
//! says is what comes of opening it and looking at everything.

use std::sync::Arc;
use std::time::Duration;

use libmq::storage::{MemoryStorage, Storage};
use libmq::{Broker, ClockMode, ErrorKind, Options, QueueMetrics, Result, verify_on};
use libmq_suite::forge;

use crate::memory;
use crate::packed::unpack;

/// What an open broker takes, however little there is in it, and what reading takes.
const BROKER_BYTES: usize = 16 << 20;

/// Messages that are looked at: more would only make it slow.
const LOOKED_MAX: usize = 64;

fn options() -> Options {
    let hour = Duration::from_secs(3600);
    Options::new()
        .segment_bytes(64 << 10)
        .capacity(100)
        .cache_bytes(0)
        .clock(ClockMode::Manual)
        .snapshot_interval(hour)
        .sync_interval(hour)
}

/// What there is to see without changing anything.
#[derive(Debug, PartialEq)]
struct State {
    queues: Vec<(String, [u64; 4])>,
    letters: std::result::Result<Vec<Letter>, ErrorKind>,
}

#[derive(Debug, PartialEq)]
struct Letter {
    id: u64,
    queue: String,
    reason: String,
    error: String,
    attempts: u32,
    body: Vec<u8>,
}

/// A delivery that was acked: id, attempt, texts, body.
type Taken = (u64, u32, Vec<String>, Vec<u8>);

impl State {
    fn of(broker: &Broker) -> Self {
        let metrics = broker.metrics().expect("it is open");
        let figures =
            |queue: QueueMetrics| [queue.ready, queue.delayed, queue.in_flight, queue.dead];
        let queues = metrics.queues.into_iter();
        let queues = queues.map(|(name, queue)| (name, figures(queue)));
        // A queue in which nothing lives is known only to those who have seen it used.
        let queues = queues.filter(|(_, figures)| *figures != [0; 4]).collect();
        let letters = broker.dead_letters().list(None, LOOKED_MAX, None);
        let letters = letters.map(|letters| {
            let letters = letters.iter().map(|letter| Letter {
                id: letter.id(),
                queue: letter.queue().into(),
                reason: letter.reason().into(),
                error: letter.error().into(),
                attempts: letter.attempts(),
                body: letter.body().into(),
            });
            letters.collect()
        });
        let letters = letters.map_err(|error| error.kind());
        Self { queues, letters }
    }
}

/// Takes what is ready, until there is nothing more or something cannot be read.
fn take(broker: &Broker, state: &State) -> Result<Vec<Taken>> {
    let mut taken = Vec::new();
    for (queue, _) in &state.queues {
        for _ in 0..LOOKED_MAX {
            let Some(delivery) = broker.receive(queue, Duration::ZERO, None)? else { break };
            let mut texts = vec![delivery.queue().into(), delivery.content_type().into()];
            texts.extend(delivery.correlation_id().map(Into::into));
            texts.extend(delivery.headers().map(|(name, value)| format!("{name}={value}")));
            let body = delivery.body().to_vec();
            taken.push((delivery.id(), delivery.attempt(), texts, body));
            delivery.ack()?;
        }
    }
    Ok(taken)
}

fn open(storage: &Arc<MemoryStorage>) -> Result<Broker> {
    Broker::open_on(Arc::clone(storage) as Arc<dyn Storage>, options())
}

/// Whether an error says that what was read is not right.
fn is_refusal(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Corrupt | ErrorKind::Invalid | ErrorKind::Unsupported)
}

/// Whether a segment has numbers beyond which there are soon none: what one opening can begin behind, the next may not.
fn is_near_its_end(storage: &MemoryStorage) -> bool {
    const FAR: u64 = 1 << 61;
    let names = storage.list().expect("memory is read").into_iter();
    names.filter(|name| name.ends_with(".segment")).any(|name| {
        let mut header = [0; forge::SEGMENT_FIELDS_BYTES];
        let file = storage.open(&name).expect("it is listed");
        file.read_at(&mut header, 0).expect("memory is read");
        [32, 40, 56].iter().any(|at| forge::u64_at(&header, *at) > FAR)
    })
}

/// As a directory is packed.
pub(crate) fn directory(bytes: &[u8]) {
    let (storage, names) = unpack(bytes);
    if names.is_empty() {
        return;
    }
    let storage = Arc::new(storage);
    let length = usize::try_from(storage.bytes().expect("memory has a length")).expect("small");
    let justified = BROKER_BYTES + 8 * length;
    memory::bounded(justified, || {
        let report = verify_on(&*storage);
        let sound = report.as_ref().is_ok_and(libmq::VerifyReport::sound);
        let first = match open(&storage) {
            Ok(broker) => State::of(&broker),
            Err(error) => {
                assert!(is_refusal(error.kind()), "{error:?}");
                assert!(!sound, "verified, and refused: {error}");
                return;
            }
        };
        let report = report.expect("what opens can be verified");
        let again = match open(&storage) {
            // With the opening before, its numbers came to their end.
            Err(error) if error.kind() == ErrorKind::Corrupt && is_near_its_end(&storage) => return,
            again => again.expect("what was opened opens again"),
        };
        let second = State::of(&again);
        assert_eq!(first, second);
        let taken = take(&again, &second);
        drop(again);
        // The same bytes once more, with nothing of the openings above.
        let fresh = open(&Arc::new(unpack(bytes).0)).expect("what was opened opens");
        match (&taken, take(&fresh, &State::of(&fresh))) {
            (Ok(taken), Ok(fresh)) => assert_eq!(*taken, fresh),
            (Err(one), Err(other)) => assert_eq!(one.kind(), other.kind()),
            (one, other) => panic!("once {one:?}, and once {other:?}"),
        }
        for kind in
            [taken.err().map(|error| error.kind()), second.letters.err()].into_iter().flatten()
        {
            assert_eq!(kind, ErrorKind::Corrupt);
            assert!(!sound, "verified, and then not read");
        }
        // A directory that opens may hold bodies that are damaged, and nothing else.
        assert!(sound || report.problems.iter().all(|problem| problem.kind == ErrorKind::Corrupt));
    });
}
