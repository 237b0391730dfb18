//! Invitations: who is let in, as what, and who is not any more (issue 5, items 1 and 2).

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::client::{Client, Outcome};
use crate::support::daemon::{Daemon, World, is_root, login, rbbackupd, skipped, wait_until};
use crate::support::destination::{Destination, wait_for_names};
use crate::support::trees::{assert_same, noise, plant, write};

/// Nobody's login name here: who comes under it has to be invited, also on this machine.
const STRANGER: &str = "nobody-known";

/// A machine of its own: its own keys, and for root another account, which may not use any name it likes.
fn machine(world: &World, name: &str) -> Client {
    let client = Client::new(&world.path(&format!("home-{name}")), &[]);
    if is_root() { client.as_uid(65534) } else { client }
}

fn at<'a>(daemon: &'a Daemon, args: &[&'a str]) -> Vec<&'a str> {
    [&["-s", &daemon.address], args].concat()
}

/// A command about identities; with the store's place.
fn admin(world: &World, args: &[&str]) -> Outcome {
    rbbackupd(&[args, &["--store", world.store.to_str().unwrap()]].concat())
}

/// The token, and nothing else, is on stdout.
fn invite(world: &World, args: &[&str]) -> String {
    let outcome = admin(world, &[&["invite", STRANGER], args].concat());
    outcome.expect(0, &[]);
    assert_eq!((outcome.stdout.lines().count(), outcome.stderr.as_str()), (1, ""), "{}", outcome.said());
    outcome.stdout.trim().to_owned()
}

fn join(client: &Client, daemon: &Daemon, token: &str) -> Outcome {
    client.run(&["join", &daemon.address, token])
}

#[track_caller]
fn joined(client: &Client, daemon: &Daemon, token: &str) {
    join(client, daemon, token).expect(0, &["joined", &format!("/{STRANGER}")]);
}

fn push(client: &Client, daemon: &Daemon, root: &Path) -> Outcome {
    let options = ["--json", "--progress=never", "-rd"];
    client.run(&[&at(daemon, &options)[..], &[root.to_str().unwrap()]].concat())
}

#[track_caller]
fn pushed(client: &Client, daemon: &Daemon, root: &Path) -> Value {
    let outcome = push(client, daemon, root);
    assert_eq!(outcome.code, 0, "{}", outcome.said());
    outcome.summary()
}

fn users(world: &World) -> Vec<Value> {
    let listed = admin(world, &["users", "--json"]);
    listed.expect(0, &[]);
    listed.objects()
}

fn servers(client: &Client) -> PathBuf {
    client.home.join(".config/rbbackup/servers")
}

/// Everything of the tree can be read by all accounts.
fn tree(world: &World) {
    plant(&world.source);
    let all = |path: &Path| {
        let _ = fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755));
    };
    walkdir::WalkDir::new(&world.source)
        .into_iter()
        .flatten()
        .filter(|e| !e.path_is_symlink())
        .for_each(|e| all(e.path()));
}

#[test]
fn who_is_invited_comes_in_while_the_daemon_runs_and_nobody_else() {
    let world = World::new();
    let daemon = world.daemon();
    tree(&world);
    let (invited, stranger) = (machine(&world, "a"), machine(&world, "b"));
    let refused =
        stranger.run(&[&at(&daemon, &["--user", STRANGER, "-r"])[..], &[world.source.to_str().unwrap()]].concat());
    refused.expect(12, &["is not known here"]);
    let token = invite(&world, &[]);
    joined(&invited, &daemon, &token);
    // From now on without a word: the user name that it joined under is kept.
    assert_eq!(pushed(&invited, &daemon, &world.source)["snapshot"], 1);
    assert_same(&world.copy_for("127.0.0.1", STRANGER, &world.source), &world.source);
    let [user] = &users(&world)[..] else { panic!("one") };
    assert_eq!((&user["user"], &user["rights"]), (&STRANGER.into(), &serde_json::json!(["backup", "restore"])));
    assert!(user["newest_secs"].is_i64() && user["revoked_secs"].is_null(), "{user}");
}

