//! [`Found`]: what the content phase finds out about the source, besides what goes into the manifest.

use super::scan::VANISHED;
use super::send::ContentSender;
use crate::backup::hash_cache::CacheRecord;
use crate::backup::relpath::RelPath;
use crate::engine::observer::Event;

/// Said of content that changed though size, times and inode did not.
const ALTERED: &str = "its content is not what it was at the last backup, but its size, times and inode are: the disk may have \
                       damaged it. It was backed up as it is; the version before is kept";

/// What the content phase found out, besides the manifest.
#[derive(Default)]
pub(super) struct Found {
    pub(super) unseen: Vec<RelPath>,
    pub(super) errors: Vec<String>,
    pub(super) failed: u64,
    /// Files whose content changed without a trace.
    pub(super) altered: u64,
    pub(super) bytes_read: u64,
    pub(super) content_bytes_sent: u64,
}

impl ContentSender<'_> {
    /// It could not be read: what the copy has of it stays.
    pub(super) fn failed(&mut self, path: RelPath, why: &str) {
        self.observer.event(&Event::Failed { path: path.as_bytes(), why });
        self.found.failed += 1;
        if self.found.errors.len() < 1000 {
            self.found.errors.push(format!("{path}: {why}"));
        }
        self.found.unseen.push(path);
    }

    /// The content changed, and nothing of the file says so.
    pub(super) fn look_at_altered(&mut self, altered: bool, record: &CacheRecord) {
        if altered {
            self.found.altered += 1;
            self.observer.event(&Event::Failed { path: record.entry.path.as_bytes(), why: ALTERED });
        }
    }

    pub(super) fn vanished(&mut self, path: &RelPath) {
        self.observer.event(&Event::Skipped { path: path.as_bytes(), why: VANISHED });
    }
}
