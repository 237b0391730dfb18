//! A server that asks for more than it was offered.

use std::fs::{self, File};
use std::io::BufReader;

use super::*;
use crate::backup::digest::Digest;
use crate::backup::entry::{Entry, FileContent, Kind, Link, Meta};
use crate::backup::fingerprint::Fingerprint;
use crate::backup::sorted_file::SortedReader;
use crate::engine::observer::Silent;
use crate::net::link::Link as NetLink;

fn record(path: &str, kind: Kind) -> CacheRecord {
    let path = RelPath::new(path.as_bytes()).unwrap();
    let entry = Entry { path, meta: Meta::default(), kind };
    CacheRecord { entry, fingerprint: Fingerprint::default(), racy: false, recipe: None, mounted: false }
}

fn file() -> Kind {
    let content = FileContent {
        size: 6,
        digest: Digest::of(b"secret"),
        class: SizeClass::Whole,
        link: Link::Single,
        sparse: false,
        unstable: false,
    };
    Kind::File(content)
}

/// Only what is in the new manifest, as a file, is read again; what became a link since is not followed, nor is a folder on
/// the way that became one.
#[test]
fn nothing_is_read_that_was_not_offered() {
    let temp = tempfile::tempdir().unwrap();
    let (root, outside) = (temp.path().join("root"), temp.path().join("outside"));
    fs::create_dir(&root).unwrap();
    fs::create_dir(&outside).unwrap();
    for secret in [outside.join("secret"), root.join("excluded")] {
        fs::write(secret, b"secret").unwrap();
    }
    // They were a folder with a file in it, and a file, when they were offered.
    std::os::unix::fs::symlink(&outside, root.join("folder")).unwrap();
    std::os::unix::fs::symlink(outside.join("secret"), root.join("link")).unwrap();
    let cache = temp.path().join("cache");
    let header = CacheHeader {
        manifest: Digest([0; 32]),
        root: RelPath::root(),
        recursive: true,
        complete: true,
        scan_started: Timestamp::default(),
        owners: OwnerNames::default(),
        file_system: 0,
    };
    let mut writer = SortedWriter::create(File::create(&cache).unwrap(), CACHE_MAGIC, &header).unwrap();
    for record in [record("folder", Kind::Dir), record("folder/secret", file()), record("link", file())] {
        writer.push(&record).unwrap();
    }
    writer.finish().unwrap();
    let ask = |path: &str| {
        let file = BufReader::new(File::open(&cache).unwrap());
        let records = SortedReader::open::<CacheHeader>(file, CACHE_MAGIC).unwrap().1;
        let (link, mut server) = NetLink::pair();
        let (reply, replies) = crossbeam_channel::unbounded();
        let dir = Arc::new(SafeDir::open_operator(&root).unwrap());
        let path = RelPath::new(path.as_bytes()).unwrap();
        std::thread::scope(|scope| {
            // Whatever comes ends it: nobody waits for an answer.
            let heard = scope.spawn(move || {
                let _reply = reply;
                server.recv().ok()
            });
            let mut sender = ContentSender::new(&link.sender, &replies, &Silent);
            (sender.sink, sender.ask) = (Sink::List(Vec::new()), true);
            let resent = resend(&mut sender, (&dir, None), records, &[path], Timestamp::default());
            drop(sender);
            drop(link);
            assert_eq!(heard.join().unwrap(), None);
            resent.unwrap()
        })
    };
    for never_offered in ["excluded", "folder", "absent", "folder/other"] {
        assert!(ask(never_offered).unknown.is_some(), "{never_offered}");
    }
    for became_a_link in ["folder/secret", "link"] {
        let resent = ask(became_a_link);
        assert!(resent.unknown.is_none() && resent.overrides.values().all(Option::is_none), "{became_a_link}");
    }
}
