//! Content that loses its place in the staged tree is set aside, under its digest, as long as the run lives.
//!
//! "I have it" may have been said of it, and the plan may want it at another path: after a run that was cut off a tree of
//! other days is staged, and files have moved since (rotated logs have all moved). Without this each such move would be
//! asked for again, one a round.
//!
//! ```text
//! .rbbackup/staging/<id>/spare/<digest, hex>
//! ```

use std::collections::{BTreeSet, HashSet};
use std::fs::File;

use super::Staging;
use super::adopt::hash_file;
use super::prepare::copy_content;
use super::purge::Wanted;
use crate::backup::digest::Digest;
use crate::backup::plan::{ContentPlace, Plan, Prepare};
use crate::backup::relpath::RelPath;
use crate::tree::error::TreeError;
use crate::tree::safe_dir::SafeDir;

const FOLDER: &[u8] = b"spare";

impl Staging {
    fn spare(&self) -> Result<SafeDir, TreeError> {
        self.dir().make_dirs(&RelPath::new(FOLDER).unwrap_or_default(), 0o700)
    }

    /// The whole file at `path` (`name` in `dir`) loses its place. Whether it left it; else it is the caller's to remove.
    pub(super) fn set_aside(&self, path: &RelPath, dir: &SafeDir, name: &[u8]) -> Result<bool, TreeError> {
        let only = self.asked(self.index().only_at(path))?;
        let Some(digest) = only else { return Ok(false) };
        dir.rename(name, &self.spare()?, digest.to_hex().as_bytes())?;
        self.unindex(path)?;
        self.index().set_aside(digest);
        Ok(true)
    }

    /// The same for every whole file at `path` and within it.
    pub(super) fn set_aside_within(&self, path: &RelPath) -> Result<(), TreeError> {
        let within = self.asked(self.index().within(path))?;
        for path in within {
            let (dir, name) = self.parent(&path)?;
            self.set_aside(&path, &dir, &name)?;
        }
        Ok(())
    }

    /// The file at `path` is about to be written to in place: its content is copied aside first.
    pub(super) fn copy_aside(&self, path: &RelPath, dir: &SafeDir, name: &[u8]) -> Result<(), TreeError> {
        let only = self.asked(self.index().only_at(path))?;
        let Some(digest) = only else { return Ok(()) };
        let (spare, to) = (self.spare()?, digest.to_hex());
        let mut copy = spare.create_new(to.as_bytes(), 0o600)?;
        copy_content(dir.open_read(name)?, &mut copy).map_err(|e| TreeError::new("copy", dir.label(), name, e))?;
        self.index().set_aside(digest);
        Ok(())
    }

    /// What the plan makes of staged content, and what stands where the plan wants nothing.
    pub(super) fn set_aside_for(&self, plan: &Plan) -> Result<(), TreeError> {
        let failed = |e| self.spool_error(e);
        let mut places = BTreeSet::new();
        for step in plan.prepare.iter() {
            if let Prepare::Copy { from: ContentPlace::Staged, content } = &step.map_err(failed)?.what {
                places.extend(self.asked(self.index().place_of(&content.digest))?);
            }
        }
        let mut wanted = Wanted::of(plan);
        for path in places {
            if !wanted.has(&path).map_err(failed)? {
                let (dir, name) = self.parent(&path)?;
                self.set_aside(&path, &dir, &name)?;
            }
        }
        Ok(())
    }

    /// Opens staged content, wherever it stands.
    pub(super) fn open_content(&self, digest: &Digest) -> Result<File, TreeError> {
        let place = self.asked(self.index().place_of(digest))?;
        match place {
            Some(path) => self.parent(&path).and_then(|(dir, name)| dir.open_read(&name)),
            None => self.spare()?.open_read(digest.to_hex().as_bytes()),
        }
    }

