//! A full disk on which something comes in the place of what is done: children, and what the cleaner writes again.

use std::time::Duration;

use libmq::{Broker, Delivery, Durability, ErrorKind, Message};
use libmq_suite::{Rng, SimDisk};

use crate::crowded::{BYTES_MAX, Crowded, drain, fill, next, open, retry_on, until_full};

/// Bytes of a message: some twenty are in a segment.
const BYTES: usize = 3_000;

/// How often a snapshot may come, as one does by itself after a second, without any progress.
const SNAPSHOTS_MAX: u32 = 5;

/// A disk of so many bytes that is full of messages.
fn full_disk(bytes_max: u64) -> (Broker, u64) {
    let broker = open(&Crowded::new(&SimDisk::default(), bytes_max)).unwrap();
    let filled = fill(&broker, BYTES);
    (broker, filled)
}

/// Acks, with a child of the same size.
fn replace(delivery: Delivery) -> libmq::Result<()> {
    let child = Message::new("jobs", vec![2; BYTES]);
    delivery.enqueue(child.durability(Durability::Os))?;
    delivery.ack()
}

/// Has as many messages replaced as there are, three times over, `chosen` taken from among those that wait.
fn replace_all(broker: &Broker, filled: u64, mut chosen: impl FnMut(&mut Vec<Delivery>) -> usize) {
    let (mut replaced, mut fruitless) = (0, 0);
    while replaced < 3 * filled {
        let before = replaced;
        let mut found = broker.receive_batch("jobs", 1000, Duration::from_secs(5), None).unwrap();
        while !found.is_empty() {
            let index = chosen(&mut found);
            if let Err(full) = replace(found.remove(index)) {
                assert_eq!(full.kind(), ErrorKind::StorageFull, "{full}");
                break;
            }
            replaced += 1;
        }
        drop(found);
        fruitless = if replaced > before { 0 } else { fruitless + 1 };
        assert!(fruitless < SNAPSHOTS_MAX, "no room comes any more after {replaced} of {filled}");
        // There may be no room for what it would clean.
        let _ = broker.snapshot();
    }
    drain(broker);
}

/// Children came into what was kept for settles. When two segments were full of them and nothing had emptied, nothing could be
/// settled any more, whatever it left behind.
#[test]
fn children_leave_room_for_what_only_settles() {
    let broker = open(&Crowded::new(&SimDisk::default(), BYTES_MAX)).unwrap();
    // Those that are held live in every segment.
    let message = |queue| Message::new(queue, vec![1; BYTES]);
    until_full(|number| {
        let queue = if number % 8 == 0 { "jobs" } else { "held" };
        broker.enqueue(message(queue)).map(drop)
    });
    until_full(|_| replace(next(&broker)));
    retry_on(&broker);
}

/// Parents in the order in which they came: one segment after the other has nothing in it any more.
#[test]
fn a_full_disk_of_messages_that_make_others_goes_on() {
    for quarters in 4..=12 {
        let (broker, filled) = full_disk(quarters * BYTES_MAX / 4);
        replace_all(&broker, filled, |_| 0);
    }
}

/// Parents in any order: each segment has some in it that are done, and goes when the others have been written again.
#[test]
fn a_full_disk_goes_on_in_whatever_order_messages_are_done() {
    for quarters in 4..=12 {
        let (broker, filled) = full_disk(quarters * BYTES_MAX / 4);
        let mut rng = Rng::new(quarters);
        replace_all(&broker, filled, |found| rng.below(found.len() as u64) as usize);
    }
}

/// A segment with little room in it was not written again, though there was none elsewhere.
#[test]
fn what_is_done_here_and_there_on_a_full_disk_makes_room() {
    let broker = open(&Crowded::new(&SimDisk::default(), 4 * BYTES_MAX)).unwrap();
    let message = |number| {
        let queue = if number % 4 == 0 { "jobs" } else { "held" };
        Message::new(queue, vec![1; BYTES])
    };
    let filled = until_full(|number| broker.enqueue(message(number)).map(drop));
    while let Some(done) = broker.receive("jobs", Duration::ZERO, None).unwrap() {
        done.ack().unwrap();
    }
    let mut again = 0;
    for _ in 0..10 * SNAPSHOTS_MAX {
        let _ = broker.snapshot();
        while broker.enqueue(message(1)).is_ok() {
            again += 1;
        }
    }
    assert!(again >= filled / 5, "room for {again} of {} came back", filled / 4);
}

/// What is written again of a dead letter are its content and its texts, and only the content was counted: a segment with long
/// texts seemed to have little in it, and was written again after every snapshot.
#[test]
fn dead_letters_with_long_texts_are_not_written_again_and_again() {
    let broker = open(&Crowded::new(&SimDisk::default(), 4 * BYTES_MAX)).unwrap();
    for _ in 0..300 {
        broker.enqueue(Message::new("jobs", vec![1; 100])).unwrap();
        next(&broker).reject(&"no ".repeat(700)).unwrap();
    }
    is_at_rest(&broker);
}

/// Two of them have no room in one segment, and one of them is less than half of one.
#[test]
fn large_messages_are_not_written_again_and_again() {
    let broker = open(&Crowded::new(&SimDisk::default(), 4 * BYTES_MAX)).unwrap();
    for _ in 0..10 {
        broker.enqueue(Message::new("jobs", vec![1; 30_000])).unwrap();
    }
    is_at_rest(&broker);
}

/// A segment that is full of what lives seemed to have room in it: that of its header, and its end, which had none for another
/// message. So a full disk was written again from end to end, every second.
#[test]
fn a_full_disk_is_not_written_again_and_again() {
    for bytes in [1, 10, 20, 64, 300, 1_000, 2_930, 2_940, 7_000, 15_000, 26_000, 60_000] {
        for refused_to_replace in [false, true] {
            let broker = open(&Crowded::new(&SimDisk::default(), BYTES_MAX)).unwrap();
            fill(&broker, bytes);
            if refused_to_replace {
                let child = || Message::new("jobs", vec![2; 20_000]).durability(Durability::Os);
                until_full(|_| {
                    let delivery = next(&broker);
                    (0..9).try_for_each(|_| delivery.enqueue(child()).map(drop))?;
                    delivery.ack()
                });
            }
            (0..5).for_each(|_| drop(broker.snapshot()));
            is_at_rest(&broker);
        }
    }
}

/// After a snapshot or two there is nothing that is written again.
fn is_at_rest(broker: &Broker) {
    let positions = [(); 4].map(|()| {
        broker.snapshot().unwrap();
        broker.metrics().unwrap().lsn.reserved
    });
    assert_eq!(positions[1], positions[3], "{positions:?}");
}
