//! What there was: `snapshots`, `history`, `find`, `diff` and `runs`, as text and as JSON.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::client::{Client, Outcome};
use crate::support::daemon::{Daemon, World};
use crate::support::trees::{set_mode, write};

fn objects(client: &Client, words: &[&str]) -> Vec<Value> {
    let outcome = client.with(&["--json"]).run(words);
    outcome.expect(0, &[]);
    outcome.objects()
}

fn at(world: &World, name: &str) -> String {
    world.source.join(name).to_str().unwrap().to_owned()
}

/// Four snapshots of the source and one of another root between them; `docs` becomes `papers` in the last.
fn five() -> (World, Daemon, Client) {
    let (world, daemon, client) = World::served();
    write(&world.source.join("notes"), "one");
    write(&world.source.join("docs/plan.txt"), "a plan");
    write(&world.source.join("docs/list.txt"), "a list");
    write(&world.source.join("docs/empty"), "");
    client.push("-rd", &world.source);
    write(&world.source.join("notes"), "twice");
    client.push("-rd", &world.source);
    write(&world.path("other/notes"), "elsewhere");
    client.push("-rd", &world.path("other"));
    write(&world.source.join("notes"), "one");
    fs::remove_file(world.source.join("docs/list.txt")).unwrap();
    client.push("-rd", &world.source);
    fs::rename(world.source.join("docs"), world.source.join("papers")).unwrap();
    set_mode(&world.source.join("notes"), 0o600);
    client.push("-rd", &world.source);
    (world, daemon, client)
}

#[test]
fn snapshots_are_listed_with_what_was_promised() {
    let (world, _daemon, client) = five();
    let all = objects(&client, &["snapshots"]);
    let numbers: Vec<&Value> = all.iter().map(|snapshot| &snapshot["number"]).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5]);
    let second = &all[1];
    assert_eq!((&second["root"], &second["files"]), (&world.source.to_str().unwrap().into(), &4.into()));
    assert_eq!((&second["bytes"], &second["content_bytes"]), (&17.into(), &5.into()));
    assert_eq!((&second["complete"], second["manifest"].as_str().unwrap().len()), (&true.into(), 64));
    // Its time can be given back.
    let when = second["time"].as_str().unwrap();
    assert!(objects(&client, &["ls", "--at", when, &at(&world, "")]).len() >= 2);
    let of = |path: &Path| objects(&client, &["snapshots", path.to_str().unwrap()]).len();
    assert_eq!(
        (of(&world.source), of(&world.path("other/notes")), of(Path::new("/")), of(Path::new("/etc"))),
        (4, 1, 5, 0)
    );
    let words = client.run(&["snapshots"]);
    words.expect(0, &["4 files", "17 B", "5 B sent"]);
    assert_eq!(words.stdout.lines().count(), 5);
    client.run(&["forget".as_ref(), world.path("other").as_os_str()]).expect(0, &[]);
    client.run(&["snapshots"]).expect(0, &["forgotten"]);
}

#[test]
fn history_tells_each_content_once_and_when_it_was_there() {
    let (world, _daemon, client) = five();
    let versions = objects(&client, &["history", &at(&world, "notes")]);
    let told =
        |v: &Value| (v["bytes"].clone(), v["first_snapshot"].clone(), v["last_snapshot"].clone(), v["newest"].clone());
    assert_eq!(told(&versions[0]), (3.into(), 1.into(), 5.into(), true.into()));
    assert_eq!(told(&versions[1]), (5.into(), 2.into(), 2.into(), false.into()));
    assert_eq!(versions.len(), 2);
    assert_eq!(versions[0]["digest"], blake3::hash(b"one").to_hex().as_str());
    let words = client.run(&["history", &at(&world, "docs/plan.txt")]);
    words.expect(0, &["1 to 4", blake3::hash(b"a plan").to_hex().as_str(), "not in the newest"]);
    client.run(&["history", &at(&world, "docs")]).expect(0, &["a directory"]);
    client.run(&["history", &at(&world, "never")]).expect(1, &["no backup has", "backed up is"]);
}

#[test]
fn find_looks_in_all_snapshots() {
    let (world, _daemon, client) = five();
    let paths = |words: &[&str]| -> Vec<(String, bool)> {
        let found = objects(&client, &[&["find"], words].concat());
        let told = |f: &Value| (f["path"].as_str().unwrap().to_owned(), f["gone"].as_bool().unwrap());
        found.iter().map(told).collect()
    };
    let of = |name: &str, gone: bool| (at(&world, name), gone);
    let expected = [of("docs/list.txt", true), of("docs/plan.txt", true), of("papers/plan.txt", false)];
    assert_eq!(paths(&["*.txt"]), expected);
    assert_eq!(paths(&[&at(&world, "docs/*.txt")]), expected[..2]);
    assert_eq!(paths(&["papers/p*"]), expected[2..]);
    assert_eq!(paths(&["notes"]).len(), 2, "in both roots");
    assert_eq!(paths(&["docs/"]), [of("docs", true)]);
    assert_eq!(paths(&["nothing"]), []);
    client.run(&["find", "*.txt"]).expect(0, &["1 to 2", "docs/list.txt  (gone)"]);
    client.run(&["find", "a{b"]).expect(2, &["a{b"]);
    client.run(&["find", "!x"]).expect(2, &["would find nothing"]);
}

