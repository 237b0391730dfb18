//! docs/security.md names a test for each claim: it is there.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

fn sources(dir: &Path, text: &mut String) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, text);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            text.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
}

/// Names in backquotes that are whole snake-case words of four parts or more: tests are called so, nothing else is.
fn named(markdown: &str) -> BTreeSet<&str> {
    let is_name = |word: &&str| word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    markdown.split('`').skip(1).step_by(2).filter(is_name).filter(|word| word.matches('_').count() >= 3).collect()
}

#[test]
fn every_test_that_security_md_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut text = String::new();
    ["src", "tests"].iter().for_each(|dir| sources(&root.join(dir), &mut text));
    let document = fs::read_to_string(root.join("docs/security.md")).unwrap();
    let names = named(&document);
    assert!(names.len() > 40, "only {} tests are named", names.len());
    let is_test = |name: &str| {
        let at = text.find(&format!("fn {name}("))?;
        // Whatever stands between the attribute and its function, it is no other function.
        let before = &text[..at];
        Some(before[before.rfind("#[test]")?..].matches("fn ").count() == 0)
    };
    let missing: Vec<&&str> = names.iter().filter(|name| is_test(name) != Some(true)).collect();
    assert!(missing.is_empty(), "no such tests: {missing:?}");
}

#[test]
fn names_are_told_from_other_words() {
    let names = named("`a_test_is_named` and `rbbackupd invite`, `no_test`, `tests/x.rs`, `another_one_is_here`");
    assert_eq!(names.into_iter().collect::<Vec<_>>(), ["a_test_is_named", "another_one_is_here"]);
}
