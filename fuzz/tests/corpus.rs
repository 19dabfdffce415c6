//! Every input of the corpus, once: no coverage is needed to see that what was mended has stayed so.

use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use libmq::limits::FORMAT_VERSION;
use libmq::storage::Storage;
use libmq_fuzz::memory::Counting;
use libmq_fuzz::{TARGETS, target, unpack};
use libmq_suite::forge;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Panics, on whatever thread: the engine's own are not seen otherwise.
static PANICS: AtomicUsize = AtomicUsize::new(0);

/// Held while a target runs: memory and panics are counted for the process.
static TURN: Mutex<()> = Mutex::new(());

fn corpus(name: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let mut inputs: Vec<(String, Vec<u8>)> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_name().unwrap().display().to_string(), fs::read(&path).unwrap()))
        .collect();
    inputs.sort();
    inputs
}

/// Runs a target on its corpus.
fn replay(name: &str) {
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let told = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        PANICS.fetch_add(1, Ordering::Relaxed);
        told(info);
    }));
    let inputs = corpus(name);
    assert!(inputs.len() >= 5, "{} inputs", inputs.len());
    for (input, bytes) in &inputs {
        println!("{name}/{input}");
        target(name)(bytes);
        assert_eq!(PANICS.load(Ordering::Relaxed), 0, "a thread panicked");
    }
}

#[test]
fn no_record_of_the_corpus_is_misread() {
    replay("record");
}

#[test]
fn no_segment_of_the_corpus_is_misread() {
    replay("segment");
}

#[test]
fn no_snapshot_of_the_corpus_is_misread() {
    replay("snapshot");
}

#[test]
fn every_directory_of_the_corpus_opens_twice_alike_or_is_refused() {
    replay("directory");
}

#[test]
fn no_sequence_of_calls_of_the_corpus_breaks_the_library() {
    replay("calls");
}

/// Another version is refused before anything else is read: when the format had become another one, all inputs were refused, and
/// nothing was tested by them.
#[test]
fn files_of_the_corpus_are_of_the_version_that_is_read() {
    let snapshots =
        corpus("snapshot").into_iter().map(|(input, bytes)| (input, bytes[1..].to_vec()));
    let packed = ["segment", "directory"].into_iter().flat_map(corpus);
    let packed = packed.flat_map(|(input, bytes)| {
        let (storage, names) = unpack(&bytes);
        let file = move |name: String| {
            let mut header = vec![0; forge::SNAPSHOT_HEADER_BYTES];
            storage.open(&name).unwrap().read_at(&mut header, 0).unwrap();
            (format!("{input}, {name}"), header)
        };
        names.into_iter().map(file).collect::<Vec<_>>()
    });
    for (input, header) in snapshots.chain(packed) {
        assert_eq!(forge::u32_at(&header, 8), FORMAT_VERSION, "{input}");
    }
}

#[test]
fn every_target_has_a_corpus_and_every_corpus_a_target() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let mut found: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().display().to_string())
        .collect();
    found.sort();
    let mut named: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
    named.sort_unstable();
    assert_eq!(found, named);
}
