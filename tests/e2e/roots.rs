//! Check 8: roots above, below and beside each other in one copy, and who may change them at once.

use std::fs;
use std::path::Path;

use crate::support::client::{Client, Outcome};
use crate::support::daemon::World;
use crate::support::holder::Holder;
use crate::support::proxy::Proxy;
use crate::support::state::{after, differences};
use crate::support::trees::{assert_same, many, noise, set_mode, shape, write};

/// A change of the source, another for each number.
fn change(source: &Path, number: usize) {
    let at = |name: &str| source.join(name);
    match number % 8 {
        0 => write(&at("docs/a/new"), format!("new {number}")),
        1 => fs::rename(at("docs/a/new"), at("top")).unwrap(),
        2 => fs::rename(at("top"), at("docs/moved")).unwrap(),
        3 => fs::remove_file(at("docs/moved")).unwrap(),
        4 => {
            fs::rename(at("docs/a/b"), at("other/b")).unwrap();
            write(&at("direct"), format!("direct {number}"));
        }
        5 => {
            fs::rename(at("other/b"), at("docs/a/b")).unwrap();
            write(&at("docs/direct"), format!("direct {number}"));
            set_mode(&at("other/f00"), 0o700 + number as u32 % 8);
        }
        6 => {
            // A file becomes a folder and back.
            fs::remove_file(at("docs/a/kind")).unwrap();
            write(&at("docs/a/kind/inside"), format!("{number}"));
        }
        _ => {
            fs::remove_dir_all(at("docs/a/kind")).unwrap();
            write(&at("docs/a/kind"), format!("{number}"));
        }
    }
}

/// `/home/u`, `/home/u/docs`, each with and without `-d` and `-r`, each after each, with changes in between.
#[test]
fn nested_roots_come_out_right_in_every_order() {
    let (world, _daemon, client) = World::served();
    many(&world.source.join("docs/a/b"), 2, 3);
    many(&world.source.join("other"), 2, 2);
    for file in ["docs/a/kind", "docs/direct", "direct"] {
        write(&world.source.join(file), file);
    }
    let runs: Vec<(&str, &str)> =
        ["", "docs"].into_iter().flat_map(|root| ["-r", "", "-rd", "-d"].map(|flags| (root, flags))).collect();
    client.push("-r", &world.source);
    let mut expected = shape(&world.source);
    let (mut number, mut last) = (0, String::new());
    for first in &runs {
        for (root, flags) in runs.iter().flat_map(|second| [first, second]) {
            change(&world.source, number);
            number += 1;
            let (delete, recursive) = (flags.contains('d'), flags.contains('r'));
            expected = after(&expected, &shape(&world.source), Path::new(root), delete, recursive);
            let guard = if delete { "--force-delete" } else { "" };
            client.push(&format!("{flags} {guard}"), &world.source.join(root));
            let differences = differences(&shape(&world.copy()), &expected);
            let now = format!("{flags} '{root}'");
            assert!(differences.is_empty(), "run {number}, {now} after {last}:\n{}", differences.join("\n"));
            last = now;
        }
    }
    client.push("-rd --force-delete", &world.source);
    assert_same(&world.copy(), &world.source);
}

/// A name that is linked across the border of a root changes on this side only.
#[test]
fn hard_links_across_a_root_s_border_do_not_carry_changes_over() {
    let (world, _daemon, client) = World::served();
    let (inside, outside) = (world.source.join("docs/one"), world.source.join("two"));
    write(&inside, "one inode");
    fs::hard_link(&inside, &outside).unwrap();
    client.push("-r", &world.source);
    let before = shape(&world.copy());
    // Another inode of the same content, with another mode; then with another content.
    fs::remove_file(&inside).unwrap();
    write(&inside, "one inode");
    set_mode(&inside, 0o600);
    client.push("-r", &world.source.join("docs"));
    let now = shape(&world.copy());
    let two = Path::new("two");
    assert_eq!((now[two].mode, now[two].mtime), (before[two].mode, before[two].mtime));
    assert_same(&world.copy().join("docs"), &world.source.join("docs"));
    write(&inside, "changed");
    client.push("-rd", &world.source.join("docs"));
    assert_eq!(fs::read(world.copy().join("two")).unwrap(), b"one inode");
    client.push("-rd", &world.source);
    assert_same(&world.copy(), &world.source);
}

/// An outer root that does not hold an inner one any more does not take it along.
#[test]
fn forget_takes_a_root_out_and_leaves_what_others_hold() {
    let (world, _daemon, client) = World::served();
    let (docs, forget) = (world.source.join("docs"), |path: &Path| client.run(&["forget".as_ref(), path.as_os_str()]));
    many(&docs, 2, 3);
    write(&world.source.join("top"), "top");
    client.push("-r", &world.source);
    client.push("-r", &docs);
    forget(&world.source.join("nothing")).expect(1, &["nothing"]);
    forget(&docs.join("f00")).expect(1, &["f00"]);
    forget(&world.source).expect(0, &[]);
    assert!(!world.copy().join("top").exists());
    assert_same(&world.copy().join("docs"), &docs);
    forget(&world.source).expect(1, &["source"]);
    forget(&docs).expect(0, &[]);
    assert!(!world.copy().join("docs/f00/000").exists());
    client.run(&["ls"]).expect(0, &[]);
    // What was forgotten is in history: it need not be sent again.
    let summary = client.push("-rd", &world.source);
    assert_eq!(summary["content_bytes_sent"], 0, "{summary}");
    assert_same(&world.copy(), &world.source);
}

