//! A backup makes the copy equal, a second one sends nothing, what was changed on either side is put right.

use std::fs;
use std::path::Path;

use crate::support::client::Outcome;
use crate::support::daemon::{World, wait_until};
use crate::support::trees::{assert_same, many, noise, plant, set_mode, set_time, time_of, write};

/// Check 1.
#[test]
fn the_copy_equals_the_source_and_the_next_run_sends_nothing() {
    let (world, daemon, client) = World::served();
    plant(&world.source);
    // Times are anybody's to set: this one would look freshly written for two hundred years.
    set_time(&world.source.join("docs/script"), 8_000_000_000, 0);
    let first = client.push("-r", &world.source);
    assert_same(&world.copy(), &world.source);
    assert_eq!(first["snapshot"], 1);
    assert_eq!(first["deleted"], 0);
    assert!(first["content_bytes_sent"].as_u64().unwrap() > 700_000);
    let second = client.push("-r", &world.source);
    assert_eq!(second["content_bytes_sent"], 0);
    for none in ["created", "updated", "moved", "deleted", "touched", "errors"] {
        assert_eq!(second[none], 0, "{none}: {second}");
    }
    assert_eq!(second["manifest"], first["manifest"]);
    assert_eq!(second["snapshot"], 2);
    assert_eq!(second["files"], first["files"]);
    // What was written just before a scan is read again by the next, for it may have changed since; then no more.
    wait_until("a run that reads nothing", || client.push("-r", &world.source)["bytes_read"] == 0);
    // Without its cache and against a daemon that has just started: all is read, nothing is sent.
    fs::remove_dir_all(client.home.join(".cache")).unwrap();
    let daemon = daemon.restart();
    let third = client.push("-rd", &world.source);
    assert_eq!((&third["content_bytes_sent"], &third["manifest"]), (&0.into(), &first["manifest"]));
    assert!(third["bytes_read"].as_u64().unwrap() > 700_000);
    assert_same(&world.copy(), &world.source);
    drop(daemon);
}

#[test]
fn a_file_is_a_root_and_so_is_a_relative_path() {
    let world = World::new();
    let daemon = world.daemon();
    let client = world.client(&daemon, "a").in_dir(&world.source);
    plant(&world.source);
    let summary = client.push("", Path::new("./docs/../docs/script"));
    assert_eq!(summary["root"], world.source.join("docs/script").to_str().unwrap());
    assert_same(&world.copy().join("docs/script"), &world.source.join("docs/script"));
    assert!(!world.copy().join("readme").exists());
    let outcome = client.run(&["--json", "-r", "docs", "twin", "docs/"]);
    outcome.expect(0, &[]);
    let roots: Vec<_> = outcome.objects().into_iter().filter(|o| o["type"] == "summary").collect();
    assert_eq!(roots.len(), 2, "the same root twice is one run");
    assert_same(&world.copy().join("docs/a/b"), &world.source.join("docs/a/b"));
    assert_same(&world.copy().join("twin"), &world.source.join("twin"));
}

#[test]
fn a_root_that_is_a_link_is_followed_and_nothing_below_it_is() {
    let (world, _daemon, client) = World::served();
    plant(&world.source);
    let link = world.path("alias");
    std::os::unix::fs::symlink(&world.source, &link).unwrap();
    client.push("-r", &link);
    assert_same(&world.copy_of(&link), &world.source);
    assert!(!world.copy().exists());
}

/// Check 2: what changed is brought over, and only that.
#[test]
fn an_update_sends_what_changed() {
    let (world, _daemon, client) = World::served();
    plant(&world.source);
    client.push("-r", &world.source);
    let source = |name: &str| world.source.join(name);
    write(&source("readme"), "read me again\n");
    write(&source("docs/new/file"), noise(7, 5000));
    set_mode(&source("docs/private"), 0o640);
    xattr::set(source("empty"), "user.new", b"x").unwrap();
    xattr::remove(source("readme"), "user.colour").unwrap();
    fs::remove_file(source("link")).unwrap();
    std::os::unix::fs::symlink("docs", source("link")).unwrap();
    let summary = client.push("-r", &world.source);
    assert_same(&world.copy(), &world.source);
    assert_eq!(summary["content_bytes_sent"], 14 + 5000);
    assert_eq!(summary["deleted"], 0);
}

