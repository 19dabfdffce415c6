//! The script: its lines, and what stands in them.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::process::exit;
use std::time::{Duration, SystemTime};

use libmq::{Backoff, ClockMode, Dedup, Durability, Message, OnCorruption, OnFull, Options};

/// Why a step was not as expected.
pub enum Fault {
    Wrong(String),
    Unknown(String),
}

impl Fault {
    pub fn end(&self, place: &str) -> ! {
        match self {
            Self::Wrong(what) => {
                eprintln!("{place}: {what}");
                exit(1)
            }
            Self::Unknown(what) => {
                eprintln!("{place}: this player does not know {what}");
                exit(3)
            }
        }
    }
}

pub type Play<T = ()> = Result<T, Fault>;

pub fn wrong<T>(what: impl Into<String>) -> Play<T> {
    Err(Fault::Wrong(what.into()))
}

pub fn same<T: PartialEq + Display>(what: &str, found: T, expected: T) -> Play {
    if found == expected {
        return Ok(());
    }
    wrong(format!("{what} is {found}, but {expected} was expected"))
}

/// A line of the script. Notes which of its keys were looked at.
pub struct Fields {
    values: BTreeMap<String, String>,
    used: RefCell<BTreeSet<String>>,
}

impl Fields {
    pub fn read(line: &str) -> Self {
        let pairs = line.split('\t').filter_map(|pair| pair.split_once('='));
        let values = pairs.map(|(key, value)| (key.to_owned(), unescape(value))).collect();
        Self { values, used: RefCell::default() }
    }

    pub fn get(&self, key: &str) -> Option<&str> {
        let value = self.values.get(key)?;
        self.used.borrow_mut().insert(key.to_owned());
        Some(value)
    }

    pub fn need(&self, key: &str) -> Play<&str> {
        self.get(key).ok_or_else(|| Fault::Wrong(format!("the step lacks {key}")))
    }

    pub fn parse<T: std::str::FromStr>(&self, key: &str) -> Play<Option<T>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let parsed = value.parse().ok();
        parsed.map_or_else(|| wrong(format!("{key} cannot be {value} in Rust")), |it| Ok(Some(it)))
    }

    pub fn time(&self, key: &str) -> Play<Option<Duration>> {
        Ok(self.parse(key)?.map(Duration::from_millis))
    }

    pub fn list(&self, key: &str) -> Play<Option<Vec<&str>>> {
        let Some(count) = self.parse::<usize>(&format!("{key}.#"))? else { return Ok(None) };
        let items = (0..count).map(|index| self.need(&format!("{key}.{index}")));
        items.collect::<Play<_>>().map(Some)
    }

    /// The keys below this path, without it, and their values.
    pub fn below(&self, path: &str) -> Vec<(&str, &str)> {
        let keys = self.values.keys().filter_map(|key| Some((key, key.strip_prefix(path)?)));
        keys.filter_map(|(key, rest)| Some((rest, self.get(key)?))).collect()
    }

    pub fn has(&self, path: &str) -> bool {
        self.values.keys().any(|key| key.starts_with(path))
    }

    pub fn check_all_used(&self) -> Play {
        let used = self.used.borrow();
        match self.values.keys().find(|key| !used.contains(*key)) {
            Some(key) => Err(Fault::Unknown(format!("the key {key} here"))),
            None => Ok(()),
        }
    }
}

fn unescape(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    let mut characters = value.chars();
    while let Some(character) = characters.next() {
        text.push(match character {
            '\\' => match characters.next() {
                Some('t') => '\t',
                Some('n') => '\n',
                other => other.unwrap_or('\\'),
            },
            other => other,
        });
    }
    text
}

