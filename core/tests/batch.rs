//! What is said of a batch.

use std::time::SystemTime;

use libmq::{Broker, Durability, ErrorKind, Message, Options};

/// Which of many messages was bad, nobody was told.
#[test]
fn a_batch_that_is_refused_names_the_message() {
    let broker = Broker::open(":memory:", Options::new().max_message_bytes(10)).unwrap();
    let good = || Message::new("orders", "good");
    let said = [
        (good().priority(10), "items[1]: priority is 10, but goes from 0 to 9"),
        (
            good().run_at(SystemTime::now()).delay(std::time::Duration::ZERO),
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
