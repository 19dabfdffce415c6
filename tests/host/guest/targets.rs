//! Copies to places where something is mounted.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use libmq::{Broker, ErrorKind, Message, Options};

use crate::rooms;

pub fn run(place: &Path) {
    rooms::enter();
    let directory = place.join("queue");
    let broker = Broker::open(&directory, Options::new().segment_bytes(64 << 10)).unwrap();
    broker.enqueue(Message::new("jobs", "body")).unwrap();
    for name in ["other", "same", "itself", "empty"] {
        fs::create_dir(place.join(name)).unwrap();
    }
    rooms::small(&place.join("other"), 8 << 10);
    rooms::again(&place.join("empty"), &place.join("same"));
    rooms::again(&directory, &place.join("itself"));
    let (before, own) = (names(place), names(&directory));
    for target in ["other", "same", "itself", "itself/copy"] {
        let refused = broker.backup(place.join(target)).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid, "{target}: {refused}");
    }
    assert_eq!((names(place), names(&directory)), (before, own), "something is left behind");
    broker.backup(place.join("other/copy")).unwrap();
    broker.close(Duration::from_secs(5)).unwrap();
    let copy = Broker::open(place.join("other/copy"), Options::new()).unwrap();
    assert_eq!(copy.recovery().messages, 1);
    copy.close(Duration::from_secs(5)).unwrap();
    println!(
        "no copy takes the place of a mount, or lies in its broker's directory by another way"
    );
}

fn names(directory: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(directory).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    // A snapshot may come and take segments along.
    names.filter(|name| !name.contains(".segment") && !name.contains(".snapshot")).collect()
}
