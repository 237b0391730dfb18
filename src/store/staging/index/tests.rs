//! The index, with what it holds in memory and on the disk.

use super::*;
use crate::backup::fingerprint::Fingerprint;
use crate::store::staging::SmallStat;
use crate::tree::stat::FileKind;

fn rel(text: &str) -> RelPath {
    RelPath::new(text.as_bytes()).unwrap()
}

fn file(content: u64) -> StagedFile {
    let fingerprint = Fingerprint { size: 10, ino: content, ..Fingerprint::default() };
    let stat = SmallStat { kind: FileKind::File, fingerprint, mode: 0, uid: 0, gid: 0 };
    StagedFile { digest: digest(content), xattrs: Vec::new(), stat }
}

fn digest(content: u64) -> Digest {
    Digest::of(&content.to_le_bytes())
}

/// One that keeps so many files in memory.
fn index(recent_max: usize, files: &[(&str, u64)]) -> (tempfile::TempDir, Index) {
    let temp = tempfile::tempdir().unwrap();
    let dir = Arc::new(SafeDir::open_operator(temp.path()).unwrap());
    let mut index = Index { recent_max, ..Index::new(dir) };
    for (path, content) in files {
        index.enter(&rel(path), file(*content)).unwrap();
    }
    (temp, index)
}

fn paths(index: &Index) -> Vec<String> {
    let mut paths = Vec::new();
    let mut note = |path: &RelPath| {
        paths.push(path.to_string());
        Ok(())
    };
    index.in_order(&mut note).unwrap();
    assert_eq!((paths.len(), index.bytes()), (index.count, 10 * index.count as u64));
    paths
}

fn has(index: &mut Index, content: u64) -> bool {
    index.has(&digest(content)).unwrap()
}

/// A tree that is staged is staged once more, with other contents: in order, as it comes.
#[test]
fn what_takes_the_place_of_what_is_there_costs_no_more_the_more_there_is() {
    let reads = |files: usize| {
        let name = |n: usize| rel(&format!("d{:02}/f{n:05}", n / 1000));
        let (_temp, mut index) = index(500, &[]);
        for round in 0..3 {
            for n in 0..files {
                assert_eq!(index.within(&name(n)).unwrap().len(), usize::from(round > 0), "{n}");
                index.enter(&name(n), file((round * files + n) as u64)).unwrap();
            }
        }
        assert_eq!(index.within(&rel("d01")).unwrap().len(), 1000);
        index.written.map_or(0, |written| written.reads)
    };
    let (few, many) = (reads(2_000), reads(8_000));
    assert!(many < 5 * few, "{few} blocks were read for 2 000, {many} for 8 000");
    assert!(many < 8_000, "{many} for 8 000");
}

#[test]
fn what_is_within_goes_with_its_content() {
    for recent_max in [100, 4, 3, 2, 1] {
        let (_temp, mut index) = index(recent_max, &[("a", 1), ("d/x", 2), ("d/y/z", 3), ("d.c", 4), ("e", 2)]);
        index.remove_within(&rel("d")).unwrap();
        assert_eq!(paths(&index), ["a", "d.c", "e"]);
        // The content of `d/x` stands at `e` too, which came later.
        assert!(has(&mut index, 2) && !has(&mut index, 3));
        assert_eq!(index.place_of(&digest(2)).unwrap(), Some(rel("e")));
    }
}

#[test]
fn only_what_is_wanted_is_kept() {
    for recent_max in [100, 3, 1] {
        let (_temp, mut index) = index(recent_max, &[("a", 1), ("b", 2), ("c/d", 3), ("e", 1), ("f", 2)]);
        let wanted = [rel("0"), rel("b"), rel("c"), rel("c/d"), rel("z")];
        let keep = |index: &mut Index| index.keep_only(|path| Ok(wanted.contains(path))).unwrap();
        assert!(keep(&mut index));
        assert_eq!(paths(&index), ["b", "c/d"]);
        assert!(!has(&mut index, 1) && has(&mut index, 2) && has(&mut index, 3));
        assert!(!keep(&mut index));
        assert!(index.keep_only(|_| Ok(false)).unwrap() && index.is_empty());
    }
}

#[test]
fn what_was_begun_is_known_until_it_is_whole() {
    for recent_max in [100, 1] {
        let (_temp, mut index) = index(recent_max, &[("a", 1)]);
        assert!(!index.has_begun());
        index.begin(&rel("a")).unwrap();
        assert!(index.has_begun() && index.get(&rel("a")).unwrap().is_none() && !has(&mut index, 1));
        index.enter(&rel("a"), file(2)).unwrap();
        assert!(!index.has_begun() && has(&mut index, 2));
    }
}

/// Whatever is done with it, it is a map from paths to files; and what of it is in memory makes no difference.
#[test]
fn it_is_a_map_wherever_its_files_are() {
    let mut random = 1_u64;
    let mut next = |bound: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % bound
    };
    for recent_max in [1, 7, 40, 1000] {
        let (temp, mut index) = index(recent_max, &[]);
        let mut model = std::collections::BTreeMap::new();
        for round in 0..3000 {
            let path = rel(&format!("{}/{}", next(30), next(30)));
            match next(20) {
                0 => {
                    let top = path.parent().unwrap();
                    index.remove_within(&top).unwrap();
                    model.retain(|known: &RelPath, _| !known.is_within(&top));
                }
                1 => {
                    index.begin(&path).unwrap();
                    model.remove(&path);
                }
                2 if round % 7 == 0 => {
                    let keep = next(3);
                    let wanted = |path: &RelPath| path.as_bytes().len() as u64 % 3 != keep;
                    let others = index.keep_only(|path| Ok(wanted(path))).unwrap();
                    let before = model.len();
                    model.retain(|path, _| wanted(path));
                    assert_eq!(others, before > model.len());
                }
                _ => {
                    let content = next(500);
                    index.enter(&path, file(content)).unwrap();
                    model.insert(path.clone(), content);
                }
            }
            assert_eq!(index.get(&path).unwrap().map(|file| file.stat.fingerprint.ino), model.get(&path).copied());
            let asked = digest(next(500));
            if let Some(place) = index.place_of(&asked).unwrap() {
                assert_eq!(model.get(&place).map(|content| digest(*content)), Some(asked));
            }
        }
        assert_eq!(paths(&index), model.keys().map(ToString::to_string).collect::<Vec<_>>());
        let top = rel("17");
        let mut within = index.within(&top).unwrap();
        within.sort();
        assert_eq!(within, model.keys().filter(|path| path.is_within(&top)).cloned().collect::<Vec<_>>());
        assert_eq!(index.written.is_some(), recent_max < 1000);
        assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 0, "its file has no name");
    }
}

#[test]
fn a_full_disk_is_told() {
    let (temp, mut index) = index(2, &[("a", 1)]);
    drop(temp);
    assert!(index.enter(&rel("b"), file(2)).is_err());
}
