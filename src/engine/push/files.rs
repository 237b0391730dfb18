//! Small files in messages: many to one, but never more than a frame holds, however long their paths and attributes are.

use crate::backup::hash_cache::CacheRecord;
use crate::engine::wire::{entry_bytes, entry_to_wire};
use crate::net::message::Files;

/// Bytes of entries after which a message is closed: with one more it still fits a frame.
pub(super) const FILES_HEAD_BYTES_TARGET: usize = 512 * 1024;

/// Files as one message, or several when their paths and attributes are too long for one.
pub(super) fn in_messages(files: &[CacheRecord], mut payload: Vec<u8>) -> Vec<(Files, Vec<u8>)> {
    let (mut messages, mut entries, mut head_bytes, mut content_bytes) = (Vec::new(), Vec::new(), 0, 0);
    for record in files {
        let entry = entry_to_wire(&record.entry);
        head_bytes += entry_bytes(&entry);
        content_bytes += record.entry.file().map_or(0, |c| c.size as usize);
        entries.push(entry);
        if head_bytes >= FILES_HEAD_BYTES_TARGET {
            let rest = payload.split_off(content_bytes.min(payload.len()));
            let whole = Files { entries: std::mem::take(&mut entries) };
            messages.push((whole, std::mem::replace(&mut payload, rest)));
            (head_bytes, content_bytes) = (0, 0);
        }
    }
    if !entries.is_empty() {
        messages.push((Files { entries }, payload));
    }
    messages
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::digest::Digest;
    use crate::backup::entry::{Entry, FileContent, Kind, Link, Meta, SizeClass, Xattr};
    use crate::backup::fingerprint::Fingerprint;
    use crate::backup::limits::XATTRS_BYTES_MAX;
    use crate::backup::relpath::RelPath;
    use crate::net::frame::Frame;
    use crate::net::message::Message;

    fn record(name: &str, size: u64, xattr_bytes: usize) -> CacheRecord {
        let content = FileContent {
            size,
            digest: Digest([0; 32]),
            class: SizeClass::Whole,
            link: Link::Single,
            sparse: false,
            unstable: false,
        };
        let xattrs = vec![Xattr { name: b"user.x".to_vec().into(), value: vec![0; xattr_bytes].into() }];
        let path = RelPath::new(name.as_bytes()).unwrap();
        let entry = Entry { path, meta: Meta { xattrs, ..Meta::default() }, kind: Kind::File(content) };
        CacheRecord { entry, fingerprint: Fingerprint::default(), racy: false, recipe: None, mounted: false }
    }

    #[test]
    fn every_message_fits_and_has_its_own_content() {
        let records: Vec<_> = (0..40).map(|i| record(&i.to_string(), i, XATTRS_BYTES_MAX - 100)).collect();
        let payload: Vec<u8> = (0..40_u8).flat_map(|i| vec![i; usize::from(i)]).collect();
        let messages = in_messages(&records, payload);
        assert!(messages.len() > 1);
        let mut at = 0;
        for (files, payload) in messages {
            let mut rest = &payload[..];
            for _ in &files.entries {
                let (own, after) = rest.split_at(at);
                assert!(own.iter().all(|byte| usize::from(*byte) == at));
                (rest, at) = (after, at + 1);
            }
            assert!(rest.is_empty());
            Frame::encode(Message::Files(files, payload)).unwrap();
        }
        assert_eq!(at, 40);
        assert!(in_messages(&[], Vec::new()).is_empty());
    }
}
