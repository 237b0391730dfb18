//! What the daemon turned out not to have is read again and sent.
//!
//! A file that changed or vanished since it was scanned gets a new record (or none): the new cache is rewritten with it,
//! and the manifest is sent again.
//!
//! A path that names no file of the manifest cannot be given, and stays out of it: who asked (it may be one destination of
//! several) will miss it again, and the rounds end.

use std::collections::{BTreeMap, BTreeSet};
use std::io::BufWriter;
use std::sync::Arc;

use super::budget::Budget;
use super::cache::{CacheEnd, CachePaths, Reader};
use super::changes::ChangeNotes;
use super::hash::{Job, LargeJob, SmallJob, ToRead, pieces, work};
use super::scan::{Item, VANISHED, queue};
use super::send::{ContentSender, Sink};
use crate::backup::chunker::class_for;
use crate::backup::entry::{OwnerNames, SizeClass};
use crate::backup::fingerprint::Timestamp;
use crate::backup::hash_cache::{CACHE_MAGIC, CacheHeader, CacheRecord};
use crate::backup::limits::{WHOLE_FILE_BYTES_MAX, WINDOW_BYTES};
use crate::backup::manifest::ManifestHasher;
use crate::backup::relpath::RelPath;
use crate::backup::sorted_file::SortedWriter;
use crate::engine::error::{EngineError, ErrorKind};
use crate::tree::dir_cache::{DIRS_OPEN_DEFAULT, DirCache};
use crate::tree::own;
use crate::tree::safe_dir::SafeDir;

/// New records of files that changed, none for those that are gone.
pub(super) type Overrides = BTreeMap<RelPath, Option<CacheRecord>>;

/// What became of what was asked for.
#[derive(Default)]
pub(super) struct Resent {
    pub(super) overrides: Overrides,
    /// One of the paths that are no file's.
    pub(super) unknown: Option<RelPath>,
}

fn failed(message: String) -> EngineError {
    EngineError::new(ErrorKind::Failed, message)
}

/// Reads and sends the files at `missing`. `root` is the directory of the root, or of the root's file together with the
/// file's name in it.
pub(super) fn resend(
    sender: &mut ContentSender<'_>,
    root: (&Arc<SafeDir>, Option<&[u8]>),
    mut records: Reader,
    missing: &[RelPath],
    safe_before: Timestamp,
) -> Result<Resent, EngineError> {
    let (mut wanted, mut unknown) = (Vec::new(), None);
    for path in missing.iter().collect::<BTreeSet<_>>() {
        let found = records.get(path).map_err(|e| failed(format!("the hash cache cannot be read: {e}")))?;
        match found.filter(|record| record.entry.file().is_some()) {
            Some(record) => wanted.push(record),
            None => unknown = Some(path.clone()),
        }
    }
    if wanted.is_empty() {
        return Ok(Resent { unknown, ..Resent::default() });
    }
    let old: BTreeMap<RelPath, CacheRecord> = wanted.iter().map(|r| (r.entry.path.clone(), r.clone())).collect();
    let budget = Budget::new(WINDOW_BYTES);
    let (jobs, job_queue) = crossbeam_channel::bounded(8);
    let (items, item_queue) = queue();
    std::thread::scope(|scope| {
        scope.spawn(|| work(&job_queue, safe_before));
        let feeder = scope.spawn(|| {
            let (jobs, items) = (jobs, items);
            let mut dirs = DirCache::new(Arc::clone(root.0), DIRS_OPEN_DEFAULT);
            for record in wanted {
                let Some((item, job)) = job_for(&mut dirs, root.1, record, &budget) else { return };
                let sent = match job {
                    Some(job) => items.send(item).is_ok() && jobs.send(job).is_ok(),
                    None => items.send(item).is_ok(),
                };
                if !sent {
                    return;
                }
            }
        });
        let sent = sender.run(&item_queue);
        budget.close();
        drop(item_queue);
        let _ = feeder.join();
        sent
    })?;
    let Sink::List(sent) = &mut sender.sink else { return Ok(Resent { unknown, ..Resent::default() }) };
    let mut sent: BTreeMap<RelPath, CacheRecord> =
        std::mem::take(sent).into_iter().map(|r| (r.entry.path.clone(), r)).collect();
    let overrides = old
        .into_iter()
        .map(|(path, old)| {
            let new = sent.remove(&path).map(|mut new| {
                // The group of links is the manifest's affair.
                if let (Some(from), crate::backup::entry::Kind::File(to)) = (old.entry.file(), &mut new.entry.kind) {
                    to.link = from.link.clone();
                }
                new
            });
            (path, new)
        })
        .collect();
    Ok(Resent { overrides, unknown })
}

