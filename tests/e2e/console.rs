//! The daemon's console, by its API: who gets in, what is shown and handed out, what can be set. What the pages make of it is
//! tried in a browser (`tests/browser`).

use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::client::Client;
use crate::support::daemon::{Daemon, World, is_root, login, rbbackupd, skipped, wait_until};
use crate::support::destination::{Destination, wait_for_names};
use crate::support::http::{Browser, cookie_of, raw};
use crate::support::proxy::Proxy;
use crate::support::trees::{assert_same, many, noise, write};

const CONSOLE: [&str; 2] = ["--console", "127.0.0.1:0"];

/// A world whose daemon has a console, and an administrator's browser at it.
fn served() -> (World, Daemon, Client, Browser) {
    let world = World::new();
    let daemon = Daemon::start(&world.store, &CONSOLE);
    let client = world.client(&daemon, "a");
    let browser = Browser::of_store(&world.store, &[]);
    (world, daemon, client, browser)
}

fn copy() -> String {
    format!("copies/127.0.0.1/{}", login())
}

fn reference(path: &Path) -> String {
    path.as_os_str().as_bytes().iter().map(|byte| format!("%{byte:02X}")).collect()
}

#[test]
fn only_who_is_invited_gets_in_and_only_by_its_own_address() {
    let (world, daemon, client, browser) = served();
    many(&world.source, 1, 2);
    client.push("-r", &world.source);
    let own = browser.address.as_str();
    let get = |headers: &[(&str, &str)]| raw(own, "GET", "/api/v1/overview", headers, b"");
    let cookie = browser.cookie.as_str();
    assert_eq!(get(&[("Host", own), ("Cookie", cookie)]).status, 200);
    assert_eq!(get(&[("Host", own)]).error(), (401, "sign_in".into()));
    assert_eq!(get(&[("Host", own), ("Cookie", "rbbackup-1=x")]).status, 401);
    // DNS rebinding, another site's page, no host at all.
    for host in ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "10.1.2.3"] {
        assert_eq!(get(&[("Host", host), ("Cookie", cookie)]).error(), (403, "not_allowed".into()), "{host}");
    }
    for origin in ["http://evil.example", "null", "https://127.0.0.1"] {
        assert_eq!(get(&[("Host", own), ("Cookie", cookie), ("Origin", origin)]).error().0, 403, "{origin}");
    }
    let origin = format!("http://{own}");
    assert_eq!(get(&[("Host", own), ("Cookie", cookie), ("Origin", &origin)]).status, 200);
    // Forwarded by ssh it has another port.
    assert_eq!(get(&[("Host", "localhost:9999"), ("Cookie", cookie)]).status, 200);

    // A link opens once; another console's opens nothing.
    let link = rbbackupd(&["console", world.store.to_str().unwrap()]).stdout.trim().to_owned();
    let target = &link[link.find("/open").unwrap()..];
    assert_eq!(raw(own, "GET", target, &[("Host", own)], b"").header("location"), Some("/"));
    let again = raw(own, "GET", target, &[("Host", own)], b"");
    assert_eq!((again.header("location"), again.header("set-cookie")), (Some("/#/sign-in?used=1"), None));
    assert!(!daemon.log().contains(target.split('=').nth(1).unwrap()), "a link is in no log");

    // What changes something brings the session's token and says that it is JSON.
    let revoke = format!("/api/v1/users/127.0.0.1/{}/revoke", login());
    let post = |headers: &[(&str, &str)]| {
        raw(own, "POST", &revoke, &[&[("Host", own), ("Cookie", cookie)], headers].concat(), b"")
    };
    assert_eq!(post(&[]).error().0, 403);
    assert_eq!(post(&[("X-CSRF-Token", "guess")]).error().0, 403);
    let form = [("X-CSRF-Token", browser.csrf.as_str()), ("Content-Type", "text/plain")];
    let sent = raw(own, "POST", &revoke, &[&[("Host", own), ("Cookie", cookie)], &form[..]].concat(), b"{}");
    assert_eq!(sent.error(), (400, "usage".into()));

    // A reader looks and downloads.
    let reader = Browser::of_store(&world.store, &["--read-only"]);
    assert_eq!(reader.json("session")["role"], "reader");
    reader.json("overview");
    assert_eq!(reader.send("POST", &revoke["/api/v1/".len()..], &Value::Null).error(), (403, "not_allowed".into()));
    assert_eq!(reader.send("PUT", "settings", &json!({"changes": {}})).error().0, 403);
    client.push("-r", &world.source);
    reader.change("DELETE", "session", &Value::Null);
    assert_eq!(reader.get("overview").status, 401, "signed out");
    browser.json("overview");
    assert_eq!(
        raw(
            own,
            "POST",
            "/api/v1/session",
            &[("Host", own), ("Content-Type", "application/json")],
            br#"{"password": "x"}"#
        )
        .status,
        401
    );
}