/// Refused means: exit 12, and nothing is left on either side.
#[test]
fn a_wrong_a_used_and_an_expired_token_let_nobody_in_and_leave_nothing() {
    let world = World::new();
    let daemon = world.daemon();
    let (invited, thief) = (machine(&world, "a"), machine(&world, "b"));
    let nothing = |said: &str, token: &str| {
        join(&thief, &daemon, token).expect(12, &[said]);
        assert_eq!(fs::read_dir(servers(&thief)).map_or(0, Iterator::count), 0, "{said}");
    };
    let token = invite(&world, &[]);
    let mut mistyped = token.clone();
    mistyped.replace_range(20..21, if &token[20..21] == "a" { "b" } else { "a" });
    nothing("no invitation token", &mistyped);
    nothing("no invitation token", "sesame");
    nothing("no invitation token", &token[..token.len() - 2]);
    joined(&invited, &daemon, &token);
    nothing("redeemed already, by another key", &token);
    joined(&invited, &daemon, &token);
    let short = invite(&world, &["--node", "other", "--expires", "1s"]);
    wait_until("the invitation to expire", || users(&world).iter().all(|object| object["type"] != "invitation"));
    nothing("has expired", &short);
    let taken_back = invite(&world, &["--node", "other"]);
    let open = users(&world).into_iter().find(|object| object["type"] == "invitation").expect("it is open");
    admin(&world, &["revoke", open["id"].as_str().unwrap()]).expect(0, &["taken back"]);
    nothing("is not known here", &taken_back);
    assert_eq!(users(&world).len(), 1, "one identity, and no invitation that is open");
}

/// A token is for the daemon that gave it: whoever else answers at that address gets neither the secret nor our key.
#[test]
fn a_token_is_worth_nothing_at_another_daemon() {
    let world = World::new();
    let daemon = world.daemon();
    let other = Daemon::start(&world.path("other"), &[]);
    let client = machine(&world, "a");
    let token = invite(&world, &[]);
    join(&client, &other, &token).expect(12, &["another daemon than the one that invited", "Nothing was sent"]);
    assert!(!servers(&client).exists());
    assert!(!other.log().contains("invitation"), "{}", other.log());
    joined(&client, &daemon, &token);
}

#[test]
fn a_token_comes_by_standard_input_too() {
    let world = World::new();
    let daemon = world.daemon();
    let client = machine(&world, "a");
    let token = invite(&world, &[]);
    let mut child = client.start_with_stdin(&["join", &daemon.address, "-"]);
    child.stdin.take().unwrap().write_all(format!("\n  {token}\n").as_bytes()).unwrap();
    Outcome::end(child).expect(0, &["joined"]);
    Outcome::end(client.start(&["join", &daemon.address])).expect(2, &["no token in standard input"]);
}

