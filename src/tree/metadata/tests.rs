//! Tests of metadata.

use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::backup::digest::Digest;
use crate::backup::entry::{FileContent, Link, SizeClass};
use crate::backup::relpath::RelPath;
use crate::tree::xattrs::{read_xattrs_fd, xattr};

fn scratch() -> (tempfile::TempDir, SafeDir) {
    let temp = tempfile::tempdir().unwrap();
    let dir = SafeDir::open_operator(temp.path()).unwrap();
    (temp, dir)
}

fn entry(kind: Kind, mode: u32, owner: (u32, u32), xattrs: Vec<Xattr>) -> Entry {
    let mtime = Timestamp { secs: -5, nanos: 123_456_789 };
    let path = RelPath::new(b"x").unwrap();
    Entry { path, meta: Meta { mode, uid: owner.0, gid: owner.1, mtime, xattrs }, kind }
}

fn file_kind() -> Kind {
    Kind::File(FileContent {
        size: 0,
        digest: Digest::of(b""),
        class: SizeClass::Whole,
        link: Link::Single,
        sparse: false,
        unstable: false,
    })
}

/// `u::rw-, u:1234:rwx, g::---, m::rwx, o::---`
fn acl() -> Xattr {
    let mut value = 2_u32.to_le_bytes().to_vec();
    for (tag, perm, id) in
        [(1_u16, 6_u16, u32::MAX), (2, 7, 1234), (4, 0, u32::MAX), (16, 7, u32::MAX), (32, 0, u32::MAX)]
    {
        value.extend(tag.to_le_bytes());
        value.extend(perm.to_le_bytes());
        value.extend(id.to_le_bytes());
    }
    xattr(ACL_ACCESS, &value)
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn me() -> (u32, u32) {
    (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
}

#[test]
fn the_plain_copy_holds_no_special_bits() {
    let xattrs = vec![xattr(b"security.capability", b"c"), acl(), xattr(b"trusted.t", b"t"), xattr(b"user.u", b"u")];
    let root = StorePolicy { is_root: true };
    let other = StorePolicy { is_root: false };
    let file = entry(file_kind(), 0o6470, (5, 6), xattrs.clone());
    let form = disk_form(&file, root);
    assert_eq!((form.mode, form.owner), (0o470, Some((5, 6))));
    assert_eq!(form.xattrs.iter().map(|x| x.name.as_slice()).collect::<Vec<_>>(), [ACL_ACCESS, b"user.u"]);
    let form = disk_form(&file, other);
    assert_eq!((form.mode, form.owner), (0o600, None), "the mask's bits do not become the group's");
    assert_eq!(form.xattrs, [xattr(b"user.u", b"u")]);
    assert_eq!(disk_form(&entry(file_kind(), 0o011, (0, 0), vec![]), other).mode, 0o711);
    assert_eq!(disk_form(&entry(Kind::Dir, 0o2000, (0, 0), vec![]), other).mode, 0o700);
    assert_eq!(disk_form(&entry(Kind::CharDevice { major: 1, minor: 3 }, 0o666, (0, 0), vec![]), root).kind, None);
    let link = entry(Kind::Symlink { target: b"t"[..].into() }, 0o777, (5, 6), xattrs);
    assert!(disk_form(&link, root).xattrs.is_empty());
}

#[test]
fn a_damaged_acl_is_no_acl() {
    let good = acl().value.0;
    assert_eq!(acl_group_bits(&good), Some(0));
    for len in 0..good.len() {
        let _ = acl_group_bits(&good[..len]);
    }
    assert_eq!(acl_group_bits(&[9; 40]), None);
}

/// Everything an entry says comes back, whatever its kind; a second time nothing changes.
#[test]
fn metadata_round_trips_and_compares_equal() {
    let (_temp, dir) = scratch();
    dir.create_new(b"f", 0o600).unwrap();
    dir.mkdir(b"d", 0o700).unwrap();
    dir.mkfifo(b"p", 0o600).unwrap();
    dir.symlink(b"f", b"l").unwrap();
    let owner = if is_root() { (1234, 4321) } else { me() };
    let mut dir_acl = acl();
    dir_acl.name = ACL_DEFAULT.into();
    let user = xattr(b"user.\xffname", &[0, 255, 10]);
    let cases = [
        (&b"f"[..], entry(file_kind(), 0o470, owner, vec![user.clone()])),
        (b"d", entry(Kind::Dir, 0o1755, owner, vec![dir_acl, user])),
        (b"p", entry(Kind::Fifo, 0o640, owner, vec![])),
        (b"l", entry(Kind::Symlink { target: b"f"[..].into() }, 0o777, owner, vec![])),
    ];
    for (name, want) in cases {
        assert_eq!(apply_restored(Place::Name(&dir, name), &want), Vec::<String>::new());
        let stat = dir.stat(name).unwrap();
        assert_eq!(read_meta(&dir, name, &stat).unwrap(), want.meta);
        let form = disk_form(&want, StorePolicy::current());
        if is_root() {
            assert!(!form.diff(&stat, Some(&want.meta.xattrs)).any(), "{:?}", form.diff(&stat, None));
        }
        assert_eq!(apply_restored(Place::Name(&dir, name), &want), Vec::<String>::new());
        assert_eq!(dir.stat(name).unwrap().ctime, stat.ctime, "nothing to do, nothing done");
        let gone = entry(want.kind.clone(), want.meta.mode, owner, vec![]);
        assert!(apply_restored(Place::Name(&dir, name), &gone).is_empty());
        assert!(read_xattrs(&dir, name).unwrap().is_empty());
    }
    assert_eq!(dir.stat(b"f").unwrap().mtime.secs, -5);
}

#[test]
fn an_access_acl_round_trips_and_goes_again() {
    let (_temp, dir) = scratch();
    let file = dir.create_new(b"f", 0o600).unwrap();
    let place = Place::File(&file, b"f");
    let with = entry(file_kind(), 0o670, me(), vec![acl()]);
    assert!(apply_restored(place, &with).is_empty());
    assert_eq!(read_xattrs_fd(&file, b"f").unwrap(), [acl()]);
    assert_eq!(dir.stat(b"f").unwrap().mode, 0o670);
    assert!(apply_restored(place, &entry(file_kind(), 0o640, me(), vec![])).is_empty());
    assert_eq!(read_xattrs_fd(&file, b"f").unwrap(), []);
    assert_eq!(dir.stat(b"f").unwrap().mode, 0o640);
}

#[test]
fn a_default_acl_of_the_parent_does_not_stick_to_new_files() {
    let (_temp, dir) = scratch();
    dir.mkdir(b"d", 0o700).unwrap();
    let mut default = acl();
    default.name = ACL_DEFAULT.into();
    assert!(apply_restored(Place::Name(&dir, b"d"), &entry(Kind::Dir, 0o700, me(), vec![default])).is_empty());
    let sub = dir.open_child(b"d").unwrap();
    let file = sub.create_new(b"f", 0o640).unwrap();
    assert!(!read_xattrs_fd(&file, b"f").unwrap().is_empty(), "it was inherited");
    let form = disk_form(&entry(file_kind(), 0o640, me(), vec![]), StorePolicy::current());
    assert!(apply(Place::File(&file, b"f"), &form).unwrap().is_empty());
    assert!(read_xattrs_fd(&file, b"f").unwrap().is_empty());
    assert_eq!(sub.stat(b"f").unwrap().mode, 0o640);
}

#[test]
fn what_cannot_be_applied_is_named() {
    let (_temp, dir) = scratch();
    let file = dir.create_new(b"f", 0o600).unwrap();
    let want = entry(file_kind(), 0o600, me(), vec![xattr(b"nosuch.space", b"x"), xattr(b"user.u", b"u")]);
    let notes = apply_restored(Place::File(&file, b"f"), &want);
    assert_eq!(notes.len(), 1);
    assert!(notes[0].starts_with("attribute nosuch.space: "), "{notes:?}");
    assert_eq!(read_xattrs(&dir, b"f").unwrap(), [xattr(b"user.u", b"u")]);
    let notes = apply_restored(Place::File(&file, b"f"), &entry(file_kind(), 0o600, (u32::MAX, 0), vec![]));
    assert!(notes[0].starts_with("owner 4294967295:0: "), "{notes:?}");
}

#[test]
fn many_and_large_xattrs_have_a_limit() {
    let (_temp, dir) = scratch();
    let file = dir.create_new(b"f", 0o600).unwrap();
    let many: Vec<Xattr> =
        (0..60).map(|i| xattr(format!("user.some-rather-long-name-{i:02}").as_bytes(), &[1; 9])).collect();
    assert!(apply_restored(Place::File(&file, b"f"), &entry(file_kind(), 0o400, me(), many.clone())).is_empty());
    assert_eq!(read_xattrs(&dir, b"f").unwrap(), many);
    assert_eq!(dir.stat(b"f").unwrap().mode, 0o400);
    let long = vec![0; XATTRS_BYTES];
    assert_eq!(with_long(&long), Err(Errno::TOOBIG));
}

const XATTRS_BYTES: usize = crate::backup::limits::XATTRS_BYTES_MAX + 1;

fn with_long(value: &[u8]) -> Result<(), Errno> {
    let mut out = Vec::new();
    crate::tree::xattrs::with_room(&mut out, |buf| if buf.len() < value.len() { Err(Errno::RANGE) } else { Ok(1) })
}

/// A process that is not root: its files keep their content and rights, and what is lost is said.
#[test]
fn as_another_user_the_owner_and_set_id_bits_are_refused() {
    if !is_root() {
        return;
    }
    let (temp, dir) = scratch();
    std::fs::set_permissions(temp.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Only this thread: the kernel keeps ids per thread.
            rustix::thread::set_thread_groups(&[]).unwrap();
            rustix::thread::set_thread_gid(Gid::from_raw(4321)).unwrap();
            rustix::thread::set_thread_uid(Uid::from_raw(1234)).unwrap();
            let file = dir.create_new(b"f", 0o400).unwrap();
            let want = entry(file_kind(), 0o6755, (0, 0), vec![xattr(b"trusted.t", b"x"), xattr(b"user.u", b"u")]);
            let notes = apply_restored(Place::File(&file, b"f"), &want);
            assert_eq!(notes.len(), 3, "{notes:?}");
            let stat = dir.stat(b"f").unwrap();
            assert_eq!((stat.mode, stat.uid, stat.mtime), (0o755, 1234, want.meta.mtime));
            assert_eq!(read_xattrs(&dir, b"f").unwrap(), [xattr(b"user.u", b"u")]);
            let mut read_only = want.clone();
            read_only.meta.mode = 0o444;
            read_only.meta.xattrs = vec![xattr(b"user.v", b"v")];
            read_only.meta.uid = 1234;
            read_only.meta.gid = 4321;
            assert_eq!(apply_restored(Place::Name(&dir, b"f"), &read_only), Vec::<String>::new());
            read_only.meta.xattrs = vec![xattr(b"user.w", b"w")];
            assert_eq!(apply_restored(Place::Name(&dir, b"f"), &read_only), Vec::<String>::new());
            assert_eq!(dir.stat(b"f").unwrap().mode, 0o444);
            assert!(!StorePolicy::current().is_root);
        });
    });
}

/// A link that stands where a file was is never followed by chmod, chown, utimens or setxattr.
#[test]
fn a_symbolic_link_is_never_followed() {
    let (_temp, dir) = scratch();
    dir.create_new(b"victim", 0o600).unwrap();
    dir.symlink(b"victim", b"l").unwrap();
    let before = dir.stat(b"victim").unwrap();
    apply_restored(Place::Name(&dir, b"l"), &entry(file_kind(), 0o666, me(), vec![xattr(b"user.u", b"u")]));
    assert_eq!(dir.stat(b"victim").unwrap(), before);
    assert!(read_xattrs(&dir, b"victim").unwrap().is_empty());
}
