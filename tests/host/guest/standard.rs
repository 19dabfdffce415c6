//! A host that has closed its standard files, and writes to them all the same.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::FromRawFd as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use libmq::{Broker, HandlerOptions, Message, Options, verify};

use crate::promises::Promises;

pub fn run(place: &Path) {
    // Where the report goes: a descriptor that no file of libmq's is given.
    // SAFETY: the calls take no pointer; 0 to 2 are this process's own, and nobody here uses them any more.
    let report = unsafe {
        let report = libc::fcntl(1, libc::F_DUPFD_CLOEXEC, 100);
        assert!(report >= 100);
        (0..3).for_each(|fd| assert_eq!(libc::close(fd), 0));
        File::from_raw_fd(report)
    };
    let last_words = report.try_clone().unwrap();
    std::panic::set_hook(Box::new(move |panic| {
        let _ = writeln!(&last_words, "{}", panic.to_string().replace('\n', " "));
    }));
    let directory = place.join("queue");
    let options = || Options::new().segment_bytes(64 << 10);
    let broker = Broker::open(&directory, options()).unwrap();
    broker
        .handle("chatty", HandlerOptions::new(), |_| {
            say();
            Ok(())
        })
        .unwrap();
    broker.start().unwrap();

    // Files are opened for a moment only: somebody writes all the time.
    let ended = Arc::new(AtomicBool::new(false));
    let chatterer = std::thread::spawn({
        let ended = Arc::clone(&ended);
        move || {
            let mut times = 0_u64;
            while !ended.load(Ordering::Relaxed) {
                say();
                times += 1;
            }
            times
        }
    });
    let mut promises = Promises::default();
    for round in 0..100 {
        promises.enqueue(&broker, 3000).unwrap();
        broker.enqueue(Message::new("chatty", "")).unwrap();
        if round % 20 == 19 {
            broker.snapshot().unwrap();
            let copy = place.join(format!("copy-{round}"));
            broker.backup(&copy).unwrap();
            assert!(verify(&copy).unwrap().sound());
        }
        look();
    }
    assert!(broker.wait_idle(Duration::from_secs(20)).unwrap());
    drop(broker);
    let broker = Broker::open(&directory, options()).unwrap();
    promises.hold(&broker);
    broker.close(Duration::from_secs(5)).unwrap();
    assert!(verify(&directory).unwrap().sound());
    ended.store(true, Ordering::Relaxed);
    let times = chatterer.join().expect("what was said went nowhere");
    assert!(times > 100, "{times}");
    writeln!(&report, "said {times} times into nothing; {} acked, 0 lost", promises.acked).unwrap();
}

/// Writes to what are the standard files elsewhere. Nobody takes it.
fn say() {
    let chatter = [b'!'; 512];
    for fd in 0..3 {
        // SAFETY: the bytes live on; where nobody has the descriptor, the call fails.
        let written = unsafe { libc::write(fd, chatter.as_ptr().cast(), chatter.len()) };
        assert_eq!(written, -1, "somebody took what was said to {fd}");
    }
}

/// No file of libmq's is a standard one.
fn look() {
    for fd in 0..3 {
        let is = std::fs::read_link(format!("/proc/self/fd/{fd}"));
        let nothing = is.as_ref().map_or(true, |is| is == Path::new("/dev/null"));
        assert!(nothing, "{fd} is {is:?}");
    }
}
