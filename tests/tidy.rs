//! Keeps the house tidy: reads `src/**.rs` and fails when a rule of its architecture is broken.
//!
//! Imports point down, `backup` stays pure, tokio stays in the transport, files and functions stay small, every file says
//! what it is, nothing is unwrapped outside tests, and outside `tree` nothing goes to the disk by path. The rules stand in
//! `tidy/`; below, each is shown to be able to fail.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "tidy/disk.rs"]
mod disk;
#[path = "tidy/rules.rs"]
mod rules;
#[path = "tidy/source.rs"]
mod source;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use rules::File;
use source::Source;

/// All files of `src`, with those that exist only in test builds marked.
fn house() -> Vec<File> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut texts = BTreeMap::new();
    collect(&src, "", &mut texts);
    assert!(texts.len() > 10, "the sources were not found in {}", src.display());
    files(texts)
}

fn collect(dir: &Path, below: &str, texts: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let path = format!("{below}{}", entry.file_name().to_str().expect("names in src are text"));
        if entry.file_type().unwrap().is_dir() {
            collect(&entry.path(), &format!("{path}/"), texts);
        } else if path.ends_with(".rs") {
            texts.insert(path, fs::read_to_string(entry.path()).unwrap());
        }
    }
}

fn files(texts: BTreeMap<String, String>) -> Vec<File> {
    let sources: Vec<_> = texts.into_iter().map(|(path, text)| (path, Source::new(&text))).collect();
    let mut roots = Vec::new();
    for (path, source) in &sources {
        let stem = path.strip_suffix(".rs").unwrap_or(path);
        let dir = match stem.rsplit_once('/') {
            Some((dir, "mod")) => dir,
            _ if stem == "lib" => "",
            _ => stem,
        };
        roots.extend(
            source.test_mod_files().into_iter().map(|name| format!("{dir}/{name}").trim_start_matches('/').to_owned()),
        );
    }
    let below = |path: &str, root: &String| path == format!("{root}.rs") || path.starts_with(&format!("{root}/"));
    let mark = |(path, source): (String, Source)| {
        let is_test = roots.iter().any(|root| below(&path, root));
        File { path, source, is_test }
    };
    sources.into_iter().map(mark).collect()
}

#[test]
fn the_house_is_tidy() {
    let findings: Vec<String> = house().iter().flat_map(rules::all).collect();
    assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
}

#[test]
fn every_layer_is_there_and_none_imports_itself_in_a_circle() {
    for (i, (layer, may)) in rules::LAYERS.iter().enumerate() {
        let lower: Vec<_> = rules::LAYERS[..i].iter().map(|(name, _)| *name).collect();
        assert!(may.iter().all(|to| lower.contains(to)), "{layer} imports what stands above it");
    }
    for layer in ["backup", "tree", "net", "store", "engine", "cli"] {
        assert!(house().iter().any(|file| file.layer() == layer), "{layer} has no files");
    }
}

// ---- every rule can fail ----

fn file(path: &str, text: &str) -> File {
    File { path: path.to_owned(), source: Source::new(text), is_test: false }
}

/// Lines that `rule` finds in `text`.
fn lines(rule: fn(&File) -> Vec<String>, path: &str, text: &str) -> Vec<usize> {
    let line = |finding: String| finding.split(':').nth(1).unwrap().parse().unwrap();
    rule(&file(path, text)).into_iter().map(line).collect()
}

#[test]
fn arrows_up_and_sideways_are_found() {
    let store = |text| lines(rules::arrows, "store/x.rs", text);
    assert_eq!(store("use crate::backup::bytes::Bytes;\nuse crate::tree;\nuse std::net::IpAddr;"), []);
    assert_eq!(store("use crate::engine::push;"), [1], "up");
    assert_eq!(store("\nuse crate::net::message::Hello;"), [2], "sideways");
    assert_eq!(store("use crate::{backup::{bytes, digest},\n    net::{self, link}};"), [2, 2], "in a group");
    assert_eq!(store("fn f() -> crate::cli::Args { todo() }"), [1], "in passing");
    assert_eq!(store("pub(crate) fn f() {}\npub use crate::net as wire;"), [2], "renamed");
    assert_eq!(store("macro_rules! m { () => { $crate::engine::run() } }"), [1], "in a macro");
    assert_eq!(store("use crate::*;"), [1], "everything");
    assert_eq!(store("fn f<'a>() -> impl X + use<'a> { crate::net::f() }"), [1], "behind a captured lifetime");
    assert_eq!(store("/// See [`crate::engine`].\n// crate::net\nconst X: &str = \"crate::cli\";"), [], "talk is free");
    assert_eq!(lines(rules::arrows, "net/x.rs", "use crate::tree::walk;"), [1]);
    assert_eq!(lines(rules::arrows, "backup/x.rs", "use crate::tree::walk;"), [1]);
    assert_eq!(lines(rules::arrows, "cli/x.rs", "use crate::engine::push;"), []);
}

