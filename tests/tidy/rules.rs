//! The rules of the house, each a function from one file to what is wrong with it.

use crate::disk::paths_on_disk;
use crate::source::Source;

/// Layers, and what each may import besides itself. DESIGN 4, narrowed: `tree` and `net` do not know each other,
/// `store` does not know `net`. A folder of `src` that stands not here is an error: give it a place first.
pub const LAYERS: &[(&str, &[&str])] = &[
    ("backup", &[]),
    ("tree", &["backup"]),
    ("net", &["backup"]),
    ("store", &["tree", "backup"]),
    ("engine", &["store", "tree", "net", "backup"]),
    ("json", &["engine", "store", "tree", "net", "backup"]),
    ("console", &["json", "engine", "store", "tree", "net", "backup"]),
    ("cli", &["console", "json", "engine", "store", "tree", "net", "backup"]),
];

/// What the pure layer must not name: file system, sockets, processes, threads' clocks, randomness.
const IMPURE_PATHS: &[&str] = &[
    "std::fs",
    "std::net",
    "std::env",
    "std::process",
    "std::os::unix::fs",
    "std::os::unix::net",
    "std::os::linux::fs",
    "std::os::fd",
];
const IMPURE_WORDS: &[&str] = &[
    "tokio",
    "tokio_rustls",
    "rustls",
    "rustix",
    "rusqlite",
    "walkdir",
    "SystemTime",
    "Instant",
    "UNIX_EPOCH",
    "jiff",
    "clock_gettime",
    "getrandom",
    "rand",
    "fastrand",
    "RandomState",
];

/// Layers that may name tokio (docs/decisions/0001): the transport, and the command line that starts a runtime.
const ASYNC_LAYERS: &[&str] = &["net", "cli", "console", "bin"];

/// Most lines of a file without its test items, or of a file of tests.
pub const FILE_LINES_MAX: usize = 500;
/// Most lines of a function.
pub const FUNCTION_LINES_MAX: usize = 80;
/// Names that say nothing about what a file is for.
const EMPTY_NAMES: &[&str] = &["utils", "util", "common", "misc", "helpers"];

/// A file of `src`, and where it belongs.
pub struct File {
    /// Path below `src`, `/` between components.
    pub path: String,
    /// Its text.
    pub source: Source,
    /// Declared by `#[cfg(test)] mod …;`, or below such a module.
    pub is_test: bool,
}

impl File {
    /// First component: the layer, `bin`, or `lib.rs` itself.
    pub fn layer(&self) -> &str {
        self.path.split('/').next().unwrap_or_default()
    }

    /// Modules from the crate's root to this file.
    fn module(&self) -> Vec<&str> {
        let path = self.path.strip_suffix(".rs").unwrap_or(&self.path);
        path.split('/').filter(|part| *part != "mod" && *part != "lib").collect()
    }

    /// What is wrong, and where.
    pub fn finding(&self, at: usize, what: &str) -> String {
        format!("src/{}:{}: {what}", self.path, self.source.line(at))
    }

    /// Whether this position reaches no user.
    pub fn in_test(&self, at: usize) -> bool {
        self.is_test || self.source.is_test(at)
    }
}

/// All rules.
pub fn all(file: &File) -> Vec<String> {
    let of_words: [fn(&File) -> Vec<String>; 6] = [arrows, purity, sync_only, function_lines, no_panics, paths_on_disk];
    let of_files: [fn(&File) -> Vec<String>; 4] = [header, name, known_layer, file_lines];
    of_files.iter().chain(&of_words).flat_map(|rule| rule(file)).collect()
}

/// A file says first what it is.
pub fn header(file: &File) -> Vec<String> {
    let first = file.source.text.lines().next().unwrap_or_default();
    let said = first.strip_prefix("//!").is_some_and(|rest| !rest.trim().is_empty());
    if said { Vec::new() } else { vec![file.finding(0, "opens without a `//!` header")] }
}

/// A file's name says what it is for.
pub fn name(file: &File) -> Vec<String> {
    let empty = file.module().last().is_some_and(|last| EMPTY_NAMES.contains(last));
    if empty { vec![file.finding(0, "a name that says nothing")] } else { Vec::new() }
}

