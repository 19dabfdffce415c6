//! Holds what the README shows a C programmer: the program compiles without a word, the libraries named for linking
//! statically are those that the Rust standard library asks for, and with them it links and runs.

#![expect(clippy::unwrap_used, reason = "a test's helpers are the test's own")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

#[test]
fn the_c_program_of_the_readme_is_linked_statically_as_it_says_and_runs() {
    let directory = scratch("links");
    fs::write(directory.join("orders.c"), program()).unwrap();
    let built = std::env::current_exe().unwrap().with_file_name("libmq.a");
    let mut command = Command::new("cc");
    command.args([
        "-std=c11",
        "-Wall",
        "-Wextra",
        "-Wpedantic",
        "-Werror",
        "orders.c",
        "-o",
        "orders",
    ]);
    // Whoever builds the library in a way of its own says so.
    command.args(std::env::var("CFLAGS").unwrap_or_default().split_whitespace());
    command.arg("-I").arg(package().join("../include")).arg(built).args(libraries());
    ran(command.current_dir(&directory));
    let output = ran(Command::new(directory.join("orders")).current_dir(&directory));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "orders\n");
    fs::remove_dir_all(directory).unwrap();
}

/// The C library itself, and what is in it or comes with the compiler, need not be named.
#[test]
fn the_libraries_of_the_readme_are_those_that_rust_asks_for() {
    let directory = scratch("asks");
    fs::write(directory.join("nothing.rs"), "").unwrap();
    let mut command = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    command.args(["--crate-type", "staticlib", "--print", "native-static-libs", "nothing.rs"]);
    let said = String::from_utf8(ran(command.current_dir(&directory)).stderr).unwrap();
    let said = said.split_once("native-static-libs: ").unwrap().1.lines().next().unwrap();
    let mut asked: Vec<&str> = said.split_whitespace().collect();
    asked.retain(|library| !["-lc", "-lgcc_s", "-lutil", "-lrt"].contains(library));
    let mut named = libraries();
    asked.sort_unstable();
    asked.dedup();
    named.sort_unstable();
    assert_eq!(named, asked, "of {said}");
    fs::remove_dir_all(directory).unwrap();
}

/// The libraries named behind `libmq.a`.
fn libraries() -> Vec<String> {
    let readme = readme();
    let (_, behind) = readme.split_once("target/release/libmq.a ").unwrap();
    let line = behind.lines().next().unwrap();
    line.split_whitespace().take_while(|word| word.starts_with("-l")).map(str::to_owned).collect()
}

fn program() -> String {
    let readme = readme();
    let (_, program) = readme.split_once("```c\n").unwrap();
    program.split_once("```").unwrap().0.to_owned()
}

fn readme() -> String {
    fs::read_to_string(package().join("../README.md")).unwrap()
}

fn ran(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    output
}

fn scratch(name: &str) -> PathBuf {
    let directory = std::env::temp_dir().join(format!("libmq-{name}-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    directory
}

fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
