//! What a session would notice of the catalog.

use std::collections::BTreeMap;
use std::fs;

use proptest::prelude::*;

use super::*;
use crate::backup::entry::SizeClass;
use crate::backup::fingerprint::Fingerprint;

fn rel(text: &str) -> RelPath {
    RelPath::new(text.as_bytes()).unwrap()
}

fn file(path: &str, content: &str) -> Row {
    Row {
        path: rel(path),
        kind: RowKind::File,
        fingerprint: Fingerprint { size: content.len() as u64, ..Fingerprint::default() },
        mode: 0o644,
        uid: 1,
        gid: 2,
        racy: false,
        digest: Some(Digest::of(content.as_bytes())),
        xattrs: Vec::new(),
    }
}

struct Fixture {
    _dir: tempfile::TempDir,
    path: PathBuf,
    catalog: Catalog,
    copy: CopyId,
}

fn fixture() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("catalog.sqlite");
    let catalog = Catalog::open(&path).unwrap();
    let copy = catalog.copy_id(&CopyName::new(b"n", b"u").unwrap()).unwrap();
    Fixture { _dir: dir, path, catalog, copy }
}

fn paths(fixture: &Fixture, root: &str) -> Vec<String> {
    let reader = fixture.catalog.reader().unwrap();
    reader.range(fixture.copy, &rel(root)).map(|row| row.unwrap().path.to_string()).collect()
}

#[test]
fn a_range_is_the_root_and_what_lies_within_in_canonical_order() {
    let f = fixture();
    let rows = ["a!b", "a", "a/x", "a/b/c", "a/b", "ab", "a\x01", "b"].map(|p| Update::Put(file(p, p)));
    f.catalog.apply(f.copy, rows).unwrap();
    assert_eq!(paths(&f, "a"), ["a", "a/b", "a/b/c", "a/x"]);
    assert_eq!(paths(&f, ""), ["a", "a/b", "a/b/c", "a/x", "a\\x01", "a!b", "ab", "b"]);
    assert_eq!(paths(&f, "a/b/c"), ["a/b/c"]);
    assert_eq!(paths(&f, "nothing"), [""; 0]);
}

#[test]
fn copies_do_not_see_each_other() {
    let f = fixture();
    f.catalog.apply(f.copy, [Update::Put(file("a", "content"))]).unwrap();
    let other = f.catalog.copy_id(&CopyName::new(b"n", b"v").unwrap()).unwrap();
    assert_ne!(other, f.copy);
    let reader = f.catalog.reader().unwrap();
    assert!(reader.is_empty(other).unwrap() && !reader.is_empty(f.copy).unwrap());
    assert!(!reader.has_content(other, &Digest::of(b"content")).unwrap());
    assert!(reader.has_content(f.copy, &Digest::of(b"content")).unwrap());
    assert_eq!(f.catalog.copy_id(&CopyName::new(b"n", b"u").unwrap()).unwrap(), f.copy);
}

#[test]
fn content_is_found_until_its_last_file_goes() {
    let f = fixture();
    f.catalog.apply(f.copy, [Update::Put(file("a", "x")), Update::Put(file("b", "x"))]).unwrap();
    let reader = f.catalog.reader().unwrap();
    let found = || -> Vec<_> {
        reader.find_content(f.copy, &Digest::of(b"x")).unwrap().into_iter().map(|r| r.path.to_string()).collect()
    };
    assert_eq!(found(), ["a", "b"]);
    f.catalog.apply(f.copy, [Update::Put(file("a", "y")), Update::Remove(rel("nothing"))]).unwrap();
    assert_eq!(found(), ["b"]);
    f.catalog.apply(f.copy, [Update::Remove(rel("b"))]).unwrap();
    assert_eq!(found(), [""; 0]);
    assert_eq!(reader.get(f.copy, &rel("a")).unwrap(), Some(file("a", "y")));
    assert_eq!(reader.get(f.copy, &rel("b")).unwrap(), None);
}

#[test]
fn a_symlinks_target_is_no_content() {
    let f = fixture();
    f.catalog.apply(f.copy, [Update::Put(Row { kind: RowKind::Symlink, ..file("l", "target") })]).unwrap();
    assert!(!f.catalog.reader().unwrap().has_content(f.copy, &Digest::of(b"target")).unwrap());
}

