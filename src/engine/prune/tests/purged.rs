//! What was purged goes, however young its pack; what others need, or nobody ever named, stays.

use super::*;
use crate::backup::purge::PurgeRecord;

fn purge(f: &Fixture, path: &str, until: u64) {
    let record = PurgeRecord {
        run: RunId(*Digest::of(path.as_bytes()).0.first_chunk().unwrap()),
        path: RelPath::new(path.as_bytes()).unwrap(),
        until,
        time: f.now,
        client: ClientInfo::default(),
        paths: 1,
        snapshots: 1,
        contents: 1,
        bytes: 1,
    };
    f.snapshots().purge(&record).unwrap();
}

fn recipe_of(chunks: &[&[u8]]) -> (Digest, Vec<u8>, Vec<u8>) {
    let list = chunks.iter().map(|chunk| (Digest::of(chunk), u32::try_from(chunk.len()).unwrap())).collect();
    (Digest::of(&chunks.concat()), Recipe { class: SizeClass::Kib64, chunks: list }.encode(), chunks.concat())
}

/// One young pack of all of it: without the purge nothing of it would go.
#[test]
fn what_only_a_purged_path_named_goes_at_once_and_nothing_else() {
    let f = Fixture::new();
    let [stay, foreign, secret, own, shared, other] = [1, 2, 3, 4, 5, 6].map(|seed| noise(seed, 40_000));
    let (large, large_recipe, large_whole) = recipe_of(&[&own, &shared, &stay]);
    let (kept, kept_recipe, kept_whole) = recipe_of(&[&shared, &other]);
    f.commit(3, &[&stay, &kept_whole, &stay, &large_whole, &secret]);
    f.commit(2, &[&stay, &kept_whole, &stay]);
    let content = |raw| (BlobKind::Content, Digest::of(raw), raw);
    let recipes = [(BlobKind::Recipe, large, &large_recipe[..]), (BlobKind::Recipe, kept, &kept_recipe)];
    let contents = [&stay[..], &foreign, &secret, &own, &shared, &other].map(content);
    f.pack(1, &[&contents[..], &recipes].concat());
    assert_eq!(clean(&f.prune()), Swept::default());
    assert!(f.gives(&secret) && f.gives(&large_whole));
    // One of two paths that have the same content, and it alone: nothing goes.
    purge(&f, "home/f002", 1);
    assert_eq!(clean(&f.prune()), Swept::default());
    for path in ["home/f003", "home/f004"] {
        purge(&f, path, 2);
    }
    // As after a crash behind the record: the next pruning does it.
    let f = f.reopened();
    let swept = clean(&f.prune());
    assert_eq!((swept.packs_removed, swept.packs_written), (1, 1));
    assert!(!f.gives(&secret) && !f.gives(&large_whole) && !f.gives(&own));
    for content in [&stay, &foreign, &shared, &other, &kept_whole] {
        assert!(f.gives(content));
    }
    assert_eq!(clean(&f.prune()), Swept::default(), "and that once");
}

#[test]
fn purging_lets_nothing_go_that_is_only_old() {
    let f = Fixture::new();
    let [stay, foreign, secret] = [1, 2, 3].map(|seed| noise(seed, 2_000));
    f.commit(3, &[&stay, &secret]);
    f.commit(2, &[&stay]);
    f.pack_whole(400, &[&foreign]);
    f.pack_whole(400, &[&secret]);
    purge(&f, "home/f001", 1);
    assert_eq!(sweep_purged(&f.hub, &f.copy, &|| true).unwrap().packs_removed, 1);
    assert!(f.gives(&foreign) && !f.gives(&secret));
}
