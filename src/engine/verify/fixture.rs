//! What the tests of verification share: a source, a store without a daemon, and what is done with them.

use std::fs;
use std::path::PathBuf;

use super::{Found, Pace, Tally, verify};
use crate::backup::relpath::RelPath;
use crate::backup::when::When;
use crate::engine::client::ClientOptions;
use crate::engine::hub::{Hub, HubOptions};
use crate::engine::observer::Silent;
use crate::engine::push::{PushOptions, push};
use crate::engine::restore::{Overwrite, RestoreOptions, restore};
use crate::store::names::CopyName;

pub(super) struct Fixture {
    temp: tempfile::TempDir,
    client: ClientOptions,
}

/// Bytes that do not shrink.
pub(super) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut out);
    out
}

impl Fixture {
    pub(super) fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let client = ClientOptions::of_store(&temp.path().join("store"), temp.path());
        fs::create_dir(temp.path().join("source")).unwrap();
        Self { temp, client }
    }

    pub(super) fn source(&self) -> PathBuf {
        self.temp.path().join("source")
    }

    /// Where a file of the source is in the copy.
    pub(super) fn in_copy(&self, name: &str) -> PathBuf {
        let copy = self.temp.path().join("store/127.0.0.1/u");
        copy.join(self.source().strip_prefix("/").unwrap()).join(name)
    }

    /// A snapshot with this file; what leaves the copy is packed.
    pub(super) fn push(&self, name: &str, content: &[u8]) {
        fs::write(self.source().join(name), content).unwrap();
        let options = PushOptions { root: self.source(), recursive: true, delete: true, ..Default::default() };
        push(&self.client, &options, &Silent).unwrap();
    }

    /// From now on the catalog is lost.
    pub(super) fn without_catalog(&self) {
        for name in ["catalog.sqlite", "catalog.sqlite-wal", "catalog.sqlite-shm"] {
            let _ = fs::remove_file(self.temp.path().join("store/.rbbackup").join(name));
        }
    }

    pub(super) fn with_hub<T>(&self, with: impl FnOnce(&Hub, &CopyName) -> T) -> T {
        let hub = Hub::open(&self.temp.path().join("store"), HubOptions::in_process()).unwrap();
        let copy = hub.store.copies().unwrap().remove(0);
        with(&hub, &copy)
    }

    pub(super) fn verify(&self, within: &str, parts: u32) -> (Vec<Found>, Tally) {
        self.with_hub(|hub, copy| verify_in(hub, copy, within, parts, &|| true))
    }

    /// The file as snapshot `number` has it, restored; and how many errors that had.
    pub(super) fn restore(&self, name: &str, number: u64) -> (Option<Vec<u8>>, u64) {
        let to = tempfile::tempdir_in(self.temp.path()).unwrap();
        let options = RestoreOptions {
            path: self.source().join(name),
            when: When::Number(number),
            to: Some(to.path().to_path_buf()),
            overwrite: Overwrite::Always,
            delete: false,
            dry_run: false,
        };
        let summary = restore(&self.client, &options, &Silent).unwrap();
        (fs::read(to.path().join(name)).ok(), summary.errors)
    }
}

/// `go_on` is asked at each beat.
pub(super) fn verify_in(
    hub: &Hub,
    copy: &CopyName,
    within: &str,
    parts: u32,
    go_on: &dyn Fn() -> bool,
) -> (Vec<Found>, Tally) {
    let mut found = Vec::new();
    let mut tell = |damage| {
        found.push(damage);
        Ok(())
    };
    let within = RelPath::new(within.trim_start_matches('/').as_bytes()).unwrap();
    let mut pace = Pace::polite(u64::MAX, go_on);
    let (tally, _) = verify(hub, copy, &within, parts, &mut pace, &mut tell).unwrap();
    (found, tally)
}
