//! Along the timeline: every path and all that it was. Plain files are hashed on the way; what snapshots name and the plain
//! copy does not prove is gathered.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::{Found, Job, Outcome};
use crate::backup::digest::Digest;
use crate::backup::entry::{Entry, Kind};
use crate::backup::fingerprint::Fingerprint;
use crate::backup::relpath::RelPath;
use crate::backup::snapshot::{RunKind, SnapshotRecord};
use crate::backup::timeline::{PathHistory, Version};
use crate::engine::error::EngineError;
use crate::store::catalog::{CatalogReader, CopyId, Update};
use crate::store::snapshots::Snapshots;
use crate::tree::dir_cache::{DIRS_OPEN_DEFAULT, DirCache};
use crate::tree::error::TreeError;
use crate::tree::read::FileReader;
use crate::tree::safe_dir::SafeDir;
use crate::tree::stat::FileKind;

const READ_BYTES: usize = 1024 * 1024;

/// Snapshots of one root: from and to.
pub(super) type Span = (Arc<RelPath>, u64, u64);

/// Content that snapshots name.
#[derive(Debug, Default)]
pub(super) struct Need {
    pub(super) size: u64,
    pub(super) spans: Vec<Span>,
}

/// What the walk found out.
#[derive(Default)]
pub(super) struct Walked {
    /// Content of the slice that the plain copy did not prove.
    pub(super) needed: HashMap<Digest, Need>,
    /// Paths in the plain copy that are not as their newest snapshot says.
    pub(super) suspects: Vec<RelPath>,
    /// Content that is nowhere.
    pub(super) missing: HashSet<Digest>,
}

/// The newest records of the roots: who says what the plain copy is to hold.
pub(super) struct Roots {
    backups: Vec<Arc<SnapshotRecord>>,
    forgotten: Vec<Arc<SnapshotRecord>>,
}

impl Roots {
    pub(super) fn load(snapshots: &Snapshots) -> Result<Self, EngineError> {
        Ok(Self::of(&snapshots.list()?))
    }

    /// The same of these records, oldest first.
    pub(super) fn of(records: &[Arc<SnapshotRecord>]) -> Self {
        let newest: HashMap<&RelPath, &Arc<SnapshotRecord>> =
            records.iter().map(|record| (&record.root, record)).collect();
        let newest = newest.into_values().cloned();
        let (backups, forgotten) = newest.partition(|record| record.kind == RunKind::Backup);
        Self { backups, forgotten }
    }

    /// The runs whose manifests may say what this path is to be, the newest first, and whether each looked at it itself: a
    /// run without `-r` tells of what is deeper only what the copy had.
    pub(super) fn around(&self, path: &RelPath) -> Vec<(&Arc<SnapshotRecord>, bool)> {
        let looked = |record: &SnapshotRecord| {
            path.strip_prefix(&record.root).map(|inner| record.recursive || inner.depth() <= 1)
        };
        // What only a run without `-r` had seen there leaves when its own root is forgotten.
        let left = |record: &SnapshotRecord| {
            self.forgotten.iter().any(|forgotten| forgotten.number > record.number && path.is_within(&forgotten.root))
        };
        let around = self.backups.iter().filter_map(|record| Some((record, looked(record)?)));
        let mut around: Vec<_> = around.filter(|(record, _)| record.recursive || !left(record)).collect();
        around.sort_by_key(|(record, _)| std::cmp::Reverse(record.number));
        around
    }
}

/// Reads the plain copy.
pub(super) struct Plain {
    dirs: DirCache,
    /// Inodes with several names that were hashed. A commit frees inodes, and their numbers come again.
    linked: HashMap<u64, (Fingerprint, Digest)>,
    buffer: Vec<u8>,
}

/// What is to be said of a path in the plain copy.
pub(super) enum Look {
    /// As it should be; what was hashed, by its stat.
    Good(Option<crate::tree::stat::Stat>),
    /// Not so.
    Bad(String),
}

impl Plain {
    pub(super) fn new(dir: Arc<SafeDir>) -> Self {
        Self { dirs: DirCache::new(dir, DIRS_OPEN_DEFAULT), linked: HashMap::new(), buffer: vec![0; READ_BYTES] }
    }

    /// Directories may have been replaced since they were opened.
    pub(super) fn forget(&mut self) {
        self.dirs.forget(&RelPath::root());
        self.linked.clear();
    }

    /// Compares what lies at `path` with its entry. `read` is called after each piece.
    pub(super) fn look(
        &mut self,
        path: &RelPath,
        entry: &Entry,
        read: &mut dyn FnMut(u64) -> Result<(), EngineError>,
    ) -> Result<Look, EngineError> {
        if !matches!(entry.kind, Kind::Dir | Kind::File(_) | Kind::Symlink { .. }) || path.is_root() {
            return Ok(Look::Good(None));
        }
        match self.look_at(path, entry, read) {
            Ok(look) => Ok(look),
            Err(Trouble::Tree(error)) if error.is_not_found() || error.is_not_a_directory() => {
                Ok(Look::Bad("it is not in the copy".into()))
            }
            Err(Trouble::Tree(error)) => Ok(Look::Bad(error.to_string())),
            Err(Trouble::Stop(error)) => Err(error),
        }
    }

