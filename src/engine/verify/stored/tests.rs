//! A pack whose index is damaged, in the middle of a life: the catalog knows what it holds.

use std::fs;

use super::super::fixture::{Fixture, noise};

#[test]
fn a_pack_with_a_damaged_index_is_named_with_the_snapshots_that_it_is_the_history_of() {
    let fixture = Fixture::new();
    let contents = [noise(1, 5000), noise(2, 700_000), noise(3, 10)];
    fixture.push("other", b"x");
    for content in &contents {
        fixture.push("file", content);
    }
    assert_eq!(fixture.verify("", 1).0, []);
    // Of the large file.
    let pack = fixture.with_hub(|hub, copy| {
        let vault = hub.vault(copy).unwrap();
        let packs = vault.packs().unwrap();
        vault.pack_path(*packs.iter().max_by_key(|pack| vault.index(**pack).unwrap().bytes).unwrap())
    });
    let mut bytes = fs::read(&pack).unwrap();
    let at = bytes.len() - 60;
    bytes[at] ^= 1;
    fs::write(&pack, &bytes).unwrap();
    for _ in 0..2 {
        let (found, _) = fixture.verify("", 1);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((found[0].what.as_slice(), found[0].snapshots), (pack.as_os_str().as_encoded_bytes(), 1));
        assert!(found[0].why.contains("index"), "{}", found[0].why);
        assert_eq!(fixture.restore("file", 3), (Some(contents[1].clone()), 0), "the catalog still knows where it is");
    }
    fixture.without_catalog();
    let (found, _) = fixture.verify("", 1);
    assert_eq!(found.len(), 2, "now the file is named, too: {found:?}");
    assert_eq!(found[1].snapshots, 1);
    assert_eq!(fixture.restore("file", 3), (None, 1));
    assert_eq!(fixture.restore("file", 2), (Some(contents[0].clone()), 0));
}
