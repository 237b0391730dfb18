//! Opening, making, locking; what is told apart.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;

fn copy() -> CopyName {
    CopyName::new(b"10.0.0.1", b"u").unwrap()
}

#[test]
fn a_store_is_made_once_and_keeps_its_id() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    assert!(matches!(Store::open(&path, OpenMode::Write), Err(StoreError::NotThere { .. })));
    assert!(Store::open_or_create(&path.join("deeper")).is_err());
    let store = Store::open_or_create(&path).unwrap();
    let id = store.id();
    assert!(matches!(Store::open_or_create(&path), Err(StoreError::InUse { .. })));
    assert_eq!(Store::open(&path, OpenMode::ReadOnly).unwrap().id(), id);
    drop(store);
    assert_eq!(Store::open_or_create(&path).unwrap().id(), id);
    for folder in [path.clone(), path.join(META_NAME)] {
        assert_eq!(fs::metadata(folder).unwrap().permissions().mode() & 0o777, 0o700);
    }
}

#[test]
fn a_folder_with_other_files_is_taken_and_a_link_to_it_works() {
    let dir = tempfile::tempdir().unwrap();
    let real = dir.path().join("real");
    fs::create_dir_all(real.join("10.0.0.1/u/home")).unwrap();
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(&real, &link).unwrap();
    assert!(matches!(Store::open(&link, OpenMode::ReadOnly), Err(StoreError::NotAStore { .. })));
    let store = Store::open_or_create(&link).unwrap();
    store.copy_dir(&copy()).unwrap().stat(b"home").unwrap();
}

#[test]
fn a_copys_folder_is_private_and_never_reached_through_a_link() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open_or_create(dir.path()).unwrap();
    store.copy_dir(&copy()).unwrap();
    for folder in ["10.0.0.1", "10.0.0.1/u"] {
        assert_eq!(fs::metadata(dir.path().join(folder)).unwrap().permissions().mode() & 0o777, 0o700);
    }
    std::os::unix::fs::symlink("/tmp", dir.path().join("10.0.0.2")).unwrap();
    assert!(store.copy_dir(&CopyName::new(b"10.0.0.2", b"u").unwrap()).is_err());
    let reader = Store::open(dir.path(), OpenMode::ReadOnly).unwrap();
    reader.copy_dir(&copy()).unwrap();
    assert!(reader.copy_dir(&CopyName::new(b"10.0.0.3", b"u").unwrap()).is_err());
}

#[test]
fn another_format_and_damage_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    drop(Store::open_or_create(dir.path()).unwrap());
    let format = dir.path().join(META_NAME).join("format");
    fs::write(&format, "rbbackup-store 2\n").unwrap();
    for mode in [OpenMode::Write, OpenMode::ReadOnly] {
        assert!(matches!(Store::open(dir.path(), mode), Err(StoreError::OtherFormat { found: 2, .. })));
    }
    fs::write(&format, "").unwrap();
    assert!(matches!(Store::open(dir.path(), OpenMode::Write), Err(StoreError::Damaged { .. })));
    // Lost beside snapshots, it is not simply made anew.
    fs::remove_file(&format).unwrap();
    fs::create_dir(dir.path().join(META_NAME).join("snapshots/10.0.0.1@u")).unwrap();
    assert!(matches!(Store::open(dir.path(), OpenMode::Write), Err(StoreError::Damaged { .. })));
}

#[test]
fn a_relays_state_is_no_store_and_a_store_is_no_relays_state() {
    let dir = tempfile::tempdir().unwrap();
    let (relay, store) = (dir.path().join("relay"), dir.path().join("store"));
    let opened = Store::open_or_create_relay(&relay).unwrap();
    assert!(matches!(opened.copy_dir(&copy()), Err(StoreError::IsRelay { .. })));
    assert!(opened.snapshots(&copy()).unwrap().list().unwrap().is_empty() && opened.copies().unwrap().is_empty());
    let id = opened.id();
    drop(opened);
    assert_eq!(fs::read_dir(&relay).unwrap().count(), 1, "nothing but its own folder");
    drop(Store::open_or_create(&store).unwrap());
    for mode in [OpenMode::Write, OpenMode::ReadOnly] {
        assert!(matches!(Store::open(&relay, mode), Err(StoreError::IsRelay { .. })));
    }
    assert!(matches!(Store::open_or_create_relay(&store), Err(StoreError::IsStore { .. })));
    assert_eq!(Store::open_or_create_relay(&relay).unwrap().id(), id);
}

#[test]
fn a_file_is_no_store() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "x").unwrap();
    let opened = Store::open_or_create(&dir.path().join("file"));
    assert!(matches!(opened, Err(StoreError::NotADirectory { .. })));
}
