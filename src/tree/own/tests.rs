//! What is written whole, and that no link is followed.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use rustix::io::Errno;

use super::*;

#[test]
fn a_file_is_replaced_whole_and_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    write_file(dir.path(), "x", b"one").unwrap();
    write_file(dir.path(), "x", b"two").unwrap();
    assert_eq!(read_file(&dir.path().join("x"), 3).unwrap(), b"two");
    assert!(read_file(&dir.path().join("x"), 2).is_err());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    assert_eq!(fs::metadata(dir.path().join("x")).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn who_writes_the_same_file_at_once_does_not_disturb() {
    let dir = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        for writer in 0..4_u8 {
            let dir = dir.path();
            scope.spawn(move || (0..50).for_each(|_| write_file_lazily(dir, "x", &[writer; 1000]).unwrap()));
        }
    });
    let content = read_file(&dir.path().join("x"), 1000).unwrap();
    assert!(content.len() == 1000 && content.iter().all(|byte| *byte == content[0]));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn only_unfinished_files_are_cleared() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(".tmp-x"), b"half").unwrap();
    fs::write(dir.path().join("y"), b"whole").unwrap();
    clear_temp(dir.path()).unwrap();
    clear_temp(&dir.path().join("absent")).unwrap();
    let names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["y"]);
}

#[test]
fn no_link_in_the_path_is_followed_wherever_it_stands() {
    let temp = tempfile::tempdir().unwrap();
    let (real, outside) = (temp.path().join("real"), temp.path().join("outside"));
    fs::create_dir(&real).unwrap();
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), b"secret").unwrap();
    symlink(&outside, real.join("folder")).unwrap();
    symlink(outside.join("file"), real.join("leaf")).unwrap();
    let is_loop = |done: io::Result<()>| {
        assert_eq!(done.unwrap_err().raw_os_error(), Some(Errno::LOOP.raw_os_error()));
    };
    for path in [real.join("folder/file"), real.join("leaf")] {
        is_loop(open(&path).map(drop));
        is_loop(open_write(&path).map(drop));
        is_loop(create(&path).map(drop));
        is_loop(write_plain(&path, b"written").map(drop));
        is_loop(read_file(&path, 100).map(drop));
    }
    let through = real.join("folder");
    is_loop(write_file(&through, "file", b"written"));
    is_loop(names(&through).map(drop));
    is_loop(remove(&through.join("file")));
    is_loop(rename(&through.join("file"), &real.join("taken")));
    is_loop(rename(&real.join("leaf"), &through.join("left")));
    is_loop(make_dir(&through.join("made")));
    is_loop(clear_temp(&through));
    is_loop(sync_dir(&through));
    is_loop(remove_tree(&through.join("file")));
    assert!(make_dir(&through).is_err(), "a link is no folder");
    assert!(!is_dir(&through) && !is_file(&real.join("leaf")) && exists(&real.join("leaf")).unwrap());
    assert_eq!(fs::read(outside.join("file")).unwrap(), b"secret");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    // What the link says may be removed and replaced; it is in our folder.
    write_file(&real, "leaf", b"ours").unwrap();
    assert_eq!(fs::read(real.join("leaf")).unwrap(), b"ours");
    remove_tree(&through).unwrap();
    assert!(!exists(&through).unwrap() && outside.join("file").exists());
}

#[test]
fn a_path_that_could_lead_elsewhere_is_refused() {
    for path in ["relative/file", "/tmp/../etc/passwd", "..", ""] {
        assert_eq!(open(Path::new(path)).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{path}");
    }
    let dir = tempfile::tempdir().unwrap();
    for name in ["../x", "a/b", "a\0b"] {
        assert!(write_file(dir.path(), name, b"").is_err(), "{name:?}");
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    // A trailing slash is how a folder is told from its name.
    assert!(names(&dir.path().join("")).unwrap().is_empty());
}
