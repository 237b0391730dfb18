//! Where content is in the store: found, read and verified. Nothing is believed but the hash of what was read.
//!
//! In this order: the copy's file at the entry's own path; files of the copy that the catalog knows to hold the
//! content; the retired file that it knows; the vault; for a catalog that was lost, where the newest manifests have it
//! and any file of the same size that is retired or put aside; where the journal of a commit under way says that it has
//! been moved; the vault once more, for what was retired may be packed while we look. A
//! commit that runs beside us moves files from one place to the other: while one is under way, a search that found
//! nothing is repeated.
//!
//! A large file goes out piece by piece while it is hashed. An older version most often has the very size of the copy's
//! file (an image, a database), so such a file is sent from where the catalog says that the content is; a place of which
//! only the size is right comes last, and is hashed before the first piece goes out. Only damage can then be the cause of
//! pieces that begin anew.

use std::io::Read;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::held::Held;
use super::newest::Newest;
use super::pool::Wanted;
use super::under_way::UnderWay;
use super::unpacked::{self, Unpacked};
use crate::backup::digest::Digest;
use crate::backup::relpath::RelPath;
use crate::backup::snapshot::SnapshotRecord;
use crate::engine::error::EngineError;
use crate::engine::hub::Hub;
use crate::store::catalog::{CatalogReader, CopyId, Row};
use crate::store::names::CopyName;
use crate::store::vault::{Known, Vault};
use crate::tree::dir_cache::{DIRS_OPEN_DEFAULT, DirCache};
use crate::tree::read::{FileReader, READ_BYTES};
use crate::tree::safe_dir::SafeDir;

/// How long a commit under way is waited for in vain, by all readers together, and how often is looked.
const COMMIT_PATIENCE: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// Times that a search is repeated because the copy is being changed, though no commit is seen right now.
const REPEATS_MAX: u32 = 3;
/// What the readers of one restore share.
pub(in crate::engine) struct Store<'a> {
    hub: &'a Hub,
    copy: CopyName,
    dir: Arc<SafeDir>,
    id: OnceLock<Option<CopyId>>,
    vault: OnceLock<Option<Arc<Vault>>>,
    /// Once somebody had to look.
    unpacked: Mutex<Option<Unpacked>>,
    under_way: Mutex<Option<Arc<UnderWay>>>,
    /// Somebody waits for a commit until then; all together, and anew once one of them has found what it looked for.
    waits_until: Mutex<Option<Instant>>,
    /// What the newest manifests tell, once somebody had to look, and which those were.
    newest: Mutex<Option<(Vec<u64>, Arc<Newest>)>>,
    /// The snapshot that is read.
    held: Option<&'a Held>,
    /// Found out when content was looked for in vain: the snapshot is gone.
    gone: OnceLock<EngineError>,
}

impl<'a> Store<'a> {
    pub(in crate::engine) fn new(hub: &'a Hub, copy: &CopyName, held: Option<&'a Held>) -> Result<Self, EngineError> {
        Ok(Self {
            hub,
            copy: copy.clone(),
            dir: Arc::new(hub.store.copy_dir(copy)?),
            id: OnceLock::new(),
            vault: OnceLock::new(),
            unpacked: Mutex::default(),
            under_way: Mutex::default(),
            waits_until: Mutex::default(),
            newest: Mutex::default(),
            held,
            gone: OnceLock::new(),
        })
    }

    /// Why nothing more can be read, if that is so.
    pub(super) fn gone(&self) -> Option<EngineError> {
        self.gone.get().cloned()
    }

    /// Why this content is nowhere.
    fn why_not(&self, wanted: &Wanted) -> String {
        if let Some(gone) = self.held.and_then(Held::gone) {
            return self.gone.get_or_init(|| gone).message.clone();
        }
        if self.held.is_some_and(|held| held.is_purged(&wanted.path)) {
            return "it was purged while it was read".to_owned();
        }
        tracing::warn!("the content of '/{}' (BLAKE3 {}) is damaged or gone", wanted.path, wanted.digest);
        format!("the store has no undamaged copy of its content (BLAKE3 {})", wanted.digest)
    }