/// What is to be done for a record; no job when its folder cannot be opened. None: the run is over.
fn job_for(
    dirs: &mut DirCache,
    file: Option<&[u8]>,
    record: CacheRecord,
    budget: &Budget,
) -> Option<(Item, Option<Job>)> {
    let content = record.entry.file()?.clone();
    let opened = if file.is_some() {
        Ok(Arc::clone(dirs.root()))
    } else {
        dirs.parent_of(&record.entry.path).map(|(dir, _)| dir)
    };
    let dir = match opened {
        Ok(dir) => dir,
        Err(e) if e.is_not_found() => {
            return Some((Item::Skipped(record.entry.path, VANISHED.to_owned()), None));
        }
        Err(e) => return Some((Item::Failed(record.entry.path, e.to_string()), None)),
    };
    let (path, size) = (record.entry.path.clone(), content.size);
    let name = file.or_else(|| record.entry.path.name()).unwrap_or(b".").to_vec();
    let class = if content.class == SizeClass::Whole { class_for(size) } else { content.class };
    let (entry, ino_believed) = (record.entry.clone(), record.fingerprint.ino != 0);
    let to_read = ToRead { dir, name, entry, size, seen: None, ino_believed, had: false, expected: None };
    if size < WHOLE_FILE_BYTES_MAX {
        let (reply, receiver) = crossbeam_channel::bounded(1);
        let share = budget.take(size)?;
        let item = Item::Small { order: vec![None], reply: receiver, bytes: size };
        return Some((item, Some(Job::Small(SmallJob { files: vec![to_read], share, reply }))));
    }
    let (piece_sender, receiver) = pieces();
    let share = budget.take(size.min(WINDOW_BYTES / 2))?;
    let old = Some(Box::new(record));
    let item = Item::Large { path, size, class, sparse: content.sparse, old, pieces: receiver, share };
    let job = LargeJob { file: to_read, class, pieces: piece_sender };
    Some((item, Some(Job::Large(Box::new(job)))))
}

/// Writes the new cache again with `overrides`; `end` becomes that of the result.
pub(super) fn rewrite(
    paths: &CachePaths,
    end: &mut CacheEnd,
    header: &CacheHeader,
    owners: &OwnerNames,
    overrides: &mut Overrides,
) -> Result<(), EngineError> {
    let cannot = |e: &dyn std::fmt::Display| failed(format!("cannot rewrite the hash cache: {e}"));
    let records = if end.unchanged { paths.open().map(|(_, r)| r) } else { Some(paths.open_next()?) };
    let again = paths.next.with_extension("again");
    let file = own::create(&again).map_err(|e| cannot(&e))?;
    let mut writer = SortedWriter::create(BufWriter::new(file), CACHE_MAGIC, header).map_err(|e| cannot(&e))?;
    let mut hasher = ManifestHasher::new();
    let mut old = paths.open().map(|(_, reader)| reader);
    let first = old.as_mut().and_then(Iterator::next);
    let mut notes = ChangeNotes::new(&paths.next.with_extension("changes"), old, first)?;
    for record in records.into_iter().flatten() {
        let record = record.map_err(|e| cannot(&e))?;
        let Some(record) = overrides.remove(&record.entry.path).unwrap_or(Some(record)) else { continue };
        hasher.push(&record.entry);
        notes.push(&record)?;
        writer.push(&record).map_err(|e| cannot(&e))?;
    }
    let counts = hasher.counts();
    let manifest = hasher.finish(owners);
    let header = CacheHeader { manifest, owners: owners.clone(), ..header.clone() };
    writer.set_header(&header).map_err(|e| cannot(&e))?;
    let (sink, _) = writer.finish().map_err(|e| cannot(&e))?;
    sink.into_inner().map_err(|e| cannot(e.error()))?;
    own::rename(&again, &paths.next).map_err(|e| cannot(&e))?;
    let (entries, files, bytes) = (counts.entries, counts.files, counts.bytes);
    *end = CacheEnd { unchanged: false, manifest, entries, files, bytes, changes: notes.finish()? };
    Ok(())
}

#[cfg(test)]
mod tests;
