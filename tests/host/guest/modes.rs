//! A host whose files and directories are everybody's, unless they are made otherwise.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use libmq::{Broker, HandlerOptions, Options};

use crate::promises::{Promises, QUEUE};

pub fn run(place: &Path) {
    // SAFETY: umask(2) takes no pointer and cannot fail.
    unsafe { libc::umask(0) };
    let above = place.join("above");
    let directory = above.join("queue");
    let broker = Broker::open(&directory, Options::new().segment_bytes(64 << 10)).unwrap();
    let mut promises = Promises::default();
    let mut seen = BTreeMap::new();
    for round in 0..3 {
        (0..50).for_each(|_| promises.enqueue(&broker, 3000).unwrap());
        // What is in a handler has its mark.
        let delivery = broker.receive(QUEUE, Duration::ZERO, None).unwrap().unwrap();
        broker.snapshot().unwrap();
        broker.backup(above.join(format!("copy-{round}"))).unwrap();
        look(&above, &mut seen);
        delivery.release(Duration::ZERO).unwrap();
    }
    broker.handle("marked", HandlerOptions::new(), |_| Ok(())).unwrap();
    broker.start().unwrap();
    look(&above, &mut seen);
    promises.hold(&broker);
    broker.close(Duration::from_secs(5)).unwrap();
    look(&above, &mut seen);
    for kind in ["directory", "lock", "marks", "segment", "snapshot"] {
        assert!(seen.contains_key(kind), "no {kind} among {seen:?}");
    }
    println!("looked at {seen:?}: all are the owner's alone");
}

/// The directory itself and all below it, counted by kind.
fn look(directory: &Path, seen: &mut BTreeMap<String, u32>) {
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(directory), 0o700, "{}", directory.display());
    *seen.entry("directory".into()).or_default() += 1;
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            look(&path, seen);
            continue;
        }
        assert_eq!(mode(&path), 0o600, "{}", path.display());
        let kind = path.extension().or(path.file_name()).unwrap();
        *seen.entry(kind.to_string_lossy().into_owned()).or_default() += 1;
    }
}
