//! Short histories: whatever a few threads are answered, the rules could have answered to one.

use std::time::{Duration, Instant};

use libmq::{Receipt, ReceiptStatus};
use libmq_suite::{New, new};

use crate::bench::{Bench, Place};
use crate::call::{Answer, Call, End, Event, Got, History, QUEUE, Seen};
use crate::judge::judge;
use crate::number;
use crate::player::play;

/// Histories that are played in one broker.
const TOGETHER: u64 = 100;

/// How long the default run takes at most, however slow the machine is.
const TIME: Duration = Duration::from_secs(4);

/// Plays histories at a place and judges them.
fn run(place: Place, share: u64) {
    let given = std::env::var("LIBMQ_HISTORIES").is_ok();
    let (seed, most) = (number("LIBMQ_CONCURRENT_SEED", 1), number("LIBMQ_HISTORIES", 15_000));
    let began = Instant::now();
    let mut bench = Bench::open(place);
    let (mut count, mut calls, mut points) = (0, 0, 0);
    while count < most / share && (given || began.elapsed() < TIME) {
        if bench.histories() >= TOGETHER {
            bench = Bench::open(place);
        }
        let history = play(&mut bench, seed + count);
        let verdict = judge(&history);
        assert!(
            verdict.is_legal,
            "{place:?}, seed {}: of the calls only {} can be brought into an order\n{history}",
            seed + count,
            verdict.calls
        );
        count += 1;
        calls += verdict.calls;
        points += verdict.points;
    }
    println!("{place:?}: {count} histories of {calls} calls, {points} points looked at");
}

#[test]
fn histories_in_memory_have_an_order() {
    run(Place::Memory, 3);
}

#[test]
fn histories_of_level_os_have_an_order() {
    run(Place::Os, 3);
}

#[test]
fn histories_of_both_levels_have_an_order() {
    run(Place::Mixed, 3);
}

/// A history of calls that overlap as their moments say, each in a thread of its own.
fn history(events: &[(u64, u64, Call, Answer)]) -> History {
    let event = |(called, returned, call, answer): &(u64, u64, Call, Answer)| {
        let (called, returned) = (*called, *returned);
        vec![Event { called, returned, call: call.clone(), answer: answer.clone() }]
    };
    History { threads: events.iter().map(event).collect() }
}

fn enqueued(called: u64, returned: u64, id: u64) -> (u64, u64, Call, Answer) {
    let receipt = Receipt { id, status: ReceiptStatus::Accepted };
    (called, returned, Call::Enqueue(new(QUEUE, "body")), Answer::Enqueued(receipt))
}

fn received(called: u64, returned: u64, id: Option<u64>) -> (u64, u64, Call, Answer) {
    let got = |id: u64| {
        let (attempt, token, deadline) = (1, called, 100);
        Got { id, body: "body".into(), attempt, token, deadline }
    };
    let call = Call::Receive { lease_us: 100 };
    (called, returned, call, Answer::Received(id.map(got)))
}

fn acked(called: u64, returned: u64, token: u64, counts: bool) -> (u64, u64, Call, Answer) {
    let call = Call::Settle { id: 7, token, end: End::Ack };
    (called, returned, call, Answer::Settled(counts))
}

fn is_legal(events: &[(u64, u64, Call, Answer)]) -> bool {
    judge(&history(events)).is_legal
}

#[test]
fn a_judge_allows_either_order_of_what_overlaps() {
    assert!(is_legal(&[enqueued(1, 4, 7), received(2, 3, None), received(5, 6, Some(7))]));
    assert!(is_legal(&[enqueued(1, 4, 7), received(2, 3, Some(7))]));
    let acks = [acked(5, 8, 3, false), acked(6, 7, 3, true)];
    assert!(is_legal(&[&[enqueued(1, 2, 7), received(3, 4, Some(7))], &acks[..]].concat()));
}

#[test]
fn a_judge_refuses_what_no_order_explains() {
    let lost = [enqueued(1, 2, 7), received(3, 4, None)];
    assert!(!is_legal(&lost));
    let before_its_time = [received(1, 2, Some(7)), enqueued(3, 4, 7)];
    assert!(!is_legal(&before_its_time));
    let received_twice = [enqueued(1, 2, 7), received(3, 5, Some(7)), received(4, 6, Some(7))];
    assert!(!is_legal(&received_twice));
    let held = [enqueued(1, 2, 7), received(3, 4, Some(7))];
    let acked_twice = [acked(5, 8, 3, true), acked(6, 7, 3, true)];
    assert!(!is_legal(&[&held, &acked_twice[..]].concat()));
    let seen = |ready| (9, 10, Call::Look, Answer::Seen(Seen { ready, ..Seen::default() }));
    assert!(is_legal(&[enqueued(1, 2, 7), seen(1)]) && !is_legal(&[enqueued(1, 2, 7), seen(0)]));
}

/// A message that has expired ends while it stands in its lane. Who received it once took it out first to see that, and put it back:
/// until then others found nothing, and behind that it was there to be cancelled.
#[test]
fn a_judge_refuses_that_an_expired_message_is_gone_for_a_while() {
    let expiring = |called, returned, id| {
        let receipt = Receipt { id, status: ReceiptStatus::Accepted };
        let message = New { expires_us: Some(10), ..new(QUEUE, "body") };
        (called, returned, Call::Enqueue(message), Answer::Enqueued(receipt))
    };
    let expired = [expiring(1, 2, 7), (3, 4, Call::Advance(20), Answer::Advanced)];
    let cancelled = |was_there| (9, 11, Call::Cancel(7), Answer::Cancelled(was_there));
    let nothing = [received(5, 10, None), received(6, 7, None)];
    assert!(is_legal(&[&expired[..], &nothing, &[cancelled(false)]].concat()));
    assert!(!is_legal(&[&expired[..], &nothing, &[cancelled(true)]].concat()));
}