    fn look_at(
        &mut self,
        path: &RelPath,
        entry: &Entry,
        read: &mut dyn FnMut(u64) -> Result<(), EngineError>,
    ) -> Result<Look, Trouble> {
        let (dir, name) = self.dirs.parent_of(path)?;
        let stat = dir.stat(name)?;
        match &entry.kind {
            Kind::Dir if stat.kind == FileKind::Dir => Ok(Look::Good(None)),
            Kind::Symlink { target } if stat.kind == FileKind::Symlink => {
                let same = dir.read_link(name)? == target.0;
                Ok(if same { Look::Good(None) } else { Look::Bad("the link leads elsewhere".into()) })
            }
            Kind::File(content) if stat.kind == FileKind::File => {
                if stat.size != content.size {
                    return Ok(Look::Bad(format!("it has {} bytes instead of {}", stat.size, content.size)));
                }
                if stat.nlink > 1 && self.linked.get(&stat.ino) == Some(&(stat.fingerprint(), content.digest)) {
                    return Ok(Look::Good(Some(stat)));
                }
                let mut reader = FileReader::open(&dir, name)?;
                let digest = hash(&mut reader, &mut self.buffer, read)?;
                if digest != content.digest {
                    return Ok(Look::Bad("its content is not what was backed up".into()));
                }
                if stat.nlink > 1 {
                    self.linked.insert(stat.ino, (stat.fingerprint(), digest));
                }
                Ok(Look::Good(Some(stat)))
            }
            _ => Ok(Look::Bad("it is of another type".into())),
        }
    }
}

enum Trouble {
    Tree(TreeError),
    Stop(EngineError),
}

impl From<TreeError> for Trouble {
    fn from(error: TreeError) -> Self {
        Self::Tree(error)
    }
}

fn hash(
    reader: &mut FileReader,
    buffer: &mut [u8],
    read: &mut dyn FnMut(u64) -> Result<(), EngineError>,
) -> Result<Digest, Trouble> {
    let mut hasher = blake3::Hasher::new();
    loop {
        let len = reader.read(buffer)?;
        if len == 0 {
            return Ok(hasher.finalize().into());
        }
        hasher.update(buffer.get(..len).unwrap_or_default());
        read(len as u64).map_err(Trouble::Stop)?;
    }
}

impl Job<'_, '_> {
    /// See the module.
    pub(super) fn walk(
        &mut self,
        snapshots: &Snapshots,
        roots: &Roots,
        numbers: &[u64],
    ) -> Result<Walked, EngineError> {
        let mut walked = Walked::default();
        let mut proven = HashSet::new();
        let mut plain = Plain::new(Arc::new(self.hub.store.copy_dir(self.copy)?));
        let catalog = self.hub.catalog.reader().ok().zip(self.hub.catalog.copy_id(self.copy).ok());
        for history in snapshots.timeline(numbers, self.within)? {
            let PathHistory { path, versions } = history?;
            if let Some(version) = current(&versions, roots, &path)
                && version.record.entry.file().is_none_or(|content| self.slice.has(&content.digest))
            {
                let mut bytes = 0;
                let look = plain.look(&path, &version.record.entry, &mut |read| {
                    bytes += read;
                    self.pace.beat(read)
                })?;
                self.tally.bytes += bytes;
                match (look, version.record.entry.file()) {
                    (Look::Good(Some(stat)), Some(content)) => {
                        self.tally.files += 1;
                        proven.insert(prefix(&content.digest));
                        if let Some((reader, id)) = &catalog {
                            self.check_row(reader, *id, &path, &stat, &content.digest)?;
                        }
                    }
                    (Look::Bad(_), _) => walked.suspects.push(path.clone()),
                    _ => {}
                }
            }
            for version in versions {
                let Some(content) = version.record.entry.file() else { continue };
                if !self.slice.has(&content.digest) || (version.newest && proven.contains(&prefix(&content.digest))) {
                    continue;
                }
                let need = walked.needed.entry(content.digest).or_default();
                need.size = content.size;
                need.spans.push((version.root, version.first, version.last));
            }
        }
        walked.needed.retain(|digest, _| !proven.contains(&prefix(digest)));
        Ok(walked)
    }

    /// A row that the next run would believe must say what the file holds.
    fn check_row(
        &mut self,
        reader: &CatalogReader,
        id: CopyId,
        path: &RelPath,
        stat: &crate::tree::stat::Stat,
        digest: &Digest,
    ) -> Result<(), EngineError> {
        let Ok(Some(row)) = reader.get(id, path) else { return Ok(()) };
        // One without a digest says nothing: the file is hashed when somebody needs it.
        let believed = row.digest.filter(|_| !row.racy && row.fingerprint == stat.fingerprint());
        if believed.is_none_or(|believed| believed == *digest) {
            return Ok(());
        }
        let healed = self.hub.catalog.apply(id, [Update::Remove(path.clone())]).is_ok();
        let outcome = if healed { Outcome::Healed } else { Outcome::Stays };
        let what = self.hub.store.catalog_path().as_os_str().as_encoded_bytes().to_vec();
        let why = format!("it takes '/{path}' for other content than it has");
        self.tell(Found::new(what, why, 0).with(outcome))
    }
}

/// Enough of a digest to tell contents apart by: a mistake would take two random equals among 2^64.
fn prefix(digest: &Digest) -> u64 {
    digest.0.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// What the plain copy is to hold: what the newest run that looked there says.
fn current<'a>(versions: &'a [Version], roots: &Roots, path: &RelPath) -> Option<&'a Version> {
    for (record, looked) in roots.around(path) {
        let has = versions.iter().find(|version| *version.root == record.root && version.last == record.number);
        if has.is_some() || looked {
            return has;
        }
    }
    None
}
