//! What is in messages is in no error and in nothing that `{:?}` shows: both end in logs.

mod canary;

use std::fmt::Debug;
use std::time::Duration;

use libmq::{Broker, ErrorKind, HandlerError, Message, Options};

use canary::{CANARY, secret};

fn shows_nothing(what: &dyn Debug) {
    let shown = format!("{what:?} {what:#?}");
    assert!(!shown.contains(CANARY), "{shown}");
}

/// What an application logs when an enqueue has failed is the message.
#[test]
fn a_message_shows_nothing_of_what_is_in_it() {
    shows_nothing(&secret("orders"));
    assert!(format!("{:?}", secret("orders")).contains("orders"));
}

#[test]
fn what_is_taken_and_what_has_died_show_nothing_of_what_is_in_them() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::open(dir.path(), Options::new()).unwrap();
    let receipt = broker.enqueue(secret("orders")).unwrap();
    let delivery = broker.receive("orders", None, None).unwrap().unwrap();
    delivery.enqueue(secret("children")).unwrap();
    shows_nothing(&(&broker, receipt, &delivery));
    delivery.reject(CANARY).unwrap();
    let letter = broker.dead_letters().get(receipt.id).unwrap().unwrap();
    assert_eq!(letter.reason(), CANARY);
    shows_nothing(&(&broker, &letter, broker.metrics().unwrap()));
    assert!(format!("{letter:?}").contains("orders"));
}

/// Each error is answered to a call that is given, or comes upon, what nobody is to see.
#[test]
fn no_error_shows_anything_of_what_is_in_a_message() {
    let dir = tempfile::tempdir().unwrap();
    let options = || Options::new().max_message_bytes(1000).capacity(1);
    let broker = Broker::open(dir.path(), options()).unwrap();
    let long = CANARY.repeat(1000);
    let wrong = [
        secret("orders").content_type(long.clone()),
        secret("orders").correlation_id(format!("{CANARY}\n")),
        secret("orders").dedup_key(long.clone()),
        secret("orders").group(format!("\0{CANARY}")),
        secret("orders").header("name", long.clone()),
        secret("orders").header("name", format!("{CANARY}\0")),
        secret("orders").priority(10),
        secret("orders").expires_in(Duration::MAX),
        secret("orders").delay(Duration::ZERO).run_at(std::time::SystemTime::now()),
        Message::new("orders", long.as_bytes()),
    ];
    let mut errors = Vec::new();
    for message in &wrong {
        errors.push(broker.enqueue(message.clone()).unwrap_err());
        errors.push(broker.enqueue_batch(&[secret("orders"), message.clone()]).unwrap_err());
    }
    broker.enqueue(secret("orders")).unwrap();
    errors.push(broker.enqueue(secret("orders").dedup_key("another")).unwrap_err());
    assert_eq!(errors.last().unwrap().kind(), ErrorKind::Full);

    let delivery = broker.receive("orders", Duration::ZERO, Some(Duration::from_millis(1)));
    let delivery = delivery.unwrap().unwrap();
    errors.extend(wrong.map(|message| delivery.enqueue(message).unwrap_err()));
    std::thread::sleep(Duration::from_millis(20));
    drop(broker.receive("orders", Duration::from_secs(20), None).unwrap().unwrap());
    let failed = Err(HandlerError::failed(CANARY));
    errors.push(delivery.settle(failed).unwrap_err());
    assert_eq!(errors.last().unwrap().kind(), ErrorKind::StaleLease);
    broker.close(Duration::from_secs(20)).unwrap();

    // The content itself is what is damaged.
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        let place = bytes.windows(CANARY.len()).position(|found| found == CANARY.as_bytes());
        if let Some(place) = place {
            bytes[place - 1] ^= 1;
            std::fs::write(&path, bytes).unwrap();
        }
    }
    errors.push(Broker::open(dir.path(), options()).unwrap_err());
    assert_eq!(errors.last().unwrap().kind(), ErrorKind::Corrupt);

    for error in &errors {
        shows_nothing(error);
        assert!(!error.to_string().contains(CANARY), "{error}");
    }
}
