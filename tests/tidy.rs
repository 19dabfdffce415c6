//! What a machine can hold of the house rules in `CONTRIBUTING.md`.
//!
//! Reads every source file once and reports all that is untidy together, each with its place. It knows Rust only by its
//! lines, which is enough for rustfmt's output; it parses nothing.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use libmq::ErrorKind;

const LINES_MAX: usize = 800;
const LINES_MEDIAN_MAX: usize = 200;

/// Directories that hold what was built or fetched.
const NOT_OURS: &[&str] = &["target", "node_modules", ".git", ".venv", "__pycache__"];

struct File {
    path: PathBuf,
    text: String,
}

impl File {
    fn is_rust(&self) -> bool {
        self.path.extension().is_some_and(|extension| extension == "rs")
    }

    fn is_code(&self) -> bool {
        let extension = self.path.extension().and_then(|extension| extension.to_str());
        matches!(extension, Some("rs" | "c" | "hpp" | "py" | "js" | "mjs" | "ts" | "sh"))
    }

    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(index, line)| (index + 1, line))
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every text file of the house.
fn files() -> Vec<File> {
    let mut found = Vec::new();
    let mut directories = vec![root().to_path_buf()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy();
            if path.is_dir() {
                if !NOT_OURS.contains(&&*name) {
                    directories.push(path);
                }
            } else if let Ok(text) = fs::read_to_string(&path) {
                let path = path.strip_prefix(root()).unwrap().to_path_buf();
                found.push(File { path, text });
            }
        }
    }
    assert!(found.len() > 30, "the house was not found");
    found
}

/// Fails with all complaints at once.
fn hold(rule: &str, complaints: &str) {
    assert!(complaints.is_empty(), "{rule}:\n{complaints}");
}

#[test]
fn files_are_short() {
    let mut complaints = String::new();
    let mut lengths = Vec::new();
    for file in files().iter().filter(|file| file.is_code()) {
        let lines = file.text.lines().count();
        if file.is_rust() {
            lengths.push(lines);
        }
        // A program in C++ includes one header, which is one file.
        if lines > LINES_MAX && !file.path.ends_with("include/libmq.hpp") {
            writeln!(complaints, "{}: {lines} lines", file.path.display()).unwrap();
        }
    }
    lengths.sort_unstable();
    let median = lengths[lengths.len() / 2];
    if median > LINES_MEDIAN_MAX {
        writeln!(complaints, "half of the Rust files have more than {median} lines").unwrap();
    }
    hold("one noun a file", &complaints);
}

#[test]
fn modules_say_what_they_are() {
    let mut complaints = String::new();
    for file in files().iter().filter(|file| file.is_rust()) {
        if !file.text.starts_with("//!") {
            writeln!(complaints, "{} does not begin with //!", file.path.display()).unwrap();
        }
    }
    hold("a module begins by saying what it is", &complaints);
}

#[test]
fn mod_files_only_declare() {
    let mut complaints = String::new();
    for file in files().iter().filter(|file| file.path.ends_with("mod.rs")) {
        for (number, line) in file.lines() {
            let code = line.split("//").next().unwrap_or_default();
            if ["fn ", "struct ", "enum ", "trait ", "impl ", "impl<", "const ", "static "]
                .iter()
                .any(|word| code.trim_start().trim_start_matches("pub ").starts_with(word))
            {
                writeln!(complaints, "{}:{number}: {}", file.path.display(), line.trim()).unwrap();
            }
        }
    }
    hold("mod.rs declares and re-exports only", &complaints);
}

#[test]
fn every_unsafe_says_why_it_is_sound() {
    // Written apart, so that this file does not find itself.
    let words = ["{", "impl", "fn", "extern"].map(|word| format!("{} {word}", "unsafe"));
    let mut complaints = String::new();
    for file in files().iter().filter(|file| file.is_rust()) {
        let lines: Vec<&str> = file.text.lines().collect();
        for (index, line) in lines.iter().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            // A function without a name is a type.
            let is_type = code.contains("extern \"C\" fn(");
            if words.iter().any(|word| code.contains(word.as_str()))
                && !is_type
                && !reasoned(&lines[..=index])
            {
                writeln!(complaints, "{}:{}: {}", file.path.display(), index + 1, line.trim())
                    .unwrap();
            }
        }
    }
    hold("every unsafe has its SAFETY comment", &complaints);
}

