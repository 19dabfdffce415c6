//! The Rust player of the conformance scenarios: `play SCRIPT DIRECTORY NAMES FROM`.
//!
//! What a script is and what a player owes is said in `README.md` beside this file. A key that a step has and this
//! player did not look at ends it with status 3, so that no expectation is passed over in silence.

mod figures;
mod handler;
mod script;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::process::exit;
use std::sync::Arc;
use std::time::Duration;

use handler::Handler;
use libmq::{Broker, Delivery, HandlerOptions, Receipt};
use script::{Fault, Fields, Play, backoff, message, options, same, wrong};

/// What waits, waits this long at most.
const WAIT: Duration = Duration::from_secs(10);
/// How long a receive waits that is expected to get something, and how long stop and close wait.
const TIMEOUT: Duration = Duration::from_secs(5);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [script, directory, names, from] = &arguments[..] else {
        eprintln!("usage: play SCRIPT DIRECTORY NAMES FROM");
        exit(2);
    };
    let script = std::fs::read_to_string(script).unwrap();
    let mut lines = script.lines().map(Fields::read);
    let options = lines.next().unwrap();
    let steps: Vec<Fields> = lines.collect();
    let from: usize = from.parse().unwrap();
    let mut player = Player::new(options, Path::new(directory), Path::new(names), from > 0);
    if let Err(fault) = player.open_at_beginning() {
        fault.end("opening");
    }
    for (number, step) in steps.iter().enumerate().skip(from) {
        if let Err(fault) = player.play(step).and_then(|()| step.check_all_used()) {
            fault.end(&format!("step {number}"));
        }
    }
    if let Err(fault) = player.end() {
        fault.end("closing");
    }
}

/// A delivery, by name if it has one: its token, and itself until it is settled.
struct Held {
    token: u64,
    delivery: Option<Delivery>,
}

struct Player {
    options: Fields,
    directory: PathBuf,
    names_file: PathBuf,
    ids: BTreeMap<String, u64>,
    held: HashMap<String, Held>,
    /// Deliveries that no later step settles.
    unnamed: Vec<Delivery>,
    handlers: HashMap<String, Arc<Handler>>,
    broker: Option<Broker>,
}

impl Player {
    fn new(options: Fields, directory: &Path, names_file: &Path, goes_on: bool) -> Self {
        let saved =
            if goes_on { std::fs::read_to_string(names_file).unwrap() } else { String::new() };
        let ids = saved.lines().filter_map(|line| line.split_once('\t'));
        Self {
            options,
            directory: directory.to_owned(),
            names_file: names_file.to_owned(),
            ids: ids.map(|(name, id)| (name.to_owned(), id.parse().unwrap())).collect(),
            held: HashMap::new(),
            unnamed: Vec::new(),
            handlers: HashMap::new(),
            broker: None,
        }
    }

    fn open_at_beginning(&mut self) -> Play {
        let options = options(&[&self.options])?;
        self.options.check_all_used()?;
        match Broker::open(&self.directory, options) {
            Ok(broker) => self.broker = Some(broker),
            Err(error) => return wrong(format!("{}: {error}", error.kind().name())),
        }
        Ok(())
    }

    fn end(&mut self) -> Play {
        for handler in self.handlers.values() {
            handler.let_go();
        }
        match self.broker.take().map(|broker| broker.close(TIMEOUT)) {
            Some(Err(error)) => wrong(format!("{}: {error}", error.kind().name())),
            _ => Ok(()),
        }
    }

