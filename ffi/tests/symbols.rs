//! Holds what the shared library exports against the frozen list in `abi/symbols.txt`.
//!
//! A symbol that is missing breaks programs that were built; one that is there by accident is kept for ever. Whoever adds
//! a function adds its name to the list.

#![expect(clippy::unwrap_used, reason = "a test's helpers are the test's own")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use object::elf::{DT_SONAME, FileHeader64};
use object::read::elf::{Dyn as _, ElfFile64, FileHeader as _};
use object::{Endianness, Object as _, ObjectSymbol as _};

#[test]
fn only_the_symbols_of_the_list_are_exported() {
    let data = library();
    let file = ElfFile64::<Endianness>::parse(&*data).unwrap();
    let exported: BTreeSet<String> = file
        .dynamic_symbols()
        .filter(|symbol| symbol.is_definition() && !symbol.is_local())
        .map(|symbol| symbol.name().unwrap().to_owned())
        .collect();
    assert_eq!(exported, listed());
}

#[test]
fn every_function_of_the_header_is_on_the_list_and_no_other() {
    let header = fs::read_to_string(package().join("../include/libmq.h")).unwrap();
    let declared: BTreeSet<String> = header
        .lines()
        .filter(|line| !line.starts_with([' ', '/', '#']) && !line.starts_with("typedef"))
        .filter_map(|line| line.split_once('('))
        .filter_map(|(before, _)| before.rsplit([' ', '*']).next())
        .map(str::to_owned)
        .collect();
    assert_eq!(declared, listed());
}

#[test]
fn the_library_names_its_interface() {
    let data = library();
    let header = FileHeader64::<Endianness>::parse(&*data).unwrap();
    let endian = header.endian().unwrap();
    let sections = header.sections(endian, &*data).unwrap();
    let (dynamic, strings) = sections.dynamic(endian, &*data).unwrap().unwrap();
    let strings = sections.strings(endian, &*data, strings).unwrap();
    let names: Vec<&[u8]> = dynamic
        .iter()
        .filter(|entry| entry.tag(endian) == DT_SONAME)
        .map(|entry| entry.string(endian, strings).unwrap())
        .collect();
    assert_eq!(names, [b"libmq.so.0"]);
}

fn listed() -> BTreeSet<String> {
    let list = fs::read_to_string(package().join("abi/symbols.txt")).unwrap();
    let names: Vec<&str> = list.lines().collect();
    assert!(names.is_sorted(), "the list is kept in order");
    assert!(names.iter().all(|name| name.starts_with("libmq_")));
    names.into_iter().map(str::to_owned).collect()
}

/// The library as it was built together with this test.
fn library() -> Vec<u8> {
    let test = std::env::current_exe().unwrap();
    let built = test.parent().unwrap().join("libmq.so");
    fs::read(&built).unwrap_or_else(|error| panic!("{}: {error}", built.display()))
}

fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
