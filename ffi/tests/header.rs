//! Holds `include/libmq.h` against the code it is made from, and against C and C++ compilers.
//!
//! The header is a head, written by hand, and one section for each public module of the crate, in their order: the first
//! paragraph of the module's documentation above what cbindgen makes of the module. To write it anew:
//!
//! ```sh
//! LIBMQ_WRITE_HEADER=1 cargo test --package libmq-ffi header
//! ```

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test's helpers are the test's own"
)]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The sections in their order: each a public module, and what stands below what cbindgen makes of it.
const SECTIONS: &[(&str, &str)] = &[
    ("status", ""),
    ("handles", ""),
    ("error", ""),
    ("options", ""),
    ("broker", ""),
    ("message", MESSAGE_INIT),
    ("enqueue", ""),
    ("handler", HANDLER_INIT),
    ("receive", ""),
    ("wakeup", ""),
    ("delivery", ""),
    ("settle", ""),
    ("admin", ""),
    ("metrics", METRICS_INIT),
    ("dead_letters", ""),
];

const MESSAGE_INIT: &str = "
/** Begins a `libmq_message`. */
#define LIBMQ_MESSAGE_INIT \\
  { sizeof(libmq_message), 0, 0, 0, NULL, 0, NULL, NULL, NULL, NULL, NULL, 0, 0, 0, 0, 0 }
";

const HANDLER_INIT: &str = "
/** Begins a `libmq_handler`. */
#define LIBMQ_HANDLER_INIT { sizeof(libmq_handler), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, NULL, NULL, NULL }
";

const METRICS_INIT: &str = "
/** Begins a `libmq_metrics`. */
#define LIBMQ_METRICS_INIT \\
  { sizeof(libmq_metrics), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, \\
    0, 0, 0 }
";

