//! What the system lets this process have.

/// A limit by its number, as `libc` has it.
type Resource = libc::__rlimit_resource_t;

/// Sets what may be had now, and leaves what it may be set to.
pub fn set(resource: Resource, soft: u64) {
    let mut limit = limit(resource);
    limit.rlim_cur = soft.min(limit.rlim_max);
    // SAFETY: `limit` is a live rlimit of this frame, which the call only reads.
    assert_eq!(unsafe { libc::setrlimit(resource, &raw const limit) }, 0);
}

/// Gives back all that may be had.
pub fn lift(resource: Resource) {
    set(resource, u64::MAX);
}

fn limit(resource: Resource) -> libc::rlimit {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a live, writable rlimit of this frame.
    assert_eq!(unsafe { libc::getrlimit(resource, &raw mut limit) }, 0);
    limit
}
