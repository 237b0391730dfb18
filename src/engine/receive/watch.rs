//! [`Watch`]: tells those who look on at the store's side what arrives, message by message.

use std::collections::HashMap;
use std::sync::Arc;

use crate::engine::observer::{Event, Observer};
use crate::net::message::{Message, WireEntry, WireKind};

/// Reads along; nothing is checked here, and nothing kept beyond the paths of large files that are open.
pub(in crate::engine) struct Watch {
    observer: Option<Arc<dyn Observer>>,
    open: HashMap<u32, Vec<u8>>,
}

impl Watch {
    pub(in crate::engine) fn new(observer: Option<Arc<dyn Observer>>) -> Self {
        Self { observer, open: HashMap::new() }
    }

    /// One message of the content phase, before it is taken.
    pub(in crate::engine) fn message(&mut self, message: &Message) {
        let Some(observer) = &self.observer else { return };
        match message {
            Message::Files(files, _) => files.entries.iter().for_each(|entry| small(observer, entry)),
            Message::FileDeltas(told, _) => told.files.iter().for_each(|(entry, _)| small(observer, entry)),
            Message::FileOpen(open) => {
                observer.event(&Event::FileBegun { path: open.path.as_slice(), bytes: open.size });
                self.open.insert(open.file, open.path.0.clone());
            }
            Message::ChunkDeltas(told, _) => {
                let bytes = told.chunks.iter().map(|(len, _)| u64::from(*len)).sum();
                observer.event(&Event::Advanced { bytes });
            }
            Message::Chunks(_, payload) => observer.event(&Event::Advanced { bytes: payload.len() as u64 }),
            Message::FileDone(done) => {
                if let Some(path) = self.open.remove(&done.file) {
                    observer.event(&Event::FileDone { path: &path });
                }
            }
            Message::Progress(told) => observer.event(&Event::Source {
                bytes_done: told.bytes_done,
                bytes_total: told.bytes_total,
                files_done: told.files_done,
                total_known: told.total_known,
            }),
            _ => {}
        }
    }
}

/// A small file came, whole.
fn small(observer: &Arc<dyn Observer>, entry: &WireEntry) {
    let bytes = if let WireKind::File { size, .. } = &entry.kind { *size } else { 0 };
    let path = entry.path.as_slice();
    observer.event(&Event::FileBegun { path, bytes });
    observer.event(&Event::Advanced { bytes });
    observer.event(&Event::FileDone { path });
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::backup::bytes::Bytes;
    use crate::backup::digest::Digest;
    use crate::net::message::{Chunks, FileDone, FileOpen, Files, Progress};

    #[derive(Default)]
    struct Told(Mutex<Vec<String>>);

    impl Observer for Told {
        fn event(&self, event: &Event<'_>) {
            self.0.lock().unwrap().push(format!("{event:?}"));
        }
    }

    #[test]
    fn what_arrives_is_told() {
        let told = Arc::new(Told::default());
        let mut watch = Watch::new(Some(told.clone()));
        let kind = WireKind::File { size: 3, digest: Digest([1; 32]), class: 0, flags: 0, leader: Bytes::default() };
        let path = Bytes::from(&b"small"[..]);
        let xattrs = Vec::new();
        let entry = WireEntry { path, mode: 0o644, uid: 0, gid: 0, mtime_secs: 0, mtime_nanos: 0, xattrs, kind };
        watch.message(&Message::Files(Files { entries: vec![entry] }, b"abc".to_vec()));
        let path = Bytes::from(&b"large"[..]);
        watch.message(&FileOpen { file: 7, path, size: 1 << 30, class: 3, base: None }.into());
        watch.message(&Message::Chunks(Chunks { file: 7, lens: vec![4] }, b"abcd".to_vec()));
        watch.message(&FileDone { file: 7, entry: None }.into());
        watch.message(&FileDone { file: 7, entry: None }.into());
        watch.message(&Progress { bytes_done: 7, bytes_total: 9, files_done: 1, total_known: true }.into());
        let told: Vec<String> =
            told.0.lock().unwrap().iter().map(|event| event.split(' ').next().unwrap().to_owned()).collect();
        let large = ["FileBegun", "Advanced", "FileDone"];
        assert_eq!(told, [&large[..], &large[..], &["Source"]].concat());
    }
}