#[test]
fn header_is_what_the_code_declares() {
    let path = root().join("include/libmq.h");
    let made = header();
    if std::env::var_os("LIBMQ_WRITE_HEADER").is_some() {
        fs::write(&path, &made).unwrap();
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    let different = made.lines().zip(kept.lines()).position(|(made, kept)| made != kept);
    assert!(
        made == kept,
        "include/libmq.h is not what the code declares, from line {} on; \
         LIBMQ_WRITE_HEADER=1 cargo test --package libmq-ffi header writes it anew",
        different.map_or(made.lines().count().min(kept.lines().count()), |line| line) + 1,
    );
}

#[test]
fn header_has_a_section_for_every_public_module() {
    let crate_root = fs::read_to_string(package().join("src/lib.rs")).unwrap();
    let exported =
        crate_root.lines().filter_map(|line| line.strip_prefix("pub use ")?.strip_suffix("::*;"));
    let exported: BTreeSet<&str> = exported.collect();
    assert_eq!(exported, SECTIONS.iter().map(|(module, _)| *module).collect());
}

#[test]
fn header_compiles_without_a_word() {
    let directory = std::env::temp_dir().join(format!("libmq-header-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("libmq.h"), header()).unwrap();
    // Twice, so that the guard is tried, and each initialiser once.
    let program = "#include <libmq.h>\n#include <libmq.h>\n\
        libmq_message message = LIBMQ_MESSAGE_INIT;\nlibmq_handler handler = LIBMQ_HANDLER_INIT;\n\
        libmq_metrics metrics = LIBMQ_METRICS_INIT;\nstruct libmq_receipt *receipt;\nstruct libmq_header *header;\n\
        #if LIBMQ_VERSION_NUMBER < 100\n#error \"the version is no number\"\n#endif\n";
    for (compiler, standard, name) in [
        ("gcc", "-std=c11", "c"),
        ("gcc", "-std=gnu17", "c"),
        ("g++", "-std=c++17", "cpp"),
        ("g++", "-std=c++20", "cpp"),
        ("clang", "-std=c11", "c"),
        ("clang++", "-std=c++17", "cpp"),
        ("clang++", "-std=c++20", "cpp"),
    ] {
        let source = directory.join(format!("program.{name}"));
        fs::write(&source, program).unwrap();
        let mut command = Command::new(compiler);
        command.args([standard, "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only"]);
        command.arg("-I").arg(&directory).arg(&source);
        match command.output() {
            Ok(output) => assert!(
                output.status.success(),
                "{compiler}: {}",
                String::from_utf8_lossy(&output.stderr)
            ),
            Err(_) => skip(&format!("the header with {compiler}: it is not installed")),
        }
    }
    fs::remove_dir_all(&directory).unwrap();
}

/// A function of the header, with what is said of it.
struct Function {
    name: String,
    declaration: String,
    documentation: String,
}

fn functions() -> Vec<Function> {
    let (mut functions, mut documentation, mut declaration) =
        (Vec::new(), String::new(), String::new());
    let header = header();
    for line in header.lines().skip_while(|line| !line.contains("extern \"C\"")) {
        if line.starts_with("/*") {
            documentation.clear();
        }
        let declares = line.contains("libmq_")
            && line.contains('(')
            && !line.starts_with([' ', '#', 't', '/']);
        if declares || !declaration.is_empty() {
            declaration.push_str(line.trim());
            if line.ends_with(';') {
                let before = declaration.split('(').next().unwrap();
                let name = before.rsplit([' ', '*']).next().unwrap().to_owned();
                let declaration = std::mem::take(&mut declaration);
                functions.push(Function {
                    name,
                    declaration,
                    documentation: documentation.clone(),
                });
            }
        } else {
            documentation.push_str(line.trim().trim_start_matches('*'));
        }
    }
    assert!(functions.len() > 70, "only {} functions were found", functions.len());
    functions
}

/// Holds that of each function something is so.
fn hold(claim: &str, is_so: impl Fn(&Function) -> bool) {
    let others: Vec<String> = functions()
        .into_iter()
        .filter(|function| !is_so(function))
        .map(|other| other.name)
        .collect();
    assert!(others.is_empty(), "these do not say {claim}: {others:?}");
}

#[test]
fn header_speaks_of_threads_at_every_function() {
    hold("on which threads they may be called", |function| {
        function.documentation.contains("Any thread")
    });
}

#[test]
fn header_says_of_every_function_how_it_fails() {
    hold("what they answer when they fail, or that they do not", |function| {
        let said = &function.documentation;
        if function.declaration.starts_with("libmq_status libmq_")
            && function.name != "libmq_error_code"
        {
            said.contains("Answers `LIBMQ_E_")
                || said.contains("Answers as ")
                || said.contains("Answers what ")
        } else {
            [" if ", "NULL only ", "never NULL", "Does nothing ", "does nothing", "NULL while "]
                .iter()
                .any(|words| said.contains(words))
        }
    });
}

#[test]
fn header_says_whose_everything_is_that_a_function_gives_or_takes() {
    hold("who frees what they give, or how long it is there", |function| {
        let (said, declared) = (&function.documentation, &function.declaration);
        let gives = declared.contains(" **out") && !declared.starts_with("void");
        let points = declared.starts_with("const char *") || declared.starts_with("const void *");
        let ends = function.name.ends_with("_free");
        (!gives || said.contains(" frees ") || said.contains("Answers as `libmq_receive`"))
            && (!points || said.contains("Valid until") || said.contains("A constant"))
            && (!ends || said.contains("Frees"))
    });
}

/// Of each struct the size, and of each field the place, is held in `tests/c/abi.c`, which a compiler reads.
#[test]
fn every_struct_of_the_header_has_its_layout_held() {
    let held = fs::read_to_string(root().join("tests/c/abi.c")).unwrap();
    let header = header();
    let mut fields = 0;
    for declared in header.split("typedef struct ").skip(1) {
        let Some((name, rest)) = declared.split_once(" {\n") else { continue };
        let (body, _) = rest.split_once("\n}").unwrap();
        assert!(held.contains(&format!("SIZE({name}, ")), "the size of {name} is not held");
        for line in body.lines().filter(|line| line.ends_with(';')) {
            let (_, field) = line.trim_end_matches(';').rsplit_once([' ', '*']).unwrap();
            let field = match line.split_once("(*") {
                Some((_, function)) => function.split(')').next().unwrap(),
                None => field,
            };
            assert!(
                held.contains(&format!("AT({name}, {field}, ")),
                "the place of {name}.{field} is not held"
            );
            fields += 1;
        }
    }
    assert!(fields > 60, "only {fields} fields were found");
}

/// What a call leaves when it fails is the business of `tests/c/outputs.c`, of every call that leaves something.
#[test]
fn every_function_of_the_header_with_an_output_is_tried_without_one() {
    let header = header();
    let tried = fs::read_to_string(root().join("tests/c/outputs.c")).unwrap();
    let mut outputs = 0;
    for declaration in header.split("libmq_status libmq_").skip(1) {
        let Some((name, rest)) = declaration.split_once('(') else { continue };
        let arguments = rest.split(';').next().unwrap();
        if arguments.contains("*out") {
            outputs += 1;
            assert!(tried.contains(&format!("libmq_{name}(")), "libmq_{name} is not tried");
        }
    }
    assert!(outputs > 15, "only {outputs} functions with an output were found");
}

/// The header as the code declares it.
fn header() -> String {
    let mut header = fs::read_to_string(package().join("abi/head.h")).unwrap();
    let version: Vec<&str> = env!("CARGO_PKG_VERSION").split('.').collect();
    let [major, minor, patch] = version.as_slice() else { panic!("{version:?}") };
    write!(
        header,
        "
#ifndef LIBMQ_H
#define LIBMQ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if UINTPTR_MAX != 0xffffffffffffffff
#error \"libmq needs a machine of 64 bits: its handles are numbers of 64 bits\"
#endif

#define LIBMQ_VERSION \"{major}.{minor}.{patch}\"
#define LIBMQ_VERSION_MAJOR {major}
#define LIBMQ_VERSION_MINOR {minor}
#define LIBMQ_VERSION_PATCH {patch}
/* The three in one number, for #if. */
#define LIBMQ_VERSION_NUMBER (LIBMQ_VERSION_MAJOR * 10000 + LIBMQ_VERSION_MINOR * 100 + LIBMQ_VERSION_PATCH)

#ifdef __cplusplus
extern \"C\" {{
#endif
"
    )
    .unwrap();
    for (module, below) in SECTIONS {
        let path = package().join(format!("src/{module}.rs"));
        let title = title(&path);
        let rule = "-".repeat(112_usize.saturating_sub(title.chars().count()));
        let body = section(&path);
        write!(header, "\n/* {title} {rule} */\n\n{}\n{below}", body.trim()).unwrap();
    }
    header.push_str("\n#ifdef __cplusplus\n}\n#endif\n\n#endif\n");
    header
}

/// The first paragraph of a module's documentation.
fn title(path: &Path) -> String {
    let source = fs::read_to_string(path).unwrap();
    let lines = source.lines().map_while(|line| line.strip_prefix("//! "));
    lines.collect::<Vec<_>>().join(" ")
}

/// What cbindgen makes of a module: its constants, its types, its functions, each as they stand there.
fn section(path: &Path) -> String {
    let source = fs::read_to_string(path).unwrap();
    let types = source.lines().filter_map(|line| {
        let rest = line.strip_prefix("pub struct ").or_else(|| line.strip_prefix("pub type "))?;
        rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().map(str::to_owned)
    });
    let mut config = cbindgen::Config::from_file(package().join("cbindgen.toml")).unwrap();
    // Also those that no function of the same module takes.
    config.export.include = types.collect();
    let builder = cbindgen::Builder::new().with_config(config).with_src(path);
    let mut made = Vec::new();
    builder.generate().unwrap().write(&mut made);
    compact(&String::from_utf8(made).unwrap())
}

/// Comments of one line on one line, and no empty lines between constants.
fn compact(made: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for line in made.lines() {
        let indent = &line[..(line.len() - line.trim_start().len()).saturating_sub(1)];
        let opened = format!("{indent}/**");
        let one_line = line.trim() == "*/" && lines.len() >= 2 && lines[lines.len() - 2] == opened;
        if one_line {
            let text = lines.pop().unwrap();
            lines.pop();
            let text = text.trim().trim_start_matches('*').trim();
            lines.push(format!("{indent}/** {text} */"));
        } else {
            let between = line.starts_with("#define");
            let place = lines.len().saturating_sub(2);
            lines.push(parenthesized(&by_its_type(line.trim_end())));
            let follows =
                place >= 1 && lines[place].is_empty() && lines[place - 1].starts_with("#define");
            if between && follows {
                lines.remove(place);
            }
        }
    }
    lines.join("\n")
}

/// A struct by the name of its type, where it is used.
fn by_its_type(line: &str) -> String {
    if line.starts_with("typedef") { line.into() } else { line.replace("struct libmq_", "libmq_") }
}

/// A constant below zero in parentheses, so that it is one number wherever it is written.
fn parenthesized(line: &str) -> String {
    match line.rsplit_once(" -") {
        Some((before, number)) if before.starts_with("#define") => format!("{before} (-{number})"),
        _ => line.to_owned(),
    }
}

fn skip(reason: &str) {
    println!("SKIPPED: {reason}");
    if let Some(skips) = std::env::var_os("LIBMQ_SKIPS") {
        let file = fs::File::options().append(true).create(true).open(skips);
        writeln!(file.unwrap(), "header: {reason}").unwrap();
    }
}

fn package() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn root() -> PathBuf {
    package().join("..")
}
