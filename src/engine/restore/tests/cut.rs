//! What is cut in the middle: the server is gone, or we are.

use super::*;
use crate::backup::bytes::Bytes;
use crate::backup::entry::{Entry, Kind, Meta};
use crate::engine::restore::receive::CheckedTree;

/// Only what the server has said to be all of it tells what is not in it.
#[test]
fn what_had_not_come_when_the_connection_broke_is_not_deleted() {
    for whole in [false, true] {
        let temp = tempfile::tempdir().unwrap();
        let there = temp.path().join("out/x");
        fs::create_dir_all(&there).unwrap();
        fs::write(there.join("z"), "the snapshot may have it, too").unwrap();
        let options = RestoreOptions {
            when: When::Latest,
            path: "/x".into(),
            to: Some(temp.path().join("out")),
            overwrite: Overwrite::Changed,
            delete: true,
            dry_run: false,
        };
        let granted = ReadGranted {
            snapshot: 1,
            root: Bytes(b"x".to_vec()),
            time_secs: 0,
            complete: true,
            recursive: true,
            entries: 2,
            bytes: 24,
            users: vec![],
            groups: vec![],
        };
        let shared = Shared {
            options: &options,
            observer: &Silent,
            target: &Target::of(&options).unwrap(),
            granted: &granted,
            store_place: (0, 0),
            ground: OnceLock::new(),
            temp: TempNames::new().unwrap(),
            tally: Tally::default(),
            table: Table::new(false),
        };
        let (trees, queue) = bounded(1);
        let top = Entry { path: RelPath::root(), meta: Meta::default(), kind: Kind::Dir };
        trees.send(CheckedTree { batch: 0, entries: vec![top] }).unwrap();
        if whole {
            shared.table.entries_ended();
        }
        drop(trees);
        let (ours, _theirs) = Link::pair();
        Comparer::new(&shared, &ours.sender).run(&queue).unwrap();
        assert_eq!(there.join("z").exists(), !whole);
    }
}

/// Else a kill leaves pieces, and who goes on with `--overwrite never` or `newer` takes them for whole.
#[test]
fn nothing_stands_under_its_name_before_it_is_whole() {
    use rustix::fs::inotify::{CreateFlags, ReadFlags, Reader, WatchFlags, add_watch, init};
    let world = World::new();
    let names = ["empty", "small", "large"];
    for (name, len) in names.into_iter().zip([0, 1000, 3_000_000]) {
        world.write(name, &vec![7; len]);
    }
    world.push();
    fs::create_dir_all(world.out()).unwrap();
    let watch = init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).unwrap();
    add_watch(&watch, world.out(), WatchFlags::CREATE | WatchFlags::MOVED_TO).unwrap();
    world.restore_all();
    let mut buf = [std::mem::MaybeUninit::uninit(); 4096];
    let (mut events, mut came) = (Reader::new(watch, &mut buf), Vec::new());
    while let Ok(event) = events.next() {
        let name = event.file_name().unwrap().to_str().unwrap().to_owned();
        assert!(event.events().contains(ReadFlags::MOVED_TO) || !names.contains(&name.as_str()), "{name} was made");
        if event.events().contains(ReadFlags::MOVED_TO) {
            came.push(name);
        }
    }
    came.sort();
    assert_eq!(came, ["empty", "large", "small"]);
}
