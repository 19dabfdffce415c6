//! The broker without files.

use std::time::Duration;

use libmq::{Broker, Message, Options};

/// It had the default durability of a directory: messages waited for syncs of nothing, and what an ack enqueued was there
/// some time after the ack had returned.
#[test]
fn what_an_ack_enqueues_is_there_when_it_returns() {
    for _ in 0..50 {
        let broker = Broker::open(":memory:", Options::new()).unwrap();
        broker.enqueue(Message::new("q", "parent")).unwrap();
        let parent = broker.receive("q", Duration::ZERO, None).unwrap().unwrap();
        parent.enqueue(Message::new("children", "child")).unwrap();
        parent.ack().unwrap();
        let child = broker.receive("children", Duration::ZERO, None).unwrap();
        child.expect("nothing has to be waited for").ack().unwrap();
        broker.close(Duration::ZERO).unwrap();
    }
}
