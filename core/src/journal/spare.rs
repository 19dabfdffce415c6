//! The spare: a segment that is made ahead, so that who appends need not wait for the disk.
//!
//! What grows the log waits for it, and is refused where there is no room for one; what settles takes room where it finds
//! any. The tail has it until it rolls. Where a segment is filled faster than a busy disk makes the next, there are two.

use super::allowance::{self, Need, Wanted};
use super::effects::Show;
use super::log::{BACKLOG_MAX, Journal};
use super::segment::{FOOTER_BYTES, HEADER_BYTES, Segment, SegmentHeader, least_capacity, room_in};
use super::tail::Tail;
use crate::error::{Error, ErrorKind, Result};
use crate::sync::{Arc, lock};

impl<S: Show> Journal<S> {
    /// Makes the spare segment, if there is none, and sees to it that a group of so many bytes may be appended for what needs
    /// it; a spare that was made for what needs less is for that as well then.
    ///
    /// # Errors
    /// `STORAGE_FULL` where the disk has no room for it; asked again, it is tried again.
    pub(crate) fn make_spare(&self, need: Need, group_bytes: u64) -> Result<()> {
        // One at a time makes one, which may take long; who only asks for room need not wait for a turn.
        let mut turn = None;
        loop {
            let Some(look) = self.look(need, group_bytes)? else { return Ok(()) };
            if !look.is_there && turn.is_none() {
                turn = Some(lock(&self.making));
            } else if self.make_or_ask(need, group_bytes, look)? {
                return Ok(());
            }
        }
    }

    /// Makes the spare, or asks for room where one is there; answers whether what it has found then may be used by what needs it.
    fn make_or_ask(&self, need: Need, group_bytes: u64, look: Look) -> Result<bool> {
        let Look { last, is_there, fits, grown, spares } = look;
        // A spare that the group does not fit into would be used up by it for nothing.
        let least = least_capacity(if fits { 0 } else { group_bytes });
        let wanted = self.wanted(need, is_there, least);
        let made = self.allowance.segment(wanted, |capacity| {
            (!is_there).then(|| self.create_behind(last, capacity)).transpose()
        });
        self.note_room(|tail| match made {
            // Meanwhile somebody has made a segment, maybe for what needs less, or the log has gone on in one: that was not asked for.
            Ok(None)
                if (tail.segment.header.number, tail.spares.len()) != (last.number, spares) =>
            {
                Ok(false)
            }
            Ok(segment) => {
                tail.spares.extend(segment);
                // There is room for that, and perhaps for no more.
                tail.refused = tail.refused.filter(|_| need < Need::Grow);
                tail.refused =
                    tail.refused.map(|refused| if refused > need { refused } else { Need::Grow });
                let growth = allowance::growth(wanted.live.messages, wanted.ordinary);
                tail.grant(need, grown, growth);
                Ok(true)
            }
            Err(error) => {
                // What was granted stays so: it was asked ahead of time.
                if tail.spares.is_empty() || !tail.may(need) {
                    tail.was_refused(need, &error);
                }
                Err(error)
            }
        })
    }

    /// Notes what came of an asking for room. Who tells of it hears of that where there is some again, or none any more.
    fn note_room<R>(&self, note: impl FnOnce(&mut Tail<S::Effect>) -> R) -> R {
        let mut tail = lock(&self.tail);
        let was_refused = tail.refused.is_some();
        let noted = note(&mut tail);
        if tail.refused.is_some() != was_refused {
            self.show.room_changed();
        }
        noted
    }

    /// What there is for that need and a group of so many bytes; nothing where it is all that is wanted.
    fn look(&self, need: Need, group_bytes: u64) -> Result<Option<Look>> {
        let tail = lock(&self.tail);
        tail.check()?;
        let has_spare = !tail.spares.is_empty();
        // What grows asks ahead of time; for others to do so would take away what was granted to it.
        if has_spare && tail.may(need) && (need < Need::Grow || tail.has_much_to_grow()) {
            return Ok(None);
        }
        // What does not grow the log for good is content with the segment that it is in.
        let is_content = matches!(need, Need::Clean | Need::Replace);
        let fits = tail.fits(group_bytes);
        let is_there = has_spare || is_content && fits && !tail.is_nearly_full(group_bytes);
        let (last, spares) = (tail.segment.header, tail.spares.len());
        Ok(Some(Look { last, is_there, fits, grown: tail.grown(), spares }))
    }

