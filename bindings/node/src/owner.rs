//! Owners: brokers that environments of one process share.
//!
//! A directory has one owner in a process, and a process may have several environments. The first of them opens it, the
//! others get the same broker if they ask for it with the same options; the last one to leave closes it. In one
//! environment a second open is refused as everywhere.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};

use libmq::{Broker, Error, ErrorKind, Options};

use crate::environment::lock;

/// An open broker and the environments that have it open.
#[derive(Debug)]
pub(crate) struct Owner {
    pub(crate) broker: Broker,
    /// What it is called in the table; nothing without files.
    key: Option<PathBuf>,
    /// The options as JavaScript gave them, in a fixed order.
    options: String,
    /// The environments that have it open, by their addresses. Changed under the lock of the table.
    homes: Mutex<Vec<usize>>,
}

#[derive(Debug)]
enum Entry {
    /// Somebody is opening it.
    Opening,
    Open(Weak<Owner>),
}

static OWNERS: Mutex<Option<HashMap<PathBuf, Entry>>> = Mutex::new(None);
static CHANGED: Condvar = Condvar::new();

/// Opens a directory for an environment, or has it share the owner that another one opened.
pub(crate) fn open(
    path: &str,
    options: Options,
    text: &str,
    has_files: bool,
    home: usize,
) -> libmq::Result<Arc<Owner>> {
    if !has_files {
        return Ok(Arc::new(Owner::new(Broker::open(path, options)?, None, text, home)));
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
                    let owner = owner.upgrade().filter(|owner| owner.shares() > 0);
                    let Some(owner) = owner else { break };
                    return owner.shared(path, text, home);
                }
                None => break,
            }
        }
        owners.get_or_insert_default().insert(key.clone(), Entry::Opening);
    }
    let mut turn = Turn { key, owner: None };
    let broker = Broker::open(path, options)?;
    let owner = Arc::new(Owner::new(broker, Some(turn.key.clone()), text, home));
    turn.owner = Some(Arc::downgrade(&owner));
    Ok(owner)
}

/// The turn of who is opening a directory; it ends with what came of that.
struct Turn {
    key: PathBuf,
    owner: Option<Weak<Owner>>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        {
            let mut owners = lock(&OWNERS);
            let owners = owners.get_or_insert_default();
            match self.owner.take() {
                Some(owner) => owners.insert(self.key.clone(), Entry::Open(owner)),
                None => owners.remove(&self.key),
            };
        }
        CHANGED.notify_all();
    }
}

impl Owner {
    fn new(broker: Broker, key: Option<PathBuf>, options: &str, home: usize) -> Self {
        Self { broker, key, options: options.into(), homes: Mutex::new(vec![home]) }
    }

    /// Environments that have it open.
    pub(crate) fn shares(&self) -> usize {
        lock(&self.homes).len()
    }

    /// One more environment; called under the lock of the table.
    fn shared(self: Arc<Self>, path: &str, options: &str, home: usize) -> libmq::Result<Arc<Self>> {
        let mut homes = lock(&self.homes);
        let why = if homes.contains(&home) {
            "is open in this program already"
        } else if self.options != options {
            "is open in another thread of this program, with other options"
        } else {
            homes.push(home);
            drop(homes);
            return Ok(self);
        };
        Err(Error::new(ErrorKind::Locked, format!("{path} {why}")))
    }

    /// An environment leaves; answers whether it was the last one, and then it closes the broker.
    pub(crate) fn leave(&self, home: usize) -> bool {
        let mut owners = lock(&OWNERS);
        let mut homes = lock(&self.homes);
        let before = homes.len();
        homes.retain(|other| *other != home);
        let is_last = before > 0 && homes.is_empty();
        if let (true, Some(key)) = (is_last, &self.key) {
            let owners = owners.get_or_insert_default();
            let is_here = |entry: &Entry| match entry {
                Entry::Open(owner) => std::ptr::eq(owner.as_ptr(), self),
                Entry::Opening => false,
            };
            if owners.get(key).is_some_and(is_here) {
                owners.remove(key);
            }
        }
        is_last
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