#[test]
fn a_chunk_is_found_while_a_file_with_it_is_there_or_retired() {
    let f = fixture();
    let chunk = |s: &str| Digest::of(s.as_bytes());
    let recipe = Recipe {
        class: SizeClass::Kib64,
        chunks: vec![(chunk("1"), 40_000), (chunk("2"), 50_000), (chunk("1"), 40_000)],
    };
    let digest = Digest::of(b"big");
    f.catalog
        .apply(f.copy, [Update::Put(file("big", "big")), Update::PutRecipe { digest, recipe: recipe.clone() }])
        .unwrap();
    let reader = f.catalog.reader().unwrap();
    assert_eq!(reader.recipe(f.copy, &digest).unwrap(), Some(recipe));
    let place = |offset, len| Some(ChunkPlace { file: digest, offset, len });
    assert_eq!(reader.find_chunk(f.copy, &chunk("1")).unwrap(), place(0, 40_000));
    assert_eq!(reader.find_chunk(f.copy, &chunk("2")).unwrap(), place(40_000, 50_000));
    assert_eq!(reader.find_chunk(f.copy, &chunk("3")).unwrap(), None);
    f.catalog.apply(f.copy, [Update::RemoveTree(RelPath::root())]).unwrap();
    assert_eq!(reader.find_chunk(f.copy, &chunk("2")).unwrap(), None);
    f.catalog.apply(f.copy, [Update::PutRetired { digest, size: 130_000, place: rel("ab/cd") }]).unwrap();
    assert_eq!(reader.find_chunk(f.copy, &chunk("2")).unwrap(), place(40_000, 50_000));
    assert_eq!(reader.retired(f.copy, &digest).unwrap(), Some(rel("ab/cd")));
    assert_eq!(reader.retired_totals(f.copy).unwrap(), (1, 130_000));
    f.catalog.apply(f.copy, [Update::RemoveRetired(digest)]).unwrap();
    assert_eq!(reader.retired_totals(f.copy).unwrap(), (0, 0));
}

#[test]
fn a_failed_transaction_changes_nothing() {
    let f = fixture();
    let error =
        f.catalog.apply(f.copy, [Update::Put(file("a", "x")), Update::MoveTree { from: rel("a"), to: rel("a/b") }]);
    assert!(matches!(error, Err(CatalogError::Move { .. })));
    assert!(f.catalog.reader().unwrap().is_empty(f.copy).unwrap());
}

#[test]
fn skipping_leaves_out_what_lies_within() {
    let f = fixture();
    let mut rows: Vec<_> = (0..5000).map(|i| format!("d/{i:05}")).collect();
    rows.extend(["d".into(), "c".into(), "e".into()]);
    f.catalog.apply(f.copy, rows.iter().map(|p| Update::Put(file(p, p)))).unwrap();
    let reader = f.catalog.reader().unwrap();
    let mut range = reader.range(f.copy, &RelPath::root());
    let mut seen = Vec::new();
    while let Some(row) = range.next() {
        let path = row.unwrap().path;
        seen.push(path.to_string());
        if path == rel("d") {
            range.skip_within(&path);
        }
    }
    assert_eq!(seen, ["c", "d", "e"]);
}

#[test]
fn it_survives_reopening_and_is_made_anew_when_damaged() {
    let Fixture { _dir, path, catalog, copy } = fixture();
    catalog.apply(copy, [Update::Put(file("a", "x"))]).unwrap();
    drop(catalog);
    let catalog = Catalog::open(&path).unwrap();
    assert!(!catalog.reader().unwrap().is_empty(copy).unwrap());
    catalog.checkpoint().unwrap();
    drop(catalog);

    // While the log has every page, SQLite puts even this right.
    fs::remove_file(path.with_extension("sqlite-wal")).unwrap();
    fs::write(&path, b"this is no database, but long enough to be looked at as if it were one").unwrap();
    let catalog = Catalog::open(&path).unwrap();
    let copy = catalog.copy_id(&CopyName::new(b"n", b"u").unwrap()).unwrap();
    assert!(catalog.reader().unwrap().is_empty(copy).unwrap());
    drop(catalog);

    // Another version, such as a newer program leaves behind.
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    assert!(matches!(CatalogReader::open(&path), Err(CatalogError::Damaged { .. })));
    Catalog::open(&path).unwrap().reader().unwrap();
}

#[test]
fn a_rotten_row_is_an_error_and_the_next_start_begins_anew() {
    let Fixture { _dir, path, catalog, copy } = fixture();
    catalog.apply(copy, [Update::Put(file("a", "x"))]).unwrap();
    Connection::open(&path).unwrap().execute("UPDATE rows SET path = x'62'", []).unwrap();
    let reader = catalog.reader().unwrap();
    assert!(matches!(reader.range(copy, &RelPath::root()).next(), Some(Err(CatalogError::Damaged { .. }))));
    drop((reader, catalog));
    let catalog = Catalog::open(&path).unwrap();
    assert!(catalog.reader().unwrap().is_empty(copy).unwrap());
    drop(catalog);
    // The marker is gone: nothing is thrown away a second time.
    assert_eq!(
        fs::read_dir(path.parent().unwrap())
            .unwrap()
            .filter(|e| e.as_ref().unwrap().path().to_string_lossy().ends_with("-damaged"))
            .count(),
        0
    );
}