/// A root lies where another root has a file now.
#[test]
fn a_file_in_the_place_of_another_root_s_folder_is_refused() {
    let (world, _daemon, client) = World::served();
    let docs = world.source.join("docs");
    many(&docs.join("a"), 1, 2);
    write(&world.source.join("top"), "top");
    client.push("-r", &docs.join("a"));
    fs::rename(&docs, world.path("aside")).unwrap();
    write(&docs, "a file now");
    for flags in ["-r", "-rd", "-rd --force-delete"] {
        let refused = client.try_push(flags, &world.source);
        refused.expect(1, &[&format!("forget {}", docs.join("a").display()), world.source.to_str().unwrap()]);
        assert!(world.copy().join("docs/a/f00/001").exists() && !world.copy().join("top").exists());
    }
    client.run(&["forget".as_ref(), docs.join("a").as_os_str()]).expect(0, &[]);
    client.push("-rd", &world.source);
    assert_same(&world.copy(), &world.source);
    // And the other way round: the folder is back, below what is a file in the copy.
    fs::remove_file(&docs).unwrap();
    fs::rename(world.path("aside"), &docs).unwrap();
    let refused = client.try_push("-r", &docs.join("a"));
    refused.expect(1, &["forget", world.source.to_str().unwrap(), docs.join("a").to_str().unwrap()]);
    assert_eq!(fs::read(world.copy().join("docs")).unwrap(), b"a file now");
    client.push("-rd", &world.source);
    client.push("-rd", &docs.join("a"));
    assert_same(&world.copy(), &world.source);
}

#[test]
fn overlapping_runs_are_locked_and_the_holder_is_named() {
    let (world, daemon, client) = World::served();
    many(&world.source.join("docs/a"), 1, 2);
    many(&world.source.join("docs2"), 1, 2);
    write(&world.source.join("direct"), "direct");
    client.push("-r", &world.source);
    let docs = world.source.join("docs");
    let holder = Holder::take(&daemon, &client, &docs, true);
    let holds = docs.to_str().unwrap();
    for (flags, root, code) in
        [("-r", "", 11), ("", "", 0), ("-r", "docs", 11), ("-r", "docs/a", 11), ("", "docs/a", 11), ("-r", "docs2", 0)]
    {
        let outcome = client.try_push(flags, &world.source.join(root));
        assert_eq!(outcome.code, code, "{flags} '{root}': {}", outcome.said());
        assert_eq!(outcome.said().contains(&format!("locked by the backup of '{holds}'")), code == 11);
    }
    drop(holder);
    // Without -r only the direct files are locked.
    let holder = Holder::take(&daemon, &client, &docs, false);
    client.push("-r", &docs.join("a"));
    client.push_code("-r", &world.source, 11);
    client.push_code("", &docs, 11);
    drop(holder);
    client.push("-r", &world.source);
}

#[test]
fn who_waits_goes_on_when_the_holder_is_gone() {
    let (world, daemon, client) = World::served();
    many(&world.source, 1, 2);
    client.push("-r", &world.source);
    let holder = Holder::take(&daemon, &client, &world.source, true);
    client.push_code("-r --wait=0s", &world.source, 11);
    let mut waiting = client.start(&["-rv".as_ref(), "--wait".as_ref(), world.source.as_os_str()]);
    let stderr = waiting.stderr.take().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(stderr)).map(Result::unwrap);
    assert!(lines.any(|line| line.contains("queued") && line.contains("source")));
    drop(holder);
    assert!(crate::support::daemon::wait(&mut waiting).success(), "{:?}", lines.collect::<Vec<_>>());
}

/// `kill -9` of a client in the middle of its run: the next starts at once.
#[test]
fn a_killed_holder_leaves_no_lock() {
    let world = World::new();
    let daemon = world.daemon();
    let proxy = Proxy::to(&daemon.address);
    let slow = Client::new(&world.path("home-a"), &["-s", &proxy.address]);
    write(&world.source.join("large"), noise(1, 8 << 20));
    proxy.stall(3 << 20);
    let mut run = slow.start(&["-r".as_ref(), world.source.as_os_str()]);
    proxy.wait_stalled();
    // The same key by another way is the same copy.
    let servers = slow.home.join(".config/rbbackup/servers");
    fs::rename(servers.join(&proxy.address), servers.join(&daemon.address)).unwrap();
    let client = Client::new(&slow.home, &["-s", &daemon.address]);
    client.push_code("-r", &world.source, 11);
    run.kill().unwrap();
    Outcome::end(run);
    client.push("-r --wait=1m", &world.source);
    assert_same(&world.copy(), &world.source);
}