    /// What another run set aside, hashed again.
    pub(super) fn adopt_spare(&self) -> Result<(), TreeError> {
        let spare = match self.dir().open_child(FOLDER) {
            Err(e) if e.is_not_found() => return Ok(()),
            other => other?,
        };
        let mut found = HashSet::new();
        for entry in spare.names()? {
            let digest = spare.open_read(&entry.name).ok().and_then(|mut file| hash_file(&mut file).ok());
            match digest.filter(|digest| digest.to_hex().as_bytes() == entry.name.as_slice()) {
                Some(digest) => found.extend([digest]),
                None => spare.remove_tree(&entry.name)?,
            }
        }
        self.index().adopt_spare(found);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::entry::Meta;
    use crate::backup::whole_hash::Piece;
    use crate::store::names::CopyName;
    use crate::store::staging::LargeWriter;
    use crate::tree::metadata::StorePolicy;
    use std::sync::Arc;

    fn rel(text: &str) -> RelPath {
        RelPath::new(text.as_bytes()).unwrap()
    }

    struct Fixture {
        temp: tempfile::TempDir,
        staging: Staging,
    }

    fn open(temp: tempfile::TempDir) -> Fixture {
        let parent = SafeDir::open_operator(temp.path()).unwrap();
        let copy = CopyName::local(b"u").unwrap();
        let staging = Staging::open(&parent, &copy, &rel("home"), StorePolicy { is_root: false }).unwrap();
        Fixture { temp, staging }
    }

    impl Fixture {
        fn put(&self, path: &str, content: &str) {
            let form = Meta { mode: 0o644, ..Meta::default() };
            self.staging.put(&rel(path), &form, Digest::of(content.as_bytes()), content.as_bytes()).unwrap();
        }

        #[track_caller]
        fn has(&self, contents: &[&str]) {
            for content in contents {
                let digest = Digest::of(content.as_bytes());
                assert!(self.staging.has(&digest).unwrap(), "{content}");
                let mut file = self.staging.open_content(&digest).unwrap();
                assert_eq!(hash_file(&mut file).unwrap(), digest, "{content}");
            }
        }
    }

    #[test]
    fn what_loses_its_place_stays_at_hand() {
        let f = open(tempfile::tempdir().unwrap());
        for i in 0..10 {
            f.put(&format!("logs/{i}"), &format!("content {i}"));
        }
        // Rotated: each has what the one before it had.
        f.put("logs/0", "new");
        f.put("logs/1", "newer");
        // A file where a folder was, and the other way round.
        f.put("d/x", "below");
        f.put("d", "a file now");
        f.put("logs/5/x", "a folder now");
        let all: Vec<String> = (0..10).map(|i| format!("content {i}")).collect();
        f.has(&all.iter().map(String::as_str).collect::<Vec<_>>());
        f.has(&["new", "newer", "below", "a file now", "a folder now"]);
        // A large file is written over its older content.
        f.put("large", "before");
        let writer = LargeWriter::open(&f.staging, &rel("large"), crate::backup::entry::SizeClass::Kib64).unwrap();
        drop(writer);
        f.has(&["before"]);
        // The next run finds it again, but nothing that is not what its name says.
        let spare = f.temp.path().join(&f.staging.id).join("spare");
        assert_eq!(std::fs::read_dir(&spare).unwrap().count(), 5);
        std::fs::write(spare.join(Digest::of(b"below").to_hex()), "damaged").unwrap();
        let f = open(f.temp);
        f.staging.adopt().unwrap();
        f.has(&["content 0", "content 1", "content 5", "before", "new"]);
        assert!(!f.staging.has(&Digest::of(b"below")).unwrap());
        assert_eq!(std::fs::read_dir(&spare).unwrap().count(), 4);
    }

    #[test]
    fn what_took_the_place_of_an_open_large_file_stays_there() {
        for other in ["large", "large/below"] {
            let f = open(tempfile::tempdir().unwrap());
            let content = [7; 40_000];
            let class = crate::backup::entry::SizeClass::Kib64;
            let mut writer = LargeWriter::open(&f.staging, &rel("large"), class).unwrap();
            writer.arrive(&Piece::new(&Arc::new(content.to_vec()), 0..content.len())).unwrap();
            f.put(other, "came meanwhile");
            let digest = Digest::of(&content);
            let finished = writer.finish(&f.staging, &Meta { mode: 0o600, ..Meta::default() }, digest, false).unwrap();
            assert!(finished.is_none() && !f.staging.has(&digest).unwrap(), "{other}: it is nowhere");
            f.has(&["came meanwhile"]);
        }
    }
}