    /// What was searched in vain before may have been packed meanwhile.
    pub(in crate::engine) fn look_again(&self) {
        self.vault().inspect(|vault| vault.look_again());
    }

    /// The copy's number; asked for only when it is needed, because that is a question to the catalog's writer.
    fn id(&self) -> Option<CopyId> {
        *self.id.get_or_init(|| self.hub.catalog.copy_id(&self.copy).ok())
    }

    /// The copy's vault; opened only when it is needed, because that may take a while.
    fn vault(&self) -> Option<&Vault> {
        let open = || self.hub.vault(&self.copy).inspect_err(|error| tracing::warn!("history cannot be used: {error}"));
        self.vault.get_or_init(|| open().ok()).as_deref()
    }

    /// Paths of the copy that held this content when their root was backed up last. `anew`: those that have been backed up
    /// since count, too; a catalog whose daemon was killed may not know of them yet.
    fn by_newest_manifests(&self, digest: &Digest, anew: bool) -> Vec<RelPath> {
        let mut known = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        let outdated = known.as_ref().is_none_or(|(numbers, _)| anew && self.newest_numbers() != *numbers);
        if outdated {
            let snapshots = self.hub.store.snapshots(&self.copy);
            let roots = snapshots.as_ref().ok().and_then(|snapshots| snapshots.roots().ok()).unwrap_or_default();
            let newest = snapshots.map(|snapshots| Newest::read(&snapshots, &roots)).unwrap_or_default();
            *known = Some((numbers(&roots), Arc::new(newest)));
        }
        known.as_ref().map(|(_, newest)| Arc::clone(newest)).unwrap_or_default().places(digest)
    }

    /// The newest snapshots when their manifests were looked at; if they never were, those of now.
    fn looked_at(&self, now: &[u64]) -> Vec<u64> {
        let known = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        known.as_ref().map_or_else(|| now.to_vec(), |(numbers, _)| numbers.clone())
    }

    /// Of each root the newest snapshot.
    fn newest_numbers(&self) -> Vec<u64> {
        let roots = self.hub.store.snapshots(&self.copy).ok().and_then(|snapshots| snapshots.roots().ok());
        numbers(&roots.unwrap_or_default())
    }

    fn commit_under_way(&self) -> bool {
        // One that waits for a person is not waited for.
        !self.hub.is_pending()
            && self.hub.own_dir("journal").and_then(|dir| Ok(dir.names()?)).is_ok_and(|names| !names.is_empty())
    }

    fn being_changed(&self) -> bool {
        // Of another process it is not known.
        if self.hub.is_read_only() {
            return true;
        }
        let copy = self.copy.to_string();
        self.hub.leases.held().iter().any(|(scope, _)| scope.copy == copy)
    }

    fn waits_until(&self) -> MutexGuard<'_, Option<Instant>> {
        self.waits_until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn under_way(&self, anew: bool) -> Arc<UnderWay> {
        let mut known = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if anew {
            *known = None;
        }
        Arc::clone(known.get_or_insert_with(|| Arc::new(UnderWay::read(&self.hub.own, &self.copy))))
    }

    fn unpacked_of_size(&self, size: u64, anew: bool) -> Vec<RelPath> {
        let mut known = self.unpacked.lock().unwrap_or_else(PoisonError::into_inner);
        if anew {
            *known = None;
        }
        known.get_or_insert_with(|| Unpacked::list(&self.hub.own)).of_size(size)
    }
}

fn numbers(roots: &[Arc<SnapshotRecord>]) -> Vec<u64> {
    roots.iter().map(|record| record.number).collect()
}

/// One reader's way to content.
pub(in crate::engine) struct Finder<'a> {
    store: &'a Store<'a>,
    copy_dirs: DirCache,
    own_dirs: DirCache,
    /// Opened at the first question, if it can be.
    catalog: Option<Option<CatalogReader>>,
}

