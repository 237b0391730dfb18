//! LEEME.md's tables of messages say what `src/net/message.rs` says: every message with its kind and its fields, in order.
//!
//! Reads the source as text: the list in `messages! { … }` and the fields of each struct. Types and meanings are for people
//! to keep right.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// (kind, name) → names of the fields, in order.
type Messages = BTreeMap<(u8, String), Vec<String>>;

/// The source of the wire: `message.rs`, and the files of its folder if it has one.
fn source() -> String {
    let net = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/net");
    let mut text = fs::read_to_string(net.join("message.rs")).unwrap_or_default();
    let Ok(folder) = fs::read_dir(net.join("message")) else { return text };
    for entry in folder {
        text.push_str(&fs::read_to_string(entry.unwrap().path()).unwrap());
    }
    text
}

/// Fields of the struct `name`; none if there is no such struct.
fn fields(source: &str, name: &str) -> Option<Vec<String>> {
    let begin = format!("pub struct {name} {{");
    let body = &source[source.find(&begin)? + begin.len()..];
    let body = &body[..body.find("\n}").filter(|_| !body.starts_with('}')).unwrap_or(0)];
    let field = |line: &str| Some(line.trim().strip_prefix("pub ")?.split(':').next()?.to_owned());
    Some(body.lines().filter_map(field).collect())
}

fn in_source(source: &str) -> Messages {
    let begin = source.find("\nmessages! {").expect("the list of messages");
    let list = &source[begin..][..source[begin..].find("\n}").expect("its end")];
    let words: Vec<&str> = list.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let message = |pair: &[&str]| {
        let kind = pair[0].parse().ok()?;
        Some(((kind, pair[1].to_owned()), fields(source, pair[1]).expect(pair[1])))
    };
    words.windows(2).filter_map(message).collect()
}

/// Rows ``| 13 | `Offer` | C → S | `batch: u32`, … | … |``.
fn in_document(markdown: &str) -> Messages {
    let row = |line: &str| {
        let cells: Vec<&str> = line.trim_matches(['|', ' ']).split(" | ").collect();
        let kind = cells.first()?.parse().ok()?;
        let name = cells.get(1)?.strip_prefix('`')?.strip_suffix('`')?;
        let quoted = cells.get(3)?.split('`').skip(1).step_by(2);
        let field = |text: &str| text.split(':').next().unwrap_or_default().to_owned();
        Some(((kind, name.to_owned()), quoted.map(field).collect()))
    };
    markdown.lines().filter(|line| line.starts_with("| ")).filter_map(row).collect()
}

#[test]
fn leeme_tells_every_message_and_its_fields() {
    let leeme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("LEEME.md")).unwrap();
    let (told, real) = (in_document(&leeme), in_source(&source()));
    assert!(real.len() > 25, "the list of messages was not read");
    for (message, fields) in &real {
        assert_eq!(told.get(message), Some(fields), "{message:?}: LEEME.md (left), the source (right)");
    }
    assert_eq!(told.len(), real.len(), "LEEME.md tells of messages that are not there");
}

#[test]
fn both_are_read_as_they_are_written() {
    let source = "pub struct A {\n    /// X.\n    pub x: u8,\n    pub y: u8,\n}\npub struct B {}\n\nmessages! {\n    control { 1 A, 2 B, }\n}\n";
    let expected =
        Messages::from([((1, "A".to_owned()), vec!["x".to_owned(), "y".to_owned()]), ((2, "B".to_owned()), vec![])]);
    assert_eq!(in_source(source), expected);
    let table = "| tipo | mensaje |\n| 1 | `A` | C → S | `x: u8` (0), `y` | de a |\n| 2 | `B` | ← | (ninguno) | b |\n";
    assert_eq!(in_document(table), expected);
}
