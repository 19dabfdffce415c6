//! Owners: brokers that environments of one process share.
//!
//! A directory has one owner in a process, and a process may have several environments. The first of them opens it, the
//! others get the same broker if they ask for it with the same options; the last one to leave closes it. In one
//! environment a second open is refused as everywhere.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};

use libmq::{Broker, Error, ErrorKind, Options};

use crate::environment::lock;

/// An open broker and the environments that have it open.
#[derive(Debug)]
pub(crate) struct Owner {
    pub(crate) broker: Broker,
    /// The options as JavaScript gave them, in a fixed order.
    options: String,
    /// Environments that have it open. Changed under the lock of the table.
    shares: AtomicUsize,
}

#[derive(Debug)]
enum Entry {
    /// Somebody is opening it.
    Opening,
    Open(Weak<Owner>),
}

static OWNERS: Mutex<Option<HashMap<PathBuf, Entry>>> = Mutex::new(None);
static CHANGED: Condvar = Condvar::new();

/// Opens a directory, or shares it with another environment; `is_mine` says whether the caller has an owner open already.
pub(crate) fn open(
    path: &str,
    options: Options,
    text: &str,
    has_files: bool,
    is_mine: impl Fn(&Arc<Owner>) -> bool,
) -> libmq::Result<Arc<Owner>> {
    if !has_files {
        return Ok(Arc::new(Owner::new(Broker::open(path, options)?, text)));
    }
    let key = key_of(Path::new(path));
    {
        let mut owners = lock(&OWNERS);
        loop {
            match owners.get_or_insert_default().get(&key) {
                Some(Entry::Opening) => {
                    owners = CHANGED.wait(owners).unwrap_or_else(PoisonError::into_inner);
                }
                Some(Entry::Open(owner)) => {
                    let owner =
                        owner.upgrade().filter(|owner| owner.shares.load(Ordering::Relaxed) > 0);
                    let Some(owner) = owner else { break };
                    return owner.shared(path, text, &is_mine);
                }
                None => break,
            }
        }
        owners.get_or_insert_default().insert(key.clone(), Entry::Opening);
    }
    let opened = Broker::open(path, options).map(|broker| Arc::new(Owner::new(broker, text)));
    {
        let mut owners = lock(&OWNERS);
        let owners = owners.get_or_insert_default();
        match &opened {
            Ok(owner) => owners.insert(key, Entry::Open(Arc::downgrade(owner))),
            Err(_) => owners.remove(&key),
        };
    }
    CHANGED.notify_all();
    opened
}

impl Owner {
    fn new(broker: Broker, options: &str) -> Self {
        Self { broker, options: options.into(), shares: AtomicUsize::new(1) }
    }

    /// One more environment; called under the lock of the table.
    fn shared(
        self: Arc<Self>,
        path: &str,
        options: &str,
        is_mine: impl Fn(&Arc<Self>) -> bool,
    ) -> libmq::Result<Arc<Self>> {
        let why = if is_mine(&self) {
            "is open in this program already"
        } else if self.options != options {
            "is open in another thread of this program, with other options"
        } else {
            self.shares.fetch_add(1, Ordering::Relaxed);
            return Ok(self);
        };
        Err(Error::new(ErrorKind::Locked, format!("{path} {why}")))
    }

    /// Whether more than one environment has it open.
    pub(crate) fn is_shared(&self) -> bool {
        self.shares.load(Ordering::Relaxed) > 1
    }

    /// An environment leaves; answers whether it was the last one, and then it closes the broker.
    pub(crate) fn leave(&self) -> bool {
        let _owners = lock(&OWNERS);
        let before = self.shares.load(Ordering::Relaxed);
        self.shares.store(before.saturating_sub(1), Ordering::Relaxed);
        before == 1
    }
}

/// What a directory is called in the table, whether it is there already or not.
fn key_of(path: &Path) -> PathBuf {
    let whole = path.canonicalize().ok().or_else(|| {
        let (parent, name) = (path.parent()?, path.file_name()?);
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        Some(parent.canonicalize().ok()?.join(name))
    });
    whole.or_else(|| std::path::absolute(path).ok()).unwrap_or_else(|| path.to_owned())
}
