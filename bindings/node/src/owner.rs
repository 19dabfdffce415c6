//! Owners: brokers that environments of one process share.
//!
//! A directory has one owner in a process, and a process may have several environments. The first of them opens it, the
//! others get the same broker if they ask for it with the same options; the last one to leave closes it. Whoever cannot
//! have it, since its options differ or it is open in its environment already, waits for its lock as for that of another
//! process.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use libmq::{Broker, Error, ErrorKind, Options};

use crate::environment::{Inner, lock};
use crate::log::{Log, NO_HOOK};

/// An open broker and the environments that have it open.
#[derive(Debug)]
pub(crate) struct Owner {
    pub(crate) broker: Broker,
    /// What it is called in the table; nothing without files.
    key: Option<PathBuf>,
    /// Those of who opened it.
    options: Options,
    /// The environments that have it open, by their addresses. Changed under the lock of the table.
    homes: Mutex<Vec<usize>>,
    /// Those of them that hear what the broker tells.
    log: Arc<Log>,
}

/// How a directory is to be opened.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) options: Options,
    pub(crate) has_files: bool,
    /// How long to wait for another owner to leave.
    pub(crate) lock_timeout: Duration,
    /// The number of the environment's log hook, if it has one.
    pub(crate) hook: u32,
}

#[derive(Debug)]
enum Entry {
    /// Somebody is opening it.
    Opening,
    /// Somebody is opening it and waits for another process to leave; what that was told.
    Waiting(String),
    Open(Weak<Owner>),
}

static OWNERS: Mutex<Option<HashMap<PathBuf, Entry>>> = Mutex::new(None);
static CHANGED: Condvar = Condvar::new();

/// Opens a directory for an environment, or has it share the owner that another one opened.
pub(crate) fn open(
    path: &str,
    asked: Asked,
    environment: &Arc<Inner>,
) -> libmq::Result<Arc<Owner>> {
    let Asked { options, has_files, lock_timeout, hook } = asked;
    options.check()?;
    let home = environment.address();
    if !has_files {
        // Nobody shares it, so that who has no hook needs no thread for one.
        let (broker, log) = match hook {
            NO_HOOK => (Broker::open(path, options.clone())?, Arc::default()),
            hook => told(path, options.clone(), environment, hook)?,
        };
        return Ok(Arc::new(Owner::new(broker, None, options, home, log)));
    }
    let end = Instant::now() + lock_timeout;
    let left = || end.saturating_duration_since(Instant::now());
    let key = key_of(Path::new(path));
    {
        let mut owners = lock(&OWNERS);
        loop {
            let refusal = match owners.get_or_insert_default().get(&key) {
                Some(Entry::Opening) => None,
                Some(Entry::Waiting(why)) => Some(Error::new(ErrorKind::Locked, why.clone())),
                Some(Entry::Open(owner)) => {
                    let owner = owner.upgrade().filter(|owner| owner.shares() > 0);
                    let Some(owner) = owner else { break };
                    match owner.share(path, &options, home) {
                        Ok(owner) => {
                            owner.log.join(environment, hook);
                            return Ok(owner);
                        }
                        Err(refusal) => Some(refusal),
                    }
                }
                None => break,
            };
            if environment.has_ended() {
                return Err(Error::new(ErrorKind::Closed, "the thread that opens it has ended"));
            }
            owners = match refusal {
                // That comes to an end by itself, and may then be shared.
                None => CHANGED.wait(owners).unwrap_or_else(PoisonError::into_inner),
                Some(refusal) if left().is_zero() => return Err(refusal),
                Some(_) => {
                    let waited = CHANGED.wait_timeout(owners, left());
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        owners.get_or_insert_default().insert(key.clone(), Entry::Opening);
    }
    let mut turn = Turn { key, owner: None };
    let now = options.clone().lock_timeout(Duration::ZERO);
    let (broker, log) = match told(path, now, environment, hook) {
        Err(error) if error.kind() == ErrorKind::Locked && !left().is_zero() => {
            turn.waits(error.to_string());
            told(path, options.clone().lock_timeout(left()), environment, hook)?
        }
        opened => opened?,
    };
    let owner = Arc::new(Owner::new(broker, Some(turn.key.clone()), options, home, log));
    turn.owner = Some(Arc::downgrade(&owner));
    Ok(owner)
}

/// Opens a broker whose events are left for an environment, and for those that are to share it.
fn told(
    path: &str,
    options: Options,
    environment: &Arc<Inner>,
    hook: u32,
) -> libmq::Result<(Broker, Arc<Log>)> {
    let log = Arc::new(Log::default());
    log.join(environment, hook);
    let tells = Arc::clone(&log);
    let broker = Broker::open(path, options.log(move |event| tells.tell(event)))?;
    Ok((broker, log))
}

/// Has those who wait to open something look again.
pub(crate) fn ring() {
    // Who has looked and does not wait yet holds this.
    drop(lock(&OWNERS));
    CHANGED.notify_all();
}

/// The turn of who is opening a directory; it ends with what came of that.
struct Turn {
    key: PathBuf,
    owner: Option<Weak<Owner>>,
}

impl Turn {
    /// It waits for another process: others wait for no longer than they themselves would.
    fn waits(&self, why: String) {
        lock(&OWNERS).get_or_insert_default().insert(self.key.clone(), Entry::Waiting(why));
        CHANGED.notify_all();
    }
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
    fn new(
        broker: Broker,
        key: Option<PathBuf>,
        options: Options,
        home: usize,
        log: Arc<Log>,
    ) -> Self {
        Self { broker, key, options, homes: Mutex::new(vec![home]), log }
    }

    /// Environments that have it open.
    pub(crate) fn shares(&self) -> usize {
        lock(&self.homes).len()
    }

    /// One more environment; called under the lock of the table.
    fn share(
        self: Arc<Self>,
        path: &str,
        options: &Options,
        home: usize,
    ) -> libmq::Result<Arc<Self>> {
        let mut homes = lock(&self.homes);
        let why = if homes.contains(&home) {
            "is open in this program already".to_owned()
        } else if let Some(name) = self.options.difference(options) {
            format!("is open in another thread of this program, with another {}", as_here(name))
        } else {
            homes.push(home);
            drop(homes);
            return Ok(self);
        };
        Err(Error::new(ErrorKind::Locked, format!("{path} {why}")))
    }

    /// An environment leaves; answers whether it was the last one, which has to close the broker.
    pub(crate) fn leave(&self, home: usize) -> bool {
        let mut owners = lock(&OWNERS);
        let mut homes = lock(&self.homes);
        let before = homes.len();
        homes.retain(|other| *other != home);
        let is_last = before > 0 && homes.is_empty();
        // The last one hears of the close.
        if !is_last {
            self.log.leave(home);
        }
        if let (true, Some(key)) = (is_last, &self.key) {
            let owners = owners.get_or_insert_default();
            let is_here = |entry: &Entry| match entry {
                Entry::Open(owner) => std::ptr::eq(owner.as_ptr(), self),
                Entry::Opening | Entry::Waiting(_) => false,
            };
            if owners.get(key).is_some_and(is_here) {
                owners.remove(key);
            }
        }
        CHANGED.notify_all();
        is_last
    }
}

/// An option's name as JavaScript has it.
fn as_here(name: &str) -> String {
    let mut words = name.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |all, word| {
        let (head, tail) = word.split_at(1.min(word.len()));
        all + &head.to_ascii_uppercase() + tail
    })
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