    /// Makes a second spare, where the segment is filled so fast that it is wanted, and there is more room than anybody needs.
    ///
    /// # Errors
    /// `STORAGE_FULL`, `IO`, `POISONED`, `CLOSED`.
    pub(crate) fn make_second_spare(&self) -> Result<()> {
        let _turn = lock(&self.making);
        let last = {
            let tail = lock(&self.tail);
            tail.check()?;
            match tail.spares.back().filter(|_| tail.wants_second_spare()) {
                Some(spare) => spare.header,
                None => return Ok(()),
            }
        };
        let made = self.allowance.plenty(self.wanted(Need::Grow, false, 0), |capacity| {
            self.create_behind(last, capacity)
        })?;
        // Meanwhile the log may go on in the first one.
        lock(&self.tail).spares.extend(made);
        Ok(())
    }

    /// Makes the segment behind that one.
    fn create_behind(&self, last: SegmentHeader, capacity: u64) -> Result<Arc<Segment>> {
        let header = SegmentHeader {
            salt: crate::random::u32(),
            number: last.number + 1,
            start: last.start + last.capacity,
            capacity,
            previous: last.number,
            previous_end: None,
            previous_salt: last.salt,
            ..last
        };
        Segment::create(&*self.storage, header)
    }

    /// Has the log go on in the spares that are too small for a group of so many bytes, and makes one behind them that is not. In one
    /// turn: else who makes the next ordinary one comes between, and the log has to go on in that one, too.
    ///
    /// # Errors
    /// As [`Journal::make_spare`].
    pub(super) fn make_larger_spare(&self, need: Need, group_bytes: u64) -> Result<()> {
        let _turn = lock(&self.making);
        // They would be used up for nothing where there is no room for the next one.
        self.ask_for_room(need, group_bytes)?;
        let mut tail = lock(&self.tail);
        tail.check()?;
        while !tail.fits(group_bytes)
            && tail.has_small_spare(group_bytes)
            && let Some(next) = tail.spares.pop_front()
        {
            self.roll(&mut tail, next);
        }
        if tail.fits(group_bytes) || !tail.spares.is_empty() {
            // Somebody else's turn was before.
            return Ok(());
        }
        let (last, grown) = (tail.segment.header, tail.grown());
        drop(tail);
        let look = Look { last, is_there: false, fits: false, grown, spares: 0 };
        self.make_or_ask(need, group_bytes, look).map(drop)
    }

    /// Sees to it that there is room for one more segment, which a group of so many bytes fits into, without making it.
    ///
    /// # Errors
    /// As [`Journal::make_spare`].
    fn ask_for_room(&self, need: Need, group_bytes: u64) -> Result<()> {
        let wanted = self.wanted(need, false, least_capacity(group_bytes));
        let asked = self.allowance.segment(wanted, |_| Ok(()));
        asked.inspect_err(|error| {
            self.note_room(|tail| {
                tail.was_refused(need, error);
                // Left by the log, a segment that was made for such a group goes with the next snapshot.
                let capacity = tail.segment.header.capacity;
                if tail.check().is_ok()
                    && tail.spares.front().is_some_and(|spare| spare.header.capacity < capacity)
                    && let Some(next) = tail.spares.pop_front()
                {
                    self.roll(tail, next);
                }
            });
        })
    }

    fn wanted(&self, need: Need, is_there: bool, least: u64) -> Wanted {
        let (live, ordinary) = (self.show.live(), self.options.segment_bytes);
        Wanted { need, is_there, least, ordinary, log: self.space().bytes(), live }
    }

