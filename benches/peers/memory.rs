//! Resident memory, looked at in a process that does nothing else.

use std::fs;
use std::path::Path;
use std::process::Command;

use libmq::Broker;

use crate::contest::{Failure, Figure};
use crate::engine;

/// The first argument of a process that fills a broker, says what it takes, and ends.
pub(crate) const WAITING: &str = "memory-waiting";

/// The same for a broker with nothing in it.
pub(crate) const FRESH: &str = "memory-fresh";

/// Runs this program again, as `what`; answers the megabytes it found itself to take.
pub(crate) fn in_own_process(what: &str, directory: &Path, messages: u32) -> Figure {
    let output = Command::new(std::env::current_exe()?)
        .arg(what)
        .arg(directory)
        .arg(messages.to_string())
        .output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().parse()?)
}

/// The inside of such a process.
pub(crate) fn look(what: &str, directory: &Path, messages: u32) -> Result<(), Failure> {
    let broker: Broker = match what {
        WAITING => engine::waiting(directory, messages)?,
        _ => engine::fresh(directory)?,
    };
    println!("{:.2}", resident_megabytes()?);
    drop(broker);
    Ok(())
}

fn resident_megabytes() -> Figure {
    let status = fs::read_to_string("/proc/self/status")?;
    let kib: f64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.trim().strip_suffix("kB"))
        .ok_or("/proc/self/status has no VmRSS")?
        .trim()
        .parse()?;
    Ok(kib * 1024.0 / 1e6)
}
