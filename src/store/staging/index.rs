//! What staging has: whole files, by path and by content.
//!
//! Always holds: what it says goes into journals, inodes included, so it never lags behind the disk. A run may stage
//! millions of files: those that came last are in memory ([`recent`]), the others in sorted runs in a file ([`run`]), and of
//! these only what tells most questions that the answer is no.

mod recent;
mod run;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};
use std::fs::File;
use std::io;
use std::sync::Arc;

use self::recent::Recent;
use self::run::{BLOCK_FILES, Run, Staged};
use super::StagedFile;
use super::overflow::{items_max, unnamed};
use crate::backup::digest::Digest;
use crate::backup::digest_filter::DigestFilter;
use crate::backup::relpath::RelPath;
use crate::tree::safe_dir::SafeDir;

/// The name that the file of the runs has for a moment.
const NAME: &[u8] = b"index";

pub(super) struct Index {
    /// Where it makes its file.
    dir: Arc<SafeDir>,
    recent: Recent,
    /// Files that stay in memory.
    recent_max: usize,
    written: Option<Written>,
    /// Of all files.
    count: usize,
    bytes: u64,
    /// Set aside.
    spare: HashSet<Digest>,
    /// Begun, and not whole yet.
    begun: HashSet<RelPath>,
}

/// The part that left memory. A path is either there, at most once, or among the recent ones.
struct Written {
    file: File,
    end: u64,
    runs: Vec<Run>,
    digests: DigestFilter,
    /// Of each run the block that was read last, and its number: who asks in order finds the next there.
    last: Vec<(usize, Vec<Staged>)>,
    /// Blocks that were read for a question.
    #[cfg(test)]
    reads: usize,
}

/// A file of a run.
struct Place {
    run: usize,
    number: usize,
    staged: Staged,
}

impl Written {
    fn block(&mut self, run: usize, block: usize) -> io::Result<&[Staged]> {
        if self.last.len() < self.runs.len() {
            self.last.resize_with(self.runs.len(), Default::default);
        }
        let (Some(of), Some((number, files))) = (self.runs.get(run), self.last.get_mut(run)) else { return Ok(&[]) };
        if *number != block || files.is_empty() {
            *files = of.read(&self.file, block).unwrap_or_else(|| Ok(Vec::new()))?;
            *number = block;
            #[cfg(test)]
            {
                self.reads += 1;
            }
        }
        Ok(files)
    }

    fn get(&mut self, path: &RelPath) -> io::Result<Option<Place>> {
        for run in (0..self.runs.len()).rev() {
            let Some(block) = self.runs.get(run).and_then(|run| run.block_of(path)) else { continue };
            let files = self.block(run, block)?;
            let Ok(at) = files.binary_search_by(|staged| staged.path.cmp(path)) else { continue };
            let (number, staged) = (block * BLOCK_FILES + at, files.get(at).cloned());
            if let Some(staged) = staged.filter(|_| self.runs.get(run).is_some_and(|run| !run.is_gone(number))) {
                return Ok(Some(Place { run, number, staged }));
            }
        }
        Ok(None)
    }

    fn place_of(&mut self, digest: &Digest) -> io::Result<Option<RelPath>> {
        if !self.digests.may_hold(digest) {
            return Ok(None);
        }
        for run in (0..self.runs.len()).rev() {
            let mut skip = 0;
            while let Some(number) = self.runs.get(run).and_then(|run| run.candidate(digest, skip)) {
                let files = self.block(run, number / BLOCK_FILES)?;
                let staged = files.get(number % BLOCK_FILES).filter(|staged| staged.file.digest == *digest);
                if let Some(staged) = staged {
                    return Ok(Some(staged.path.clone()));
                }
                skip += 1;
            }
        }
        Ok(None)
    }

