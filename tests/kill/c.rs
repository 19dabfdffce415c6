//! The worker in C, compiled here against the library as it is shipped.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::process::Program;
use crate::{ROUNDS_C, kill_rounds, killer, setting, share};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Where the library is: `LIBMQ_LIB_DIR`, or where it is built now.
fn library() -> Result<PathBuf, String> {
    if let Some(directory) = std::env::var_os("LIBMQ_LIB_DIR") {
        return Ok(directory.into());
    }
    let script = root().join("scripts/build.sh");
    let built = Command::new(script).arg("c").stdout(Stdio::null()).stdin(Stdio::null()).status();
    if !built.is_ok_and(|status| status.success()) {
        return Err("the C library does not build".into());
    }
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    Ok(root().join(target).join("release"))
}

/// Compiles the worker.
pub fn compile() -> Result<Program, String> {
    let library = library()?;
    if !library.join("libmq.so").exists() {
        return Err(format!("{} has no libmq.so", library.display()));
    }
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kill-worker-c");
    // Under a name of its own first: another test may be running the one that is there.
    let fresh = program.with_extension(std::process::id().to_string());
    let mut search = std::ffi::OsString::from("-L");
    search.push(&library);
    let mut runtime = std::ffi::OsString::from("-Wl,-rpath,");
    runtime.push(&library);
    let compiled = Command::new("cc")
        .args(["-std=c11", "-O1", "-g", "-Wall", "-Wextra", "-Wpedantic", "-Werror"])
        .arg("-I")
        .arg(root().join("include"))
        .arg(root().join("tests/kill/worker.c"))
        .arg("-o")
        .arg(&fresh)
        .args([search, runtime])
        .args(["-lmq", "-pthread"])
        .status()
        .map_err(|error| format!("there is no C compiler: {error}"))?;
    assert!(compiled.success(), "worker.c does not compile");
    std::fs::rename(fresh, &program).map_err(|error| error.to_string())?;
    Ok(Program { language: "C", program, arguments: Vec::new(), environment: Vec::new() })
}

/// One test, so that the library is not built while a worker is being started.
#[test]
fn kill_rounds_lose_nothing_and_double_nothing_in_c_and_find_the_killer() {
    let program = match compile() {
        Ok(program) => program,
        Err(why) => return crate::skip(&format!("kill rounds in C: {why}")),
    };
    kill_rounds(&program, setting("LIBMQ_KILL_ROUNDS").map_or(ROUNDS_C, share(70)));
    killer::run(&program);
}
