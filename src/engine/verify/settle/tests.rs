//! What history has is put right, and nothing that somebody else has in hand is in its way.

use std::cell::{Cell, RefCell};
use std::fs;
use std::os::unix::fs::MetadataExt;

use super::super::fixture::{Fixture, noise, verify_in};
use super::*;

/// The file is in the copy and in history.
fn fixture(content: &[u8]) -> Fixture {
    let fixture = Fixture::new();
    for content in [content, b"something else", content] {
        fixture.push("file", content);
    }
    assert_eq!(fixture.verify("", 1).0, []);
    fixture
}

#[test]
fn what_history_has_is_put_right_in_the_turn_of_housekeeping() {
    let content = noise(1, 5000);
    let fixture = fixture(&content);
    fixture.with_hub(|hub, copy| {
        let beats = Cell::new(0);
        let count = || {
            beats.set(beats.get() + 1);
            true
        };
        verify_in(hub, copy, "", 1, &count);
        // Later than a verification comes that has nothing to wait for.
        let late = beats.replace(0) + 20;
        fs::write(fixture.in_copy("file"), noise(2, 5000)).unwrap();
        let turn = RefCell::new(hub.housekeeping.try_lock().ok());
        assert!(turn.borrow().is_some());
        let give_back = || {
            if count() && beats.get() == late {
                assert_eq!(fs::read(fixture.in_copy("file")).unwrap(), noise(2, 5000), "not yet");
                turn.borrow_mut().take();
            }
            true
        };
        let (found, _) = verify_in(hub, copy, "", 1, &give_back);
        assert!(turn.borrow().is_none(), "it did not wait for its turn");
        assert_eq!(found.iter().map(|found| found.outcome).collect::<Vec<_>>(), [Outcome::Healed]);
        assert_eq!(fs::read(fixture.in_copy("file")).unwrap(), content);
        assert!(hub.housekeeping.try_lock().is_ok(), "it gives it back");
    });
    assert_eq!(fixture.verify("", 1).0, []);
}

#[test]
fn all_names_of_a_damaged_file_are_put_right() {
    let content = noise(1, 5000);
    let fixture = Fixture::new();
    fs::create_dir(fixture.source().join("z")).unwrap();
    fs::write(fixture.source().join("first"), "").unwrap();
    fs::hard_link(fixture.source().join("first"), fixture.source().join("z/second")).unwrap();
    for content in [&content[..], b"something else", &content] {
        fixture.push("first", content);
    }
    let names = ["first", "z/second"].map(|name| fixture.in_copy(name));
    let inode = |name: &std::path::PathBuf| (fs::metadata(name).unwrap().ino(), fs::metadata(name).unwrap().nlink());
    assert_eq!((inode(&names[0]), inode(&names[0]).1), (inode(&names[1]), 2));
    let before = fs::metadata(&names[0]).unwrap();
    fs::write(&names[1], noise(2, 5000)).unwrap();
    let (found, _) = fixture.verify("", 1);
    assert_eq!(found.iter().map(|found| found.outcome).collect::<Vec<_>>(), [Outcome::Healed]);
    assert!(names.iter().all(|name| fs::read(name).unwrap() == content));
    assert_eq!((inode(&names[0]), inode(&names[0]).1), (inode(&names[1]), 2), "one file still");
    let after = fs::metadata(&names[0]).unwrap();
    assert_eq!((after.mtime(), after.mtime_nsec(), after.mode()), (before.mtime(), before.mtime_nsec(), before.mode()));
    assert_eq!(fixture.verify("", 1).0, []);
}
