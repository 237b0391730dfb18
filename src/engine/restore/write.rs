//! The writers: content that has come goes to a temporary name beside its place, is verified, and takes the place by
//! one rename. What was there stays until then, and for good if the content is not what the snapshot names.
//!
//! So it is for a new file too, though its rename costs as much as its making: a restore that is killed and gone on with
//! under `--overwrite never` or `newer` takes what stands under a name for whole.

use std::ops::Range;
use std::thread;

use crossbeam_channel::Receiver;

use super::Shared;
use super::table::Awaited;
use super::tally::Became;
use crate::backup::bytes::escape;
use crate::backup::digest::Digest;
use crate::backup::entry::{FileContent, Link};
use crate::engine::observer::Event;
use crate::tree::dir_cache::{DIRS_OPEN_DEFAULT, DirCache};
use crate::tree::error::TreeError;
use crate::tree::metadata::restored_form;
use crate::tree::write::FileWriter;

/// Why content was not written.
const NOT_THE_SAME: &str = "what came is not what the snapshot names; it was not written";

/// Work for a writer.
pub(super) enum Work {
    /// Whole files, and the bytes of them all.
    Small(Vec<SmallFile>, Vec<u8>),
    /// One file, piece by piece.
    Large(Box<Awaited>, Receiver<LargePiece>),
}

/// A file whose content is a range of a payload.
pub(super) struct SmallFile {
    pub(super) file: Box<Awaited>,
    pub(super) range: Range<usize>,
    /// The range is no content but the store's word on why there is none.
    pub(super) damaged: bool,
}

/// What comes of a large file.
pub(super) enum LargePiece {
    /// The next bytes; at offset 0 everything begins anew.
    Data { offset: u64, bytes: Vec<u8>, last: bool },
    /// The store cannot deliver it: why.
    Damaged(String),
}

/// How many writers there are: making files is work for the cores more than waiting.
pub(super) fn count() -> usize {
    thread::available_parallelism().map_or(4, |cores| (cores.get() * 2).clamp(4, 16))
}

/// One writer, until no more work comes.
pub(super) fn work(shared: &Shared<'_>, queue: &Receiver<Work>) {
    let mut writer = Writer { shared, dirs: None };
    for work in queue {
        // After a failure that concerns all (no space) work is only taken, so that nobody waits for us.
        if shared.table.is_stopped() {
            continue;
        }
        match work {
            Work::Small(files, payload) => {
                for small in &files {
                    let content = payload.get(small.range.clone()).unwrap_or_default();
                    writer.small(small, content);
                }
            }
            Work::Large(file, pieces) => writer.large(&file, &pieces),
        }
    }
}

struct Writer<'a> {
    shared: &'a Shared<'a>,
    dirs: Option<DirCache>,
}

