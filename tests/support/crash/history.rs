//! What a store's history holds, whatever it is doing: retired files, and what is in its packs.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use rbbackup::store::layout::{OpenMode, Store};
use rbbackup::store::names::CopyName;
use rbbackup::store::vault::{BlobKind, BlobPlace, PackId, Vault};

/// Contents of history; each pack is read once, for a pack never changes.
#[derive(Default)]
pub struct History(HashMap<PackId, HashSet<[u8; 32]>>);

impl History {
    /// All contents, verified. Retired files first: while we look they may be packed, but never unpacked.
    pub fn contents(&mut self, store: &Path) -> HashSet<[u8; 32]> {
        let mut all = HashSet::new();
        read_retired(&store.join(".rbbackup/retired"), &mut all);
        let opened = Store::open(store, OpenMode::ReadOnly).unwrap();
        for copy in names(&store.join(".rbbackup/vault")) {
            let copy = CopyName::from_component(copy.as_bytes()).unwrap();
            let vault = Vault::open(&opened, &copy).unwrap();
            for pack in vault.packs().unwrap() {
                all.extend(self.0.entry(pack).or_insert_with(|| read_pack(&vault, pack)).iter());
            }
        }
        all
    }
}

fn names(dir: &Path) -> Vec<String> {
    let entries = dir.read_dir().map(|names| names.filter_map(|e| e.ok()?.file_name().into_string().ok()).collect());
    entries.unwrap_or_default()
}

/// What vanishes meanwhile is packed.
fn read_retired(dir: &Path, all: &mut HashSet<[u8; 32]>) {
    for name in names(dir) {
        let path = dir.join(name);
        match path.symlink_metadata() {
            Ok(meta) if meta.is_dir() => read_retired(&path, all),
            Ok(meta) if meta.is_file() => all.extend(std::fs::read(&path).ok().map(|b| *blake3::hash(&b).as_bytes())),
            _ => {}
        }
    }
}

/// Small files and chunks by their digest; large files, put together, by theirs.
fn read_pack(vault: &Vault, pack: PackId) -> HashSet<[u8; 32]> {
    assert!(vault.verify(pack, &mut |_| true).unwrap());
    let index = vault.index(pack).unwrap();
    let contents = index.blobs.iter().map(|blob| match blob.kind {
        BlobKind::Content => *blake3::hash(&vault.read(&BlobPlace { pack, blob: *blob }).unwrap()).as_bytes(),
        BlobKind::Recipe => {
            let mut hasher = blake3::Hasher::new();
            let mut content = vault.content(None, &blob.digest).unwrap().expect("its chunks are there");
            std::io::copy(&mut content, &mut hasher).unwrap();
            *hasher.finalize().as_bytes()
        }
    });
    contents.collect()
}
