//! Opening what a power failure left, and judging what is found.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use libmq::{Broker, Message};
use libmq_suite::{Platter, SimDisk};

use crate::run::options;
use crate::view::View;

/// Panics of the threads of brokers, whosever they are.
static PANICS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// Those of this thread.
    static OWN_PANICS: Cell<usize> = const { Cell::new(0) };
}

/// What opening a disk came to.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) view: View,
    /// The disk, with the trace of what opening did to it and what came after.
    pub(crate) disk: SimDisk,
    /// Where in that trace opening returned.
    pub(crate) opened_at: usize,
}

/// How a disk is looked at in the end, once everything was taken out and the broker closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// By verifying it: what an open reads, and more, but no broker.
    Verify,
    /// By another open as well.
    OpenAgain,
}

/// Opens a broker on a disk, looks at all it has, and sees that it still works. An error is why it is not sound.
pub(crate) fn open(platter: &Platter, then: Then) -> Result<Opened, String> {
    count_panics();
    let before = panics();
    let disk = SimDisk::new(platter.clone());
    let outcome = catch_unwind(AssertUnwindSafe(|| inspect(&disk, then)));
    if panics() != before {
        return Err("a thread panicked".to_owned());
    }
    let (view, opened_at) = outcome.map_err(|_| "a panic".to_owned())??;
    Ok(Opened { view, disk, opened_at })
}

/// Opens a broker on a disk and looks at all it has. An error is that of libmq, or a panic's text.
pub(crate) fn look(disk: &SimDisk) -> Result<libmq::Result<View>, String> {
    count_panics();
    let before = panics();
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        Broker::open_on(disk.storage(), options()).and_then(|broker| View::of(&broker))
    }));
    if panics() != before {
        return Err("a thread panicked".to_owned());
    }
    outcome.map_err(|_| "a panic".to_owned())
}

fn inspect(disk: &SimDisk, then: Then) -> Result<(View, usize), String> {
    let failed = |doing: &'static str| move |error: libmq::Error| format!("{doing}: {error}");
    disk.note_marks();
    let broker = Broker::open_on(disk.storage(), options()).map_err(failed("open"))?;
    disk.note_marks();
    disk.ignore_marks();
    let opened_at = disk.position();
    if let Some((name, _)) = disk.contents().iter().find(|(name, _)| name.ends_with(".tmp")) {
        return Err(format!("{name} is left over"));
    }
    let view = View::of(&broker).map_err(failed("look"))?;
    works(&broker).map_err(failed("go on working"))?;
    broker.close(Duration::ZERO).map_err(failed("close"))?;
    let report = libmq::verify_on(disk).map_err(failed("verify"))?;
    let left = (report.messages, report.dead_letters, report.suspects, report.dropped_bytes);
    if !report.sound() || !report.closed || left != (0, view.letters(), 0, 0) {
        return Err(format!(
            "after all was rejected and closed there is {report:?}, and before it {view:?}"
        ));
    }
    if then == Then::OpenAgain {
        let again = Broker::open_on(disk.storage(), options()).map_err(failed("open again"))?;
        let found = *again.recovery();
        if (found.messages, found.dead_letters, found.suspects) != (0, view.letters(), 0) {
            return Err(format!("verified is {report:?}, and opened {found:?}"));
        }
    }
    Ok((view, opened_at))
}

/// One message in and out.
fn works(broker: &Broker) -> libmq::Result<()> {
    let receipt = broker.enqueue(Message::new("works", "after"))?;
    let delivery = broker.receive("works", Duration::ZERO, None)?;
    let delivery = delivery.filter(|delivery| delivery.id() == receipt.id);
    let gone = || libmq::Error::new(libmq::ErrorKind::NotFound, "what was enqueued is not there");
    delivery.ok_or_else(gone)?.ack()
}

/// How often this thread has panicked, or one of a broker. What other tests' threads find wrong is theirs.
fn panics() -> usize {
    PANICS.load(Ordering::SeqCst) + OWN_PANICS.get()
}

/// Counts every panic from now on.
fn count_panics() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let thread = std::thread::current();
            if thread.name().is_some_and(|name| name.starts_with("libmq")) {
                PANICS.fetch_add(1, Ordering::SeqCst);
            } else {
                OWN_PANICS.set(OWN_PANICS.get() + 1);
            }
            print(panic);
        }));
    });
}