    /// Sees to it that so many bytes may be appended in small groups, all of them: in the segment, in the spare, or in one that
    /// is made for them.
    ///
    /// # Errors
    /// `STORAGE_FULL` where there is no room for all of it; `POISONED`, `CLOSED`.
    pub(crate) fn make_room(&self, need: Need, bytes: u64) -> Result<()> {
        let tail = lock(&self.tail);
        let rest = (tail.segment.end() - tail.position).saturating_sub(FOOTER_BYTES);
        let spare = tail.spares.front().map(|spare| rest + room_in(spare.header.capacity));
        drop(tail);
        if let Some(room) = spare.filter(|room| *room < bytes) {
            // Whoever settles goes on in the spare, and then there is room for another one.
            let text =
                format!("{bytes} bytes are to be written again, and there is room for {room}");
            return Err(Error::new(ErrorKind::StorageFull, text));
        }
        self.make_spare(need, bytes)
    }

    /// Whether an append of so many bytes need not wait for the disk: it has room in the segment, or in one that was made
    /// ahead, and little is unwritten before it. A hint: somebody else may take that room meanwhile.
    pub(crate) fn has_room_at_hand(&self, bytes: u64) -> bool {
        let tail = lock(&self.tail);
        let fits = tail.fits(bytes);
        let at_hand = match tail.spares.front() {
            Some(spare) => fits || HEADER_BYTES + bytes + FOOTER_BYTES <= spare.header.capacity,
            None => fits && !tail.is_nearly_full(bytes),
        };
        at_hand
            && tail.may(Need::Grow)
            && tail.position.saturating_sub(self.written.reached()) <= BACKLOG_MAX
    }

    /// Whether there is no spare for what grows, or little room is left for it.
    pub(crate) fn lacks_reserve(&self) -> bool {
        let tail = lock(&self.tail);
        let has_spare = !tail.spares.is_empty() && tail.has_much_to_grow();
        !has_spare && !tail.closed && tail.poison.is_none()
    }

    /// Whether the segment is filled so fast that a second spare is wanted.
    pub(crate) fn lacks_second_spare(&self) -> bool {
        lock(&self.tail).wants_second_spare()
    }

    /// Whether there was no room for something when it was last asked for.
    pub(crate) fn lacks_room(&self) -> bool {
        self.refused().is_some()
    }

    /// What there was no room for when it was last asked for: the least of that.
    pub(crate) fn refused(&self) -> Option<Need> {
        let tail = lock(&self.tail);
        tail.refused.filter(|_| !tail.closed && tail.poison.is_none())
    }
}

/// What there is before room is asked for.
#[derive(Clone, Copy, Debug)]
struct Look {
    /// The segment that the log is in. Without a spare it stays the last one while it is somebody's turn to make one.
    last: SegmentHeader,
    /// No segment is to be made.
    is_there: bool,
    /// Whether the group fits into the segment.
    fits: bool,
    /// Entries that have come to live so far.
    grown: u64,
    /// How many spares there are.
    spares: usize,
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;
    use crate::journal::allowance::{Allowance, Live};
    use crate::journal::by_hand::first_segment;
    use crate::journal::log::JournalOptions;
    use crate::journal::record::{KIND_USER_MIN, Record};
    use crate::journal::snapshot::Size;
    use crate::storage::{MemoryStorage, Storage, Watched};
    use crate::sync::atomic::{AtomicU64, Ordering};

    const SEGMENT: u64 = 64 << 10;

    /// Counts how often it is told that little is left of what was granted.
    #[derive(Default)]
    struct Low(AtomicU64);

    impl Show for Low {
        type Effect = ();

        fn show(&self, effects: impl Iterator<Item = ()>) {
            effects.for_each(drop);
        }

        fn shown(&self) {}

        fn unsynced(&self) {}

        fn runs_low(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }

        fn live(&self) -> Live {
            Live::default()
        }

        fn poisoned(&self, _cause: &Error) {}
    }