/// The receiver of a piece: offset, bytes, whether it is the last; false when nobody listens any more.
type PieceSink<'a> = dyn FnMut(u64, Vec<u8>, bool) -> bool + 'a;

/// A place that may hold the content: fills the buffer with what comes next, or says that it cannot.
type Fill<'a> = dyn FnMut(&mut [u8]) -> bool + 'a;

/// Reads from a place to the end, and says whether it was what is wanted.
type UseIt<'a> = dyn FnMut(&mut Fill<'_>) -> bool + 'a;

impl<'a> Finder<'a> {
    pub(in crate::engine) fn new(store: &'a Store<'a>) -> Self {
        Self {
            store,
            copy_dirs: DirCache::new(store.dir.clone(), DIRS_OPEN_DEFAULT),
            own_dirs: DirCache::new(store.hub.own.clone(), 4),
            catalog: None,
        }
    }

    /// Appends the whole, verified content to `out`. On failure `out` may be longer than before.
    pub(in crate::engine) fn whole(&mut self, wanted: &Wanted, out: &mut Vec<u8>) -> Result<(), String> {
        let from = out.len();
        self.search(wanted, false, &mut |fill| {
            out.truncate(from);
            out.resize(from + usize::try_from(wanted.size).unwrap_or_default(), 0);
            let buf = out.get_mut(from..).unwrap_or_default();
            fill(buf) && Digest::of(buf) == wanted.digest
        })
    }

    /// Sends the content in pieces of `piece_bytes`; the last one only after all of it has been verified. After a damaged
    /// place the pieces begin again at offset 0.
    pub(in crate::engine) fn pieces(
        &mut self,
        wanted: &Wanted,
        piece_bytes: usize,
        send: &mut PieceSink<'_>,
    ) -> Result<(), String> {
        self.search(wanted, true, &mut |fill| send_pieces(fill, wanted, piece_bytes, send))
    }

    /// Whether it could be delivered now; one look.
    pub(super) fn is_there(&mut self, wanted: &Wanted) -> bool {
        self.search_once(wanted, false, false, &mut |fill| send_pieces(fill, wanted, READ_BYTES, &mut |_, _, _| true))
    }

    /// Tries place after place until `use_it` is content with one. `careful`: what it is given cannot be taken back.
    fn search(&mut self, wanted: &Wanted, careful: bool, use_it: &mut UseIt<'_>) -> Result<(), String> {
        let (mut repeats, mut looked_at) = (0, None);
        loop {
            let being_changed = self.store.being_changed();
            if self.search_once(wanted, repeats > 0, careful, use_it) {
                if repeats > 0 {
                    *self.store.waits_until() = None;
                }
                return Ok(());
            }
            repeats += 1;
            let newest = self.store.newest_numbers();
            let committed = looked_at.get_or_insert_with(|| self.store.looked_at(&newest)) != &newest;
            looked_at = Some(newest);
            let wait = if committed || self.store.commit_under_way() {
                Instant::now() < *self.store.waits_until().get_or_insert_with(|| Instant::now() + COMMIT_PATIENCE)
            } else {
                being_changed && repeats <= REPEATS_MAX
            };
            if !wait {
                return Err(self.store.why_not(wanted));
            }
            thread::sleep(LOOK_AGAIN);
        }
    }

