//! How well time is kept: when delayed messages become ready, and how often an idle broker's threads wake. Bounds are printed
//! beside what was measured; the program ends with status 1 where one was not kept.

use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime};

use libmq::{Broker, Durability, HandlerOptions, Message, Options};

const MESSAGES: u64 = 100_000;
const SPREAD: Duration = Duration::from_secs(10);

/// Time to enqueue all of them before the first is due.
const LEAD: Duration = Duration::from_secs(5);

type Failed = Box<dyn std::error::Error>;

fn main() -> Result<(), Failed> {
    let directory = std::env::temp_dir().join(format!("libmq-time-{}", std::process::id()));
    let broker = Broker::open(&directory, Options::new().durability(Durability::Os))?;
    let kept = [delays(&broker)?, wakes(&broker)?];
    broker.close(Duration::from_secs(10))?;
    std::fs::remove_dir_all(&directory)?;
    if kept.contains(&false) { Err("a bound was not kept".into()) } else { Ok(()) }
}

/// 100,000 messages that become ready within 10 s: how late each is handed out.
fn delays(broker: &Broker) -> Result<bool, Failed> {
    let first = SystemTime::now() + LEAD;
    for batch in 0..MESSAGES / 1_000 {
        let messages: Vec<Message<'_>> = (0..1_000)
            .map(|number| {
                // As if at random, and the same each time.
                let place = (batch * 1_000 + number) * 7_919 % MESSAGES;
                let due = first + SPREAD.mul_f64(place as f64 / MESSAGES as f64);
                let micros =
                    due.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_micros();
                Message::new("delayed", micros.to_string()).run_at(due)
            })
            .collect();
        broker.enqueue_batch(&messages)?;
    }
    if SystemTime::now() > first {
        return Err(
            "the machine is too slow: the first were due before the last were enqueued".into()
        );
    }
    let mut late = Vec::new();
    while late.len() < usize::try_from(MESSAGES)? {
        let deliveries = broker.receive_batch("delayed", 100, Duration::from_secs(20), None)?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_micros();
        for delivery in deliveries {
            let due: u128 = std::str::from_utf8(delivery.body())?.parse()?;
            late.push(now as f64 / 1e3 - due as f64 / 1e3);
            delivery.ack()?;
        }
    }
    late.sort_by(f64::total_cmp);
    let at = |per_100_000: usize| {
        late.get(late.len() * per_100_000 / 100_000).copied().unwrap_or(f64::NAN)
    };
    let (earliest, median, p99, most) = (at(0), at(50_000), at(99_000), at(99_999));
    println!(
        "{MESSAGES} delays over {SPREAD:?}: median {median:.3} ms late (1), p99 {p99:.3} ms (10), p99.999 {most:.1} ms, \
         earliest {earliest:.3} ms"
    );
    Ok(median <= 1.0 && p99 <= 10.0 && earliest >= 0.0)
}

/// An idle broker with 100,000 delayed messages and ten handlers: how often each thread wakes.
fn wakes(broker: &Broker) -> Result<bool, Failed> {
    let messages: Vec<Message<'_>> =
        (0..1_000).map(|_| Message::new("later", "x").delay(Duration::from_secs(3600))).collect();
    for _ in 0..MESSAGES / 1_000 {
        broker.enqueue_batch(&messages)?;
    }
    for number in 0..10 {
        broker.handle(&format!("idle-{number}"), HandlerOptions::new(), |_| Ok(()))?;
    }
    broker.start()?;
    // What the enqueues left to do, as a sync and a snapshot, is done by then.
    std::thread::sleep(Duration::from_secs(40));
    let (before, began) = (switches()?, Instant::now());
    std::thread::sleep(Duration::from_secs(20));
    let (after, seconds) = (switches()?, began.elapsed().as_secs_f64());
    let mut most = (0.0, String::new());
    for (thread, (name, count)) in after {
        let woken = count - before.get(&thread).map_or(0, |(_, count)| *count);
        let rate = woken as f64 / seconds;
        // The one that measures wakes for that.
        if name.starts_with("libmq-") && rate >= most.0 {
            most = (rate, name);
        }
    }
    println!(
        "idle with {MESSAGES} delayed and 10 handlers: {} wakes {:.2} times a second (1)",
        most.1, most.0
    );
    Ok(most.0 <= 1.0 && !most.1.is_empty())
}

/// By thread, its name and how often it went to sleep.
fn switches() -> Result<HashMap<String, (String, u64)>, Failed> {
    let mut found = HashMap::new();
    for thread in std::fs::read_dir("/proc/self/task")? {
        let thread = thread?.path();
        let status = std::fs::read_to_string(thread.join("status"))?;
        let value = |field: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(field));
            line.map(|value| value.trim().to_owned()).unwrap_or_default()
        };
        let count = value("voluntary_ctxt_switches:").parse()?;
        found.insert(thread.display().to_string(), (value("Name:"), count));
    }
    Ok(found)
}
