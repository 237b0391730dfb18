//! Against a real store; the way to it breaks on purpose.

use std::fs;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::engine::observer::Silent;
use crate::engine::push::{PushOptions, push};

/// What came, in words.
#[derive(Default)]
struct Came {
    entries: Vec<(String, Vec<u8>)>,
    left_out: Vec<String>,
    content: Vec<u8>,
}

impl Came {
    fn settle(&mut self) {
        if let Some(last) = self.entries.last_mut() {
            last.1.append(&mut self.content);
        }
    }
}

impl Exported for Came {
    fn entry(&mut self, entry: &Entry) -> io::Result<()> {
        self.settle();
        self.entries.push((entry.path.to_string(), Vec::new()));
        Ok(())
    }

    fn content(&mut self) -> &mut dyn Write {
        &mut self.content
    }

    fn left_out(&mut self, why: &str) -> io::Result<()> {
        self.left_out.push(why.to_owned());
        Ok(())
    }
}

struct World {
    temp: tempfile::TempDir,
    client: ClientOptions,
}

impl World {
    /// Files `0000` and so on, each with its own number in it; the first is empty.
    fn with(files: u32) -> Self {
        let temp = tempfile::tempdir().unwrap();
        let client = ClientOptions::of_store(&temp.path().join("store"), temp.path());
        let source = temp.path().join("src");
        fs::create_dir(&source).unwrap();
        for i in 0..files {
            fs::write(source.join(format!("{i:04}")), if i == 0 { String::new() } else { i.to_string() }).unwrap();
        }
        push(&client, &PushOptions { root: source, recursive: true, ..Default::default() }, &Silent).unwrap();
        Self { temp, client }
    }

    fn source(&self) -> std::path::PathBuf {
        self.temp.path().join("src")
    }
}

fn expected(files: u32) -> Vec<(String, Vec<u8>)> {
    let file = |i: u32| (format!("{i:04}"), if i == 0 { Vec::new() } else { i.to_string().into_bytes() });
    std::iter::once((String::new(), Vec::new())).chain((0..files).map(file)).collect()
}

/// A way that ends after so many messages of the other side.
fn short_lived(session: Session, mut messages: u32) -> Session {
    let Session { link: mut far, welcome, guest, keys } = session;
    let (near, middle) = Link::pair();
    std::thread::spawn(move || {
        let Link { sender, mut receiver, .. } = middle;
        let asked = receiver.recv().unwrap();
        far.send(asked).unwrap();
        while messages > 0
            && let Ok(message) = far.recv()
        {
            sender.send(message).unwrap();
            messages -= 1;
        }
    });
    Session { link: near, welcome, guest, keys }
}

#[test]
fn a_listing_that_is_given_up_on_goes_on_where_it_was() {
    let world = World::with(1200);
    let (calls, mut came) = (AtomicU32::new(0), Came::default());
    let path = inspect::absolute(&world.source()).unwrap();
    let open = || {
        let session = client::open_to_read(&world.client)?;
        // Of the first the grant and one batch; then comes the way to the contents, which holds.
        Ok(match calls.fetch_add(1, Ordering::SeqCst) {
            0 => short_lived(session, 2),
            _ => session,
        })
    };
    let mut export = Export { path: &path, open: &open, to: &mut came, contents: None, dealt: None };
    export.all(When::Latest).unwrap();
    drop(export);
    came.settle();
    assert_eq!(calls.load(Ordering::SeqCst), 3);
    assert!(came.entries == expected(1200), "{} entries", came.entries.len());
}

#[test]
fn one_that_never_gets_on_is_not_tried_for_ever() {
    let world = World::with(3);
    let path = inspect::absolute(&world.source()).unwrap();
    let open = || Ok(short_lived(client::open_to_read(&world.client)?, 1));
    let mut came = Came::default();
    let mut export = Export { path: &path, open: &open, to: &mut came, contents: None, dealt: None };
    assert_eq!(export.all(When::Latest).unwrap_err().kind, ErrorKind::Unreachable);
    let missing = extent(&world.client, Path::new("/not/there"), When::Latest).unwrap_err();
    assert_eq!(missing.kind, ErrorKind::Absent);
}

#[test]
fn what_is_lost_is_left_out_and_named() {
    let world = World::with(5);
    let all = extent(&world.client, &world.source(), When::Latest).unwrap();
    assert_eq!(all, Extent { snapshot: 1, entries: 6 });
    let copy = world.temp.path().join("store/127.0.0.1/u").join(world.source().strip_prefix("/").unwrap());
    fs::write(copy.join("0003"), "X").unwrap();
    let mut came = Came::default();
    export(&world.client, &world.source(), When::Latest, &mut came).unwrap();
    came.settle();
    let mut rest = expected(5);
    rest.remove(4);
    assert_eq!(came.entries, rest);
    let [why] = &came.left_out[..] else { panic!("{:?}", came.left_out) };
    assert!(why.contains("0003") && why.contains("no undamaged copy"), "{why}");
}
