//! Models of the journal: "nothing is shown before it is written, everything is shown in order, and a commit returns when
//! its own is", for the appends and commits of a few threads in every interleaving.

use loom::thread;

use super::allowance::{Allowance, Live, Need};
use super::append::Appended;
use super::by_hand::first_segment;
use super::effects::{Level, Pending, Show};
use super::log::{Journal, JournalOptions};
use super::record::{self, Header, Record};
use super::segment::Segment;
use crate::error::{Error, Result};
use crate::storage::{MemoryStorage, Storage};
use crate::sync::{Arc, explore};

/// Remembers what was shown, and looks into the file whether it is there.
struct Witness {
    segment: Arc<Segment>,
    shown: std::sync::Mutex<Vec<u64>>,
}

impl Show for Witness {
    type Effect = u64;

    fn show(&self, effects: impl Iterator<Item = u64>) {
        for position in effects {
            let mut header = [0; record::HEADER_BYTES];
            let offset = self.segment.offset(position);
            self.segment.file.read_at(&mut header, offset).unwrap();
            assert!(Header::decode(&header, position, self.segment.header.salt).is_some());
            self.shown.lock().unwrap().push(position);
        }
    }

    fn unsynced(&self) {}

    fn live(&self) -> Live {
        Live::default()
    }

    fn shown(&self) {}

    fn poisoned(&self, _cause: &Error) {}
}

fn journal() -> (Arc<Journal<Witness>>, Arc<Witness>) {
    let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    let segment = first_segment(&*storage, 16 << 10);
    let witness = Witness { segment: Arc::clone(&segment), shown: Default::default() };
    let show = Arc::new(witness);
    let options = JournalOptions { segment_bytes: 16 << 10, ..JournalOptions::default() };
    let allowance = Allowance::without_limit(&storage);
    let journal =
        Journal::begin(storage, Arc::clone(&show), options, allowance, Vec::new(), segment);
    (Arc::new(journal), show)
}

fn append(journal: &Journal<Witness>, level: Level) -> Appended {
    let record = Record::new(record::KIND_USER_MIN, &[b"body"]);
    let finish = |position, pending: &mut Pending<'_, u64>| pending.at(level, position);
    journal.append(Need::Settle, &[record], finish).unwrap()
}

fn commit_and_look(journal: &Journal<Witness>, show: &Witness, level: Level) {
    let appended = append(journal, level);
    journal.commit(level, appended.end).unwrap();
    look(journal, show, appended);
}

fn write_and_look(journal: &Journal<Witness>, show: &Witness) {
    let record = Record::new(record::KIND_USER_MIN, &[b"body"]);
    let appended = write(journal, show, &record).unwrap();
    look(journal, show, appended);
}

/// Appends and writes at once.
fn write(journal: &Journal<Witness>, show: &Witness, record: &Record<'_>) -> Result<Appended> {
    let finish = |position, pending: &mut Pending<'_, u64>, is_alone: bool| {
        if !is_alone {
            pending.at(Level::Os, position);
        }
    };
    let led = journal.append_and_lead(Need::Settle, std::slice::from_ref(record), finish)?;
    let appended = led.appended;
    journal.follow(led, || show.show(std::iter::once(appended.start)))?;
    Ok(appended)
}

fn look(journal: &Journal<Witness>, show: &Witness, appended: Appended) {
    assert!(show.shown.lock().unwrap().contains(&appended.start));
    assert!(journal.marks().written >= appended.end);
}

#[test]
fn loom_reserve_and_publish() {
    explore(1, || {
        let (journal, show) = journal();
        let threads: Vec<_> = (0..2)
            .map(|number| {
                let (journal, show) = (Arc::clone(&journal), Arc::clone(&show));
                thread::spawn(move || match number {
                    0 => commit_and_look(&journal, &show, Level::Os),
                    _ => write_and_look(&journal, &show),
                })
            })
            .collect();
        write_and_look(&journal, &show);
        for thread in threads {
            thread.join().unwrap();
        }
        let shown = show.shown.lock().unwrap().clone();
        assert_eq!(shown.len(), 3);
        assert!(shown.is_sorted(), "{shown:?}");
        let marks = journal.marks();
        assert_eq!((marks.shown, marks.written), (marks.reserved, marks.reserved));
    });
}

