//! A line on which bytes count: what travels is packed, and what did not change inside files does not travel.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::client::Client;
use crate::support::daemon::{Daemon, World};
use crate::support::proxy::Proxy;
use crate::support::trees::{assert_same, noise, write};

/// One way; the programs take a line for long from 20 ms of round trip on.
const WAY_MILLIS: u64 = 25;

/// A client at the other end of a long line.
struct Far {
    world: World,
    _daemon: Daemon,
    wire: Proxy,
    client: Client,
}

impl Far {
    fn away() -> Self {
        let world = World::new();
        let daemon = world.daemon();
        let wire = Proxy::to(&daemon.address);
        wire.lengthen(WAY_MILLIS);
        let client = Client::new(&world.path("home"), &["-s", &wire.address]);
        Self { world, _daemon: daemon, wire, client }
    }
}

fn number(summary: &Value, key: &str) -> u64 {
    summary[key].as_u64().unwrap()
}

/// What shrinks to a quarter and no further: hexadecimal digits of noise, and each line twice.
fn text(seed: u64, bytes: usize) -> Vec<u8> {
    let line = |line: &[u8]| line.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + "\n";
    noise(seed, bytes / 4).chunks(32).flat_map(|part| line(part).repeat(2).into_bytes()).take(bytes).collect()
}

fn fill(root: &Path) {
    for file in 0..40 {
        write(&root.join(format!("small{file:02}")), noise(file, 50_000));
    }
    write(&root.join("large"), noise(100, 3_000_000));
    write(&root.join("tiny"), "tiny");
}

/// Changes a few bytes in every file, and gives one another name too.
fn edit(root: &Path) {
    for file in 0..40 {
        let path = root.join(format!("small{file:02}"));
        let mut content = fs::read(&path).unwrap();
        let at = (file * 1_000) as usize;
        content.splice(at..at + 3, *b"changed");
        content.extend_from_slice(b"end");
        fs::write(&path, content).unwrap();
    }
    let mut large = fs::read(root.join("large")).unwrap();
    for place in (0..6).rev() {
        large.splice(place * 450_000..place * 450_000 + 7, *b"not as it was");
    }
    fs::write(root.join("large"), large).unwrap();
    fs::write(root.join("tiny"), "TINY").unwrap();
}

#[test]
fn a_long_line_carries_little_more_than_what_changed() {
    let Far { world, wire, client, .. } = &Far::away();
    fill(&world.source);
    client.push("-rd", &world.source);
    edit(&world.source);
    let before = (wire.passed(), wire.passed_back());
    let summary = client.push("-rd", &world.source);
    assert_same(&world.copy(), &world.source);
    // 40 files of 50 kB and one of 3 MB: some blocks of each, and 5 bytes a block in the answers.
    let (there, back) = (wire.passed() - before.0, wire.passed_back() - before.1);
    assert!(number(&summary, "content_bytes_sent") < 80_000, "{summary}");
    assert!(there < 100_000 && back < 100_000, "{there} bytes there, {back} back: {summary}");
    client.run(&["verify"]).expect(0, &[]);

    // The version before is in history, whole.
    let out = world.path("out");
    let file = world.source.join("small07");
    let args = ["restore".as_ref(), file.as_os_str(), "--at".as_ref(), "1".as_ref(), "--to".as_ref(), out.as_os_str()];
    client.run(&args).expect(0, &[]);
    assert!(fs::read(out.join("small07")).unwrap() == noise(7, 50_000));

    // The same without it.
    edit(&world.source);
    let summary = client.push("-rd --compress never", &world.source);
    assert!(number(&summary, "content_bytes_sent") > 2_000_000, "{summary}");
    assert_same(&world.copy(), &world.source);
}

#[test]
fn a_short_line_carries_things_as_they_are_unless_it_is_said() {
    let (world, _daemon, client) = World::served();
    // A machine that is busy enough makes a short line look long once in a while.
    let as_it_is = (10..20).any(|seed| {
        write(&world.source.join("text"), text(seed, 2_000_000));
        number(&client.push("-rd", &world.source), "wire_bytes_sent") > 2_000_000
    });
    assert!(as_it_is, "packed each time");
    write(&world.source.join("text"), text(2, 2_000_000));
    let summary = client.push("-rd --compress always", &world.source);
    let (content, wire) = (number(&summary, "content_bytes_sent"), number(&summary, "wire_bytes_sent"));
    assert!(content > 1_900_000 && wire < 700_000, "{summary}");
    fill(&world.source);
    client.push("-rd --compress always", &world.source);
    edit(&world.source);
    let summary = client.push("-rd --compress always", &world.source);
    assert!(number(&summary, "content_bytes_sent") < 80_000, "{summary}");
    assert_same(&world.copy(), &world.source);
}

/// The daemon packs for who comes from far away, and for nobody who does not want it.
#[test]
fn a_restore_over_a_long_line_is_packed_too() {
    let Far { world, wire, client, .. } = &Far::away();
    for file in 0..20 {
        write(&world.source.join(file.to_string()), text(file, 100_000));
    }
    client.push("-r", &world.source);
    let restore = |out: &str, flags: &[&str]| {
        let (out, before) = (world.path(out), wire.passed_back());
        let args = ["restore", world.source.to_str().unwrap(), "--to", out.to_str().unwrap()];
        client.run(&[&args[..], flags].concat()).expect(0, &[]);
        assert_same(&out.join(world.source.file_name().unwrap()), &world.source);
        wire.passed_back() - before
    };
    let (packed, plain) = (restore("packed", &[]), restore("plain", &["--compress", "never"]));
    assert!(packed < 700_000 && plain > 2_000_000, "{packed} and {plain} bytes");
}

#[test]
fn a_dry_run_over_a_long_line_tells_the_same() {
    let Far { world, client, .. } = &Far::away();
    fill(&world.source);
    client.push("-rd", &world.source);
    edit(&world.source);
    let summary = client.push("-rdn", &world.source);
    assert_eq!(number(&summary, "updated"), 42, "{summary}");
    assert_eq!(fs::read(world.copy().join("tiny")).unwrap(), b"tiny");
}