/// Whether the last line, or the comment above the statement it belongs to, names its safety.
fn reasoned(lines: &[&str]) -> bool {
    let mut code_lines = 0;
    for line in lines.iter().rev() {
        let line = line.trim();
        if line.contains("SAFETY") || line.contains("# Safety") {
            return true;
        }
        let is_comment = line.starts_with("//") || line.starts_with("#[") || line.starts_with('*');
        if !is_comment {
            code_lines += 1;
        }
        if line.is_empty() || code_lines > 3 {
            return false;
        }
    }
    false
}

#[test]
fn nothing_was_left_behind() {
    let left = ["to", "unimplemented", "db"]
        .into_iter()
        .zip(["do!(", "!(", "g!("])
        .map(|(a, b)| format!("{a}{b}"))
        .chain(["FIX", "XX"].into_iter().zip(["ME", "X"]).map(|(a, b)| format!("{a}{b}")))
        .chain([format!("{}{}", "TO", "DO"), format!("#[{}]", "ignore")]);
    let left: Vec<String> = left.collect();
    let mut complaints = String::new();
    for file in files().iter().filter(|file| file.is_code()) {
        for (number, line) in file.lines() {
            if let Some(word) = left.iter().find(|word| contains_word(line, word)) {
                writeln!(complaints, "{}:{number}: {word}", file.path.display()).unwrap();
            }
        }
    }
    hold("nothing is left for later in the code", &complaints);
}

/// Whether a line has this word, and not merely as a part of a longer run of capitals, as names of temporary files do.
fn contains_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let (before, after) =
            (line[..at].chars().next_back(), line[at + word.len()..].chars().next());
        ![before, after].into_iter().flatten().any(|c| c.is_ascii_uppercase())
    })
}

#[test]
fn no_package_host_is_named() {
    let hosts =
        [["crates", "io"], ["pypi", "org"], ["npmjs", "org"], ["npmjs", "com"], ["unpkg", "com"]]
            .map(|parts| parts.join("."));
    let mut complaints = String::new();
    for file in files().iter().filter(|file| !file.path.ends_with("Cargo.lock")) {
        for (number, line) in file.lines() {
            if let Some(host) = hosts.iter().find(|host| line.contains(host.as_str())) {
                writeln!(complaints, "{}:{number}: {host}", file.path.display()).unwrap();
            }
        }
    }
    hold("packages come from wherever the machine's own clients fetch them", &complaints);
}

#[test]
fn the_changelog_has_a_place_for_what_is_new() {
    let changelog = fs::read_to_string(root().join("CHANGELOG.md")).unwrap();
    assert!(changelog.lines().any(|line| line == "## [Unreleased]"));
}

#[test]
fn every_error_has_the_same_code_in_rust_c_and_the_documentation() {
    let header = fs::read_to_string(root().join("include/libmq.h")).unwrap();
    let words: Vec<&str> =
        header.split(|c: char| c.is_whitespace() || "=,();".contains(c)).collect();
    let words: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
    let guarantees = fs::read_to_string(root().join("docs/guarantees.md")).unwrap();
    let mut complaints = String::new();
    for kind in ErrorKind::ALL {
        let (name, code) = (format!("LIBMQ_E_{}", kind.name()), kind.code().to_string());
        if !words.windows(2).any(|pair| pair == [name.as_str(), code.as_str()]) {
            writeln!(complaints, "include/libmq.h does not say that {name} is {code}").unwrap();
        }
        let row = format!("| `{}` | {code} |", kind.name());
        if !guarantees.contains(&row) {
            writeln!(complaints, "docs/guarantees.md has no row that begins {row}").unwrap();
        }
    }
    let declared = words.iter().filter(|word| word.starts_with("LIBMQ_E_")).count();
    if declared < ErrorKind::ALL.len() {
        writeln!(
            complaints,
            "include/libmq.h declares {declared} of {} errors",
            ErrorKind::ALL.len()
        )
        .unwrap();
    }
    hold("one table of errors", &complaints);
}

/// Python and Node call an error by its name: Python has it with each class, and Node asks the core for all of them. Numbers are
/// for C alone.
#[test]
fn every_error_has_the_same_name_in_python_and_node() {
    let names: Vec<&str> = ErrorKind::ALL.iter().map(|kind| kind.name()).collect();
    let python = root().join("bindings/python/python/libmq/_errors.py");
    let python = fs::read_to_string(python).unwrap();
    let codes: Vec<&str> = python
        .lines()
        .filter_map(|line| line.trim().strip_prefix("code = \"")?.strip_suffix('"'))
        .collect();
    assert!(codes.len() > 10, "only {} names were found in Python", codes.len());
    let typed = fs::read_to_string(root().join("bindings/node/lib/errors.d.ts")).unwrap();
    let mut complaints = String::new();
    for code in codes.iter().filter(|code| !names.contains(code)) {
        writeln!(complaints, "{code} of Python is the name of no error").unwrap();
    }
    for name in names.iter().filter(|name| !typed.contains(&format!("'{name}'"))) {
        writeln!(complaints, "{name} is none of the names in bindings/node/lib/errors.d.ts")
            .unwrap();
    }
    let errors = fs::read_to_string(root().join("bindings/node/lib/errors.js")).unwrap();
    if !errors.contains("native.errorKinds()") {
        writeln!(complaints, "bindings/node/lib/errors.js has names of its own").unwrap();
    }
    hold("one table of names", &complaints);
}

