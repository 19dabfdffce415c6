//! A process that is stopped until its leases have run out, again and again, and settles what it held.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use libmq::{Broker, ErrorKind, HandlerOptions, Message, Options};

const ROUNDS: u64 = 12;
const LEASE: Duration = Duration::from_millis(150);

/// How often each message of the handler's was entered.
type Entries = Arc<Mutex<BTreeMap<u64, u32>>>;

fn say(line: &str) {
    let mut output = std::io::stdout().lock();
    writeln!(output, "{line}").unwrap();
    output.flush().unwrap();
}

/// Says `stop me` when it is time, and is stopped for longer than its leases have.
pub fn run(place: &Path) {
    let directory = place.join("queue");
    let broker = Broker::open(&directory, Options::new()).unwrap();
    let entries = Entries::default();
    let options = HandlerOptions::new()
        .max_parallelism(2)
        .timeout(LEASE)
        .cancel_grace(Duration::from_millis(20))
        .max_retries(100);
    let mine = Arc::clone(&entries);
    broker
        .handle("handled", options, move |context| {
            *mine.lock().unwrap().entry(context.id()).or_default() += 1;
            // In steps, so that one that was stopped has still something to do when it goes on.
            (0..40).for_each(|_| std::thread::sleep(Duration::from_millis(1)));
            Ok(())
        })
        .unwrap();
    broker.start().unwrap();
    let (mut stale, mut won) = (0, 0);
    for round in 0..ROUNDS {
        for _ in 0..4 {
            broker.enqueue(Message::new("handled", "")).unwrap();
        }
        let id = broker.enqueue(Message::new("pulled", round.to_string())).unwrap().id;
        let delivery = broker.receive("pulled", None, LEASE).unwrap().unwrap();
        assert_eq!(delivery.id(), id);
        let before = Instant::now();
        say("stop me");
        // Nothing else takes so long: it is over when somebody has stopped this process and had it go on.
        while before.elapsed() < LEASE * 2 {
            std::thread::sleep(Duration::from_millis(1));
        }
        if round % 3 == 2 {
            // The one that comes first wins: here nobody has looked yet whether the lease is over, or somebody has.
            match delivery.ack() {
                Ok(_) => won += 1,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::StaleLease, "{error}");
                    again(&broker, id);
                    stale += 1;
                }
            }
        } else {
            // Another has it meanwhile, so the late one changes nothing.
            let other = broker.receive("pulled", Duration::from_secs(20), None).unwrap().unwrap();
            assert_eq!(other.id(), id);
            let error = delivery.ack().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::StaleLease, "{error}");
            stale += 1;
            other.ack().unwrap();
        }
        let more = broker.receive("pulled", Duration::ZERO, None).unwrap();
        assert!(more.is_none(), "{id} came again after its ack");
    }
    assert!(broker.wait_idle(Duration::from_secs(30)).unwrap());
    let entries = entries.lock().unwrap().clone();
    assert_eq!(entries.len() as u64, ROUNDS * 4, "some were never handled");
    let doubled = entries.values().filter(|entries| **entries > 1).count();
    assert!(doubled > 0, "no stop fell into a handler");
    broker.close(Duration::from_secs(5)).unwrap();
    let broker = Broker::open(&directory, Options::new()).unwrap();
    assert_eq!((broker.recovery().messages, broker.recovery().dead_letters), (0, 0));
    assert!(stale > 0);
    say(&format!(
        "{ROUNDS} stops: {stale} late acks were STALE_LEASE, {won} came first; of {} messages in handlers {doubled} \
         were handled again; 0 lost",
        entries.len()
    ));
}

fn again(broker: &Broker, id: u64) {
    let other = broker.receive("pulled", Duration::from_secs(20), None).unwrap().unwrap();
    assert_eq!(other.id(), id);
    other.ack().unwrap();
}
