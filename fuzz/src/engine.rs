//! Runs one target, named by `LIBMQ_FUZZ`, on what libFuzzer makes of its corpus: see `scripts/fuzz.sh`.

#![no_main]

use std::sync::LazyLock;

use libmq_fuzz::Target;
use libmq_fuzz::memory::Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let name = std::env::var("LIBMQ_FUZZ").expect("LIBMQ_FUZZ names a target");
    libmq_fuzz::target(&name)
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| TARGET(bytes));
