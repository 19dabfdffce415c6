//! The wall clock, where it is not what the log has seen.

use std::time::Duration;

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