impl Writer<'_> {
    fn dirs(&mut self) -> Option<&mut DirCache> {
        if self.dirs.is_none() {
            let base = self.shared.ground.get()?.base.clone()?;
            self.dirs = Some(DirCache::new(base, DIRS_OPEN_DEFAULT));
        }
        self.dirs.as_mut()
    }

    fn small(&mut self, small: &SmallFile, content: &[u8]) {
        let file = &*small.file;
        let Some(wanted) = file.entry.file() else { return };
        let (shared, bytes) = (self.shared, wanted.size);
        shared.observer.event(&Event::FileBegun { path: &shared.shown(&file.entry.path), bytes });
        if small.damaged {
            shared.failed(&file.entry.path, &escape(content));
        } else {
            shared.tally.received(content.len() as u64);
            if content.len() as u64 != wanted.size || Digest::of(content) != wanted.digest {
                shared.failed(&file.entry.path, NOT_THE_SAME);
            } else {
                let written = self.write(file, wanted, |writer| writer.write(content).map(Ok));
                self.ended(file, wanted, written);
            }
        }
        shared.observer.event(&Event::Advanced { bytes });
        shared.observer.event(&Event::FileDone { path: &shared.shown(&file.entry.path) });
    }

    fn large(&mut self, file: &Awaited, pieces: &Receiver<LargePiece>) {
        let Some(wanted) = file.entry.file() else { return };
        let (shared, bytes) = (self.shared, wanted.size);
        shared.observer.event(&Event::FileBegun { path: &shared.shown(&file.entry.path), bytes });
        let mut told = 0;
        let mut again = true;
        let mut first = None;
        while again {
            again = false;
            let written = self.write(file, wanted, |writer| {
                let came = Coming { shared, wanted, pieces, told: &mut told };
                came.write(writer, first.take())
            });
            match written {
                Ok(Err(Unfinished::Again(piece))) => (first, again) = (Some(piece), true),
                Ok(Err(Unfinished::Failed(why))) => self.ended(file, wanted, Ok(Err(why))),
                Ok(Ok(())) => self.ended(file, wanted, Ok(Ok(()))),
                Err(error) => self.ended(file, wanted, Err(error)),
            }
        }
        // What was not written is dealt with all the same; the receiver must never wait for us.
        for _ in pieces {}
        shared.observer.event(&Event::Advanced { bytes: bytes.saturating_sub(told) });
        shared.observer.event(&Event::FileDone { path: &shared.shown(&file.entry.path) });
    }

    /// Makes a temporary file, lets `fill` write it, and puts it into its place if that says so.
    fn write<E>(
        &mut self,
        file: &Awaited,
        wanted: &FileContent,
        fill: impl FnOnce(&mut FileWriter) -> Result<Result<(), E>, TreeError>,
    ) -> Result<Result<(), E>, TreeError> {
        let shared = self.shared;
        let Some(dirs) = self.dirs() else { return Ok(Ok(())) };
        let (dir, name) = dirs.parent_of(&file.place)?;
        let temp = shared.temp.next();
        let form = restored_form(&file.entry);
        let mut writer = FileWriter::create(&dir, &temp, form.mode & 0o777, wanted.sparse)?;
        let written = match fill(&mut writer) {
            Ok(Ok(())) => writer.finish(&form).and_then(|notes| {
                dir.rename(&temp, &dir, name)?;
                shared.notes(&file.entry.path, notes);
                Ok(Ok(()))
            }),
            other => other,
        };
        if !matches!(written, Ok(Ok(()))) {
            let _ = dir.unlink(&temp);
        }
        written
    }

    fn ended(&self, file: &Awaited, wanted: &FileContent, written: Result<Result<(), String>, TreeError>) {
        let shared = self.shared;
        match written {
            Ok(Ok(())) => {
                shared.tally.count(if file.existed { Became::Updated } else { Became::Created });
                if wanted.link == Link::Leader {
                    shared.table.leader_is_good(&file.entry.path);
                }
            }
            Ok(Err(why)) => shared.failed(&file.entry.path, &why),
            Err(error) if error.is_no_space() || error.is_read_only() => shared.table.stop(Some(error.into())),
            Err(error) => shared.failed(&file.entry.path, &error.to_string()),
        }
    }
}

/// Why a large file is not there yet.
enum Unfinished {
    /// The store found a place of it damaged and begins anew with this piece.
    Again(LargePiece),
    /// It cannot be had.
    Failed(String),
}

/// The pieces of one large file.
struct Coming<'a> {
    shared: &'a Shared<'a>,
    wanted: &'a FileContent,
    pieces: &'a Receiver<LargePiece>,
    /// Bytes that progress was told of.
    told: &'a mut u64,
}

impl Coming<'_> {
    fn write(self, writer: &mut FileWriter, first: Option<LargePiece>) -> Result<Result<(), Unfinished>, TreeError> {
        let mut hasher = blake3::Hasher::new();
        let mut next = first.or_else(|| self.pieces.recv().ok());
        while let Some(piece) = next {
            let (offset, bytes, last) = match piece {
                LargePiece::Damaged(why) => return Ok(Err(Unfinished::Failed(escape(why.as_bytes())))),
                LargePiece::Data { offset: 0, .. } if writer.offset() > 0 => return Ok(Err(Unfinished::Again(piece))),
                LargePiece::Data { offset, bytes, last } => (offset, bytes, last),
            };
            self.shared.tally.received(bytes.len() as u64);
            hasher.update(&bytes);
            writer.write(&bytes)?;
            let done = offset + bytes.len() as u64;
            if done > *self.told {
                self.shared.observer.event(&Event::Advanced { bytes: done - *self.told });
                *self.told = done;
            }
            if last {
                let same = done == self.wanted.size && Digest::from(hasher.finalize()) == self.wanted.digest;
                return Ok(if same { Ok(()) } else { Err(Unfinished::Failed(NOT_THE_SAME.to_owned())) });
            }
            next = self.pieces.recv().ok();
        }
        Ok(Err(Unfinished::Failed("the rest of its content did not come".to_owned())))
    }
}
