//! The timeline against snapshots that are kept whole.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::manifest::tests::file;
use super::*;

type Whole = BTreeMap<RelPath, ManifestRecord>;
type Records = std::vec::IntoIter<Result<ChangeRecord, PathError>>;

fn rel(text: &str) -> RelPath {
    RelPath::new(text.as_bytes()).unwrap()
}

fn record(path: &str, content: u64) -> ManifestRecord {
    ManifestRecord { entry: file(path, content), kept: content.is_multiple_of(5) }
}

fn layer(base: Option<usize>, root: &str, snapshots: &[u64], records: Vec<ChangeRecord>) -> Layer<Records> {
    let records: Vec<_> = records.into_iter().map(Ok).collect();
    Layer { base, root: rel(root), snapshots: snapshots.to_vec(), records: records.into_iter() }
}

fn put(path: &str, content: u64) -> ChangeRecord {
    ChangeRecord::Put(record(path, content))
}

/// Path, and for each version: first, last, how many, size, whether it is there still.
fn told(layers: Vec<Layer<Records>>) -> Vec<String> {
    let shown = |version: &Version| {
        let size = version.record.entry.file().map_or(0, |file| file.size);
        let Version { first, last, snapshots, newest, .. } = version;
        format!("{size}@{first}-{last}/{snapshots}{}", if *newest { "+" } else { "" })
    };
    Timeline::new(layers)
        .map(Result::unwrap)
        .map(|history| {
            let versions: Vec<String> = history.versions.iter().map(shown).collect();
            format!("{} {}", history.path, versions.join(" "))
        })
        .collect()
}

#[test]
fn each_path_has_its_versions_and_when_they_were() {
    let layers = vec![
        layer(None, "", &[1], vec![put("a", 1), put("b", 1), put("c", 1)]),
        layer(Some(0), "", &[2, 3], vec![put("b", 2), ChangeRecord::Remove(rel("c"))]),
        layer(Some(1), "", &[5], vec![put("b", 1), put("d", 1)]),
        // A new full manifest; what is the same goes on.
        layer(None, "", &[6, 7], vec![put("a", 1), put("b", 3), put("c", 1)]),
    ];
    let told = told(layers);
    assert_eq!(told, ["a 1@1-7/6+", "b 1@1-1/1 2@2-3/2 1@5-5/1 3@6-7/2+", "c 1@1-1/1 1@6-7/2+", "d 1@5-5/1"]);
}

#[test]
fn roots_that_lie_in_one_another_make_one_stream() {
    let layers = vec![
        layer(None, "home", &[1, 4], vec![put("", 1), put("u/x", 1), put("v", 1)]),
        layer(None, "home/u", &[2], vec![put("", 1), put("x", 1)]),
        layer(Some(1), "home/u", &[3], vec![put("x", 2)]),
        layer(None, "etc", &[9], vec![put("v", 1)]),
    ];
    let told = told(layers);
    let expected = ["etc/v 1@9-9/1+", "home 1@1-4/2+", "home/u 1@2-3/2+"];
    assert_eq!(told[..3], expected);
    assert_eq!(told[3..], ["home/u/x 1@1-4/2+ 1@2-2/1 2@3-3/1+", "home/v 1@1-4/2+"]);
}

#[test]
fn a_base_that_no_snapshot_names_counts_for_those_that_stand_on_it() {
    let layers = vec![
        layer(None, "", &[], vec![put("a", 1), put("b", 1)]),
        layer(Some(0), "", &[7], vec![ChangeRecord::Remove(rel("b"))]),
    ];
    assert_eq!(told(layers), ["a 1@7-7/1+"]);
}

#[test]
fn the_first_error_ends_it() {
    let bad: Vec<Result<ChangeRecord, PathError>> =
        vec![Ok(put("a", 1)), Err(PathError::Nul("x".into())), Ok(put("z", 1))];
    let layers = vec![Layer { base: None, root: RelPath::root(), snapshots: vec![1], records: bad.into_iter() }];
    let found: Vec<_> = Timeline::new(layers).collect();
    assert!(found.iter().any(Result::is_err));
    assert!(found.last().is_some_and(Result::is_err), "nothing comes after it");
}

