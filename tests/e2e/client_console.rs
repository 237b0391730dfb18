//! The client's console, by its API: profiles, backups, restores, being a destination. What the pages make of it is tried in a
//! browser (`tests/browser`).

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Child;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::client::Client;
use crate::support::daemon::{Daemon, World, login, wait_until};
use crate::support::destination::Destination;
use crate::support::http::{Browser, raw};
use crate::support::patience::wait;
use crate::support::proxy::Proxy;
use crate::support::trees::{assert_same, many, noise, write};

/// A client's console; killed when dropped.
struct Console {
    child: Child,
    browser: Browser,
}

impl Drop for Console {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn console(client: &Client) -> Console {
    let args = ["console", "--no-browser"].map(str::to_owned);
    let mut child = client.start(&args);
    let mut link = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut link).unwrap();
    Console { child, browser: Browser::open(link.trim()) }
}

fn served() -> (World, Daemon, Client, Console) {
    let (world, daemon, client) = World::served();
    let console = console(&client);
    (world, daemon, client, console)
}

/// The end of what was started, by its id.
#[track_caller]
fn ended(browser: &Browser, started: &Value) -> Value {
    let id = format!("{}.0", started["id"].as_str().unwrap());
    let of = |moment: &Value| moment["ended"].as_array().unwrap().iter().find(|run| run["id"] == id.as_str()).cloned();
    browser.live().find_map(|moment| of(&moment)).unwrap()
}

fn source(world: &World, daemon: &Daemon) -> Value {
    json!({"role": "source", "server": daemon.address, "folders": [world.source], "recursive": true, "delete": true, "excludes": ["*.tmp"]})
}

#[test]
fn what_is_set_in_the_console_runs_there_and_from_the_command_line() {
    let (world, daemon, client, console) = served();
    let browser = &console.browser;
    many(&world.source, 2, 3);
    write(&world.source.join("left.tmp"), "out");
    assert_eq!(browser.json("session")["program"], "rbbackup");
    let configured = browser.json("client");
    assert_eq!((&configured["server"], &configured["user"]), (&json!(daemon.address), &json!(login())));
    let checked = browser.change("POST", "check", &json!({"server": daemon.address}));
    assert_eq!((&checked["node"], &checked["roots"]), (&json!("127.0.0.1"), &json!(0)));
    let elsewhere = browser.send("POST", "check", &json!({"server": "127.0.0.1:1"}));
    assert_eq!(elsewhere.error(), (503, "unreachable".into()));

    let profile = source(&world, &daemon);
    let end = ended(browser, &browser.change("POST", "jobs", &json!({"profile": profile})));
    assert_eq!((&end["kind"], &end["exit_code"], &end["files"]), (&json!("backup"), &json!(0), &json!(6)));
    assert!(!world.copy().join("left.tmp").exists(), "it was excluded");
    browser.change("PUT", "profiles/docs", &profile);
    assert_eq!(browser.json("profiles")["profiles"][0]["name"], "docs");
    write(&world.source.join("new"), "new");
    client.run(&["run", "docs"]).expect(0, &[]);
    assert_eq!(fs::read(world.copy().join("new")).unwrap(), b"new");
    client.run(&["run", "other"]).expect(2, &["there are docs"]);
    fs::remove_file(world.source.join("left.tmp")).unwrap();
    ended(browser, &browser.change("POST", "jobs", &json!({"run": "docs"})));
    assert_same(&world.copy(), &world.source);
    // Without systemd the timer is not there, and the line for cron is; with it there is one.
    let timer = browser.send("PUT", "profiles/docs/timer", &json!({"every": "daily", "at": "03:00"}));
    match timer.status {
        200 => drop(browser.change("DELETE", "profiles/docs/timer", &Value::Null)),
        _ => assert!(timer.json()["error"]["message"].as_str().unwrap().contains("0 3 * * *"), "{timer:?}"),
    }
    assert_eq!(browser.send("PUT", "profiles/docs/timer", &json!({"every": "daily", "at": "25:00"})).status, 400);
    browser.change("DELETE", "profiles/docs", &Value::Null);
    assert_eq!(browser.send("DELETE", "profiles/docs", &Value::Null).error(), (404, "not_found".into()));

    // Browsing one's own copy, and getting it back.
    let listed = browser.json("copies/-/-/entries");
    assert_eq!(listed["asked"], format!("{} {}", daemon.address, login()));
    let restore =
        json!({"asked": listed["asked"], "path_ref": listed["entries"][0]["ref"], "to": world.path("back"), "at": 1});
    let mut elsewhere = restore.clone();
    elsewhere["asked"] = json!("elsewhere:8730 ana");
    assert_eq!(
        browser.send("POST", "restores", &elsewhere).error(),
        (409, "locked".into()),
        "what was listed is not there"
    );
    fs::create_dir(world.path("back")).unwrap();
    let end = ended(browser, &browser.change("POST", "restores", &restore));
    assert_eq!((&end["kind"], &end["exit_code"]), (&json!("restore"), &json!(0)));
    assert!(world.path("back/source").is_dir() && !world.path("back/source/new").exists(), "as it was at first");
}

