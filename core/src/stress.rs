//! How long the stress tests go on: threads that do the same again and again, beside each piece that they hand things over by.
//!
//! A model ([`crate::sync`] under loom) looks at every interleaving of a few steps, a stress test at a few of very many steps,
//! on a real machine. `LIBMQ_STRESS` says how many times as long they go on.

/// So many rounds, or as many times that as was asked for.
pub(crate) fn rounds(few: u32) -> u32 {
    let given = std::env::var("LIBMQ_STRESS").ok().and_then(|times| times.parse().ok());
    few * given.unwrap_or(1)
}