    fn search_once(&mut self, wanted: &Wanted, again: bool, careful: bool, use_it: &mut UseIt<'_>) -> bool {
        if again {
            self.copy_dirs.forget(&RelPath::root());
            self.own_dirs.forget(&RelPath::root());
            self.store.vault().inspect(|vault| vault.look_again());
        }
        if !careful && good(self.open_copy(&wanted.path, wanted.size), use_it) {
            return true;
        }
        for row in self.known_places(wanted) {
            let opened = if careful || row.path != wanted.path { self.open_copy(&row.path, wanted.size) } else { None };
            // What was changed since the catalog looked at it is a place like any other.
            if good(opened.filter(|file| !careful || file.stat().fingerprint() == row.fingerprint), use_it) {
                return true;
            }
        }
        let retired = self.known_retired(&wanted.digest);
        if let Some(place) = &retired
            && good(self.open_unpacked(place, wanted.size), use_it)
        {
            return true;
        }
        if self.try_vault(wanted, use_it) {
            return true;
        }
        let holding = |mut file: FileReader| (!careful || holds(&mut file, &wanted.digest)).then_some(file);
        for place in self.store.by_newest_manifests(&wanted.digest, again) {
            if good(self.open_copy(&place, wanted.size).and_then(holding), use_it) {
                return true;
            }
        }
        if careful && good(self.open_copy(&wanted.path, wanted.size).and_then(holding), use_it) {
            return true;
        }
        for place in self.store.unpacked_of_size(wanted.size, again) {
            let other = Some(&place) != retired.as_ref();
            if other && good(self.open_unpacked(&place, wanted.size).and_then(holding), use_it) {
                return true;
            }
        }
        self.try_moved(wanted, again, use_it) || self.try_vault(wanted, use_it)
    }

    /// Where a commit that is under way has moved it.
    fn try_moved(&mut self, wanted: &Wanted, again: bool, use_it: &mut UseIt<'_>) -> bool {
        let under_way = self.store.under_way(again);
        let mut before = vec![wanted.path.clone()];
        before.extend(self.known_places(wanted).into_iter().map(|row| row.path));
        before.extend(self.store.by_newest_manifests(&wanted.digest, false));
        let holding = |mut file: FileReader| holds(&mut file, &wanted.digest).then_some(file);
        before
            .iter()
            .flat_map(|path| under_way.now_at(path))
            .any(|place| good(self.open_copy(&place, wanted.size).and_then(holding), use_it))
    }

    fn try_vault(&mut self, wanted: &Wanted, use_it: &mut UseIt<'_>) -> bool {
        let store = self.store;
        let Some(vault) = store.vault() else { return false };
        let known = self.catalog().map(|(reader, copy)| Known { reader, copy });
        match vault.content(known, &wanted.digest) {
            Ok(Some(mut content)) if content.bytes_left() == wanted.size => use_it(&mut |buf| {
                let filled = content.read_exact(buf);
                filled.inspect_err(|error| tracing::warn!("'/{}': {error}", wanted.path)).is_ok()
            }),
            Ok(_) => false,
            Err(error) => {
                tracing::warn!("'/{}': {error}", wanted.path);
                false
            }
        }
    }

    fn open_copy(&mut self, path: &RelPath, size: u64) -> Option<FileReader> {
        let (dir, name) = self.copy_dirs.parent_of(path).ok()?;
        open_sized(&dir, name, size)
    }

    fn open_unpacked(&mut self, place: &RelPath, size: u64) -> Option<FileReader> {
        let (dir, name) = self.own_dirs.parent_of(place).ok()?;
        open_sized(&dir, name, size)
    }

    /// A catalog that does not answer knows nothing; other places remain.
    fn catalog(&mut self) -> Option<(&CatalogReader, CopyId)> {
        let hub = self.store.hub;
        let catalog = self.catalog.get_or_insert_with(|| hub.catalog.reader().ok());
        Some((catalog.as_ref()?, self.store.id()?))
    }

    fn known_places(&mut self, wanted: &Wanted) -> Vec<Row> {
        let rows = self.catalog().and_then(|(catalog, id)| catalog.find_content(id, &wanted.digest).ok());
        rows.unwrap_or_default()
    }

    fn known_retired(&mut self, digest: &Digest) -> Option<RelPath> {
        let place = self.catalog().and_then(|(catalog, id)| catalog.retired(id, digest).ok()).flatten()?;
        unpacked::retired(&place)
    }
}