    fn play(&mut self, step: &Fields) -> Play {
        let action = step.need("do")?;
        match action {
            "open" => return self.open(step),
            "open_again" => {
                let again =
                    Broker::open(self.place(step, "path"), options(&[&self.options, step])?);
                return match answer(step, again)?.map(|again| again.close(TIMEOUT)) {
                    Some(Err(error)) => wrong(format!("{}: {error}", error.kind().name())),
                    _ => Ok(()),
                };
            }
            "verify" => return self.verify(step),
            "kill" => self.kill(),
            "calls" | "let_go" => {
                let handler = self.handlers.get(step.need("queue")?);
                let Some(handler) = handler else { return wrong("the queue has no handler") };
                if action == "calls" {
                    return handler.expect(step);
                }
                handler.let_go();
                return Ok(());
            }
            "ack" | "retry" | "reject" | "release" | "extend" | "child" => {
                return self.play_delivery(action, step);
            }
            _ => {}
        }
        let Some(broker) = self.broker.clone() else { return wrong("no broker was opened") };
        match action {
            "close" => answer(step, broker.close(timeout(step)?)).map(|_| ()),
            "stop" => answer(step, broker.stop(timeout(step)?)).map(|_| ()),
            "start" => answer(step, broker.start()).map(|_| ()),
            "snapshot" => answer(step, broker.snapshot()).map(|_| ()),
            "backup" => {
                step.need("to")?;
                answer(step, broker.backup(self.place(step, "to"))).map(|_| ())
            }
            "advance" => {
                answer(step, broker.advance(step.time("ms")?.unwrap_or_default())).map(|_| ())
            }
            "wait_idle" => {
                let idle = broker.wait_idle(step.time("timeout_ms")?.unwrap_or(WAIT));
                match answer(step, idle)? {
                    Some(idle) => same("idle", idle, step.parse("expect.idle")?.unwrap_or(true)),
                    None => Ok(()),
                }
            }
            "enqueue" => {
                let message = message(step, "", step.need("queue")?)?;
                let receipt = answer(step, broker.enqueue(message))?;
                self.receipts(step, receipt.as_slice(), &[("as", "expect.status", "expect.id")])
            }
            "enqueue_many" => self.enqueue_many(&broker, step),
            "receive" | "receive_many" => self.receive(&broker, action, step),
            "handle" => self.handle(&broker, step),
            "metrics" => figures::expect_metrics(&broker, step),
            "prometheus" => figures::expect_lines(&broker, step),
            "dead_letters" => self.dead_letters(&broker, step),
            "replay" => {
                let replayed = broker.dead_letters().replay(self.id(step.need("id")?)?);
                let receipt = answer(step, replayed)?;
                self.receipts(step, receipt.as_slice(), &[("as", "expect.status", "expect.id")])
            }
            "scale" => {
                let most = step.parse("n")?.unwrap_or(0);
                answer(step, broker.scale(step.need("queue")?, most)).map(|_| ())
            }
            "pause" => answer(step, broker.pause(step.need("queue")?)).map(|_| ()),
            "resume" => answer(step, broker.resume(step.need("queue")?)).map(|_| ()),
            "cancel" => {
                let id = self.id(step.need("id")?)?;
                match answer(step, broker.cancel(id))? {
                    Some(existed) => {
                        same("existed", existed, step.parse("expect.existed")?.unwrap_or(true))
                    }
                    None => Ok(()),
                }
            }
            "purge" => expect_count(step, broker.purge(step.need("queue")?)),
            "replay_all" => expect_count(step, broker.dead_letters().replay_all(step.get("queue"))),
            "purge_dead" => expect_count(step, broker.dead_letters().purge(step.get("queue"))),
            "recovery" => {
                let found = broker.recovery();
                for (name, value) in [
                    ("messages", found.messages),
                    ("dead_letters", found.dead_letters),
                    ("suspects", found.suspects),
                ] {
                    let expected = step.parse(&format!("expect.{name}"))?;
                    same(name, value, expected.unwrap_or(value))?;
                }
                Ok(())
            }
            other => Err(Fault::Unknown(format!("the step {other}"))),
        }
    }