#[test]
fn loom_two_levels_at_once() {
    explore(2, || {
        let (journal, show) = journal();
        let other = {
            let (journal, show) = (Arc::clone(&journal), Arc::clone(&show));
            thread::spawn(move || write_and_look(&journal, &show))
        };
        commit_and_look(&journal, &show, Level::Sync);
        other.join().unwrap();
        let marks = journal.marks();
        assert_eq!(show.shown.lock().unwrap().len(), 2);
        assert_eq!((marks.shown, marks.written), (marks.reserved, marks.reserved));
    });
}

/// Who has made durable what others wait for has not shown it: they do, or it does later, in order, and nobody comes back before.
#[test]
fn loom_what_is_synced_is_shown_by_whoever_comes() {
    explore(2, || {
        let (journal, show) = journal();
        let other = {
            let (journal, show) = (Arc::clone(&journal), Arc::clone(&show));
            thread::spawn(move || commit_and_look(&journal, &show, Level::Sync))
        };
        let mine = append(&journal, Level::Sync);
        journal.make_durable(mine.end).unwrap();
        assert!(journal.durable() >= mine.end);
        journal.commit(Level::Sync, mine.end).unwrap();
        look(&journal, &show, mine);
        other.join().unwrap();
        let shown = show.shown.lock().unwrap().clone();
        assert!(shown.len() == 2 && shown.is_sorted(), "{shown:?}");
        let marks = journal.marks();
        assert_eq!((marks.shown, marks.durable), (marks.reserved, marks.reserved));
    });
}

/// Who has the lead under the tail's lock, while the journal ends, writes and shows before that has come to rest, or not at all.
#[test]
fn loom_a_write_against_the_end_of_the_journal() {
    explore(3, || {
        let (journal, show) = journal();
        let writer = {
            let (journal, show) = (Arc::clone(&journal), Arc::clone(&show));
            thread::spawn(move || {
                let record = Record::new(record::KIND_USER_MIN, &[b"body"]);
                write(&journal, &show, &record).is_ok()
            })
        };
        journal.poison(Error::closed());
        journal.rest();
        let shown = show.shown.lock().unwrap().len();
        let is_written = writer.join().unwrap();
        assert_eq!(show.shown.lock().unwrap().len(), shown);
        assert!(!is_written || shown == 1);
    });
}

/// What one thread has enqueued is read by another out of the memory that it was written to: a record that was written was
/// filled before, whole, also while the next one is copied behind it. The reader takes no lock before: the mark alone tells it.
#[test]
fn loom_what_was_shown_is_read_whole() {
    explore(2, || {
        let (journal, show) = journal();
        let start = show.segment.first();
        let writer = {
            let journal = Arc::clone(&journal);
            thread::spawn(move || {
                write_and_look(&journal, &show);
                append(&journal, Level::Os);
            })
        };
        while journal.written.reached() <= start {
            thread::yield_now();
        }
        let (_, body) = journal.read(start).unwrap();
        assert_eq!(&*body, b"body");
        writer.join().unwrap();
    });
}

/// Two need the next segment at the same time, and the keeper of supplies makes it ahead: there is one of each number, and
/// none is made for nothing.
#[test]
fn loom_a_spare_is_made_once() {
    explore(2, || {
        let (journal, _) = journal();
        let grow = |journal: &Journal<Witness>| {
            // Two of them do not fit into a segment.
            let record = Record::new(record::KIND_USER_MIN, &[&[7; 6 << 10]]);
            journal.append(Need::Grow, &[record], |_, _| {}).unwrap().start
        };
        let other = {
            let journal = Arc::clone(&journal);
            thread::spawn(move || grow(&journal))
        };
        let keeper = {
            let journal = Arc::clone(&journal);
            thread::spawn(move || journal.make_spare(Need::Grow, 0).unwrap())
        };
        let mine = grow(&journal);
        assert_ne!(other.join().unwrap(), mine);
        keeper.join().unwrap();
        journal.write().unwrap();
        let spares = usize::from(!journal.lacks_reserve());
        assert_eq!(journal.space().segment_count(), 2);
        assert_eq!(journal.storage.list().unwrap().len(), 2 + spares);
    });
}