/// Everything in `src` has its layer.
pub fn known_layer(file: &File) -> Vec<String> {
    let layer = file.layer();
    let known = layer == "lib.rs" || layer == "bin" || LAYERS.iter().any(|(name, _)| *name == layer);
    if known { Vec::new() } else { vec![file.finding(0, "belongs to no layer: tests/tidy/rules.rs lists them")] }
}

/// Imports point down, never up or sideways; tests are no exception.
pub fn arrows(file: &File) -> Vec<String> {
    let layer = file.layer();
    let Some((_, may)) = LAYERS.iter().find(|(name, _)| *name == layer) else { return Vec::new() };
    let mut found = Vec::new();
    for named in file.source.paths() {
        let depth = file.module().len() + file.source.mod_depth(named.at);
        let supers = named.path.iter().take_while(|part| *part == "super").count();
        let target = match named.path.first().map(String::as_str) {
            Some("crate") => named.path.get(1),
            Some("super") if supers >= depth => named.path.get(supers),
            _ => continue,
        };
        match target.map(String::as_str) {
            Some("*") => found.push(file.finding(named.at, "imports the whole crate")),
            Some(to) if to == layer || may.contains(&to) || to == "self" => {}
            Some(to) => found.push(file.finding(named.at, &format!("`{layer}` may not know `{to}`"))),
            None => {}
        }
    }
    found
}

/// `backup` is pure.
pub fn purity(file: &File) -> Vec<String> {
    if file.layer() != "backup" {
        return Vec::new();
    }
    let mut found = Vec::new();
    for named in file.source.paths().iter().filter(|named| !file.in_test(named.at)) {
        let path = named.path.join("::");
        let begins = |with: &&&str| path.strip_prefix(**with).is_some_and(|r| r.is_empty() || r.starts_with("::"));
        let word = IMPURE_WORDS.iter().find(|word| named.path.iter().any(|part| part == **word));
        if let Some(what) = IMPURE_PATHS.iter().find(begins).or(word) {
            found.push(file.finding(named.at, &format!("the pure layer names `{what}`")));
        }
    }
    found
}

/// The engine is synchronous: tokio stays in the transport.
pub fn sync_only(file: &File) -> Vec<String> {
    if ASYNC_LAYERS.contains(&file.layer()) || file.layer() == "backup" {
        return Vec::new();
    }
    let paths = file.source.paths();
    let named = paths.iter().filter(|named| named.path.iter().any(|part| part == "tokio"));
    named.map(|named| file.finding(named.at, "names tokio outside the transport")).collect()
}

/// A file is one idea.
pub fn file_lines(file: &File) -> Vec<String> {
    let source = &file.source;
    let all = source.text.lines().count();
    let tests: usize = if file.is_test { 0 } else { source.tests.iter().map(|range| source.lines(range)).sum() };
    let lines = all.saturating_sub(tests);
    if lines <= FILE_LINES_MAX {
        return Vec::new();
    }
    vec![file.finding(0, &format!("{lines} lines without tests, more than {FILE_LINES_MAX}: a file is one idea"))]
}

/// A function fits on a screen or two.
pub fn function_lines(file: &File) -> Vec<String> {
    let lines = |range| file.source.lines(range);
    let functions = file.source.functions();
    let long = functions.iter().filter(|(_, range)| lines(range) > FUNCTION_LINES_MAX);
    let what = |name: &str, n| format!("`{name}` has {n} lines, more than {FUNCTION_LINES_MAX}");
    long.map(|(name, range)| file.finding(range.start, &what(name, lines(range)))).collect()
}

/// What a peer or a disk sends must not be able to stop the program: outside tests nothing is unwrapped.
pub fn no_panics(file: &File) -> Vec<String> {
    let mut found = Vec::new();
    for pattern in [".unwrap()", ".expect(", "::unwrap)", "::unwrap,"] {
        let hits = file.source.code.match_indices(pattern).filter(|(at, _)| !file.in_test(*at));
        found.extend(hits.map(|(at, _)| file.finding(at, &format!("`{pattern}` outside tests"))));
    }
    found
}
