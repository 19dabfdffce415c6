//! The workloads whose every moment is a power failure: small, and each different from the others.

mod lives;
mod rules;
mod small;
mod space;

use std::time::Duration;

use libmq_suite::New;

use crate::run::Run;
use crate::step::Step;

pub(crate) use small::{reopened, small};

/// Some steps, under a name.
#[derive(Clone, Copy)]
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    pub(crate) steps: fn() -> Vec<Step>,
}

/// All of them.
pub(crate) const WORKLOADS: [Workload; 15] = [
    Workload { name: SMALLEST, steps: lives::brief },
    Workload { name: "mixed", steps: lives::mixed },
    Workload { name: "dying", steps: lives::dying },
    Workload { name: "unsynced", steps: lives::unsynced },
    Workload { name: "copied", steps: lives::copied },
    Workload { name: "handled", steps: lives::handled },
    Workload { name: "choosy", steps: rules::choosy },
    Workload { name: "guarding", steps: rules::guarding },
    Workload { name: "grouped", steps: rules::grouped },
    Workload { name: "buried", steps: rules::buried },
    Workload { name: "timed", steps: rules::timed },
    Workload { name: "rolling", steps: space::rolling },
    Workload { name: "batched", steps: space::batched },
    Workload { name: "crowded", steps: space::crowded },
    Workload { name: "full", steps: space::full },
];

/// The one that is small enough to be taken whole each time.
pub(crate) const SMALLEST: &str = "brief";

/// The steps of a workload.
pub(crate) fn steps_of(name: &str) -> Vec<Step> {
    let found = WORKLOADS.iter().find(|workload| workload.name == name);
    (found.unwrap_or_else(|| panic!("there is no workload {name}")).steps)()
}

/// A workload that was run.
pub(crate) fn named(name: &str) -> Run {
    Run::of(&steps_of(name))
}

/// The longest a broker under test is given for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A message whose body has this name and size.
fn large(queue: &str, name: &str, bytes: usize) -> New {
    let mut body = format!("{name} ");
    while body.len() < bytes {
        body.push(char::from(b'a' + (body.len() % 26) as u8));
    }
    libmq_suite::new(queue, &body)
}