    /// The files at `path` and within it. Only blocks that may hold one are read: this is asked for every file that comes,
    /// and most often there is none, or all that follow are gone.
    fn within(&mut self, path: &RelPath) -> io::Result<Vec<RelPath>> {
        let mut found = Vec::new();
        for run in 0..self.runs.len() {
            let mut next = self.runs.get(run).and_then(|of| of.block_within(path));
            while let Some(block) = next {
                let files = self.block(run, block)?;
                let from = files.partition_point(|staged| staged.path < *path);
                let within = files.iter().enumerate().skip(from).take_while(|(_, staged)| staged.path.is_within(path));
                let within: Vec<_> = within.map(|(at, staged)| (at, staged.path.clone())).collect();
                let goes_on = from + within.len() == files.len();
                let Some(of) = self.runs.get(run) else { break };
                let is_there = |at: &usize| !of.is_gone(block * BLOCK_FILES + at);
                found.extend(within.into_iter().filter(|(at, _)| is_there(at)).map(|(_, path)| path));
                next = Some(block + 1).filter(|next| goes_on && of.may_begin_within(*next, path));
            }
        }
        Ok(found)
    }

    /// The paths of a run's files that are there, in order.
    fn paths(&self, run: usize) -> impl Iterator<Item = io::Result<RelPath>> + '_ {
        let of = self.runs.get(run);
        let blocks = (0..).map_while(move |block| {
            let files = of?.read(&self.file, block)?;
            Some(files.map(|files| (block, files)))
        });
        blocks.flat_map(move |read| {
            let (block, files, failed) = match read {
                Ok((block, files)) => (block, files, None),
                Err(error) => (0, Vec::new(), Some(Err(error))),
            };
            let is_there = move |at: usize| of.is_some_and(|run| !run.is_gone(block * BLOCK_FILES + at));
            let there = files.into_iter().enumerate().filter(move |(at, _)| is_there(*at));
            failed.into_iter().chain(there.map(|(_, staged)| Ok(staged.path)))
        })
    }

    fn remove(&mut self, place: &Place) {
        if let Some(run) = self.runs.get_mut(place.run) {
            run.remove(place.number);
        }
    }
}

impl Index {
    /// Empty; what is too much for memory goes to a file in `dir`.
    pub(super) fn new(dir: Arc<SafeDir>) -> Self {
        Self {
            dir,
            recent: Recent::default(),
            recent_max: items_max(),
            written: None,
            count: 0,
            bytes: 0,
            spare: HashSet::new(),
            begun: HashSet::new(),
        }
    }