    fn open(&mut self, step: &Fields) -> Play {
        let opened = Broker::open(self.place(step, "path"), options(&[&self.options, step])?);
        if let Some(broker) = answer(step, opened)? {
            self.handlers.clear();
            self.broker = Some(broker);
        }
        Ok(())
    }

    /// The directory that a key of the step names: beside the broker's, or in it; the broker's where there is none.
    fn place(&self, step: &Fields, key: &str) -> PathBuf {
        match step.get(key) {
            None => self.directory.clone(),
            Some("") => PathBuf::new(),
            Some(name) => match name.strip_prefix("./") {
                Some(inside) => self.directory.join(inside),
                None => self.directory.with_file_name(name),
            },
        }
    }

    fn verify(&self, step: &Fields) -> Play {
        let Some(found) = answer(step, libmq::verify(self.place(step, "path")))? else {
            return Ok(());
        };
        for (name, value) in [
            ("messages", found.messages),
            ("dead_letters", found.dead_letters),
            ("suspects", found.suspects),
            ("dropped_bytes", found.dropped_bytes),
        ] {
            same(name, value, step.parse(&format!("expect.{name}"))?.unwrap_or(value))?;
        }
        for (name, value) in [("sound", found.sound()), ("closed", found.closed)] {
            same(name, value, step.parse(&format!("expect.{name}"))?.unwrap_or(value))?;
        }
        Ok(())
    }

    fn kill(&self) -> ! {
        let lines = self.ids.iter().map(|(name, id)| format!("{name}\t{id}\n"));
        std::fs::write(&self.names_file, lines.collect::<String>()).unwrap();
        // SAFETY: no memory is involved; the process ends here.
        unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
        unreachable!("the process was killed")
    }

    fn id(&self, name: &str) -> Play<u64> {
        let id = self.ids.get(name).copied();
        id.ok_or_else(|| Fault::Wrong(format!("nothing was called {name} before")))
    }

    /// Compares receipts, and names them, by the keys of each.
    fn receipts(
        &mut self,
        step: &Fields,
        receipts: &[Receipt],
        keys: &[(&str, &str, &str)],
    ) -> Play {
        for (receipt, (name, status, id)) in receipts.iter().zip(keys) {
            if let Some(expected) = step.get(status) {
                same("status", receipt.status.name(), expected)?;
            }
            if let Some(expected) = step.get(id) {
                same("id", receipt.id, self.id(expected)?)?;
            }
            if let Some(name) = step.get(name) {
                self.ids.insert(name.to_owned(), receipt.id);
            }
        }
        Ok(())
    }

    fn enqueue_many(&mut self, broker: &Broker, step: &Fields) -> Play {
        let count: usize = step.parse("messages.#")?.unwrap_or(0);
        let queue = step.need("queue")?;
        let messages = (0..count).map(|index| message(step, &format!("messages.{index}."), queue));
        let messages = messages.collect::<Play<Vec<_>>>()?;
        let Some(receipts) = answer(step, broker.enqueue_batch(&messages))? else { return Ok(()) };
        for key in ["expect.statuses", "expect.ids", "as"] {
            if let Some(listed) = step.list(key)? {
                same("the count of receipts", receipts.len(), listed.len())?;
            }
        }
        let keys: Vec<[String; 3]> = (0..count)
            .map(|index| {
                ["as", "expect.statuses", "expect.ids"].map(|key| format!("{key}.{index}"))
            })
            .collect();
        let keys: Vec<_> = keys.iter().map(|[a, b, c]| (&a[..], &b[..], &c[..])).collect();
        self.receipts(step, &receipts, &keys)
    }

