//! Messages that expire while nobody looks.

use std::time::{Duration, Instant};

use libmq::{Broker, ClockMode, Message, Options};

const LONG: Duration = Duration::from_secs(20);

/// On a manual clock the timekeeper looked for what had expired, and only then noted how often it had been rung: a message
/// that came back in between, after its time, waited for ever.
#[test]
fn what_comes_back_after_its_time_is_found_whatever_the_timekeeper_is_doing() {
    for round in 0..400 {
        let options = Options::new().clock(ClockMode::Manual);
        let broker = Broker::open(":memory:", options).unwrap();
        let second = Duration::from_secs(1);
        broker.enqueue(Message::new("q", "x").expires_in(second)).unwrap();
        let delivery = broker.receive("q", Duration::ZERO, 5 * second).unwrap().unwrap();
        broker.advance(second).unwrap();
        delivery.retry(Duration::ZERO).unwrap();
        let began = Instant::now();
        while broker.dead_letters().count().unwrap() == 0 {
            assert!(began.elapsed() < LONG, "round {round}: {:?}", broker.metrics().unwrap());
            std::thread::yield_now();
        }
    }
}

/// The clock was looked at once for the start and once for the end: a message that expires right behind its start was
/// refused where time went on in between.
#[test]
fn what_expires_right_behind_its_start_is_taken_whatever_the_clock_does() {
    let broker = Broker::open(":memory:", Options::new()).unwrap();
    for _ in 0..20_000 {
        let message = Message::new("q", "x").delay(LONG);
        broker.enqueue(message.expires_in(LONG + Duration::from_micros(1))).unwrap();
    }
}
