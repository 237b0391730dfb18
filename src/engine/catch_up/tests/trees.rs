//! Trees for the tests beside this: of everything one, or at random; and what a person would see of them.

use super::*;

/// Numbers that look random, the same ones each time.
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    pub(super) fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }

    pub(super) fn one_in(&mut self, sides: u64) -> bool {
        self.roll(sides) == 0
    }
}

pub(super) fn noise(len: usize, seed: u8) -> Vec<u8> {
    let mut out = vec![0; len];
    blake3::Hasher::new_keyed(&[seed; 32]).finalize_xof().fill(&mut out);
    out
}

pub(super) fn set_mtime(path: &Path, secs: i64, nanos: i64) {
    use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};
    let time = Timespec { tv_sec: secs, tv_nsec: nanos };
    let times = Timestamps { last_access: time, last_modification: time };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// What stands below a path, in words.
pub(super) fn picture(root: &Path) -> BTreeMap<Vec<u8>, String> {
    let (mut seen, mut firsts) = (BTreeMap::new(), BTreeMap::new());
    let mut left = vec![(root.to_path_buf(), Vec::new())];
    while let Some((path, name)) = left.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        let what = if meta.is_dir() {
            let mut names: Vec<_> = fs::read_dir(&path).unwrap().map(|e| e.unwrap().file_name()).collect();
            names.sort();
            for child in names.into_iter().rev() {
                let full = [&name[..], b"/", &child.clone().into_vec()].concat();
                left.push((path.join(child), full));
            }
            "folder".to_owned()
        } else if meta.is_symlink() {
            format!("-> {}", fs::read_link(&path).unwrap().display())
        } else if meta.is_file() {
            let first = firsts.entry(meta.ino()).or_insert_with(|| name.clone()).clone();
            let shared = if meta.nlink() > 1 { String::from_utf8_lossy(&first).into_owned() } else { String::new() };
            format!("{} {} {shared}", meta.len(), blake3::hash(&fs::read(&path).unwrap()))
        } else {
            format!("special {:?} {}", meta.file_type(), meta.rdev())
        };
        let mode = if meta.is_symlink() { 0 } else { meta.mode() };
        let list = xattr::list(&path).unwrap().filter(|name| name.to_string_lossy().starts_with("user."));
        let mut xattrs: Vec<_> = list.map(|name| (name.clone(), xattr::get(&path, &name).unwrap())).collect();
        xattrs.sort();
        let times = (meta.mtime(), meta.mtime_nsec());
        seen.insert(name, format!("{what} {mode:o} {}:{} {times:?} {xattrs:?}", meta.uid(), meta.gid()));
    }
    seen
}

pub(super) fn one_of_everything(src: &Path) {
    use rustix::fs::{CWD, FileType, makedev, mknodat};
    for i in 0..300_usize {
        let path = src.join(format!("many/d{}/f{i}", i % 7));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("content {i}").repeat(i)).unwrap();
    }
    fs::create_dir_all(src.join("empty/folder")).unwrap();
    fs::write(src.join("nothing"), b"").unwrap();
    fs::write(src.join("edge"), noise(128 * 1024, 1)).unwrap();
    fs::write(src.join("big"), noise(9_000_001, 2)).unwrap();
    let sparse = fs::File::create(src.join("sparse")).unwrap();
    sparse.set_len(20 << 20).unwrap();
    sparse.write_all_at(b"middle", 9_000_000).unwrap();
    fs::hard_link(src.join("big"), src.join("many/bigger")).unwrap();
    fs::hard_link(src.join("nothing"), src.join("many/less")).unwrap();
    fs::hard_link(src.join("many/d1/f1"), src.join("zz")).unwrap();
    symlink("../nowhere", src.join("dangling")).unwrap();
    set_mtime(&src.join("dangling"), 1_234_567_890, 7);
    mknodat(CWD, src.join("pipe"), FileType::Fifo, 0o640.into(), 0).unwrap();
    if rustix::process::geteuid().is_root() {
        mknodat(CWD, src.join("null"), FileType::CharacterDevice, 0o600.into(), makedev(1, 3)).unwrap();
        rustix::fs::chown(src.join("edge"), Some(rustix::fs::Uid::from_raw(1234)), None).unwrap();
    }
    if xattr::set(src.join("edge"), "user.colour", b"blue\0").is_ok() {
        xattr::set(src.join("empty"), "user.shape", b"round").unwrap();
    }
    fs::set_permissions(src.join("nothing"), fs::Permissions::from_mode(0o4711)).unwrap();
    fs::write(src.join(std::ffi::OsString::from_vec(b"-odd \xff\n".to_vec())), b"odd").unwrap();
    set_mtime(&src.join("empty"), -5, 3);
    set_mtime(src, 1_500_000_000, 1);
}

/// Changes a tree at random.
pub(super) fn change(src: &Path, dice: &mut Dice) {
    for _ in 0..40 {
        let folder = src.join(format!("d{}", dice.roll(4)));
        if !folder.exists() {
            fs::create_dir_all(folder.join("inner")).unwrap();
        }
        let folder = if dice.one_in(3) { folder.join("inner") } else { folder };
        if !folder.is_dir() {
            continue;
        }
        let path = folder.join(format!("n{}", dice.roll(6)));
        let other = src.join(format!("d{}", dice.roll(4))).join(format!("m{}", dice.roll(6)));
        let there = fs::symlink_metadata(&path).is_ok();
        match dice.roll(10) {
            0..=3 => {
                let large = dice.one_in(5);
                let len = if large { 200_000 + dice.roll(2_000_000) } else { dice.roll(5000) };
                let _ = fs::remove_file(&path);
                fs::write(&path, noise(len as usize, dice.roll(200) as u8)).unwrap();
            }
            4 if there && path.is_file() => {
                let mut content = fs::read(&path).unwrap();
                content.splice(content.len() / 2..content.len() / 2, noise(100, dice.roll(200) as u8));
                fs::write(&path, content).unwrap();
            }
            5 if there => fs::remove_file(&path).unwrap(),
            6 if there && other.parent().is_some_and(Path::is_dir) => fs::rename(&path, other).unwrap(),
            7 if there && other.parent().is_some_and(Path::is_dir) => drop(fs::hard_link(&path, other)),
            8 if !there => symlink(format!("to/{}", dice.roll(9)), &path).unwrap(),
            9 if there && !path.is_symlink() => {
                fs::set_permissions(&path, fs::Permissions::from_mode(0o600 + dice.roll(64) as u32)).unwrap();
            }
            _ => {}
        }
    }
    if dice.one_in(3) {
        let _ = fs::remove_dir_all(src.join(format!("d{}", dice.roll(4))));
    }
}
