//! Paths and names of a peer: `length u16 | one | another`. What is accepted leads nowhere else, and all ways of looking at
//! it agree.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rbbackup::backup::bytes::escape;
use rbbackup::backup::limits::PATH_BYTES_MAX;
use rbbackup::backup::relpath::RelPath;
use rbbackup::store::names::{COPY_NAME_BYTES_MAX, CopyName};
use rbbackup_fuzz::take_piece;

fuzz_target!(|data: &[u8]| {
    let (one, another) = take_piece(data);
    assert!(!escape(one).chars().any(char::is_control));
    names(one, another);
    if let Ok(path) = RelPath::from_absolute(one) {
        single(&path);
    }
    let (Ok(a), Ok(b)) = (RelPath::new(one), RelPath::new(another)) else { return };
    single(&a);
    single(&b);
    assert_eq!(a.cmp(&b), a.to_key().cmp(&b.to_key()), "order");
    assert_eq!(a.is_within(&b), a.strip_prefix(&b).is_some());
    assert_eq!(a.is_in(&b), a.parent().as_ref() == Some(&b));
    match a.join_path(&b) {
        Ok(joined) => {
            single(&joined);
            assert!(joined.is_within(&a));
            assert_eq!(joined.strip_prefix(&a), Some(b.clone()));
            assert_eq!(joined.depth(), a.depth() + b.depth());
        }
        Err(_) => assert!(a.as_bytes().len() + b.as_bytes().len() + 1 > PATH_BYTES_MAX),
    }
});

fn single(path: &RelPath) {
    assert!(path.components().all(|part| !matches!(part, b"" | b"." | b"..") && !part.contains(&0)));
    assert_eq!(RelPath::new(path.as_bytes()).as_ref(), Ok(path));
    assert_eq!(RelPath::from_key(&path.to_key()).as_ref(), Ok(path));
    assert_eq!(RelPath::from_absolute(&[b"/", path.as_bytes()].concat()).as_ref(), Ok(path));
    if let (Some(parent), Some(name)) = (path.parent(), path.name()) {
        assert!(path.is_within(&parent) && *path > parent && path.is_in(&parent));
        assert_eq!(parent.join(name).as_ref(), Ok(path));
    }
}

fn names(node: &[u8], user: &[u8]) {
    match CopyName::new(node, user) {
        Ok(copy) => {
            for name in [copy.node(), copy.user()] {
                assert!(!name.contains('/') && !name.starts_with(['.', '-']) && !name.is_empty());
                assert!(name.len() <= COPY_NAME_BYTES_MAX && !name.chars().any(char::is_control));
                assert!(RelPath::new(name.as_bytes()).is_ok_and(|path| path.depth() == 1));
            }
            assert!(RelPath::new(copy.component().as_bytes()).is_ok_and(|path| path.depth() == 1));
            assert_eq!(CopyName::from_component(copy.component().as_bytes()), Some(copy));
        }
        Err(error) => assert!(!error.to_string().chars().any(char::is_control)),
    }
}