/// The message whose keys begin with `path`.
pub fn message(step: &Fields, path: &str, queue: &str) -> Play<Message<'static>> {
    let key = |name: &str| format!("{path}{name}");
    let body = match step.parse::<usize>(&key("body_bytes"))? {
        Some(count) => vec![b'x'; count],
        None => step.get(&key("body")).unwrap_or_default().into(),
    };
    let mut message = Message::new(queue.to_owned(), body);
    let own = |name: &str| step.get(&key(name)).map(str::to_owned);
    if let Some(dedup_key) = own("dedup_key") {
        message = message.dedup_key(dedup_key);
    }
    match step.get(&key("dedup")) {
        None => {}
        Some("replace") => message = message.dedup(Dedup::Replace),
        Some("keep") => message = message.dedup(Dedup::Keep),
        Some(other) => return Err(Fault::Unknown(format!("dedup {other}"))),
    }
    if let Some(window) = step.time(&key("dedup_window_ms"))? {
        message = message.dedup_window(window);
    }
    if let Some(id) = own("correlation_id") {
        message = message.correlation_id(id);
    }
    if let Some(content_type) = own("content_type") {
        message = message.content_type(content_type);
    }
    for (name, value) in step.below(&key("headers.")) {
        message = message.header(name.to_owned(), value.to_owned());
    }
    if let Some(delay) = step.time(&key("delay_ms"))? {
        message = message.delay(delay);
    }
    if let Some(offset) = step.parse::<i64>(&key("run_at_ms"))? {
        let distance = Duration::from_millis(offset.unsigned_abs());
        let now = SystemTime::now();
        message = message.run_at(if offset < 0 { now - distance } else { now + distance });
    }
    if let Some(time) = step.time(&key("expires_in_ms"))? {
        message = message.expires_in(time);
    }
    if let Some(priority) = step.parse(&key("priority"))? {
        message = message.priority(priority);
    }
    if let Some(group) = own("group") {
        message = message.group(group);
    }
    if let Some(level) = step.get(&key("durability")) {
        message = message.durability(durability(level)?);
    }
    Ok(message)
}

fn durability(name: &str) -> Play<Durability> {
    match name {
        "sync" => Ok(Durability::Sync),
        "os" => Ok(Durability::Os),
        "memory" => Ok(Durability::Memory),
        other => Err(Fault::Unknown(format!("durability {other}"))),
    }
}

/// A backoff of these keys: a fixed wait, or one that doubles without jitter.
pub fn backoff(step: &Fields, prefix: &str) -> Play<Option<Backoff>> {
    let key = |name: &str| format!("{prefix}backoff{name}_ms");
    let cap = step.time(&key("_cap"))?.unwrap_or(Duration::from_secs(600));
    if let Some(base) = step.time(&key("_base"))? {
        return Ok(Some(Backoff::exponential(base, 2.0, cap, 0.0)));
    }
    Ok(step.time(&key(""))?.map(Backoff::fixed))
}

/// These options on top of the ones the scenario begins with.
pub fn options(sources: &[&Fields]) -> Play<Options> {
    let mut options = Options::new();
    macro_rules! set {
        ($source:ident: $($name:ident = $read:ident($key:expr);)*) => {
            $(if let Some(value) = $source.$read($key)? { options = options.$name(value); })*
        };
    }
    for source in sources {
        if let Some(level) = source.get("durability") {
            options = options.durability(durability(level)?);
        }
        set!(source:
            capacity = parse("capacity");
            max_message_bytes = parse("max_message_bytes");
            max_batch_bytes = parse("max_batch_bytes");
            max_dead_letters = parse("max_dead_letters");
            block_timeout = time("block_timeout_ms");
            snapshot_interval = time("snapshot_interval_ms");
            snapshot_threshold = parse("snapshot_threshold");
            segment_bytes = parse("segment_bytes");
            cache_bytes = parse("cache_bytes");
            sync_interval = time("sync_interval_ms");
            default_timeout = time("default_timeout_ms");
            default_max_retries = parse("default_max_retries");
            max_crashes = parse("max_crashes");
            lock_timeout = time("lock_timeout_ms");
        );
        if let Some(bytes) = source.parse::<u64>("max_bytes")? {
            options = options.max_bytes(bytes);
        }
        if let Some(backoff) = backoff(source, "default_")? {
            options = options.default_backoff(backoff);
        }
        options = match source.get("on_full") {
            None => options,
            Some("fail") => options.on_full(OnFull::Fail),
            Some("block") => options.on_full(OnFull::Block),
            Some(other) => return Err(Fault::Unknown(format!("on_full {other}"))),
        };
        options = match source.get("on_corruption") {
            None => options,
            Some("refuse") => options.on_corruption(OnCorruption::Refuse),
            Some("quarantine") => options.on_corruption(OnCorruption::Quarantine),
            Some(other) => return Err(Fault::Unknown(format!("on_corruption {other}"))),
        };
        options = match source.get("clock") {
            None => options,
            Some("system") => options.clock(ClockMode::System),
            Some("manual") => options.clock(ClockMode::Manual),
            Some(other) => return Err(Fault::Unknown(format!("clock {other}"))),
        };
    }
    Ok(options)
}
