//! A directory that was copied aside and put back, and one whose copy went on.

#![expect(clippy::unwrap_used, reason = "a test's helpers are the test's own")]

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use libmq::{Broker, ErrorKind, Message, Options};

const LONG: Duration = Duration::from_secs(20);

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// Opens a directory, and closes it in order; answers the token of a message that was taken meanwhile.
fn go_on(path: &Path) -> u64 {
    let broker = Broker::open(path, Options::new().segment_bytes(64 << 10)).unwrap();
    broker.enqueue(Message::new("jobs", "x")).unwrap();
    let delivery = broker.receive("jobs", None, None).unwrap().unwrap();
    let token = delivery.token();
    delivery.ack().unwrap();
    broker.enqueue(Message::new("jobs", "stays")).unwrap();
    broker.receive("jobs", None, None).unwrap().unwrap().release(LONG).unwrap();
    broker.close(LONG).unwrap();
    token
}

/// A copy knows nothing of what was done after it was made, and gave its tokens once more.
#[test]
fn a_directory_that_was_put_back_gives_larger_tokens_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let (path, aside) = (dir.path().join("queue"), dir.path().join("aside"));
    go_on(&path);
    copy(&path, &aside);
    let last = (0..5).map(|_| go_on(&path)).max().unwrap();
    fs::remove_dir_all(&path).unwrap();
    fs::rename(&aside, &path).unwrap();
    // An opening takes tokens for 4 ms of the clock, and where it is over sooner it is ahead of it.
    thread::sleep(Duration::from_millis(50));
    let next = go_on(&path);
    assert!(next > last, "{next} after {last}");
}

/// A segment that a copy had made in the place of another was taken for it, and its messages for those that were there.
#[test]
fn a_segment_that_another_copy_made_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    let (path, other) = (dir.path().join("queue"), dir.path().join("other"));
    go_on(&path);
    copy(&path, &other);
    for round in 0..2 {
        go_on(&path);
        go_on(&other);
        let names = |path: &Path| {
            let names = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name());
            let mut names: Vec<_> =
                names.filter(|name| name.to_string_lossy().ends_with(".segment")).collect();
            names.sort();
            names
        };
        let (these, others) = (names(&path), names(&other));
        // The last one is named by none.
        let (_, named) = these.split_last().unwrap();
        for name in named.iter().filter(|name| others.contains(name)) {
            let (segment, right) = (path.join(name), dir.path().join("right"));
            let bytes = fs::read(other.join(name)).unwrap();
            if bytes == fs::read(&segment).unwrap() {
                continue;
            }
            fs::rename(&segment, &right).unwrap();
            fs::write(&segment, bytes).unwrap();
            let error = Broker::open(&path, Options::new()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "round {round}: {error}");
            assert_eq!(error.path(), Some(segment.as_path()), "{error}");
            fs::rename(&right, &segment).unwrap();
        }
        if round == 0 {
            // From here on a snapshot names them, too.
            for path in [&path, &other] {
                let broker = Broker::open(path, Options::new()).unwrap();
                broker.snapshot().unwrap();
                broker.close(LONG).unwrap();
            }
        }
    }
    go_on(&path);
}

/// A disk that puts blocks of another file behind the tail puts whole records there, each with a right checksum.
#[test]
fn records_of_another_segment_behind_the_tail_are_none_of_this_one() {
    let dir = tempfile::tempdir().unwrap();
    let body = |who: &str, number: u64| format!("{who} {number:03} ").repeat(50);
    // As a crash leaves it.
    let left = |who: &'static str, count: u64| {
        let (path, left) = (dir.path().join(who), dir.path().join(format!("{who} left")));
        let broker = Broker::open(&path, Options::new().segment_bytes(64 << 10)).unwrap();
        for number in 0..count {
            broker.enqueue(Message::new("jobs", body(who, number))).unwrap();
        }
        copy(&path, &left);
        left
    };
    let (mine, other) = (left("mine", 5), left("else", 40));
    let segment = mine.join("00000001.segment");
    let mut bytes = fs::read(&segment).unwrap();
    let others = fs::read(other.join("00000001.segment")).unwrap();
    let place = |bytes: &[u8], body: &str| {
        bytes.windows(body.len()).position(|found| found == body.as_bytes()).unwrap()
    };
    // What follows here begins there: both have records of the same lengths.
    (0..5).for_each(|number| {
        assert_eq!(place(&bytes, &body("mine", number)), place(&others, &body("else", number)));
    });
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let end = end.next_multiple_of(8);
    assert!(end < place(&others, &body("else", 5)));
    bytes[end..].copy_from_slice(&others[end..]);
    fs::write(&segment, bytes).unwrap();

    for round in 0..2 {
        let broker = Broker::open(&mine, Options::new()).unwrap();
        assert_eq!(broker.recovery().messages, 5 + round);
        let taken = broker.receive_batch("jobs", 5, Duration::ZERO, None).unwrap();
        for (number, delivery) in (0..).zip(taken) {
            assert!(delivery.body() == body("mine", number).as_bytes(), "{delivery:?}");
            delivery.release(Duration::ZERO).unwrap();
        }
        broker.enqueue(Message::new("jobs", "one more")).unwrap();
        broker.close(LONG).unwrap();
    }
}
