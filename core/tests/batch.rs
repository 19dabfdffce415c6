//! What is said of a batch.

use std::time::{Duration, Instant, SystemTime};

use libmq::{Broker, Durability, ErrorKind, Message, OnFull, Options};

const LONG: Duration = Duration::from_secs(20);

/// Which of many messages was bad, nobody was told.
#[test]
fn a_batch_that_is_refused_names_the_message() {
    let broker = Broker::open(":memory:", Options::new().max_message_bytes(10)).unwrap();
    let good = || Message::new("orders", "good");
    let said = [
        (good().priority(10), "items[1]: priority is 10, but goes from 0 to 9"),
        (
            good().run_at(SystemTime::now()).delay(Duration::ZERO),
            "items[1]: delay and run_at exclude each other",
        ),
        (good().header("trace", "a\nb"), "items[1]: header trace has NUL, CR or LF in its value"),
        (
            good().durability(Durability::Memory),
            "items[1]: durability memory is for a broker, not for a message",
        ),
        (
            Message::new("", "bad"),
            "items[1]: queue is empty, but takes 1 to 128 of A-Z a-z 0-9 . _ -",
        ),
    ];
    for (bad, text) in said {
        let error = broker.enqueue_batch(&[good(), bad.clone(), good()]).unwrap_err();
        assert_eq!((error.kind(), &*error.to_string()), (ErrorKind::Invalid, text));
        // Alone it is no batch's.
        let error = broker.enqueue(bad).unwrap_err();
        assert_eq!(Some(&*error.to_string()), text.strip_prefix("items[1]: "));
    }
    let error = broker.enqueue_batch(&[good(), Message::new("orders", "elevenbytes")]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert_eq!(
        error.to_string(),
        "items[1]: body and headers are 11 bytes, but max_message_bytes is 10"
    );
    assert_eq!(broker.metrics().unwrap().broker.enqueued, 0);
}

/// Of a batch of one it was not said, where a longer one would have said it.
#[test]
fn a_batch_of_one_names_its_message_too() {
    let broker = Broker::open(":memory:", Options::new().max_message_bytes(10)).unwrap();
    let bad = [
        (Message::new("orders", "").priority(10), "items[0]: priority is 10, but goes from 0 to 9"),
        (
            Message::new("orders", "elevenbytes"),
            "items[0]: body and headers are 11 bytes, but max_message_bytes is 10",
        ),
    ];
    for (message, text) in bad {
        let batch = broker.enqueue_batch(std::slice::from_ref(&message)).unwrap_err();
        assert_eq!(batch.to_string(), text);
        let begun = broker.begin_enqueue_batch(std::slice::from_ref(&message), false);
        assert_eq!(begun.unwrap_err().to_string(), text);
        // What waits behind others is looked at all the same.
        let begun = broker.begin_enqueue_batch(std::slice::from_ref(&message), true);
        assert_eq!(begun.unwrap_err().to_string(), text);
        let alone = broker.begin_enqueue(&message, true).unwrap_err().to_string();
        assert_eq!(Some(&*alone), text.strip_prefix("items[0]: "));
    }
}

/// It said that as many messages were live as the broker takes, because it counted those that it was about to add.
#[test]
fn a_batch_that_has_no_room_says_what_there_is() {
    let broker = Broker::open(":memory:", Options::new().capacity(10)).unwrap();
    let batch = |count| vec![Message::new("orders", ""); count];
    broker.enqueue_batch(&batch(7)).unwrap();
    let text = |messages| {
        format!(
            "the broker is full: no room for {messages} messages, as 7 are live and its capacity is 10"
        )
    };
    let keyed: Vec<_> =
        (0..5).map(|key| Message::new("orders", "").dedup_key(key.to_string())).collect();
    for messages in [batch(4), batch(11), keyed] {
        let error = broker.enqueue_batch(&messages).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Full);
        assert_eq!(error.to_string(), text(messages.len()));
    }
    broker.enqueue_batch(&batch(3)).unwrap();
    let error = broker.enqueue(Message::new("orders", "")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the broker is full: 10 messages are live, which is its capacity"
    );
}

/// No time makes room for it, whoever would wait; but what takes the places of others needs none.
#[test]
fn a_batch_beyond_the_capacity_does_not_wait() {
    let patient = Options::new().capacity(3).on_full(OnFull::Block).block_timeout(LONG);
    let broker = Broker::open(":memory:", patient).unwrap();
    let begun = Instant::now();
    for queue in ["orders", "orders", "new"] {
        let error = broker.enqueue_batch(&vec![Message::new(queue, ""); 4]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Full);
        broker.enqueue(Message::new("orders", "").dedup_key("one")).unwrap();
    }
    assert!(begun.elapsed() < LONG / 2);
    let alike = vec![Message::new("fresh", "").dedup_key("two"); 4];
    broker.enqueue_batch(&alike).unwrap();
    assert_eq!(broker.metrics().unwrap().broker.ready, 2);
}

/// A batch of 10,000 queues that had no room left no other queue a place, for as long as the broker was open.
#[test]
fn what_is_refused_makes_no_queue() {
    let broker = Broker::open(":memory:", Options::new().capacity(20)).unwrap();
    let queues = |count: usize| -> Vec<_> {
        (0..count).map(|queue| Message::new(format!("queue-{queue}"), "")).collect()
    };
    let there = || broker.metrics().unwrap().queues.len();
    assert_eq!(broker.enqueue_batch(&queues(10_000)).unwrap_err().kind(), ErrorKind::Full);
    assert_eq!(broker.enqueue_batch(&queues(21)).unwrap_err().kind(), ErrorKind::Full);
    let mut mixed = vec![Message::new("queue-0", ""); 20];
    mixed.push(Message::new("another", ""));
    assert_eq!(broker.enqueue_batch(&mixed).unwrap_err().kind(), ErrorKind::Full);
    assert_eq!(there(), 0);
    broker.enqueue_batch(&queues(20)).unwrap();
    assert_eq!(broker.enqueue(Message::new("another", "")).unwrap_err().kind(), ErrorKind::Full);
    let delivery = broker.receive("queue-0", Duration::ZERO, None).unwrap().unwrap();
    delivery.enqueue(Message::new("child", "")).unwrap();
    let full = delivery.enqueue(Message::new("another", "")).unwrap_err();
    assert_eq!(full.kind(), ErrorKind::Full);
    assert_eq!(there(), 21);
    // That nobody gives a place back any more is said first.
    broker.poison("a test");
    let poisoned = broker.enqueue(Message::new("another", "")).unwrap_err();
    assert_eq!(poisoned.kind(), ErrorKind::Poisoned);
}

/// Which of the messages was the first of one queue too many, nobody was told, and those before it had been made.
#[test]
fn too_many_queues_name_the_message_and_make_none() {
    let broker = Broker::open(":memory:", Options::new()).unwrap();
    let queue = |number: usize| Message::new(format!("queue-{number}"), "");
    broker.enqueue_batch(&(0..9_998).map(queue).collect::<Vec<_>>()).unwrap();
    let batch: Vec<_> = [0, 9_998, 1, 9_998, 9_999, 10_000, 2].map(queue).into();
    let error = broker.enqueue_batch(&batch).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert_eq!(error.to_string(), "items[5]: queue would be one more than 10000");
    assert_eq!(broker.metrics().unwrap().queues.len(), 9_998);
    broker.enqueue_batch(batch.split_at(5).0).unwrap();
    let error = broker.enqueue(queue(10_000)).unwrap_err();
    assert_eq!(error.to_string(), "queue would be one more than 10000");
    broker.enqueue(queue(9_999)).unwrap();
}
