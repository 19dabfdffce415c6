//! A host that closes all descriptors that it does not know, and gives their numbers to files of its own.

use std::fs::{self, File, OpenOptions};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use libmq::{Broker, Durability, ErrorKind, Message, Options};

use crate::promises::Promises;

/// The first descriptor that is no standard file.
const FIRST: libc::c_uint = 3;

pub fn run(place: &Path) {
    let mut told = Vec::new();
    for durability in [Durability::Sync, Durability::Os] {
        let directory = place.join(format!("{durability:?}"));
        let broker = Broker::open(&directory, Options::new().durability(durability)).unwrap();
        let mut promises = Promises::default();
        (0..10).for_each(|_| promises.enqueue(&broker, 1000).unwrap());
        // SAFETY: the call takes no pointer. Whose descriptors these were is what is tried here.
        assert_eq!(unsafe { libc::syscall(libc::SYS_close_range, FIRST, libc::c_uint::MAX, 0) }, 0);
        let others: Vec<File> = (0..16)
            .map(|number| {
                let path = place.join(format!("{durability:?} other {number}"));
                let other =
                    OpenOptions::new().read(true).write(true).create_new(true).open(path).unwrap();
                // As long as any of ours: that it is another file is all that tells.
                other.set_len(1 << 30).unwrap();
                other
            })
            .collect();
        assert_eq!(others[0].as_raw_fd(), FIRST as i32);

        // What needs no sync is told at the next one.
        let unknown = Message::new("unknown", vec![7; 5000]).durability(Durability::Sync);
        let error = broker.enqueue(unknown.clone()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Poisoned, "{error}");
        assert_eq!(broker.enqueue(unknown).unwrap_err().kind(), ErrorKind::Poisoned);
        told.push(error.to_string());
        // That much went into one of them, and nothing that need not be.
        for other in &others {
            let bytes = other.metadata().unwrap().blocks() * 512;
            assert!(bytes <= 16 << 10, "{bytes} bytes in a file of the host's");
        }

        // Its descriptors are the other files' by now: nobody closes them twice.
        std::mem::forget((broker, others));
        let copy = place.join(format!("{durability:?} copy"));
        fs::create_dir(&copy).unwrap();
        for entry in fs::read_dir(&directory).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
        }
        promises.hold(&Broker::open(&copy, Options::new()).unwrap());
    }
    println!("nothing was called durable that was not, 0 lost: {}", told[0]);
}