#[test]
fn every_answer_says_what_a_browser_may_do_with_it() {
    let (world, _daemon, client, browser) = served();
    let page = "<script>alert(1)</script>";
    write(&world.source.join("page.html"), page);
    client.push("-r", &world.source);
    let own = browser.address.as_str();
    for (target, is_page) in [("/", true), ("/assets/app.js", true), ("/assets/style.css", true), ("/nowhere", false)] {
        let page = raw(own, "GET", target, &[("Host", own)], b"");
        assert_eq!(page.status == 200, is_page, "{target}");
        let policy = page.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self'") && !policy.contains("unsafe"), "{policy}");
        assert_eq!(page.header("x-content-type-options"), Some("nosniff"), "{target}");
        assert_eq!(page.header("x-frame-options"), Some("DENY"), "{target}");
    }
    for trick in
        ["/assets/../../Cargo.toml", "/assets/..%2f..%2fmod.rs", "/assets/%2e%2e/mod.rs", "//etc/passwd", "/etc/passwd"]
    {
        assert_eq!(raw(own, "GET", trick, &[("Host", own)], b"").status, 404, "{trick}");
    }
    let path = reference(&world.source.join("page.html"));
    for (what, kind) in [("file", "application/octet-stream"), ("preview", "text/plain; charset=utf-8")] {
        let answer = browser.get(&format!("{}/{what}?path={path}", copy()));
        assert_eq!((answer.status, answer.body), (200, page.as_bytes().to_vec()));
        let header =
            |name: &str| answer.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
        assert_eq!(header("content-type"), Some(kind));
        assert_eq!(header("content-security-policy"), Some("default-src 'none'; sandbox; frame-ancestors 'none'"));
        assert_eq!(header("content-disposition").is_some(), what == "file");
    }
    let cookie = rbbackupd(&["console", world.store.to_str().unwrap()]).stdout.trim().to_owned();
    let opened = raw(own, "GET", &cookie[cookie.find("/open").unwrap()..], &[("Host", own)], b"");
    let set = opened.header("set-cookie").unwrap();
    assert!(set.contains("HttpOnly") && set.contains("SameSite=Strict") && !cookie_of(&opened).is_empty(), "{set}");
}