    fn receive(&mut self, broker: &Broker, action: &str, step: &Fields) -> Play {
        let none = step.get("expect.none") == Some("true");
        let wait = step.time("timeout_ms")?;
        let wait = wait.unwrap_or(if none { Duration::ZERO } else { TIMEOUT });
        let max = step.parse("max")?.unwrap_or(1);
        let lease = step.time("lease_ms")?;
        let received = broker.receive_batch(step.need("queue")?, max, wait, lease);
        let Some(deliveries) = answer(step, received)? else { return Ok(()) };
        if none {
            return match deliveries.first() {
                Some(delivery) => wrong(format!("{delivery:?} came, but none was expected")),
                None => Ok(()),
            };
        }
        if action == "receive_many" {
            if let Some(bodies) = step.list("expect.bodies")? {
                let found: Vec<_> = deliveries.iter().map(Delivery::body).collect();
                let found: Vec<_> =
                    found.iter().map(|body| String::from_utf8_lossy(body)).collect();
                same("bodies", format!("{found:?}"), format!("{bodies:?}"))?;
            }
            if let Some(ids) = step.list("expect.ids")? {
                let ids = ids.into_iter().map(|name| self.id(name)).collect::<Play<Vec<_>>>()?;
                let found: Vec<_> = deliveries.iter().map(Delivery::id).collect();
                same("ids", format!("{found:?}"), format!("{ids:?}"))?;
            }
            let names = step.list("as")?.unwrap_or_default();
            for (index, delivery) in deliveries.into_iter().enumerate() {
                self.hold(names.get(index).copied(), delivery);
            }
            return Ok(());
        }
        let Some(delivery) = deliveries.into_iter().next() else { return wrong("nothing came") };
        self.expect_delivery(step, &delivery)?;
        self.hold(step.get("as"), delivery);
        Ok(())
    }

    fn hold(&mut self, name: Option<&str>, delivery: Delivery) {
        let Some(name) = name else { return self.unnamed.push(delivery) };
        let held = Held { token: delivery.token(), delivery: Some(delivery) };
        let before = self.held.insert(name.to_owned(), held);
        self.unnamed.extend(before.and_then(|before| before.delivery));
    }

    fn expect_delivery(&self, step: &Fields, delivery: &Delivery) -> Play {
        if let Some(name) = step.get("expect.id") {
            same("id", delivery.id(), self.id(name)?)?;
        }
        let body = String::from_utf8_lossy(delivery.body());
        for (name, found) in [
            ("body", &*body),
            ("content_type", delivery.content_type()),
            ("correlation_id", delivery.correlation_id().unwrap_or_default()),
        ] {
            same(name, found, step.get(&format!("expect.{name}")).unwrap_or(found))?;
        }
        if let Some(count) = step.parse::<usize>("expect.body_bytes")? {
            same("body_bytes", delivery.body().len(), count)?;
            same("the body is all x", delivery.body().iter().all(|byte| *byte == b'x'), true)?;
        }
        for (name, found) in
            [("attempt", delivery.attempt()), ("max_retries", delivery.max_retries())]
        {
            same(name, found, step.parse(&format!("expect.{name}"))?.unwrap_or(found))?;
        }
        for (name, value) in step.below("expect.headers.") {
            let found = delivery.header(name).unwrap_or("(no such header)");
            same(&format!("header {name}"), found, value)?;
        }
        if let Some(name) = step.get("expect.token_after") {
            let before = self.held.get(name).map(|held| held.token);
            if before.is_none_or(|before| before >= delivery.token()) {
                return wrong(format!("token {} is not above {before:?}", delivery.token()));
            }
        }
        Ok(())
    }

    fn play_delivery(&mut self, action: &str, step: &Fields) -> Play {
        let name = step.need("delivery")?;
        let why = step.get("why").unwrap_or_default();
        let delay = step.time("delay_ms")?;
        let Some(held) = self.held.get_mut(name) else {
            return wrong(format!("no delivery was called {name}"));
        };
        if matches!(action, "extend" | "child") {
            let Some(delivery) = &held.delivery else { return wrong("it is settled") };
            let result = if action == "extend" {
                delivery.extend(step.time("ms")?.unwrap_or_default())
            } else {
                delivery.enqueue(message(step, "", step.need("queue")?)?)
            };
            return answer(step, result).map(|_| ());
        }
        let Some(delivery) = held.delivery.take() else { return wrong("it is settled") };
        let result = match action {
            "ack" => delivery.ack(),
            "retry" => delivery.retry_because(delay, why),
            "reject" => delivery.reject(why),
            _ => delivery.release(delay.unwrap_or_default()),
        };
        answer(step, result).map(|_| ())
    }