    /// A journal that was granted room, in a directory that may take so much.
    fn journal(bytes_max: u64) -> Result<(Journal<Low>, Arc<Low>)> {
        let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
        let options = JournalOptions { segment_bytes: SEGMENT, ..JournalOptions::default() };
        let segment = first_segment(&*storage, SEGMENT);
        let (of, live) = (Arc::clone(&storage), Live::default());
        let allowance = Allowance::new(of, Some(bytes_max), Size::default(), live);
        let low = Arc::new(Low::default());
        let show = Arc::clone(&low);
        let journal = Journal::begin(storage, show, options, allowance, Vec::new(), segment);
        journal.make_spare(Need::Grow, 0)?;
        Ok((journal, low))
    }

    fn grow(journal: &Journal<Low>) -> Result<()> {
        let record = Record::new(KIND_USER_MIN, &[b"body"]);
        journal.append(Need::Grow, &[record], |_, _| {}).map(drop)
    }

    /// Whoever enqueued next had to ask, which a caller that may not wait left to another thread, and all that came behind it.
    #[test]
    fn room_is_asked_for_before_what_was_granted_is_used_up() {
        let (journal, low) = journal(u64::MAX).unwrap();
        let granted = allowance::growth(0, SEGMENT);
        let told = || low.0.load(Ordering::Relaxed);
        for _ in 0..5 {
            let before = told();
            (1..granted / 2).for_each(|_| grow(&journal).unwrap());
            assert!((told(), journal.lacks_reserve()) == (before, false));
            grow(&journal).unwrap();
            assert!((told(), journal.lacks_reserve()) == (before + 1, true));
            // Once is enough, and nobody waits for who asks.
            (1..granted / 2).for_each(|_| grow(&journal).unwrap());
            assert!(told() == before + 1 && journal.has_room_at_hand(100));
            journal.make_spare(Need::Grow, 0).unwrap();
        }
    }

    /// What the cleaner asked for took the place of what was granted: enqueues were refused, or had to ask.
    #[test]
    fn the_cleaner_leaves_what_was_granted_to_growth() {
        let (journal, _) = journal(u64::MAX).unwrap();
        let granted = allowance::growth(0, SEGMENT);
        (1..granted).for_each(|_| grow(&journal).unwrap());
        journal.make_room(Need::Clean, 100).unwrap();
        assert!(journal.has_room_at_hand(100));
    }

    /// Who asked for room waited until a spare was made that somebody else was making, which a busy disk takes a tenth of a second
    /// for, although there was a spare: batches were enqueued at three fifths of the rate.
    #[test]
    fn who_asks_for_room_waits_for_no_spare_to_be_made() {
        let (journal, _) = journal(u64::MAX).unwrap();
        let granted = allowance::growth(0, SEGMENT);
        let (tell, told) = mpsc::channel();
        let turn = lock(&journal.making);
        std::thread::scope(|scope| {
            let journal = &journal;
            scope.spawn(move || {
                (0..2 * granted).for_each(|_| grow(journal).unwrap());
                tell.send(()).unwrap();
            });
            let outcome = told.recv_timeout(Duration::from_secs(20));
            drop(turn);
            outcome.unwrap();
        });
    }

    /// A journal with a segment and a spare of eight MiB each, of which a quarter was filled at once.
    #[expect(clippy::unwrap_used, reason = "a test's helpers are the test's own")]
    fn filled_fast(bytes_max: Option<u64>) -> Journal<Low> {
        const SEGMENT: u64 = 8 << 20;
        let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
        let options = JournalOptions { segment_bytes: SEGMENT, ..JournalOptions::default() };
        let segment = first_segment(&*storage, SEGMENT);
        let allowance =
            Allowance::new(Arc::clone(&storage), bytes_max, Size::default(), Live::default());
        let low = Arc::new(Low::default());
        let journal = Journal::begin(storage, low, options, allowance, Vec::new(), segment);
        journal.make_spare(Need::Grow, 0).unwrap();
        fill(&journal, 2);
        journal
    }

    /// Appends so many MiB.
    #[expect(clippy::unwrap_used, reason = "a test's helpers are the test's own")]
    fn fill(journal: &Journal<Low>, mib: usize) {
        let body = vec![7; 1 << 20];
        let parts = [&body[..]];
        let record = Record::new(KIND_USER_MIN, &parts);
        (0..mib).for_each(|_| _ = journal.append(Need::Grow, &[record], |_, _| {}).unwrap());
    }

