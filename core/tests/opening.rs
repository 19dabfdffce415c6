//! What an open reads.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test's helpers are the test's own")]

use libmq::{Broker, Message, Options};

/// Bytes that this process has read so far, from memory or a disk.
fn read_so_far() -> u64 {
    let io = std::fs::read_to_string("/proc/self/io").unwrap();
    let read = io.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap();
    read.parse().unwrap()
}

/// Behind the end of a log that was killed lies what never was written, mostly nearly all of a segment of 64 MiB. A read near
/// it had the kernel keep zeros of it in memory, and tell of those as if they had been written; so they were read, too.
#[test]
fn an_open_reads_what_was_written_and_not_what_was_made_ready() {
    let dir = tempfile::tempdir().unwrap();
    let open = || Broker::open(dir.path(), Options::new()).unwrap();
    let broker = open();
    let messages = vec![Message::new("jobs", vec![7; 100]); 1_000];
    (0..10).for_each(|_| _ = broker.enqueue_batch(&messages).unwrap());
    // Without a close: as if the process had died.
    drop(broker);
    let before = read_so_far();
    let broker = open();
    let read = read_so_far() - before;
    assert_eq!(broker.recovery().messages, 10_000);
    assert!((1_000_000..8 << 20).contains(&read), "{read} bytes were read");
}