#[test]
fn arrows_through_super_are_found() {
    assert_eq!(lines(rules::arrows, "store/x.rs", "use super::super::net::link;"), [1]);
    assert_eq!(lines(rules::arrows, "store/mod.rs", "use super::net::link;"), [1]);
    assert_eq!(lines(rules::arrows, "store/x.rs", "use super::net;"), [], "a module of the same layer");
    assert_eq!(lines(rules::arrows, "store/x/y.rs", "use super::super::net;"), []);
    let inner = "mod tests {\n use super::super::net;\n use super::super::super::net;\n}";
    assert_eq!(lines(rules::arrows, "store/x.rs", inner), [3]);
}

#[test]
fn impurity_is_found() {
    let backup = |text| lines(rules::purity, "backup/x.rs", text);
    assert_eq!(backup("use std::io::{Read, Seek};\nuse std::time::Duration;\nlet brand = random_walk();"), []);
    assert_eq!(backup("use std::{io, fs};"), [1]);
    assert_eq!(backup("use std::fs::File;\nuse std::net::IpAddr;\nuse tokio::sync::mpsc;"), [1, 2, 3]);
    assert_eq!(backup("use std::time;\nlet t = time::Instant::now();"), [2]);
    assert_eq!(backup("let t = std::time::SystemTime::now();\ngetrandom::fill(&mut b);"), [1, 2]);
    assert_eq!(backup("#[cfg(test)]\nmod tests {\n use std::fs;\n}\nuse std::fs;"), [5], "tests may");
    assert_eq!(backup("#[cfg(any(test, feature = \"x\"))]\nuse std::fs;"), [2], "this one reaches users");
    assert_eq!(lines(rules::purity, "tree/x.rs", "use std::fs;"), [], "other layers may");
}

#[test]
fn tokio_outside_the_transport_is_found() {
    assert_eq!(lines(rules::sync_only, "engine/x.rs", "let rt = tokio::runtime::Handle::current();"), [1]);
    assert_eq!(lines(rules::sync_only, "net/x.rs", "use tokio::net;"), []);
}

#[test]
fn long_files_are_found() {
    let code = |lines| "fn f() {}\n".repeat(lines);
    assert_eq!(lines(rules::file_lines, "tree/x.rs", &code(500)), []);
    assert_eq!(lines(rules::file_lines, "tree/x.rs", &code(501)), [1]);
    let with_tests = format!("{}#[cfg(test)]\nmod tests {{\n{}}}\n", code(500), code(300));
    assert_eq!(lines(rules::file_lines, "tree/x.rs", &with_tests), []);
    assert_eq!(lines(rules::file_lines, "tree/x.rs", &format!("{with_tests}\n")), [1]);
    let tests = File { is_test: true, ..file("tree/x/tests.rs", &with_tests) };
    assert_eq!(rules::file_lines(&tests).len(), 1, "a file of tests counts whole");
}

#[test]
fn long_functions_are_found() {
    let body =
        |lines| format!("impl X {{\n    fn f(&self, n: [u8; 3]) -> u8\n    {{\n{}    }}\n}}\n", "x();\n".repeat(lines));
    assert_eq!(lines(rules::function_lines, "tree/x.rs", &body(77)), []);
    assert_eq!(lines(rules::function_lines, "tree/x.rs", &body(78)), [2]);
    let declared = format!("trait T {{ fn f(&self); }}\n{}", "const X: u8 = 1;\n".repeat(100));
    assert_eq!(lines(rules::function_lines, "tree/x.rs", &declared), []);
}

#[test]
fn unwraps_are_found() {
    let tree = |text| lines(rules::no_panics, "tree/x.rs", text);
    assert_eq!(tree("a.unwrap();\nb\n    .expect(\"why\");\nc.map(Option::unwrap);"), [1, 3, 4]);
    assert_eq!(tree("a.unwrap_or(0); // .unwrap()\nlet s = \".unwrap()\";\nlet r = r#\"\" .unwrap()\"#;"), []);
    assert_eq!(tree("#[cfg(test)]\nmod tests {\n a.unwrap();\n}\nb.unwrap();"), [5]);
    assert_eq!(tree("#[test]\nfn f() { a.unwrap() }\nfn g() { a.unwrap() }"), [3]);
    assert_eq!(tree("let c = '\"'; a.unwrap(); let d = '\\''; b.unwrap(); fn f<'a>(x: &'a u8) {}"), [1, 1]);
    assert_eq!(tree("#[cfg(test)]\nuse a::b;\nfn g() { a.unwrap() }"), [3]);
    assert_eq!(tree("struct S {\n #[cfg(test)]\n a: u8,\n b: u8\n}\nfn g() { a.unwrap() }"), [6], "a field ends");
    assert_eq!(tree("enum E { A, #[cfg(test)] B }\nfn g() { a.unwrap() }"), [2], "a last variant ends");
}

