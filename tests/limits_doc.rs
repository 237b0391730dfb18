//! LEEME.md's table of limits says what `src/backup/limits.rs` says: every constant is there, once, with its value.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use rbbackup::backup::limits;

macro_rules! limits {
    ($($name:ident)*) => {
        BTreeMap::from([$((stringify!($name).to_owned(), u64::try_from(limits::$name).expect("limits are not negative")),)*])
    };
}

/// The constants as the compiler sees them.
#[allow(clippy::unnecessary_fallible_conversions, clippy::useless_conversion)]
fn constants() -> BTreeMap<String, u64> {
    limits! {
        NAME_BYTES_MAX PATH_BYTES_MAX XATTRS_BYTES_MAX XATTRS_COUNT_MAX
        CONTROL_FRAME_BYTES_MAX BULK_FRAME_BYTES_MAX PACKED_RAW_BYTES_MAX PACKED_BYTES_MAX HANDSHAKE_FRAME_BYTES_MAX HANDSHAKE_SECS HANDSHAKES_MAX KEEPALIVE_SECS SILENCE_SECS
        COMMIT_SECS LINK_QUEUE_MAX WINDOW_BYTES BATCH_COUNT_MAX BATCH_BYTES_TARGET CHUNK_FRAME_BYTES FILTER_COUNT_MAX FILTER_BYTES_MAX
        OWNER_NAMES_MAX OWNER_NAMES_BYTES_MAX SENTENCES_BYTES_MAX PROMISED_COUNT_MAX UNSEEN_BYTES_MAX HEADS_BYTES_MAX TARGET_QUEUE_BYTES CHALLENGE_RANGES_MAX CHALLENGE_RANGE_BYTES_MAX MISSING_ROUNDS_MAX WHOLE_FILE_BYTES_MAX FILES_OPEN_MAX FILE_CHUNKS_MAX CHUNK_BYTES_MAX DELTA_BYTES_MAX UNSTABLE_READS_MAX
        PORT SESSIONS_MAX ADDRESS_CONNECTIONS_MAX IDENTITY_SESSIONS_MAX
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect(path)
}

/// Rows of the form ``| `NAME` | 1 048 576 | … |``.
fn table(markdown: &str) -> Vec<(String, u64)> {
    let row = |line: &str| {
        let mut cells = line.strip_prefix("| `")?.split(" | ");
        let name = cells.next()?.strip_suffix('`')?;
        let is_constant = name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
        let value = cells.next()?.replace(' ', "").parse().ok()?;
        is_constant.then(|| (name.to_owned(), value))
    };
    markdown.lines().filter_map(row).collect()
}

/// Names of the constants that a source declares.
fn declared(source: &str) -> Vec<String> {
    let name = |line: &str| Some(line.strip_prefix("pub const ")?.split(':').next()?.to_owned());
    source.lines().filter_map(name).collect()
}

#[test]
fn leeme_tells_every_limit_and_its_value() {
    let rows = table(&read("LEEME.md"));
    let told: BTreeMap<_, _> = rows.iter().cloned().collect();
    assert_eq!(told.len(), rows.len(), "a limit stands twice in LEEME.md");
    assert_eq!(told, constants(), "left: LEEME.md; right: src/backup/limits.rs");
}

#[test]
fn no_limit_is_forgotten_by_this_test() {
    let mut names = declared(&read("src/backup/limits.rs"));
    names.sort();
    assert_eq!(names, constants().into_keys().collect::<Vec<_>>());
}

#[test]
fn the_table_is_read_as_it_is_written() {
    let text = "| `A_MAX` | 1 048 576 | bytes |\n| `-r` | 3 | an option |\n| límite | valor |\n| `B` | x |\n";
    assert_eq!(table(text), [("A_MAX".to_owned(), 1_048_576)]);
    assert_eq!(declared("//! x\npub const A_MAX: usize = 1;\nconst B: u8 = 2;\n"), ["A_MAX"]);
}