/// Where the tests lie of which a row of `docs/reliability.md` says `file: name`.
fn tests_of(file: &str) -> String {
    match file.split_once('/').unwrap_or((file, "")) {
        ("crash", name) => format!("tests/crash/{name}.rs"),
        ("host", name) => format!("tests/host/{name}.rs"),
        ("kill", name) => format!("tests/kill/{name}.rs"),
        ("suite", name) => format!("tests/{name}.rs"),
        ("fuzz", name) => format!("fuzz/tests/{name}.rs"),
        ("core", name) => format!("core/tests/{name}.rs"),
        ("src", name) => format!("core/src/{name}.rs"),
        ("ffi", name) => format!("ffi/src/{name}.rs"),
        ("c", name) => format!("tests/c/{name}.c"),
        ("python", name) => format!("bindings/python/tests/test_{name}.py"),
        ("node", name) => format!("bindings/node/test/{name}.test.mjs"),
        _ => panic!("{file} is no place of tests"),
    }
}

/// What is said to hold a fault is there, under that name.
#[test]
fn every_test_that_holds_a_fault_is_there() {
    let text = fs::read_to_string(root().join("docs/reliability.md")).unwrap();
    let mut missing = String::new();
    let (mut rows, mut tests) = (0, 0);
    for row in text.lines() {
        let [_, number, _, _, held, _] = row.split('|').collect::<Vec<_>>()[..] else { continue };
        if number.trim().parse::<u32>().is_err() {
            continue;
        }
        rows += 1;
        let mut file = None;
        let before = tests;
        for span in held.split('`').skip(1).step_by(2) {
            let (place, name) = match span.split_once(": ") {
                Some((place, name)) => (Some(place), name),
                None => (file, span),
            };
            // A word alone before any file, or in capitals, is none.
            let Some(place) = place.filter(|_| name.len() > 10 && name.contains(['_', '-', ' ']))
            else {
                continue;
            };
            file = Some(place);
            tests += 1;
            let is_there = match place {
                "conformance" => root().join(format!("tests/conformance/{name}.toml")).is_file(),
                _ => fs::read_to_string(root().join(tests_of(place)))
                    .is_ok_and(|text| text.contains(name)),
            };
            if !is_there {
                writeln!(missing, "row {}: {place}: {name}", number.trim()).unwrap();
            }
        }
        // Families of tests are set bold.
        if tests == before && !held.contains("**") {
            writeln!(missing, "row {}: no test", number.trim()).unwrap();
        }
    }
    assert_eq!(rows, 44);
    assert!(tests > 100, "{tests}");
    hold("what holds a fault is there", &missing);
}

/// What is said to be handed over between threads has its model and its stress test, and every model is said to be one.
#[test]
fn every_model_and_stress_test_is_in_the_table_of_what_threads_hand_over() {
    let design = fs::read_to_string(root().join("docs/design.md")).unwrap();
    let table = design.split("## What threads hand over").nth(1).unwrap_or_default();
    let table = table.split("\n## ").next().unwrap_or_default();
    let rows = table.lines().filter(|line| line.starts_with("| "));
    let named: Vec<&str> = rows.flat_map(|row| row.split('`').skip(1).step_by(2)).collect();
    assert!(named.len() > 60, "{}", named.len());
    let sources: String =
        files().iter().filter(|file| file.is_rust()).map(|file| file.text.as_str()).collect();
    let mut complaints = String::new();
    for name in named.iter().filter(|name| !sources.contains(&format!("fn {name}()"))) {
        writeln!(complaints, "there is no {name}").unwrap();
    }
    let kinds = ["loom_", "stress_"].map(|kind| format!("fn {kind}"));
    for line in sources.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("fn ").and_then(|rest| rest.strip_suffix("() {"))
            && kinds.iter().any(|kind| line.starts_with(kind))
            && !named.contains(&name)
        {
            writeln!(complaints, "{name} is not in the table").unwrap();
        }
    }
    hold("every hand-over has its model and its stress test", &complaints);
}