#[test]
fn files_without_header_name_or_layer_are_found() {
    assert_eq!(lines(rules::header, "tree/x.rs", "//! What it is.\n"), []);
    assert_eq!(lines(rules::header, "tree/x.rs", "use std::fs;\n//! Late.\n"), [1]);
    assert_eq!(lines(rules::header, "tree/x.rs", "//!\n"), [1]);
    assert_eq!(lines(rules::name, "tree/utils.rs", ""), [1]);
    assert_eq!(lines(rules::known_layer, "attic/x.rs", ""), [1]);
    assert_eq!(lines(rules::known_layer, "bin/x.rs", ""), []);
}

#[test]
fn paths_on_disk_are_found_outside_the_tree() {
    let store = |text| lines(disk::paths_on_disk, "store/x.rs", text);
    assert_eq!(store("use std::fs::{File, Metadata};\nfn f(file: &File) { file.metadata() }\nFile::from(fd);"), []);
    assert_eq!(
        store("use std::fs;\nuse std::fs::{self, File};\nuse std::fs::rename;\nuse std::{io, fs};"),
        [1, 2, 3, 4]
    );
    assert_eq!(store("let f = std::fs::read(path);\nFile::open(path);\nstd::fs::File::create(path);"), [1, 2, 3]);
    assert_eq!(store("use std::fs::OpenOptions;\nlet d = DirBuilder::new();"), [1, 2]);
    assert_eq!(
        store("use std::os::unix::fs::FileExt;\nuse std::os::unix::fs::symlink;\nuse std::os::unix::fs;"),
        [2, 3]
    );
    assert_eq!(
        store("rustix::fs::ioctl_ficlone(a, b);\nrustix::fs::stat(path);\nuse rustix::fs::{CWD, fallocate};"),
        [2, 3]
    );
    assert_eq!(store("use rustix::fs;\nuse tokio::fs;\nuse tokio::fs::File;\nuse walkdir::WalkDir;"), [1, 2, 3, 4]);
    assert_eq!(store("path.exists();\npath.canonicalize();\nx.map(Path::exists);\npath.read_link();"), [3, 2, 1, 4]);
    assert_eq!(store("statement.exists([1]);\ndir.read_link(name);\nentry.is_dir();"), []);
    assert_eq!(store("#[cfg(test)]\nmod tests {\n use std::fs;\n p.exists();\n}\nuse std::fs;"), [6], "tests may");
    assert_eq!(lines(disk::paths_on_disk, "tree/x.rs", "use std::fs;"), []);
    assert_eq!(lines(disk::paths_on_disk, "net/x.rs", "use std::fs;"), [1], "only files on the list");
    assert_eq!(lines(disk::paths_on_disk, "net/control.rs", "use std::fs;"), []);
}

#[test]
fn whoever_may_go_to_the_disk_by_path_does() {
    let house = house();
    for (path, why) in disk::MAY {
        let file = house.iter().find(|file| file.path == *path).unwrap_or_else(|| panic!("{path} is gone"));
        assert!(!disk::found(file).is_empty(), "{path} needs no exception any more");
        assert!(why.len() > 20, "{path}: say why");
    }
}

/// A text cannot tell `Path::is_dir` from `Entry::is_dir`; clippy can, as long as it is told.
#[test]
fn clippy_is_told_which_methods_of_paths_are_for_the_tree() {
    let read = |name: &str| fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap();
    let told = read("clippy.toml");
    for method in ["is_dir", "is_file", "is_symlink", "metadata", "exists", "canonicalize"] {
        assert!(told.contains(&format!("\"std::path::Path::{method}\"")), "{method}");
    }
    assert!(read("src/lib.rs").contains("#![cfg_attr(not(test), warn(clippy::disallowed_methods))]"));
    let allowed = house().into_iter().filter(|file| file.source.code.contains("allow(clippy::disallowed_methods)"));
    assert_eq!(allowed.map(|file| file.path).collect::<Vec<_>>(), ["tree/mod.rs"]);
}

#[test]
fn files_of_tests_are_known_by_their_declaration() {
    let texts = [
        ("lib.rs", "//! l\npub mod tree;\n"),
        ("tree/mod.rs", "//! m\npub mod walk;\n#[cfg(test)]\npub(crate) mod bed;\n"),
        ("tree/bed.rs", "//! b\nfn f() { a.unwrap() }\n"),
        ("tree/walk.rs", "//! w\n#[cfg(test)]\nmod tests;\n"),
        ("tree/walk/tests.rs", "//! t\nfn f() { a.unwrap() }\n"),
        ("tree/walk/tests/big.rs", "//! t\nfn f() { a.unwrap() }\n"),
        ("tree/tests.rs", "//! not declared as tests\nfn f() { a.unwrap() }\n"),
    ];
    let house = files(texts.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect());
    let findings: Vec<String> = house.iter().flat_map(rules::all).collect();
    assert_eq!(findings, ["src/tree/tests.rs:2: `.unwrap()` outside tests"]);
}
