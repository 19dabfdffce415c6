//! What a host and its system do to a broker: full and read-only disks, limits, signals, closed files, stops, copies.
//!
//! Each situation is made by a process of its own, the *guest*, because it changes what a whole process has. What a guest
//! holds stands with its situation in `guest/`; its last line says what it did and found, and is printed. `make chaos
//! ONLY=name` plays one of them by its name.

mod guests;
mod library;
mod limits;
mod lock;
mod mounts;
mod processes;
mod skips;