#[test]
fn diff_tells_what_moved() {
    let (world, _daemon, client) = five();
    let lines = |words: &[&str]| -> Vec<String> {
        let outcome = client.run(&[&["diff"], words].concat());
        outcome.expect(0, &["snapshot"]);
        outcome.stdout.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
    };
    assert_eq!(lines(&["1", "2"]), [format!("changed 3 -> 5 {}", at(&world, "notes"))]);
    let gone = format!("deleted 6 {}", at(&world, "docs/list.txt"));
    assert_eq!(lines(&["2", "4"]), [gone.clone(), format!("changed 5 -> 3 {}", at(&world, "notes"))]);
    let moved = format!("moved - {} -> {}", at(&world, "docs"), at(&world, "papers"));
    assert_eq!(lines(&["4"]), [format!("touched 3 {}", at(&world, "notes")), moved.clone()]);
    assert_eq!(lines(&["4", "latest", &at(&world, "papers")]).len(), 3, "created, seen from there alone");
    assert_eq!(lines(&["1", "4", &at(&world, "docs")]), [gone]);
    assert_eq!(lines(&["5", "4"])[0], format!("moved - {} -> {}", at(&world, "papers"), at(&world, "docs")));
    assert_eq!(lines(&["4", "4"]), Vec::<String>::new());
    let told = objects(&client, &["diff", "4", "5"]);
    let between = &told[0];
    assert_eq!((&between["type"], &between["from"], &between["to"]), (&"between".into(), &4.into(), &5.into()));
    let folder = told.iter().find(|difference| difference["action"] == "moved").unwrap();
    assert_eq!((&folder["kind"], folder["from"].as_str().unwrap()), (&"dir".into(), at(&world, "docs").as_str()));
    client.run(&["diff", "1", "3"]).expect(1, &["cannot be compared"]);
    client.run(&["diff", "2001-01-01"]).expect(1, &["at the first of these moments"]);
    client.run(&["diff", "1", "2", &at(&world, "never")]).expect(1, &["neither of these has"]);
    client.run(&["diff", "1", "77"]).expect(1, &["there is no snapshot 77 yet; there are 1 to 5"]);
    client.run(&["diff", "soon"]).expect(2, &["soon", "2 days ago"]);
    client.run(&["diff", "1", "nonsense", "docs"]).expect(2, &["'nonsense' is not a moment"]);
}

#[test]
fn runs_tell_also_of_those_that_failed() {
    let (world, _daemon, client) = World::served();
    for i in 0..12 {
        write(&world.source.join(format!("f{i:02}")), "x");
    }
    client.push("-rd", &world.source);
    for i in 0..12 {
        fs::remove_file(world.source.join(format!("f{i:02}"))).unwrap();
    }
    client.try_push("-rd", &world.source).expect(14, &[]);
    let runs = objects(&client, &["runs"]);
    assert_eq!(runs.len(), 2);
    assert_eq!(
        (&runs[0]["snapshot"], &runs[0]["exit_code"], &runs[0]["content_bytes"]),
        (&1.into(), &0.into(), &12.into())
    );
    assert!(runs[1]["snapshot"].is_null() && runs[1]["exit_code"] == 14, "{}", runs[1]);
    client.run(&["runs"]).expect(0, &["snapshot 1", "FAILED (14)", world.source.to_str().unwrap()]);
    assert_eq!(objects(&client, &["runs", "--last", "1"]).len(), 1);
}

/// What is read stays readable while a backup waits in the middle, and by another process.
#[test]
fn another_process_reads_it_too() {
    let (world, _daemon, client) = five();
    let reader = Client::new(&world.path("reader"), &["--store", world.store.to_str().unwrap()]);
    let same = |words: &[&str]| {
        let (a, b): (Outcome, Outcome) = (client.run(words), reader.run(words));
        assert_eq!((a.code, &a.stdout), (b.code, &b.stdout), "{words:?}");
        a.expect(0, &[]);
    };
    let notes = at(&world, "notes");
    for words in [&["snapshots"][..], &["history", &notes], &["find", "*.txt"], &["diff", "1", "5"], &["runs"]] {
        same(words);
    }
    same(&["cat", "--at", "2", &notes]);
}
