//! The journal under many threads at once, beside its models.

use super::allowance::{Allowance, Live, Need};
use super::by_hand::first_segment;
use super::effects::{Level, Pending, Show};
use super::log::{Journal, JournalOptions};
use super::record::{self, Record};
use crate::error::Error;
use crate::storage::{MemoryStorage, Storage};
use crate::stress::rounds;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Arc, Mutex, lock};

/// Shows nothing.
struct Nothing;

impl Show for Nothing {
    type Effect = ();

    fn show(&self, effects: impl Iterator<Item = ()>) {
        effects.for_each(drop);
    }

    fn shown(&self) {}

    fn unsynced(&self) {}

    fn live(&self) -> Live {
        Live::default()
    }

    fn poisoned(&self, cause: &Error) {
        panic!("{cause}");
    }
}

fn journal(options: JournalOptions) -> Journal<Nothing> {
    let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    let segment = first_segment(&*storage, options.segment_bytes);
    let allowance = Allowance::without_limit(&storage);
    Journal::begin(storage, Arc::new(Nothing), options, allowance, Vec::new(), segment)
}

/// Four append and commit at both levels into small segments, which a fifth makes ahead, and read each other's records
/// while they are in memory and when they are not: none is given another's place, and each is as it was.
#[test]
fn stress_what_many_append_is_read_as_it_was() {
    let options = JournalOptions { segment_bytes: 64 << 10, ..JournalOptions::default() };
    let journal = journal(options);
    let (known, over) = (Mutex::new(Vec::new()), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                if journal.lacks_reserve() {
                    journal.make_spare(Need::Grow, 0).unwrap();
                }
                std::thread::yield_now();
            }
        });
        let writers = [0, 1, 2, 3].map(|number: u8| {
            let (journal, known) = (&journal, &known);
            scope.spawn(move || {
                for round in 0..rounds(4_000) as usize {
                    let level = if round % 3 == 0 { Level::Sync } else { Level::Os };
                    let body = vec![number; 1 + round * 37 % 3000];
                    let parts = [&body[..]];
                    let record = Record::new(record::KIND_USER_MIN, &parts);
                    let appended = if level == Level::Os && number < 2 {
                        let finish = |_, pending: &mut Pending<'_, ()>, is_alone: bool| {
                            if !is_alone {
                                pending.at(level, ());
                            }
                        };
                        let led = journal.append_and_lead(Need::Grow, &[record], finish).unwrap();
                        let appended = led.appended;
                        journal.follow(led, || ()).unwrap();
                        appended
                    } else {
                        let finish = |_, pending: &mut Pending<'_, ()>| pending.at(level, ());
                        let appended = journal.append(Need::Grow, &[record], finish).unwrap();
                        journal.commit(level, appended.end).unwrap();
                        appended
                    };
                    let (position, is) = {
                        let mut known = lock(known);
                        known.push((appended.start, (number, body.len())));
                        known[(round * 31 + usize::from(number)) % known.len()]
                    };
                    let (_, read) = journal.read(position).unwrap();
                    assert_eq!(*read, vec![is.0; is.1], "at {position}");
                }
            })
        });
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        over.store(true, Ordering::Relaxed);
    });
    let mut known = known.into_inner().unwrap();
    known.sort_unstable();
    assert!(known.windows(2).all(|two| two[0].0 + two[0].1.1 as u64 <= two[1].0));
    let marks = journal.marks();
    assert_eq!((marks.shown, marks.written), (marks.reserved, marks.reserved));
}