/// What stands on which earlier layer (or on nothing), how many snapshots name it, what changes.
type Step = (u8, u8, Vec<(u8, u8)>);
/// By root and number.
type Snapshots = BTreeMap<(RelPath, u64), Whole>;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let changes = proptest::collection::vec((0..8u8, 0..4u8), 0..6);
    proptest::collection::vec((any::<u8>(), 0..3u8, changes), 1..20)
}

const PATHS: [&str; 8] = ["", "a", "a/b", "a/c/d", "a.b", "b", "b/a", "z"];

/// The layers of such a history, and each snapshot whole, by root and number.
fn build(steps: Vec<Step>) -> (Vec<Layer<Records>>, Snapshots) {
    let mut layers = Vec::new();
    let mut wholes: Vec<(RelPath, Whole)> = Vec::new();
    let mut snapshots = BTreeMap::new();
    let mut number = 0;
    for (base, names, changes) in steps {
        // Most stand on the newest, some on an older one or on nothing.
        let base = match base % 8 {
            0 => None,
            1 => wholes.len().checked_sub(1).map(|last| usize::from(base) % (last + 1)),
            _ => wholes.len().checked_sub(1),
        };
        let root = rel(if base.is_none() && names == 2 { "a" } else { "" });
        let (root, mut whole) = base.map_or((root, Whole::new()), |base| wholes[base].clone());
        let mut records = BTreeMap::new();
        for (path, content) in changes {
            let path = PATHS[usize::from(path)];
            let change = if content == 0 { ChangeRecord::Remove(rel(path)) } else { put(path, u64::from(content)) };
            records.insert(rel(path), change);
        }
        if base.is_none() {
            records.retain(|_, change| matches!(change, ChangeRecord::Put(_)));
        }
        for (path, change) in &records {
            match change {
                ChangeRecord::Put(record) => whole.insert(path.clone(), record.clone()),
                ChangeRecord::Remove(_) => whole.remove(path),
            };
        }
        let numbers: Vec<u64> = (0..names).map(|i| number + 1 + u64::from(i)).collect();
        number += u64::from(names) + 1;
        for number in &numbers {
            snapshots.insert((root.clone(), *number), whole.clone());
        }
        layers.push(layer(base, &root.to_string(), &numbers, records.into_values().collect()));
        wholes.push((root, whole));
    }
    (layers, snapshots)
}

proptest! {
    #[test]
    fn it_tells_what_each_snapshot_holds(steps in steps()) {
        let (layers, snapshots) = build(steps);
        let histories: Vec<PathHistory> = Timeline::new(layers).map(Result::unwrap).collect();
        prop_assert!(histories.windows(2).all(|pair| pair[0].path < pair[1].path));
        let mut found: BTreeMap<(RelPath, u64), Whole> = snapshots.keys().map(|key| (key.clone(), Whole::new())).collect();
        for PathHistory { path, versions } in histories {
            prop_assert!(!versions.is_empty());
            for version in &versions {
                prop_assert_eq!(&version.root.join_path(&version.record.entry.path).unwrap(), &path);
                let of_root = |number: &u64| snapshots.contains_key(&((*version.root).clone(), *number));
                let numbers: Vec<u64> = (version.first..=version.last).filter(of_root).collect();
                prop_assert_eq!(numbers.len() as u64, version.snapshots);
                let newest = snapshots.keys().filter(|(root, _)| *root == *version.root).map(|(_, n)| *n).max();
                prop_assert_eq!(newest == Some(version.last), version.newest);
                for number in numbers {
                    let whole = found.get_mut(&((*version.root).clone(), number)).unwrap();
                    let twice = whole.insert(version.record.entry.path.clone(), version.record.clone());
                    prop_assert!(twice.is_none());
                }
            }
            for pair in versions.windows(2).filter(|pair| pair[0].root == pair[1].root) {
                let between = snapshots.range(((*pair[0].root).clone(), pair[0].last + 1)..);
                let gap = between.take_while(|((root, n), _)| *root == *pair[0].root && *n < pair[1].first).count();
                prop_assert!(gap > 0 || pair[0].record != pair[1].record, "neighbours differ");
            }
        }
        prop_assert_eq!(found, snapshots);
    }
}
