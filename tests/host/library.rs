//! Two copies of the library in one process.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::guests::{play_with, scratch};
use crate::skips::skip;

/// The library as it is shipped, or why it is not there.
fn library() -> Result<PathBuf, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    if let Some(directory) = std::env::var_os("LIBMQ_LIB_DIR") {
        return Ok(Path::new(&directory).join("libmq.so"));
    }
    let script = root.join("scripts/build.sh");
    let built = Command::new(script).arg("c").stdout(Stdio::null()).stdin(Stdio::null()).status();
    if !built.is_ok_and(|status| status.success()) {
        return Err("the C library does not build".into());
    }
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    Ok(root.join(target).join("release/libmq.so"))
}

/// This program has one, and loads two more: the one that is shipped, and a copy of it under another name.
#[test]
fn of_several_copies_of_the_library_in_a_process_one_has_the_directory() {
    let library = match library() {
        Ok(library) if library.exists() => library,
        Ok(library) => return skip(&format!("copies of the library: no {}", library.display())),
        Err(why) => return skip(&format!("copies of the library: {why}")),
    };
    let scratch = scratch();
    let other = scratch.path().join("other.so");
    std::fs::copy(&library, &other).unwrap();
    play_with("copies-of-the-library", &[library.into(), other.into()]);
}
