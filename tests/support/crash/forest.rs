//! A tree of a few hundred files that changes as people change trees, by a seed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::rng::Rng;

/// Files that a new tree has.
const FILES: usize = 300;

/// The generator and its top.
pub struct Forest {
    pub top: PathBuf,
    rng: Rng,
    names: u64,
}

impl Forest {
    pub fn plant(top: &Path, seed: u64) -> Self {
        let mut forest = Self { top: top.to_path_buf(), rng: Rng::new(seed), names: 0 };
        fs::create_dir(top).unwrap();
        for _ in 0..24 {
            let dir = forest.fresh_name_in_some_dir();
            fs::create_dir(dir).unwrap();
        }
        for _ in 0..FILES {
            forest.create();
        }
        forest
    }

    /// Some changes of every kind.
    pub fn grow(&mut self) {
        for _ in 0..3 + self.rng.below(12) {
            match self.rng.below(16) {
                0..3 => self.create(),
                3..6 => self.edit(),
                6..8 => self.rename_file(),
                8 => self.rename_dir(),
                9 => self.swap(),
                10 => self.link(),
                11 | 12 => self.delete(),
                13 => self.change_type(),
                14 => self.change_metadata(),
                _ => self.swap_dirs(),
            }
        }
    }

    fn entries(&self) -> (Vec<PathBuf>, Vec<PathBuf>) {
        let (mut dirs, mut files) = (vec![self.top.clone()], Vec::new());
        let mut at = 0;
        while let Some(dir) = dirs.get(at).cloned() {
            let mut names: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
            names.sort();
            for path in names {
                if path.symlink_metadata().unwrap().is_dir() { dirs.push(path) } else { files.push(path) }
            }
            at += 1;
        }
        (dirs, files)
    }

    fn some_dir(&mut self) -> PathBuf {
        let (dirs, _) = self.entries();
        self.rng.pick(&dirs).clone()
    }

    fn some_file(&mut self) -> PathBuf {
        let (_, files) = self.entries();
        if files.is_empty() {
            self.create();
            return self.some_file();
        }
        self.rng.pick(&files).clone()
    }

    fn fresh_name_in_some_dir(&mut self) -> PathBuf {
        self.names += 1;
        let name = format!("n{}", self.names);
        self.some_dir().join(name)
    }

    fn create(&mut self) {
        let path = self.fresh_name_in_some_dir();
        match self.rng.below(40) {
            0 => std::os::unix::fs::symlink("nowhere", path).unwrap(),
            1 => fs::write(path, self.rng.bytes(1_500_000)).unwrap(),
            _ => {
                let len = self.rng.below(9000) as usize;
                fs::write(path, self.rng.bytes(len)).unwrap();
            }
        }
    }

    /// New content under the same inode, as an editor that writes in place does; other names of it see it too.
    fn edit(&mut self) {
        let path = self.some_file();
        if path.symlink_metadata().unwrap().is_file() {
            let len = 1 + self.rng.below(9000) as usize;
            fs::write(path, self.rng.bytes(len)).unwrap();
        }
    }

    fn rename_file(&mut self) {
        let (from, to) = (self.some_file(), self.fresh_name_in_some_dir());
        fs::rename(from, to).unwrap();
    }

    fn rename_dir(&mut self) {
        let (from, to) = (self.some_dir(), self.fresh_name_in_some_dir());
        if from != self.top && !to.starts_with(&from) {
            fs::rename(from, to).unwrap();
        }
    }

    fn exchange(a: &Path, b: &Path) {
        let cwd = rustix::fs::CWD;
        rustix::fs::renameat_with(cwd, a, cwd, b, rustix::fs::RenameFlags::EXCHANGE).unwrap();
    }

    fn swap(&mut self) {
        let (a, b) = (self.some_file(), self.some_file());
        Self::exchange(&a, &b);
    }

    /// Two directories, or a directory and a file.
    fn swap_dirs(&mut self) {
        let a = self.some_dir();
        let b = if self.rng.below(2) == 0 { self.some_dir() } else { self.some_file() };
        if a != self.top && b != self.top && !a.starts_with(&b) && !b.starts_with(&a) {
            Self::exchange(&a, &b);
        }
    }

    fn link(&mut self) {
        let (from, to) = (self.some_file(), self.fresh_name_in_some_dir());
        fs::hard_link(from, to).unwrap();
    }

    fn delete(&mut self) {
        if self.rng.below(6) == 0 {
            let dir = self.some_dir();
            if dir != self.top && fs::read_dir(&dir).unwrap().count() < 12 {
                fs::remove_dir_all(dir).unwrap();
            }
        } else {
            let file = self.some_file();
            fs::remove_file(file).unwrap();
        }
    }

    fn change_type(&mut self) {
        let path = self.some_file();
        fs::remove_file(&path).unwrap();
        match self.rng.below(3) {
            0 => std::os::unix::fs::symlink("elsewhere", path).unwrap(),
            1 => fs::write(path, self.rng.bytes(10)).unwrap(),
            _ => {
                fs::create_dir(&path).unwrap();
                fs::write(path.join("inside"), self.rng.bytes(100)).unwrap();
            }
        }
    }

    fn change_metadata(&mut self) {
        let path = self.some_file();
        if path.symlink_metadata().unwrap().is_file() {
            let mode = *self.rng.pick(&[0o600, 0o640, 0o644, 0o755]);
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
        super::spec::set_mtime(&path, self.rng.next());
    }
}
