//! Deaths that a handler brings upon its process.

/// Ends the process as a killer says: it aborts, it writes where nothing is, or it exits.
pub fn die(killer: &[u8]) -> ! {
    match killer.split(|byte| *byte == b' ').nth(1) {
        Some(b"segfault") => write_where_nothing_is(),
        Some(b"exit") => std::process::exit(9),
        _ => std::process::abort(),
    }
}

fn write_where_nothing_is() -> ! {
    let (flags, nowhere) = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, std::ptr::null_mut());
    // SAFETY: a new mapping at an address of the kernel's choice touches no memory of anybody's. It may not be written to,
    // so the write is not done: the kernel ends the process, which is what this is for.
    unsafe {
        let forbidden = libc::mmap(nowhere, 4096, libc::PROT_NONE, flags, -1, 0);
        forbidden.cast::<u8>().write_volatile(1);
    }
    unreachable!("memory that may not be written to was written to");
}