/// Two machines behind one address, the same user name: each has a folder of its own (WANTS 10).
#[test]
fn machines_behind_one_address_have_names() {
    let world = World::new();
    let daemon = world.daemon();
    let (one, two) = (machine(&world, "a"), machine(&world, "b"));
    write(&world.source.join("file"), "one");
    fs::set_permissions(&world.source, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    joined(&one, &daemon, &invite(&world, &[]));
    pushed(&one, &daemon, &world.source);
    let second = invite(&world, &[]);
    join(&two, &daemon, &second).expect(12, &["belongs to another key", "--node NAME"]);
    joined(&two, &daemon, &invite(&world, &["--node", "attic"]));
    write(&world.source.join("file"), "two");
    pushed(&two, &daemon, &world.source);
    let file = |node| fs::read_to_string(world.copy_for(node, STRANGER, &world.source).join("file")).unwrap();
    assert_eq!((file("127.0.0.1").as_str(), file("attic").as_str()), ("one", "two"));
    admin(&world, &["invite", STRANGER, "--node", "attic"]).expect(2, &["has an owner", "--replace-key"]);
    admin(&world, &["invite", STRANGER, "--node", "cellar", "--replace-key"]).expect(2, &["no identity 'cellar/"]);
}

/// A disk died. The person gets a new machine, and on it everything back (item 1).
#[test]
fn who_lost_everything_but_the_token_restores_everything_on_a_new_machine() {
    let world = World::new();
    let daemon = world.daemon();
    tree(&world);
    let (old, new) = (machine(&world, "old"), machine(&world, "new"));
    joined(&old, &daemon, &invite(&world, &["--quota", "10G"]));
    pushed(&old, &daemon, &world.source);
    write(&world.source.join("later"), noise(3, 100_000));
    pushed(&old, &daemon, &world.source);
    // The admin's way needs a name that is known.
    let token = invite(&world, &["--node", "127.0.0.1", "--replace-key"]);
    joined(&new, &daemon, &token);
    let home = new.home.join("restored");
    let restored = new.run(&at(&daemon, &["restore", world.source.to_str().unwrap(), "--to", home.to_str().unwrap()]));
    assert!(restored.code == 0 || (restored.code == 3 && is_root()), "{}", restored.said());
    let back = home.join("source");
    assert_eq!(fs::read(back.join("later")).unwrap(), noise(3, 100_000));
    if !is_root() {
        assert_same(&back, &world.source);
    }
    let first = at(&daemon, &["--json", "snapshots"]);
    assert_eq!(new.run(&first).objects().len(), 2, "its whole history");
    // It goes on there, and sends nothing again.
    let summary = pushed(&new, &daemon, &world.source);
    assert_eq!((&summary["snapshot"], &summary["content_bytes_sent"]), (&3.into(), &0.into()));
    let [user] = &users(&world)[..] else { panic!("one identity") };
    assert_eq!(user["quota_bytes"], 10_u64 << 30, "the quota stays");
    // The old key opens nothing any more, also after a restart.
    push(&old, &daemon, &world.source).expect(12, &["was replaced by another"]);
    let daemon = daemon.restart();
    push(&old, &daemon, &world.source).expect(12, &["was replaced by another"]);
    pushed(&new, &daemon, &world.source);
}

#[test]
fn a_revoked_key_is_out_at_once_and_what_it_backed_up_stays() {
    let world = World::new();
    let daemon = world.daemon();
    tree(&world);
    let client = machine(&world, "a");
    joined(&client, &daemon, &invite(&world, &["--rights", "backup,restore,receive"]));
    pushed(&client, &daemon, &world.source);
    let store = client.home.join("d");
    let mut attending = Destination::start(&client, &store, &["-s", &daemon.address, "--name", "shed"]);
    let root = world.client(&daemon, "admin");
    wait_for_names(&root, &["shed"]);
    let copy = format!("127.0.0.1/{STRANGER}");
    assert!(users(&world).iter().any(|user| user["user"] == STRANGER && user["connections"].as_u64() > Some(0)));
    admin(&world, &["revoke", &copy]).expect(0, &["connection", "ended"]);
    assert_eq!(attending.wait().code(), Some(12), "{}", attending.said());
    push(&client, &daemon, &world.source).expect(12, &["was revoked"]);
    client.run(&at(&daemon, &["ls"])).expect(12, &["was revoked"]);
    let before = |user: &&Value| user["user"] == STRANGER;
    assert!(users(&world).iter().find(before).unwrap()["revoked_secs"].is_i64());
    admin(&world, &["users"]).expect(0, &["REVOKED"]);
    admin(&world, &["revoke", "127.0.0.1/none"]).expect(2, &["no identity '127.0.0.1/none'"]);
    assert_same(&world.copy_for("127.0.0.1", STRANGER, &world.source), &world.source);
    // In again, with the same key.
    joined(&client, &daemon, &invite(&world, &["--node", "127.0.0.1", "--replace-key"]));
    assert_eq!(pushed(&client, &daemon, &world.source)["content_bytes_sent"], 0);
}

#[test]
fn rights_are_what_the_administrator_gives() {
    let world = World::new();
    let daemon = world.daemon();
    tree(&world);
    let client = machine(&world, "a");
    joined(&client, &daemon, &invite(&world, &["--rights", "backup"]));
    pushed(&client, &daemon, &world.source);
    let copy = format!("127.0.0.1/{STRANGER}");
    let root = world.source.to_str().unwrap();
    let out = client.home.join("out");
    let run = |args: &[&str]| client.run(&at(&daemon, args));
    for reading in [&["ls"][..], &["snapshots"], &["cat", root], &["restore", root, "--to", out.to_str().unwrap()]] {
        run(reading).expect(12, &["does not have the right 'restore'", &format!("rbbackupd set {copy}")]);
    }
    run(&["status"]).expect(0, &[&copy]);
    admin(&world, &["set", &copy, "--rights", "restore"]).expect(0, &["may restore"]);
    run(&["ls"]).expect(0, &[root]);
    push(&client, &daemon, &world.source).expect(12, &["does not have the right 'backup'"]);
    run(&["forget", root]).expect(12, &["does not have the right 'backup'"]);
    run(&["purge", root]).expect(12, &["'admin'"]);
    run(&["ls", "--of", &copy]).expect(12, &["'admin'"]);
    admin(&world, &["set", &copy, "--rights", "restore,admin"]).expect(0, &[]);
    run(&["ls", "--of", &copy]).expect(0, &[root]);
    // Not even the right 'admin' lets anybody in.
    let link = crate::support::holder::dial_as(&daemon, &client, STRANGER);
    let said = crate::support::holder::refusal_of(link, rbbackup::net::message::Users {});
    assert!(said.contains("may not decide who comes in"), "{said}");
    admin(&world, &["set", &copy]).expect(2, &["--rights", "--quota"]);
    admin(&world, &["set", &copy, "--rights", "root"]).expect(2, &["'root' is no right"]);
}

#[test]
fn a_client_takes_another_key() {
    let world = World::new();
    let daemon = world.daemon();
    tree(&world);
    let client = machine(&world, "a");
    joined(&client, &daemon, &invite(&world, &[]));
    pushed(&client, &daemon, &world.source);
    let key = servers(&client).join(&daemon.address).join(format!("{STRANGER}.key"));
    let old = fs::read(&key).unwrap();
    client.run(&at(&daemon, &["rekey"])).expect(0, &["my key is SHA256:"]);
    let new = fs::read(&key).unwrap();
    assert_ne!(old, new);
    assert_eq!(pushed(&client, &daemon, &world.source)["content_bytes_sent"], 0);
    // A thief has the old one.
    fs::write(&key, &old).unwrap();
    push(&client, &daemon, &world.source).expect(12, &["was replaced by another"]);
    // The answer was lost: the new key waits beside the old one, and is found.
    let next = key.with_extension("key.next");
    fs::write(&next, &new).unwrap();
    fs::set_permissions(&next, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    if is_root() {
        std::os::unix::fs::chown(&next, Some(65534), Some(65534)).unwrap();
    }
    pushed(&client, &daemon, &world.source);
    assert!(fs::read(&key).unwrap() == new && !next.exists());
}

#[test]
fn a_daemon_takes_another_key_and_its_clients_follow() {
    let world = World::new();
    let daemon = world.daemon();
    tree(&world);
    let (early, late) = (machine(&world, "a"), machine(&world, "b"));
    joined(&early, &daemon, &invite(&world, &[]));
    joined(&late, &daemon, &invite(&world, &["--node", "attic"]));
    pushed(&early, &daemon, &world.source);
    let token = invite(&world, &["--node", "cellar"]);
    let address = daemon.address.clone();
    let pin = |client: &Client| fs::read_to_string(servers(client).join(&address).join("pin")).unwrap();
    let before = pin(&early);
    admin(&world, &["rekey"]).expect(0, &["key is SHA256:", "follow by themselves"]);
    pushed(&early, &daemon, &world.source);
    assert_ne!(pin(&early), before);
    admin(&world, &["rekey"]).expect(0, &[]);
    let daemon = daemon.restart();
    pushed(&early, &daemon, &world.source);
    pushed(&late, &daemon, &world.source);
    assert_eq!(pin(&early), pin(&late));
    join(&machine(&world, "c"), &daemon, &token).expect(12, &["another daemon than the one that invited"]);
    joined(&machine(&world, "c"), &daemon, &invite(&world, &["--node", "cellar"]));
    // A daemon that none of the keys signed over is another, as ever.
    drop(daemon);
    let other = Daemon::start_on(&world.path("other"), &[], &address).unwrap();
    push(&early, &other, &world.source).expect(12, &["Nothing was sent"]);
    assert!(!other.log().contains(STRANGER) && !world.path("other/127.0.0.1").exists());
}

/// Everything works without a daemon as well, and on a relay's state.
#[test]
fn a_store_that_nobody_serves_and_a_relay_invite_too() {
    let world = World::new();
    let mut daemon = world.daemon();
    daemon.stop();
    let (token, address) = (invite(&world, &[]), daemon.address.clone());
    drop(daemon);
    let daemon = Daemon::start_on(&world.store, &[], &address).unwrap();
    joined(&machine(&world, "a"), &daemon, &token);
    drop(daemon);
    let copy = format!("127.0.0.1/{STRANGER}");
    admin(&world, &["revoke", &copy]).expect(0, &["0 connections ended"]);
    admin(&world, &["rekey"]).expect(0, &[]);
    let daemon = Daemon::start_on(&world.store, &[], &address).unwrap();
    machine(&world, "a").run(&at(&daemon, &["ls"])).expect(12, &["was revoked"]);

    let relay = Daemon::relay(&world.path("state"));
    let state = world.path("state");
    let invited = rbbackupd(&["invite", STRANGER, "--store", state.to_str().unwrap()]);
    invited.expect(0, &[]);
    joined(&machine(&world, "b"), &relay, invited.stdout.trim());
    rbbackupd(&["users", "--store", state.to_str().unwrap()]).expect(0, &[STRANGER]);
    drop(relay);
    rbbackupd(&["users", "--store", state.to_str().unwrap()]).expect(0, &[STRANGER]);
    rbbackupd(&["users", "--store", world.path("nothing").to_str().unwrap()]).expect(1, &["does not exist"]);
    rbbackupd(&["users"]).expect(2, &["--store STORE"]);
}

/// The store's own user name is used where nothing else is said; who joined under his login name keeps none.
#[test]
fn a_login_name_needs_no_keeping() {
    if is_root() {
        return skipped("root's login name needs no invitation on this machine");
    }
    let world = World::new();
    let daemon = world.daemon();
    let client = machine(&world, "a");
    let invited = admin(&world, &["invite", &login()]);
    join(&client, &daemon, invited.stdout.trim()).expect(0, &["joined"]);
    assert!(!servers(&client).join(&daemon.address).join("user").exists());
}
