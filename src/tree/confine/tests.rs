//! Landlock binds a thread: each test confines one, which then tries what it may and what it may not.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::path::Path;

use super::*;

/// Runs `act` in a thread that is confined to `bounds`. None: this kernel cannot, and says so.
fn confined<T: Send>(bounds: &Bounds, act: impl FnOnce() -> T + Send) -> Option<T> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| match confine(bounds).unwrap() {
            Confined::Yes { .. } => Some(act()),
            Confined::No(why) => {
                println!("skipped: {why}");
                None
            }
        });
        thread.join().unwrap()
    })
}

fn denied<T>(done: std::io::Result<T>) -> bool {
    done.is_err_and(|e| e.kind() == ErrorKind::PermissionDenied)
}

#[test]
fn files_are_written_below_the_folder_and_nowhere_else() {
    let temp = tempfile::tempdir().unwrap();
    let (inside, outside) = (temp.path().join("store"), temp.path().join("outside"));
    fs::create_dir(&inside).unwrap();
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), "secret").unwrap();
    fs::write(inside.join("opened"), "").unwrap();
    let bounds = Bounds { write: vec![inside.clone()], ..Bounds::default() };
    let done = confined(&bounds, || {
        // All that a store does.
        fs::create_dir_all(inside.join("a/b")).unwrap();
        fs::create_dir(inside.join("c")).unwrap();
        fs::write(inside.join("a/b/file"), "content").unwrap();
        fs::rename(inside.join("a/b/file"), inside.join("c/moved")).unwrap();
        fs::hard_link(inside.join("c/moved"), inside.join("a/link")).unwrap();
        File::options().write(true).open(inside.join("c/moved")).unwrap().set_len(3).unwrap();
        assert_eq!(fs::read_to_string(inside.join("a/link")).unwrap(), "con");
        symlink(outside.join("file"), inside.join("way out")).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, inside.join("pipe"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(inside.join("socket")).unwrap();
        assert_eq!(fs::read_dir(&inside).unwrap().count(), 6);
        fs::remove_file(inside.join("pipe")).unwrap();
        fs::remove_dir_all(inside.join("a")).unwrap();
        // And nothing else.
        assert!(denied(fs::read(outside.join("file"))) && denied(fs::read(inside.join("way out"))));
        assert!(denied(fs::read_dir(&outside)) && denied(fs::read("/etc/passwd")));
        assert!(denied(fs::write(outside.join("file"), "")) && denied(fs::write(inside.join("way out"), "")));
        assert!(denied(fs::write(outside.join("new"), "")) && denied(fs::create_dir(outside.join("dir"))));
        assert!(denied(fs::remove_file(outside.join("file"))));
        assert!(fs::rename(inside.join("c/moved"), outside.join("stolen")).is_err());
        assert!(fs::rename(outside.join("file"), inside.join("taken")).is_err());
        assert!(fs::hard_link(outside.join("file"), inside.join("linked")).is_err());
        assert!(denied(symlink("x", outside.join("link"))));
        assert!(denied(std::process::Command::new("/bin/true").status()));
    });
    if done.is_some() {
        assert_eq!(fs::read_to_string(outside.join("file")).unwrap(), "secret");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    }
}

#[test]
fn no_device_is_made_whoever_we_are() {
    let temp = tempfile::tempdir().unwrap();
    let bounds = Bounds { write: vec![temp.path().to_path_buf()], ..Bounds::default() };
    confined(&bounds, || {
        use rustix::fs::{CWD, FileType, makedev, mknodat};
        let made = mknodat(CWD, temp.path().join("null"), FileType::CharacterDevice, 0o600.into(), makedev(1, 3));
        assert!(made.is_err());
    });
}

#[test]
fn what_is_to_be_read_can_be_read_only() {
    let temp = tempfile::tempdir().unwrap();
    fs::write(temp.path().join("file"), "text").unwrap();
    let (file, absent) = (temp.path().join("file"), temp.path().join("absent"));
    let bounds = Bounds { read: [vec![file.clone(), absent], always_read()].concat(), ..Bounds::default() };
    confined(&bounds, || {
        assert_eq!(fs::read_to_string(&file).unwrap(), "text");
        assert!(denied(fs::write(&file, "")) && denied(fs::read_dir(temp.path())));
        // Whose connection it is, how many cores there are, what time it is.
        assert!(fs::read_to_string("/proc/self/net/tcp").unwrap().contains("local_address"));
        fs::read_to_string("/proc/self/cgroup").unwrap();
        if Path::new("/usr/share/zoneinfo/UTC").exists() {
            fs::read("/usr/share/zoneinfo/UTC").unwrap();
        }
        assert!(denied(fs::read("/proc/1/environ")), "others' entries");
    });
}

#[test]
fn ports_are_those_that_were_named() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let here = TcpListener::bind("127.0.0.1:0").unwrap();
    let [free, taken, port] = [
        TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap(),
        other.local_addr().unwrap(),
        here.local_addr().unwrap(),
    ];
    let bounds = Bounds { listen: vec![free.port()], connect: vec![port.port()], ..Bounds::default() };
    confined(&bounds, || {
        if !matches!(confine(&bounds).unwrap(), Confined::Yes { abi: 4.., .. }) {
            return println!("skipped: ports need ABI 4");
        }
        assert!(denied(TcpStream::connect(taken)), "to any other port");
        TcpStream::connect(port).unwrap();
        assert!(denied(TcpListener::bind("127.0.0.1:0")));
        TcpListener::bind(free).unwrap();
    });
}

#[test]
fn threads_that_come_later_are_held_too_and_gain_no_privileges() {
    let temp = tempfile::tempdir().unwrap();
    let bounds = Bounds { write: vec![temp.path().to_path_buf()], read: always_read(), ..Bounds::default() };
    confined(&bounds, || {
        std::thread::spawn(|| {
            assert!(denied(fs::read("/etc/passwd")));
            assert!(rustix::thread::no_new_privs().unwrap());
        })
        .join()
        .unwrap();
    });
    fs::read("/etc/passwd").expect("other threads are not held");
}

#[test]
fn a_folder_that_is_not_there_is_an_error() {
    let temp = tempfile::tempdir().unwrap();
    let bounds = Bounds { write: vec![temp.path().join("absent")], ..Bounds::default() };
    let error = std::thread::spawn(move || confine(&bounds).unwrap_err().to_string()).join().unwrap();
    assert!(error.contains("absent': No such file"), "{error}");
}
