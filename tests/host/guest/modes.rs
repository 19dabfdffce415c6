//! A host whose files and directories are everybody's, or nobody's, unless they are made otherwise.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use libmq::{Broker, HandlerOptions, Options};

use crate::promises::{Promises, QUEUE};

pub fn run(place: &Path) {
    let mut seen = BTreeMap::new();
    for (umask, name) in [(0, "loose"), (0o022, "usual"), (0o477, "odd"), (0o777, "tight")] {
        // SAFETY: umask(2) takes no pointer and cannot fail.
        unsafe { libc::umask(umask) };
        work(&place.join(name), &mut seen);
    }
    for kind in ["directory", "lock", "marks", "segment", "snapshot"] {
        assert!(seen.contains_key(kind), "no {kind} among {seen:?}");
    }
    println!("looked at {seen:?}: all are the owner's alone");
}

/// Has every kind of file made, and looks at them, counted by kind.
fn work(above: &Path, seen: &mut BTreeMap<String, u32>) {
    let directory = above.join("queue");
    let broker = Broker::open(&directory, Options::new().segment_bytes(64 << 10)).unwrap();
    let mut promises = Promises::default();
    for round in 0..3 {
        (0..50).for_each(|_| promises.enqueue(&broker, 3000).unwrap());
        // What is in a handler has its mark.
        let delivery = broker.receive(QUEUE, Duration::ZERO, None).unwrap().unwrap();
        broker.snapshot().unwrap();
        broker.backup(above.join(format!("copy-{round}"))).unwrap();
        look(above, seen);
        delivery.release(Duration::ZERO).unwrap();
    }
    broker.handle("marked", HandlerOptions::new(), |_| Ok(())).unwrap();
    broker.start().unwrap();
    look(above, seen);
    promises.hold(&broker);
    broker.close(Duration::from_secs(5)).unwrap();
    look(above, seen);
    drop(broker);
    // Whoever opens it next is allowed to.
    Broker::open(&directory, Options::new()).unwrap();
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