/// Kinds change into each other; also without `-d` the new one counts.
#[test]
fn what_becomes_something_else_is_replaced() {
    let (world, _daemon, client) = World::served();
    plant(&world.source);
    client.push("-r", &world.source);
    let source = |name: &str| world.source.join(name);
    fs::remove_dir_all(source("docs/a")).unwrap();
    write(&source("docs/a"), "a file now");
    fs::remove_file(source("readme")).unwrap();
    write(&source("readme/inside"), "a folder now");
    fs::remove_file(source("docs/pipe")).unwrap();
    std::os::unix::fs::symlink("x", source("docs/pipe")).unwrap();
    fs::remove_file(source("link")).unwrap();
    fs::create_dir(source("link")).unwrap();
    // Two files change places.
    let (one, other) = (source("docs/script"), source("docs/private"));
    fs::rename(&one, source("docs/x")).unwrap();
    fs::rename(&other, &one).unwrap();
    fs::rename(source("docs/x"), &other).unwrap();
    client.push("-r", &world.source);
    assert_same(&world.copy(), &world.source);
}

/// Check 3.
#[test]
fn a_renamed_folder_is_moved_and_not_sent() {
    let (world, _daemon, client) = World::served();
    many(&world.source.join("drivers"), 8, 50);
    write(&world.source.join("drivers/large"), noise(3, 400_000));
    client.push("-r", &world.source);
    fs::rename(world.source.join("drivers"), world.source.join("drivers2")).unwrap();
    fs::rename(world.source.join("drivers2/f03/007"), world.source.join("seven")).unwrap();
    let summary = client.push("-rd", &world.source);
    assert_eq!(summary["content_bytes_sent"], 0, "{summary}");
    assert!(summary["moved"].as_u64().unwrap() >= 401, "{summary}");
    assert_eq!((&summary["created"], &summary["deleted"]), (&0.into(), &0.into()), "{summary}");
    assert_same(&world.copy(), &world.source);
    // Without `-d` the old names stay, and nothing is sent either.
    fs::rename(world.source.join("drivers2"), world.source.join("drivers3")).unwrap();
    let summary = client.push("-r", &world.source);
    assert_eq!(summary["content_bytes_sent"], 0, "{summary}");
    assert_same(&world.copy().join("drivers3"), &world.source.join("drivers3"));
    assert!(world.copy().join("drivers2/f00/000").exists());
}

/// Check 4: what somebody did to the copy.
#[test]
fn a_copy_that_was_damaged_is_repaired() {
    let (world, _daemon, client) = World::served();
    plant(&world.source);
    many(&world.source.join("many"), 2, 20);
    client.push("-r", &world.source);
    let copy = |name: &str| world.copy().join(name);
    let before = time_of(&copy("large"));
    let mut bytes = fs::read(copy("large")).unwrap();
    bytes[350_000] ^= 1;
    fs::write(copy("large"), &bytes).unwrap();
    fs::File::open(copy("large")).unwrap().set_modified(before).unwrap();
    fs::remove_file(copy("readme")).unwrap();
    fs::remove_dir_all(copy("many/f01")).unwrap();
    set_mode(&copy("docs/script"), 0o600);
    fs::remove_file(copy("link")).unwrap();
    write(&copy("hollow/stranger"), "not from here");
    let summary = client.push("-rd", &world.source);
    assert_same(&world.copy(), &world.source);
    let sent = summary["content_bytes_sent"].as_u64().unwrap();
    assert!(sent < 100_000 + 1000, "one chunk, and the files that were lost: {summary}");
}

/// Check 4: another inode or another time is no other content.
#[test]
fn a_copy_that_was_touched_or_copied_is_used() {
    let (world, _daemon, client) = World::served();
    plant(&world.source);
    client.push("-r", &world.source);
    set_time(&world.copy().join("readme"), 5, 5);
    set_time(&world.copy().join("large"), 5, 5);
    assert_eq!(client.push("-rd", &world.source)["content_bytes_sent"], 0);
    assert_same(&world.copy(), &world.source);
    for flag in ["-al", "-a"] {
        let (copy, second) = (world.copy(), world.copy().with_extension("second"));
        cp(flag, &copy, &second);
        fs::remove_dir_all(&copy).unwrap();
        fs::rename(&second, &copy).unwrap();
        assert_eq!(client.push("-rd", &world.source)["content_bytes_sent"], 0, "cp {flag}");
        assert_same(&world.copy(), &world.source);
    }
}

/// Check 4: a tree that another tool has put where the copy will be.
#[test]
fn a_tree_that_is_there_already_is_taken_over() {
    let world = World::new();
    plant(&world.source);
    let copy = world.copy();
    fs::create_dir_all(copy.parent().unwrap()).unwrap();
    cp("-a", &world.source, &copy);
    write(&copy.join("old"), "of another time");
    let daemon = world.daemon();
    let summary = world.client(&daemon, "a").push("-rd", &world.source);
    assert_eq!(summary["content_bytes_sent"], 0, "{summary}");
    assert_same(&world.copy(), &world.source);
}

fn cp(flag: &str, from: &Path, to: &Path) {
    let outcome = Outcome::of(std::process::Command::new("cp").arg(flag).arg(from).arg(to));
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
}