    fn handle(&mut self, broker: &Broker, step: &Fields) -> Play {
        let queue = step.need("queue")?;
        let mut options = HandlerOptions::new();
        macro_rules! set {
            ($($name:ident = $read:ident($key:literal);)*) => {
                $(if let Some(value) = step.$read($key)? { options = options.$name(value); })*
            };
        }
        set! {
            max_parallelism = parse("max_parallelism");
            min_parallelism = parse("min_parallelism");
            max_retries = parse("max_retries");
            timeout = time("timeout_ms");
            cancel_grace = time("cancel_grace_ms");
            lease_extension_enabled = parse("lease_extension_enabled");
        }
        if let Some(backoff) = backoff(step, "")? {
            options = options.backoff(backoff);
        }
        let child = if step.has("child.") {
            Some(message(step, "child.", step.need("child.queue")?)?)
        } else {
            None
        };
        let outcomes = step.list("outcomes")?.unwrap_or_default();
        let outcomes = outcomes.into_iter().map(str::to_owned).collect();
        let handler = Arc::new(Handler::new(outcomes, child));
        let run = Arc::clone(&handler);
        let result = broker.handle(queue, options, move |context| run.call(context));
        if answer(step, result)?.is_some() {
            self.handlers.insert(queue.to_owned(), handler);
        }
        Ok(())
    }

    fn dead_letters(&self, broker: &Broker, step: &Fields) -> Play {
        let limit = step.parse("limit")?.unwrap_or(1000);
        let after = step.get("after").map(|name| self.id(name)).transpose()?;
        let listed = broker.dead_letters().list(step.get("queue"), limit, after);
        let Some(letters) = answer(step, listed)? else { return Ok(()) };
        let Some(count) = step.parse::<usize>("expect.letters.#")? else { return Ok(()) };
        same("the count of letters", letters.len(), count)?;
        for (index, letter) in letters.iter().enumerate() {
            let key = |name: &str| format!("expect.letters.{index}.{name}");
            if let Some(name) = step.get(&key("id")) {
                same("id", letter.id(), self.id(name)?)?;
            }
            let body = String::from_utf8_lossy(letter.body());
            let attempts = letter.attempts().to_string();
            for (name, found) in [
                ("queue", letter.queue()),
                ("reason", letter.reason()),
                ("error", letter.error()),
                ("attempts", &attempts),
                ("body", &body),
            ] {
                let expected = step.get(&key(name)).unwrap_or(found);
                same(&format!("{name} of letter {index}"), found, expected)?;
            }
        }
        Ok(())
    }
}

/// The answer of a call; none if it failed as it was expected to.
fn answer<T>(step: &Fields, result: libmq::Result<T>) -> Play<Option<T>> {
    match (result, step.get("error")) {
        (Ok(value), None) => Ok(Some(value)),
        (Ok(_), Some(code)) => wrong(format!("it succeeded, but {code} was expected")),
        (Err(error), Some(code)) if error.kind().name() == code => Ok(None),
        (Err(error), _) => wrong(format!("{}: {error}", error.kind().name())),
    }
}

fn timeout(step: &Fields) -> Play<Duration> {
    Ok(step.time("timeout_ms")?.unwrap_or(TIMEOUT))
}

fn expect_count(step: &Fields, result: libmq::Result<u64>) -> Play {
    let Some(count) = answer(step, result)? else { return Ok(()) };
    same("count", count, step.parse("expect.count")?.unwrap_or(count))
}