#[test]
fn what_was_backed_up_is_shown_and_handed_out_as_it_was() {
    let (world, _daemon, client, browser) = served();
    let odd = world.source.join(std::ffi::OsStr::from_bytes(b"<script>\xff\n&+ %"));
    write(&odd, "odd");
    write(&world.source.join("folder/deep/large"), noise(7, 3 << 20));
    write(&world.source.join("folder/note.txt"), "first");
    std::os::unix::fs::symlink("note.txt", world.source.join("folder/link")).unwrap();
    client.push("-rd", &world.source);
    let before = world.path("before");
    assert!(Command::new("cp").arg("-a").arg(&world.source).arg(&before).status().unwrap().success());
    write(&world.source.join("folder/note.txt"), "second, and longer");
    fs::rename(world.source.join("folder/deep"), world.source.join("moved")).unwrap();
    client.push("-rd", &world.source);

    let overview = browser.json("overview");
    let shown = &overview["copies"][0];
    assert_eq!((&shown["state"], &shown["snapshots"], &shown["files"]), (&json!("unverified"), &json!(2), &json!(3)));
    assert_eq!(browser.json(&format!("{}/snapshots", copy()))["snapshots"].as_array().unwrap().len(), 2);
    let roots = browser.json(&format!("{}/entries", copy()));
    assert_eq!(roots["entries"][0]["path"], world.source.to_str().unwrap());
    let root = roots["entries"][0]["ref"].as_str().unwrap().to_owned();
    let names = |query: &str| -> Vec<String> {
        let listed = browser.json(&format!("{}/entries?path={root}{query}", copy()));
        listed["entries"].as_array().unwrap().iter().map(|entry| entry["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(""), ["<script>\\xff\\x0a&+ %", "folder", "moved"]);
    assert_eq!(names("&at=1"), ["<script>\\xff\\x0a&+ %", "folder"]);
    // Page by page.
    let first = browser.json(&format!("{}/entries?path={root}&count=2", copy()));
    assert_eq!(first["more"], true);
    assert_eq!(names(&format!("&count=2&after={}", first["entries"][1]["ref"].as_str().unwrap())), ["moved"]);

    // A name of any bytes is asked for by its ref.
    let entry = first["entries"][0]["ref"].as_str().unwrap();
    assert_eq!(browser.get(&format!("{}/file?path={entry}", copy())).body, b"odd");
    let large = browser.get(&format!("{}/file?path={root}/moved/large", copy()));
    assert!(large.body == noise(7, 3 << 20) && large.header("content-length") == Some("3145728"));
    let note = |query: &str| browser.get(&format!("{}/preview?path={root}/folder/note.txt{query}", copy())).body;
    assert_eq!((note("&at=1"), note("")), (b"first".to_vec(), b"second, and longer".to_vec()));
    let versions = browser.json(&format!("{}/versions?path={root}/folder/note.txt", copy()));
    assert_eq!(versions["versions"].as_array().unwrap().len(), 2);
    let changed = browser.json(&format!("{}/diff?from=1&to=2", copy()));
    let actions: Vec<&str> =
        changed["differences"].as_array().unwrap().iter().map(|d| d["action"].as_str().unwrap()).collect();
    assert!(actions.contains(&"moved") && actions.contains(&"changed"), "{changed}");
    assert_eq!(browser.json(&format!("{}/find?pattern=large", copy()))["found"].as_array().unwrap().len(), 2);

    // The whole of it, as it was.
    let unpacked = |query: &str, unpack: &dyn Fn(&Path, &Path)| {
        let archive = browser.get(&format!("{}/archive?path={root}&at=1{query}", copy()));
        assert_eq!(archive.status, 200);
        let (file, to) = (world.path("archive"), world.path("unpacked"));
        let _ = fs::remove_dir_all(&to);
        fs::create_dir(&to).unwrap();
        fs::File::create(&file).unwrap().write_all(&archive.body).unwrap();
        unpack(&file, &to);
        to.join("source")
    };
    let tar = unpacked("&format=tar", &|file, to| {
        assert!(Command::new("tar").arg("-xpf").arg(file).arg("-C").arg(to).status().unwrap().success());
    });
    assert_same(&tar, &before);
    let zip = unpacked("", &|file, to| {
        let mut archive = zip::ZipArchive::new(fs::File::open(file).unwrap()).unwrap();
        archive.extract(to).unwrap();
    });
    assert_eq!(fs::read(zip.join("folder/deep/large")).unwrap(), noise(7, 3 << 20));
    assert_eq!(fs::read_link(zip.join("folder/link")).unwrap(), Path::new("note.txt"));

    // What is not there, or is outside, is told so and nothing is shown.
    for path in ["/etc/passwd", "/../etc/passwd", "/..%2f..", "relative", "%2f%00"] {
        for what in ["file", "preview", "archive", "entries", "versions"] {
            let page = browser.get(&format!("{}/{what}?path={path}", copy()));
            let expected = if path == "/etc/passwd" { 404..=404 } else { 400..=499 };
            assert!(expected.contains(&page.status), "{what} {path}: {}", page.status);
            assert!(page.json()["error"]["message"].as_str().is_some_and(|message| message.len() > 10));
        }
    }
    for who in ["..%2f..", "127.0.0.1%2f..", "nobody", ""] {
        assert!(browser.get(&format!("copies/127.0.0.1/{who}/entries")).status >= 400, "{who}");
    }
}

/// Runs of a client that is slowed down, watched at four events a second.
#[test]
fn a_run_is_watched_to_its_end_and_a_lost_destination_leaves() {
    let (world, daemon, client, browser) = served();
    let mut attic = Destination::start(&client, &world.path("attic"), &["--name", "attic"]);
    wait_for_names(&client, &["attic"]);
    for file in 0..200 {
        write(&world.source.join(format!("f{file}")), noise(file, 60_000));
    }
    let events = browser.live();
    let pushing = thread::spawn({
        let (client, source) = (client.clone(), world.source.clone());
        move || client.run(&["-r", "--copies", "2", source.to_str().unwrap()])
    });
    let (mut waiting, mut seen, mut second) = (false, false, None);
    for moment in events {
        if let Some(run) = moment["runs"].as_array().unwrap().first() {
            assert_eq!(
                (&run["kind"], &run["user"], &run["root"]),
                (&json!("backup"), &json!(login()), &json!(world.source))
            );
            seen = true;
            if run["gathering"] == json!({"connected": 1, "wanted": 2}) && !waiting {
                waiting = true;
                second = Some(Destination::start(&client, &world.path("cellar"), &["--name", "cellar"]));
            }
        }
        if let Some(ended) = moment["ended"].as_array().unwrap().first() {
            assert_eq!((&ended["exit_code"], &ended["snapshot"], &ended["files"]), (&json!(0), &json!(1), &json!(200)));
            break;
        }
    }
    assert!(seen && waiting, "the run was seen to wait: {waiting}");
    pushing.join().unwrap().expect(0, &[]);
    let names = || -> Vec<String> {
        let all = browser.json("destinations");
        all["destinations"].as_array().unwrap().iter().map(|d| d["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(), ["attic", "cellar"]);
    assert_eq!(browser.json("overview")["copies"][0]["destinations"].as_array().unwrap().len(), 2);
    attic.kill();
    let gone = browser.live().find(|moment| moment["attending"].as_array().unwrap().len() == 1).unwrap();
    assert_eq!(gone["attending"][0]["name"], "cellar");
    wait_until("the list to be true", || names() == ["cellar"]);
    drop((second, daemon));
}

#[test]
fn files_are_seen_as_they_pass_and_bars_reach_the_end() {
    let (world, daemon, _, browser) = served();
    write(&world.source.join("z-film"), noise(1, 96 << 20));
    for file in 0..300 {
        write(&world.source.join(format!("a-small/{file}")), noise(file, 2000));
    }
    // It stands still in the middle until it has been looked at several times.
    let proxy = Proxy::to(&daemon.address);
    proxy.pause(24 << 20);
    let client = Client::new(&world.path("home-slow"), &["-s", &proxy.address, "--compress=never"]);
    let events = browser.live();
    let pushing = thread::spawn({
        let (client, source) = (client, world.source.clone());
        move || client.run(&["-r", "--progress=always", source.to_str().unwrap()])
    });
    let (mut film, mut whole, mut recent, mut looks) = (0, 0.0, 0, 0);
    for moment in events {
        for run in moment["runs"].as_array().unwrap() {
            whole = f64::max(whole, run["percent"].as_f64().unwrap_or(0.0));
            if run["file"]["path"].as_str().is_some_and(|path| path.ends_with("/z-film")) {
                film = film.max(run["file"]["done"].as_u64().unwrap());
                assert_eq!(run["file"]["bytes"], 96 << 20);
                looks += 1;
                // The source says once a second, while it gets on, how far it is: behind what the sockets hold.
                match looks {
                    3 => proxy.pause(40 << 20),
                    6.. if whole > 0.0 => proxy.open(),
                    _ => {}
                }
            }
            recent = recent.max(run["recent"].as_array().unwrap().len());
        }
        if !moment["ended"].as_array().unwrap().is_empty() {
            break;
        }
    }
    pushing.join().unwrap().expect(0, &[]);
    assert!(film > 0 && whole > 0.0 && recent > 0 && recent <= 50, "{film} of the film, {whole} %, {recent} files");
}

#[test]
fn people_are_invited_changed_and_shut_out() {
    let (world, daemon, _, browser) = served();
    let invited =
        browser.change("POST", "invitations", &json!({"user": "guest", "valid_secs": 600, "rights": ["backup"]}));
    assert_eq!(browser.json("users")["invitations"][0]["user"], "guest");
    let guest = Client::new(&world.path("home-guest"), &[]);
    guest.run(&["join", &daemon.address, invited["token"].as_str().unwrap()]).expect(0, &["joined"]);
    many(&world.source, 1, 2);
    let push = || guest.run(&["-s", &daemon.address, "-r", world.source.to_str().unwrap()]);
    push().expect(0, &[]);
    let user = |key: &str| browser.json("users")["users"][0][key].clone();
    assert_eq!((user("user"), user("rights")), (json!("guest"), json!(["backup"])));
    browser.change("PATCH", "users/127.0.0.1/guest", &json!({"quota_bytes": 1000}));
    assert_eq!((user("quota_bytes"), user("rights")), (json!(1000), json!(["backup"])));
    browser.change("PATCH", "users/127.0.0.1/guest", &json!({"quota_bytes": null, "rights": ["backup", "restore"]}));
    assert_eq!((user("quota_bytes"), user("rights")), (Value::Null, json!(["backup", "restore"])));
    browser.change("POST", "users/127.0.0.1/guest/revoke", &Value::Null);
    push().expect(12, &[]);
    let other = browser.change("POST", "invitations", &json!({"user": "other", "valid_secs": 600}));
    browser.change("DELETE", &format!("invitations/{}", other["id"].as_str().unwrap()), &Value::Null);
    assert_eq!(browser.json("users")["invitations"], json!([]));
    for wrong in [
        json!({"user": "../x", "valid_secs": 1}),
        json!({"user": "x"}),
        json!({"user": "x", "valid_secs": 1, "evil": 1}),
        json!([]),
    ] {
        assert_eq!(browser.send("POST", "invitations", &wrong).status, 400, "{wrong}");
    }
    // Runs of everybody, with why they failed.
    let runs = browser.json("runs");
    assert_eq!((&runs["runs"][0]["user"], &runs["runs"][0]["exit_code"]), (&json!("guest"), &json!(0)));
}

#[test]
fn settings_hold_at_once_and_after_a_restart_and_show_what_was_before() {
    let world = World::new();
    let config = world.path("rbbackupd.toml");
    fs::write(&config, "[retention]\ndaily = 14\n").unwrap();
    let options = [&CONSOLE[..], &["--config", config.to_str().unwrap()]].concat();
    let mut daemon = Daemon::start(&world.store, &options);
    let client = world.client(&daemon, "a");
    write(&world.source.join("a"), noise(1, 400_000));
    client.push("-r", &world.source);
    let browser = Browser::of_store(&world.store, &[]);
    let setting = |browser: &Browser, key: &str| {
        let all = browser.json("settings")["settings"].clone();
        all.as_array().unwrap().iter().find(|setting| setting["key"] == key).unwrap().clone()
    };
    assert_eq!(setting(&browser, "retention.daily")["from"], "file");
    browser.change("PUT", "settings", &json!({"changes": {"retention.daily": 90, "limits.quota": "500K"}}));
    let daily = setting(&browser, "retention.daily");
    assert_eq!((&daily["value"], &daily["before"], &daily["from"]), (&json!(90), &json!(14), &json!("console")));
    // At once: what is more than the quota is refused.
    write(&world.source.join("b"), noise(2, 400_000));
    client.try_push("-r", &world.source).expect(13, &["quota"]);
    assert_eq!(
        browser.send("PUT", "settings", &json!({"changes": {"retention.daily": 1, "limits.quota": "much"}})).status,
        400
    );
    assert_eq!(setting(&browser, "retention.daily")["value"], 90, "all or nothing");

    // Another port, while somebody is connected.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    browser.change(
        "PUT",
        "settings",
        &json!({"changes": {"limits.quota": {"reset": true}, "listen": free.to_string()}}),
    );
    // To a client another address is another server: what it knows of the one goes over to the other.
    let servers = client.home.join(".config/rbbackup/servers");
    let known = fs::read_dir(&servers).unwrap().next().unwrap().unwrap().file_name().into_string().unwrap();
    let port = |address: &str| address.rsplit(':').next().unwrap().to_owned();
    let renamed = known.replace(&port(&daemon.address), &free.port().to_string());
    assert!(
        Command::new("cp").arg("-a").arg(servers.join(&known)).arg(servers.join(renamed)).status().unwrap().success()
    );
    let moved = Client::new(&client.home, &["-s", &free.to_string()]);
    moved.run(&["-r", world.source.to_str().unwrap()]).expect(0, &[]);
    assert_eq!(client.try_push("-r --retry-for=0", &world.source).code, 10, "nobody is where it was");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let wanted = taken.local_addr().unwrap().to_string();
    let refused = browser.send("PUT", "settings", &json!({"changes": {"listen": wanted}}));
    assert!(
        refused.status == 400 && refused.json()["error"]["message"].as_str().unwrap().contains("in use"),
        "{refused:?}"
    );
    // The same port elsewhere is free only once this one is given up; what is not this machine's leaves all as it was.
    let listen = |address: String| browser.send("PUT", "settings", &json!({"changes": {"listen": address}})).status;
    assert_eq!(listen(format!("0.0.0.0:{}", free.port())), 200);
    moved.run(&["-r", world.source.to_str().unwrap()]).expect(0, &[]);
    assert_eq!(listen(format!("192.0.2.1:{}", free.port())), 400);
    moved.run(&["-r", world.source.to_str().unwrap()]).expect(0, &[]);
    assert_eq!(browser.json("overview")["listen"], format!("0.0.0.0:{}", free.port()));
    assert_eq!(listen(free.to_string()), 200);
    assert_eq!(setting(&browser, "listen")["value"], free.to_string());

    assert!(daemon.stop().success());
    let daemon = daemon.restart();
    assert_eq!(daemon.address, free.to_string(), "the console's word holds");
    let browser = Browser::of_store(&world.store, &[]);
    assert_eq!(setting(&browser, "retention.daily")["value"], 90);
    let text = fs::read_to_string(world.store.join(".rbbackup/override.toml")).unwrap();
    assert!(text.contains("daily = 90") && !text.contains("quota"), "{text}");
}

#[test]
fn open_streams_do_not_hold_up_the_end_and_there_are_only_so_many() {
    let (world, mut daemon, _, browser) = served();
    let streams: Vec<_> = (0..16).map(|_| browser.live()).collect();
    assert_eq!(browser.get("live").error(), (429, "too_many".into()));
    let begun = Instant::now();
    assert!(daemon.stop().success());
    // What is waited for has half a minute.
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    drop(streams);
    // Nobody is led to who takes its port.
    rbbackupd(&["console", world.store.to_str().unwrap()]).expect(10, &["no console is served"]);
}

#[test]
fn who_signs_out_sees_no_more() {
    let (world, _daemon, client, browser) = served();
    let events = browser.live();
    let watching = thread::spawn(move || events.count());
    many(&world.source, 1, 2);
    client.push("-r", &world.source);
    browser.change("DELETE", "session", &Value::Null);
    // The stream ends by itself.
    assert!(watching.join().unwrap() > 0);
}

#[test]
fn a_link_that_root_makes_opens_the_console_of_somebody_elses_daemon() {
    if !is_root() {
        return skipped("becoming somebody else needs root");
    }
    let world = World::new();
    let _daemon = Daemon::start_as(65534, &world.store, &CONSOLE);
    for _ in 0..2 {
        Browser::of_store(&world.store, &[]).json("overview");
    }
}

#[test]
fn a_relay_has_a_console_too() {
    let world = World::new();
    let state = world.path("relay");
    let daemon = Daemon::start(Path::new("--relay"), &[&["--state", state.to_str().unwrap()], &CONSOLE[..]].concat());
    let client = world.client(&daemon, "a");
    let browser = Browser::of_store(&state, &[]);
    let overview = browser.json("overview");
    assert_eq!((&overview["relay"], &overview["copies"]), (&json!(true), &json!([])));
    assert_eq!(browser.json("settings")["settings"].as_array().unwrap().len(), 1);
    let attic = Destination::start(&client, &world.path("attic"), &["--name", "attic"]);
    wait_for_names(&client, &["attic"]);
    many(&world.source, 2, 3);
    client.push("-r", &world.source);
    // The client may know it first.
    let ended = browser.live().find_map(|moment| moment["ended"].as_array().unwrap().first().cloned()).unwrap();
    assert_eq!((&ended["exit_code"], &ended["files"]), (&json!(0), &json!(6)));
    drop(attic);
}
