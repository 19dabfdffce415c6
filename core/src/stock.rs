//! Stock: memory that is made ready ahead of time.
//!
//! To find a large piece of memory and clear it takes the system long: a tenth of a millisecond, and several of them where a
//! virtual machine has to ask its host for it. So the keeper makes the next pieces while those before are being filled. Nobody
//! waits for it: where there is no piece, whoever needs one makes it.

use std::fmt;

use crate::alarm::{Alarm, Wish};
use crate::pages::{LARGE_BYTES, Pages};
use crate::sync::{Arc, Mutex, lock};

/// Pieces that are ready: for the log, and for the messages' slots.
const PIECES: usize = 4;

/// Pieces of [`LARGE_BYTES`] zeros, once somebody has asked for one.
#[derive(Default)]
pub(crate) struct Stock {
    /// None once nobody fills it any more.
    ready: Mutex<Option<Vec<Pages<u8>>>>,
    /// Somebody has taken one, or there are too few.
    wish: Wish,
    /// Wakes the keeper.
    keeper: Arc<Alarm>,
}

impl Stock {
    /// A stock that whoever listens to this alarm fills.
    pub(crate) fn new(keeper: Arc<Alarm>) -> Self {
        Self { ready: Mutex::new(Some(Vec::new())), wish: Wish::default(), keeper }
    }

    /// A piece of so many bytes, if that is the size of one and there is one.
    pub(crate) fn take(&self, bytes: usize) -> Option<Pages<u8>> {
        if bytes != LARGE_BYTES {
            return None;
        }
        let piece = lock(&self.ready).as_mut().map(Vec::pop)?;
        self.wish.ask(&self.keeper);
        piece
    }

    /// Makes one piece where there are too few: called by its keeper, each time the alarm has rung. That rings again as long as there
    /// are too few: its keeper has other things to do, and others may take pieces as quickly as it makes them.
    pub(crate) fn fill(&self) {
        if !self.wish.is_asked() {
            return;
        }
        self.wish.hear();
        if lock(&self.ready).as_ref().is_none_or(|ready| ready.len() == PIECES) {
            return;
        }
        // Without memory it waits for the next one who asks.
        let Some(piece) = Pages::zeros(LARGE_BYTES) else { return };
        let is_short = lock(&self.ready).as_mut().is_some_and(|ready| {
            ready.push(piece);
            ready.len() < PIECES
        });
        if is_short {
            self.wish.ask(&self.keeper);
        }
    }

    /// Lets go of all pieces: nobody fills it any more.
    pub(crate) fn let_go(&self) {
        lock(&self.ready).take();
    }

    /// Pieces that are ready.
    fn count(&self) -> usize {
        lock(&self.ready).as_ref().map_or(0, Vec::len)
    }
}

impl fmt::Debug for Stock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stock({} pieces)", self.count())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::{Broker, Message, Options};

    #[test]
    fn pieces_are_made_once_somebody_has_asked_for_one() {
        let keeper = Arc::new(Alarm::default());
        let stock = Stock::new(Arc::clone(&keeper));
        stock.fill();
        assert!(stock.take(LARGE_BYTES - 1).is_none() && stock.count() == 0);
        assert_eq!(keeper.count(), 0);
        assert!(stock.take(LARGE_BYTES).is_none());
        for rung in 1..=PIECES as u64 {
            assert_eq!(keeper.count(), rung);
            stock.fill();
        }
        assert_eq!(keeper.count(), PIECES as u64, "there are enough");
        stock.fill();
        for _ in 0..PIECES {
            let piece = stock.take(LARGE_BYTES).unwrap();
            assert!(piece.len() == LARGE_BYTES && piece.iter().all(|byte| *byte == 0));
        }
        assert!(stock.take(LARGE_BYTES).is_none());
        assert_eq!(keeper.count(), PIECES as u64 + 1);
    }

    #[test]
    fn a_broker_that_grows_has_some_and_a_small_one_has_none() {
        let broker = Broker::open(":memory:", Options::new()).unwrap();
        broker.enqueue(Message::new("jobs", "")).unwrap();
        let held = broker.receive("jobs", None, None).unwrap().unwrap();
        let stock = &held.shared.engine.buffer.state.stock;
        let body = vec![0; 1000];
        let fill = |messages: usize| {
            for _ in 0..messages {
                broker.enqueue(Message::new("jobs", &body)).unwrap();
            }
        };
        fill(1000);
        assert_eq!(stock.count(), 0);
        fill(4000);
        let end = Instant::now() + Duration::from_secs(60);
        while stock.count() < PIECES {
            assert!(Instant::now() < end, "nobody fills it");
            std::thread::sleep(Duration::from_millis(1));
        }
        // Whoever has a handle of a closed broker keeps none of them.
        broker.close(Duration::ZERO).unwrap();
        assert_eq!((stock.count(), stock.take(LARGE_BYTES).is_none()), (0, true));
    }
}