    fn files(journal: &Journal<Low>) -> Vec<String> {
        let mut files = journal.storage.list().unwrap_or_default();
        files.sort();
        files
    }

    #[test]
    fn a_segment_that_is_filled_fast_has_two_spares_and_a_close_removes_them() {
        let journal = filled_fast(None);
        assert!(journal.lacks_second_spare());
        journal.make_second_spare().unwrap();
        let all: Vec<String> = (1..=3).map(crate::journal::segment::file_name).collect();
        assert_eq!((journal.lacks_second_spare(), files(&journal)), (false, all.clone()));
        // There is none to be made but behind the first one.
        journal.make_second_spare().unwrap();
        journal.make_spare(Need::Grow, 0).unwrap();
        assert_eq!(files(&journal), all);
        // The log goes on in the first, and then in the second.
        fill(&journal, 16);
        assert_eq!((files(&journal), journal.space().segment_count()), (all.clone(), 3));
        journal.make_spare(Need::Grow, 0).unwrap();
        assert_eq!(files(&journal).len(), 4);
        journal.close().unwrap();
        assert_eq!(files(&journal), all);
    }

    #[test]
    fn a_directory_that_has_a_limit_has_one_spare() {
        let journal = filled_fast(Some(1 << 40));
        assert!(journal.lacks_second_spare());
        journal.make_second_spare().unwrap();
        assert_eq!(files(&journal).len(), 2);
    }

    /// What was granted may be used where there is no room for more.
    #[test]
    fn who_is_refused_ahead_of_time_keeps_what_was_granted() {
        let granted = allowance::growth(0, SEGMENT);
        let least = (0..100).find_map(|segments| journal(segments * SEGMENT).ok());
        let (journal, _) = least.unwrap();
        // Somebody else fills the directory.
        journal.storage.create("1.snapshot", SEGMENT).unwrap();
        (0..granted / 2).for_each(|_| grow(&journal).unwrap());
        let refused = journal.make_spare(Need::Grow, 0).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::StorageFull);
        assert!(!journal.lacks_room());
        (0..granted - granted / 2).for_each(|_| grow(&journal).unwrap());
        assert_eq!(grow(&journal).unwrap_err().kind(), ErrorKind::StorageFull);
        assert!(journal.lacks_room());
    }

    /// The cleaner was granted what it had measured before a segment was made for settles alone, and what lives came to that one,
    /// which was to have room for those.
    #[test]
    fn what_was_measured_before_a_segment_was_made_grants_nothing_in_that() {
        // Kept for who cleans are 64 KiB; 70 are left.
        let watched = Watched::with_room(SEGMENT + (70 << 10));
        let measured = watched.measured();
        let storage: Arc<dyn Storage> = Arc::new(watched);
        let options = JournalOptions { segment_bytes: SEGMENT, ..JournalOptions::default() };
        let segment = first_segment(&*storage, SEGMENT);
        let allowance = Allowance::without_limit(&storage);
        let low = Arc::new(Low::default());
        let journal = Journal::begin(storage, low, options, allowance, Vec::new(), segment);
        let journal = Arc::new(journal);
        let append = |journal: &Journal<Low>, need, bytes| {
            let body: [&[u8]; 1] = [&[7; 10 << 10][..bytes]];
            let record = Record::new(KIND_USER_MIN, &body);
            journal.append(need, &[record], |_, _| {}).map(drop)
        };
        let settled = Arc::clone(&journal);
        measured.set(move || {
            (0..6).for_each(|_| append(&settled, Need::Settle, 10 << 10).unwrap());
        });
        let full = |outcome: Result<()>| outcome.unwrap_err().kind() == ErrorKind::StorageFull;
        assert!(full(journal.make_room(Need::Clean, 100)));
        assert_eq!(journal.space().segment_count(), 2);
        assert!(full(append(&journal, Need::Clean, 10)));
    }
}
