//! The reference queue against a broker: the calls of producers and of those who pull, in any order, with time, ends and
//! deaths between them, and a handler that does what there is to do.
//!
//! [`op`] says what may be called, [`machine`] calls it, of a broker on a simulated disk and of the reference queue
//! ([`Model`](libmq_suite::model::Model)) alike, and compares all there is to see. What fails is made as small as it can be
//! made and still fail, and shown.
//!
//! `LIBMQ_MODEL_CASES` says how many sequences are tried; `LIBMQ_MODEL_SEED` which.

mod machine;
mod op;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, RngSeed, TestError, TestRunner};

use crate::machine::Machine;

/// Calls of a sequence at most.
const CALLS_MAX: usize = 60;

fn number(name: &str, default: u32) -> u32 {
    let given = std::env::var(name).ok();
    given.map_or(default, |number| number.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

#[test]
fn a_broker_does_what_the_reference_queue_does() {
    let config = Config {
        cases: number("LIBMQ_MODEL_CASES", 2000),
        rng_seed: RngSeed::Fixed(number("LIBMQ_MODEL_SEED", 1).into()),
        rng_algorithm: RngAlgorithm::ChaCha,
        failure_persistence: None,
        max_shrink_iters: 20_000,
        ..Config::default()
    };
    let sequences = prop::collection::vec(op::op(), 1..CALLS_MAX);
    let tried = TestRunner::new(config).run(&sequences, |sequence| {
        let mut machine = Machine::start();
        sequence.iter().for_each(|op| machine.call(op));
        machine.drain();
        Ok(())
    });
    match tried {
        Ok(()) => {}
        Err(TestError::Fail(why, sequence)) => {
            let calls: String = sequence.iter().map(|op| format!("\n    {op:?}")).collect();
            panic!("{why}, after{calls}");
        }
        Err(other) => panic!("{other}"),
    }
}