#[derive(Debug, Clone)]
enum Step {
    Put(String),
    Remove(String),
    RemoveTree(String),
    MoveTree(String, String),
}

fn step() -> impl Strategy<Value = Step> {
    let path = || "[ab](/[ab!]){0,3}";
    prop_oneof![
        4 => path().prop_map(Step::Put),
        1 => path().prop_map(Step::Remove),
        1 => path().prop_map(Step::RemoveTree),
        2 => (path(), path()).prop_map(|(a, b)| Step::MoveTree(a, b)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn updates_do_what_a_map_would(steps in prop::collection::vec(step(), 0..30)) {
        let f = fixture();
        let mut model: BTreeMap<RelPath, Row> = BTreeMap::new();
        for (i, step) in steps.into_iter().enumerate() {
            let update = match step {
                Step::Put(p) => {
                    let row = file(&p, &i.to_string());
                    model.insert(row.path.clone(), row.clone());
                    Update::Put(row)
                }
                Step::Remove(p) => {
                    model.remove(&rel(&p));
                    Update::Remove(rel(&p))
                }
                Step::RemoveTree(p) => {
                    model.retain(|path, _| !path.is_within(&rel(&p)));
                    Update::RemoveTree(rel(&p))
                }
                Step::MoveTree(from, to) => {
                    let (from, to) = (rel(&from), rel(&to));
                    if from.is_within(&to) || to.is_within(&from) {
                        continue;
                    }
                    model.retain(|path, _| !path.is_within(&to));
                    let moved: Vec<_> = model.keys().filter(|p| p.is_within(&from)).cloned().collect();
                    for path in moved {
                        let mut row = model.remove(&path).unwrap();
                        row.path = to.join_path(&path.strip_prefix(&from).unwrap()).unwrap();
                        model.insert(row.path.clone(), row);
                    }
                    Update::MoveTree { from, to }
                }
            };
            f.catalog.apply(f.copy, [update]).unwrap();
        }
        let reader = f.catalog.reader().unwrap();
        let rows: Vec<_> = reader.range(f.copy, &RelPath::root()).map(Result::unwrap).collect();
        prop_assert_eq!(rows, model.into_values().collect::<Vec<_>>());
    }
}

#[test]
fn content_is_looked_up_by_the_index() {
    let f = fixture();
    let conn = Connection::open(&f.path).unwrap();
    let sql = format!("EXPLAIN QUERY PLAN {}", reader::FIND_CONTENT);
    let plan: String = conn.query_row(&sql, params![1, 2, 3], |row| row.get(3)).unwrap();
    assert!(plan.contains("rows_by_digest (copy=? AND prefix=?)"), "{plan}");
}

/// Not a test of behaviour: `cargo test --release catalog_speed -- --ignored --nocapture` prints the figures.
#[test]
#[ignore = "a measurement"]
fn catalog_speed() {
    let f = fixture();
    let rows: Vec<_> = (0..100_000)
        .map(|i| file(&format!("home/user/projects/linux/dir{:04}/some_file_{i:06}.c", i / 50), &i.to_string()))
        .collect();
    let updates: Vec<_> = rows.iter().cloned().map(Update::Put).collect();
    let timed = |what: &str, run: &mut dyn FnMut()| {
        let start = std::time::Instant::now();
        run();
        println!("{what}: {:?}", start.elapsed());
    };
    let mut batch = Some(updates.clone());
    timed("insert 100 000", &mut || assert_eq!(f.catalog.apply(f.copy, batch.take().unwrap()).unwrap(), 100_000));
    let reader = f.catalog.reader().unwrap();
    for _ in 0..2 {
        timed("range 100 000", &mut || assert_eq!(reader.range(f.copy, &rel("home")).count(), 100_000));
    }
    timed("find_content 100 000", &mut || {
        for row in &rows {
            assert!(reader.has_content(f.copy, row.digest.as_ref().unwrap()).unwrap());
        }
    });
    let mut batch = Some(updates);
    timed("replace 100 000", &mut || assert_eq!(f.catalog.apply(f.copy, batch.take().unwrap()).unwrap(), 100_000));
    timed("move 100 000", &mut || {
        let moved = Update::MoveTree { from: rel("home/user"), to: rel("home/other") };
        assert_eq!(f.catalog.apply(f.copy, [moved]).unwrap(), 1);
    });
    timed("checkpoint", &mut || f.catalog.checkpoint().unwrap());
    println!("size: {} KiB", fs::metadata(&f.path).unwrap().len() / 1024);
}
