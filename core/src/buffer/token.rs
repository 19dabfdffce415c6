//! Fencing tokens: larger for every later lease, and never given twice.

/// Bits that number the lease within an opening; those above number the opening of the broker, which is durable before
/// it serves anything.
const LEASE_BITS: u32 = 40;

/// The token of the `lease`-th lease of this opening.
pub(crate) fn token(opens: u64, lease: u64) -> u64 {
    opens << LEASE_BITS | lease
}

/// The opening that a token was given in.
pub(crate) fn opening_of(token: u64) -> u64 {
    token >> LEASE_BITS
}
