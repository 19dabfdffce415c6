//! The wall clock, where it is not what the log has seen.

use std::time::{Duration, UNIX_EPOCH};

use libmq::{Broker, ClockMode, Message, Options};

const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// A broker's time goes on from the last moment that its log has seen, however far the wall clock is behind that: what is
/// delayed comes after its delay, and not a year later.
#[test]
fn time_goes_on_where_the_wall_clock_is_behind_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::open(dir.path(), Options::new().clock(ClockMode::Manual)).unwrap();
    broker.advance(YEAR).unwrap();
    broker.enqueue(Message::new("q", "delayed").delay(Duration::from_millis(1500))).unwrap();
    broker.enqueue(Message::new("q", "late").delay(YEAR)).unwrap();
    drop(broker);
    for _ in 0..2 {
        let broker = Broker::open(dir.path(), Options::new()).unwrap();
        let delivery = broker.receive("q", Duration::from_secs(60), None).unwrap().unwrap();
        assert_eq!(delivery.body(), b"delayed");
        assert!(broker.receive("q", Duration::ZERO, None).unwrap().is_none(), "time jumped");
    }
}

/// What was due at once was due within the microsecond that the clock counts, and so in the schedule for as long: what came after
/// it started first, and who did not wait for it found nothing.
#[test]
fn what_is_due_at_once_is_ready_when_its_enqueue_returns() {
    let broker = Broker::open(":memory:", Options::new()).unwrap();
    let message = || Message::new("jobs", "a");
    for _ in 0..1_000 {
        for first in [
            message().expires_in(Duration::from_secs(3600)),
            message().run_at(UNIX_EPOCH),
            message().delay(Duration::ZERO),
        ] {
            broker.enqueue(first).unwrap();
            broker.enqueue(Message::new("jobs", "b")).unwrap();
            for body in ["a", "b"] {
                let delivery = broker.receive("jobs", Duration::ZERO, None).unwrap().unwrap();
                assert_eq!(delivery.body(), body.as_bytes());
                delivery.ack().unwrap();
            }
        }
    }
}
