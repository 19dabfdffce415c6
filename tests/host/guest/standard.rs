//! A host that has closed its standard files, and writes to them all the same.

use std::fs::File;
use std::os::fd::FromRawFd as _;
use std::path::Path;
use std::time::Duration;

use libmq::{Broker, HandlerOptions, Message, Options, verify};

use crate::promises::Promises;

pub fn run(place: &Path) {
    // Where the report goes: a descriptor that no file of libmq's is given.
    // SAFETY: the calls take no pointer; 0 to 2 are this process's own, and nobody here uses them any more.
    let mut report = unsafe {
        let report = libc::fcntl(1, libc::F_DUPFD_CLOEXEC, 100);
        assert!(report >= 100);
        (0..3).for_each(|fd| assert_eq!(libc::close(fd), 0));
        File::from_raw_fd(report)
    };
    let directory = place.join("queue");
    let options = || Options::new().segment_bytes(64 << 10);
    let broker = Broker::open(&directory, options()).unwrap();
    let chatter = [b'!'; 512];
    let say = move || {
        // SAFETY: the bytes live on; where nobody has the descriptor, the call fails.
        (0..3)
            .for_each(|fd| _ = unsafe { libc::write(fd, chatter.as_ptr().cast(), chatter.len()) });
    };
    broker
        .handle("chatty", HandlerOptions::new(), move |_| {
            say();
            Ok(())
        })
        .unwrap();
    broker.start().unwrap();
    let mut promises = Promises::default();
    let mut looks = 0;
    for round in 0..100 {
        promises.enqueue(&broker, 3000).unwrap();
        broker.enqueue(Message::new("chatty", "")).unwrap();
        say();
        if round % 20 == 19 {
            broker.snapshot().unwrap();
            let copy = place.join(format!("copy-{round}"));
            broker.backup(&copy).unwrap();
            assert!(verify(&copy).unwrap().sound());
        }
        for fd in 0..3 {
            let is = std::fs::read_link(format!("/proc/self/fd/{fd}"));
            assert!(is.is_err(), "{fd} is {is:?}");
            looks += 1;
        }
    }
    assert!(broker.wait_idle(Duration::from_secs(20)).unwrap());
    drop(broker);
    let broker = Broker::open(&directory, options()).unwrap();
    promises.hold(&broker);
    broker.close(Duration::from_secs(5)).unwrap();
    assert!(verify(&directory).unwrap().sound());
    let line = format!("0 to 2 were free in {looks} looks; {} acked, 0 lost\n", promises.acked);
    std::io::Write::write_all(&mut report, line.as_bytes()).unwrap();
}