/// Whether the file, if it is there, is what is wanted.
fn good(opened: Option<FileReader>, use_it: &mut UseIt<'_>) -> bool {
    opened.is_some_and(|mut file| use_it(&mut |buf| file.read(buf).is_ok_and(|len| len == buf.len())))
}

/// The file, if it has the right size; others need not be read.
fn open_sized(dir: &SafeDir, name: &[u8], size: u64) -> Option<FileReader> {
    FileReader::open(dir, name).ok().filter(|reader| reader.stat().size == size)
}

/// Whether the whole file is this content. It is read from the beginning then.
fn holds(file: &mut FileReader, digest: &Digest) -> bool {
    let mut hasher = blake3::Hasher::new();
    let mut buf = vec![0; READ_BYTES];
    loop {
        match file.read(&mut buf) {
            Ok(0) => break,
            Ok(len) => {
                hasher.update(buf.get(..len).unwrap_or_default());
            }
            Err(_) => return false,
        }
    }
    Digest::from(hasher.finalize()) == *digest && file.restart().is_ok()
}

/// True: all was sent and verified, or nobody listens any more.
fn send_pieces(fill: &mut Fill<'_>, wanted: &Wanted, piece_bytes: usize, send: &mut PieceSink<'_>) -> bool {
    let mut hasher = blake3::Hasher::new();
    let mut offset = 0_u64;
    loop {
        let left = wanted.size.saturating_sub(offset);
        let mut piece = vec![0; usize::try_from(left).unwrap_or(piece_bytes).min(piece_bytes)];
        if !fill(&mut piece) {
            return false;
        }
        hasher.update(&piece);
        let len = piece.len() as u64;
        let last = offset + len >= wanted.size;
        if last && Digest::from(hasher.finalize()) != wanted.digest {
            return false;
        }
        if !send(offset, piece, last) || last {
            return true;
        }
        offset += len;
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::engine::client::ClientOptions;
    use crate::engine::observer::Silent;
    use crate::engine::push::{PushOptions, push};

    /// Another process moves it about, and the catalog knows nothing of that: it was killed before it could say so.
    #[test]
    fn content_that_is_moved_while_it_is_read_is_found_without_the_catalog() {
        let temp = tempfile::tempdir().unwrap();
        let (place, root) = (temp.path().join("store"), temp.path().join("src"));
        let client = ClientOptions::of_store(&place, temp.path());
        fs::create_dir_all(root.join("first")).unwrap();
        fs::write(root.join("first/file"), "content").unwrap();
        let push = || {
            let options = PushOptions { root: root.clone(), recursive: true, delete: true, ..Default::default() };
            push(&client, &options, &Silent).unwrap();
        };
        push();
        // The reader does not see it from its first look on; whoever writes has it.
        let (catalog, hidden) = (place.join(".rbbackup/catalog.sqlite"), temp.path().join("hidden"));
        fs::rename(&catalog, &hidden).unwrap();
        let hub = Hub::open_to_read(&place).unwrap();
        let store = Store::new(&hub, &CopyName::local(b"u").unwrap(), None).unwrap();
        let mut finder = Finder::new(&store);
        let wanted = Wanted {
            batch: 0,
            index: 0,
            path: RelPath::new(b"as/it/was").unwrap(),
            digest: Digest::of(b"content"),
            size: 7,
        };
        finder.whole(&wanted, &mut Vec::new()).unwrap();
        fs::rename(&hidden, &catalog).unwrap();
        let mut before = "first".to_owned();
        for now in ["second", "third", "fourth"] {
            fs::rename(root.join(&before), root.join(now)).unwrap();
            push();
            // Not that a folder that is still open leads there.
            finder.copy_dirs.forget(&RelPath::root());
            let mut out = Vec::new();
            finder.whole(&wanted, &mut out).unwrap();
            assert_eq!(out, b"content");
            before = now.to_owned();
        }
        fs::remove_file(root.join("fourth/file")).unwrap();
        assert!(finder.whole(&Wanted { digest: Digest::of(b"other"), ..wanted }, &mut Vec::new()).is_err());
    }
}