    pub(super) fn get(&mut self, path: &RelPath) -> io::Result<Option<StagedFile>> {
        if let Some(file) = self.recent.get(path) {
            return Ok(Some(file.clone()));
        }
        match &mut self.written {
            Some(written) => Ok(written.get(path)?.map(|place| place.staged.file)),
            None => Ok(None),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0 && self.spare.is_empty()
    }

    pub(super) fn has(&mut self, digest: &Digest) -> io::Result<bool> {
        Ok(self.spare.contains(digest) || self.place_of(digest)?.is_some())
    }

    /// Where in the tree this content stands.
    pub(super) fn place_of(&mut self, digest: &Digest) -> io::Result<Option<RelPath>> {
        if let Some(path) = self.recent.place_of(digest) {
            return Ok(Some(path.clone()));
        }
        match &mut self.written {
            Some(written) => written.place_of(digest),
            None => Ok(None),
        }
    }

    /// Of all files together.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The content that is lost if `path` is.
    pub(super) fn only_at(&mut self, path: &RelPath) -> io::Result<Option<Digest>> {
        let Some(digest) = self.get(path)?.map(|file| file.digest) else { return Ok(None) };
        let lost = self.place_of(&digest)?.as_ref() == Some(path) && !self.spare.contains(&digest);
        Ok(lost.then_some(digest))
    }

    /// The files at `path` and within it.
    pub(super) fn within(&mut self, path: &RelPath) -> io::Result<Vec<RelPath>> {
        let mut paths: Vec<_> = self.recent.within(path).iter().map(|path| RelPath::clone(path)).collect();
        if let Some(written) = &mut self.written {
            paths.extend(written.within(path)?);
        }
        Ok(paths)
    }

    pub(super) fn enter(&mut self, path: &RelPath, file: StagedFile) -> io::Result<()> {
        self.begun.remove(path);
        self.remove(path)?;
        self.count += 1;
        self.bytes = self.bytes.saturating_add(file.stat.fingerprint.size);
        self.recent.enter(path, file);
        if self.recent.len() >= self.recent_max { self.write_recent() } else { Ok(()) }
    }

    /// What came last leaves memory.
    fn write_recent(&mut self) -> io::Result<()> {
        let written = match &mut self.written {
            Some(written) => written,
            none => {
                let file = unnamed(&self.dir, NAME).map_err(|e| e.source)?;
                let (digests, last) = (DigestFilter::default(), Vec::new());
                none.insert(Written {
                    file,
                    end: 0,
                    runs: Vec::new(),
                    digests,
                    last,
                    #[cfg(test)]
                    reads: 0,
                })
            }
        };
        written.runs.push(Run::write(&mut written.file, &mut written.end, self.recent.iter())?);
        self.recent.iter().for_each(|(_, file)| written.digests.insert(&file.digest));
        self.recent.clear();
        Ok(())
    }

    /// Forgets the file at exactly this path, if there is one.
    fn remove(&mut self, path: &RelPath) -> io::Result<()> {
        let mut gone = self.recent.remove(path);
        if let (None, Some(written)) = (&gone, &mut self.written)
            && let Some(place) = written.get(path)?
        {
            written.remove(&place);
            gone = Some(place.staged.file);
        }
        if let Some(file) = gone {
            self.count -= 1;
            self.bytes = self.bytes.saturating_sub(file.stat.fingerprint.size);
        }
        Ok(())
    }

    /// What stands at `path` is not whole any more, and may never be.
    pub(super) fn begin(&mut self, path: &RelPath) -> io::Result<()> {
        self.remove_within(path)?;
        self.begun.insert(path.clone());
        Ok(())
    }

    /// Whether something was begun that is not whole.
    pub(super) fn has_begun(&self) -> bool {
        !self.begun.is_empty()
    }

    pub(super) fn remove_within(&mut self, path: &RelPath) -> io::Result<()> {
        for path in self.within(path)? {
            self.remove(&path)?;
        }
        Ok(())
    }

    /// Keeps the files that are wanted, which is asked in canonical order; whether there were others.
    pub(super) fn keep_only(&mut self, mut is_wanted: impl FnMut(&RelPath) -> io::Result<bool>) -> io::Result<bool> {
        let mut stale = Vec::new();
        self.in_order(|path| {
            if !is_wanted(path)? {
                stale.push(path.clone());
            }
            Ok(())
        })?;
        for path in &stale {
            self.remove(path)?;
        }
        if !stale.is_empty() {
            self.recent.find_contents_again();
        }
        Ok(!stale.is_empty())
    }

    /// Shows all paths in canonical order.
    fn in_order(&self, mut show: impl FnMut(&RelPath) -> io::Result<()>) -> io::Result<()> {
        let written = self.written.as_ref();
        let mut sources: Vec<Box<dyn Iterator<Item = io::Result<RelPath>> + '_>> =
            vec![Box::new(self.recent.iter().map(|(path, _)| Ok(path.clone())))];
        for (at, _) in written.iter().flat_map(|written| written.runs.iter().enumerate()) {
            sources.push(Box::new(written.into_iter().flat_map(move |written| written.paths(at))));
        }
        let mut heap = BinaryHeap::new();
        for (at, source) in sources.iter_mut().enumerate() {
            heap.extend(source.next().transpose()?.map(|path| Reverse((path, at))));
        }
        while let Some(Reverse((path, at))) = heap.pop() {
            show(&path)?;
            let next = sources.get_mut(at).and_then(Iterator::next).transpose()?;
            heap.extend(next.map(|path| Reverse((path, at))));
        }
        Ok(())
    }

    /// This content was set aside.
    pub(super) fn set_aside(&mut self, digest: Digest) {
        self.spare.insert(digest);
    }

    /// All that is set aside.
    pub(super) fn adopt_spare(&mut self, found: HashSet<Digest>) {
        self.spare = found;
    }
}

#[cfg(test)]
mod tests;
