//! The guest: a process in which one thing goes wrong with what its host and its system give to a broker.
//!
//! `host-guest SITUATION DIRECTORY [WORD…]`. Every situation has its process to itself, because it changes what a whole
//! process has: its limits, its signals, its standard files, its mounts. A guest holds its own promises and panics where
//! one is broken; its last line says what it did and found. It leaves with [`CANNOT`] and a reason where the machine does
//! not let it make its situation.

mod bare;
mod promises;
mod rlimit;
mod rooms;

mod closed;
mod copies;
mod crowd;
mod directories;
mod file_size;
mod files;
mod full;
mod interrupted;
mod memory;
mod modes;
mod race;
mod read_only;
mod signals;
mod standard;
mod stopped;
mod targets;

/// How a guest leaves that cannot make its situation.
pub const CANNOT: i32 = 77;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, situation, directory, words @ ..] = &arguments[..] else {
        panic!("usage: host-guest SITUATION DIRECTORY [WORD...]");
    };
    let directory = std::path::Path::new(directory);
    match situation.as_str() {
        "a-full-disk" => full::run(directory),
        "a-read-only-mount" => read_only::run(directory),
        "targets-of-copies" => targets::run(directory),
        "a-limit-to-files-at-open" => file_size::at_open(directory),
        "a-limit-to-files-later" => file_size::later(directory),
        "no-files-at-open" => files::at_open(directory),
        "no-files-later" => files::later(directory),
        "no-memory" => memory::refused(directory),
        "no-memory-at-all" => memory::exhausted(directory),
        "what-is-left" => memory::left(directory, words),
        "interrupted-calls" => interrupted::run(directory, words),
        "signals-for-the-process" => signals::for_the_process(directory),
        "signals-of-handlers" => signals::of_handlers(directory),
        "no-standard-files" => standard::run(directory),
        "closed-descriptors" => closed::run(directory),
        "a-loose-umask" => modes::run(directory),
        "new-directories" => directories::run(directory),
        "copies-of-the-library" => crowd::run(directory, words),
        "copies-of-the-directory" => copies::run(directory),
        "a-stop-beyond-the-lease" => stopped::run(directory),
        "a-small-room" => rooms::keep(directory),
        "a-race-for-the-lock" => race::run(directory),
        other => panic!("no situation is called {other:?}"),
    }
}

/// Leaves, because the machine does not let this be tried.
fn cannot(why: &str) -> ! {
    println!("{why}");
    std::process::exit(CANNOT);
}