#[test]
fn what_cannot_be_meant_is_refused_with_a_word() {
    let (world, daemon, _, console) = served();
    let browser = &console.browser;
    let source = source(&world, &daemon);
    let with = |key: &str, value: Value| {
        let mut profile = source.clone();
        profile[key] = value;
        profile
    };
    for (key, value) in [
        ("folders", json!([])),
        ("folders", json!(["relative"])),
        ("server", json!("a b")),
        ("role", json!("destination")),
        ("role", json!("thief")),
        ("copies", json!(-1)),
        ("command", json!("rm -rf /")),
    ] {
        let refused = browser.send("PUT", "profiles/docs", &with(key, value.clone()));
        assert_eq!(refused.error(), (400, "usage".into()), "{key} = {value}");
    }
    for name in ["..%2fup", "a%20b", ".hidden", "-x"] {
        assert_eq!(browser.send("PUT", &format!("profiles/{name}"), &source).status, 400, "{name}");
    }
    assert_eq!(browser.send("POST", "restores", &json!({"path_ref": "/x", "to": "relative"})).status, 400);
    assert_eq!(browser.send("DELETE", "jobs/0123", &Value::Null).status, 404);
    let missing = json!({"profile": with("folders", json!([world.path("nowhere")]))});
    let end = ended(browser, &browser.change("POST", "jobs", &missing));
    assert!(end["exit_code"] != 0 && end["message"].as_str().unwrap().contains("nowhere"), "{end}");
    for path in ["relative", "/nowhere", "/etc/passwd"] {
        assert_eq!(browser.get(&format!("folders?path={path}")).status, 400, "{path}");
    }
    let folders = browser.json(&format!("folders?path={}", world.path("").display()));
    assert!(folders["entries"].as_array().unwrap().iter().any(|folder| folder["name"] == "source"));
    // Nobody but who started it, and by its own address only.
    let own = browser.address.as_str();
    assert_eq!(raw(own, "GET", "/api/v1/profiles", &[("Host", own)], b"").status, 401);
    assert_eq!(
        raw(own, "GET", "/api/v1/profiles", &[("Host", "evil.example"), ("Cookie", &browser.cookie)], b"").status,
        403
    );
}

#[test]
fn a_run_that_is_stopped_goes_on_from_where_it_was_and_the_console_ends_in_order() {
    let (world, daemon, client) = World::served();
    write(&world.source.join("film"), noise(1, 24 << 20));
    let proxy = Proxy::to(&daemon.address);
    proxy.pause(8 << 20);
    let mut console = console(&client.with(&["--compress=never"]));
    let browser = console.browser.clone();
    let profile = json!({"role": "source", "server": proxy.address, "folders": [world.source], "recursive": true});
    let started = browser.change("POST", "jobs", &json!({"profile": profile}));
    let run = browser
        .live()
        .find_map(|moment| moment["runs"].as_array().unwrap().iter().find(|run| run["bytes_done"] != 0).cloned())
        .unwrap();
    assert!(run["file"]["path"].as_str().unwrap().ends_with("/film"), "{run}");
    browser.change("DELETE", &format!("jobs/{}", run["id"].as_str().unwrap()), &Value::Null);
    proxy.open();
    assert_eq!(ended(&browser, &started)["exit_code"], 130);
    let again = ended(&browser, &browser.change("POST", "jobs", &json!({"profile": profile})));
    assert_eq!(again["exit_code"], 0);
    assert_same(&world.copy(), &world.source);
    let pid = rustix::process::Pid::from_child(&console.child);
    rustix::process::kill_process(pid, Signal::TERM).unwrap();
    assert!(wait(&mut console.child).success());
}

#[test]
fn this_machine_is_a_destination_as_long_as_the_console_says() {
    let (world, daemon, client, console) = served();
    let browser = &console.browser;
    many(&world.source, 2, 3);
    let profile =
        json!({"role": "destination", "server": daemon.address, "folder": world.path("kept"), "called": "cellar"});
    let started = browser.change("POST", "jobs", &json!({"profile": profile}));
    wait_until("it to be on the list", || crate::support::destination::names(&client) == ["cellar"]);
    assert!(browser.live().any(|moment| moment["attending"].as_array().unwrap().len() == 1));
    client.run(&["-r", "--copies", "1", world.source.to_str().unwrap()]).expect(0, &[]);
    assert_same(&world.path("kept").join(copy_below(&world)), &world.source);
    let arrived = browser
        .live()
        .find_map(|moment| moment["ended"].as_array().unwrap().iter().find(|run| run["files"] == 6).cloned())
        .unwrap();
    assert_eq!((&arrived["kind"], &arrived["exit_code"]), (&json!("receive"), &json!(0)));
    browser.change("DELETE", &format!("jobs/{}", started["id"].as_str().unwrap()), &Value::Null);
    wait_until("it to leave the list", || crate::support::destination::names(&client).is_empty());
}

/// Where the copy of the source is, below a store.
fn copy_below(world: &World) -> std::path::PathBuf {
    world.copy().strip_prefix(&world.store).map(Path::to_path_buf).unwrap()
}

#[test]
fn a_source_that_waits_shows_who_is_there() {
    let (world, daemon, client, console) = served();
    let browser = &console.browser;
    many(&world.source, 2, 3);
    let _attic = Destination::start(&client, &world.path("attic"), &["--name", "attic"]);
    crate::support::destination::wait_for_names(&client, &["attic"]);
    let profile =
        json!({"role": "source", "server": daemon.address, "folders": [world.source], "recursive": true, "copies": 2});
    let started = browser.change("POST", "jobs", &json!({"profile": profile}));
    let waits = |moment: &Value| {
        moment["runs"].as_array().unwrap().iter().any(|run| run["gathering"] == json!({"connected": 1, "wanted": 2}))
    };
    assert!(browser.live().any(|moment| waits(&moment)));
    let _cellar = Destination::start(&client, &world.path("cellar"), &["--name", "cellar"]);
    assert_eq!(ended(browser, &started)["exit_code"], 0);
}
