//! Snapshots that no rule keeps expire; what is left can be restored.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::past::Rounds;
use crate::support::client::{Client, Outcome};
use crate::support::daemon::{Daemon, World, login, rbbackupd, shell, wait_until};
use crate::support::rng::Rng;
use crate::support::trees::noise;

/// Keeps two of everything, however young.
const TWO: &str = "[retention]\nlast = 2\nhourly = 0\ndaily = 0\nweekly = 0\nmonthly = 0\nyearly = 0\nmin-age = 0\n";

fn prune(world: &World, config: &str, options: &[&str]) -> Outcome {
    let path = world.path("rbbackupd.toml");
    fs::write(&path, config).unwrap();
    let mut args = vec!["prune", world.store.to_str().unwrap(), "--config", path.to_str().unwrap()];
    args.extend(options);
    rbbackupd(&args)
}

/// Five snapshots, each with a file that the next one lacks.
fn five() -> (World, Client) {
    let world = World::new();
    let client = Client::new(&world.path("home"), &["--store", world.store.to_str().unwrap()]);
    for round in 1..=5 {
        let _ = fs::remove_file(world.source.join(format!("only-in-{}", round - 1)));
        fs::write(world.source.join(format!("only-in-{round}")), format!("round {round}").repeat(100)).unwrap();
        fs::write(world.source.join("changes"), format!("{round}")).unwrap();
        assert_eq!(client.push("-rd", &world.source)["snapshot"], round);
    }
    (world, client)
}

fn files(store: &Path, suffix: &str) -> Vec<String> {
    let dir = store.join(".rbbackup/snapshots").join(format!("127.0.0.1@{}", login()));
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut found: Vec<String> = names.filter(|name| name.ends_with(suffix)).collect();
    found.sort();
    found
}

fn restores_4_and_5(world: &World, client: &Client) {
    for number in ["4", "5"] {
        let to = tempfile::tempdir_in(world.dir.path()).unwrap();
        let source = world.source.to_str().unwrap();
        let restored = client.run(&["restore", "--at", number, source, "--to", to.path().to_str().unwrap()]);
        assert_eq!(restored.code, 0, "{}", restored.stderr);
        let read = |name: &str| fs::read_to_string(to.path().join("source").join(name)).unwrap();
        assert_eq!(read("changes"), number);
        assert_eq!(read(&format!("only-in-{number}")), format!("round {number}").repeat(100));
        assert_eq!(fs::read_dir(to.path().join("source")).unwrap().count(), 2);
    }
}

#[test]
fn the_daemon_prunes_by_itself_and_keeps_serving() {
    let (world, client) = five();
    let config = world.path("rbbackupd.toml");
    fs::write(&config, TWO).unwrap();
    let daemon = Daemon::start(&world.store, &["--config", config.to_str().unwrap()]);
    daemon.wait_for("3 snapshots expired");
    wait_until("what expired to go", || files(&world.store, ".base").is_empty());
    assert_eq!(files(&world.store, ".snapshot"), ["000000000004.snapshot", "000000000005.snapshot"]);
    assert_eq!(files(&world.store, ".manifest").len() + files(&world.store, ".changes").len(), 2);
    restores_4_and_5(&world, &client);
    rbbackupd(&["prune", world.store.to_str().unwrap()]).expect(0, &["0 of 2 snapshots expired"]);
    prune(&world, TWO, &[]).expect(2, &["by its own configuration"]);
    let dry = prune(&world, TWO, &["-n"]);
    assert!(dry.code == 0 && dry.stdout.ends_with("0 of 2 snapshots would expire\n"), "{}{}", dry.stdout, dry.stderr);
}

#[test]
fn a_dry_run_says_why_and_changes_nothing_and_a_real_one_does_what_it_said() {
    let (world, client) = five();
    let said = prune(&world, TWO, &["-n"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    let lines: Vec<&str> = said.stdout.lines().collect();
    assert!(lines[0].starts_with(&format!("127.0.0.1/{} /", login())), "{}", said.stdout);
    assert!(lines[1].contains("1  ") && lines[1].contains("goes") && lines[1].ends_with("no rule keeps it"));
    assert!(lines[4].contains("stays") && lines[4].ends_with("last 2 of 2"), "{}", said.stdout);
    assert!(lines[5].contains("the newest of its root; the last complete one of its root; last 1 of 2"));
    assert!(lines[6].starts_with("3 of 5 snapshots would expire, ") && lines[6].ends_with(" would be given back"));
    assert_eq!(files(&world.store, ".snapshot").len(), 5);

    let young = prune(&world, "", &["-n", "--json"]);
    let judged: Vec<Value> = young.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(judged.len(), 6);
    assert!(judged[..5].iter().all(|line| line["keep"] == true), "the default keeps what is young: {}", young.stdout);

    let done = prune(&world, TWO, &[]);
    let last = done.stdout.lines().last().unwrap_or_default();
    assert!(done.code == 0 && last.starts_with("3 of 5 snapshots expired, "), "{}{}", done.stdout, done.stderr);
    assert_eq!(files(&world.store, ".snapshot"), ["000000000004.snapshot", "000000000005.snapshot"]);
    assert_eq!(prune(&world, TWO, &[]).stdout, "0 of 2 snapshots expired\n");

    restores_4_and_5(&world, &client);
    let gone = client.run(&["ls", "--at", "2", world.source.to_str().unwrap()]);
    assert_eq!(gone.code, 1, "{}", gone.stdout);
    // Without its catalog, too.
    fs::remove_file(world.store.join(".rbbackup/catalog.sqlite")).unwrap();
    restores_4_and_5(&world, &client);
    assert_eq!(client.push("-rd", &world.source)["snapshot"], 6, "no number is given out twice");
}

#[test]
fn what_would_be_given_back_is_said_and_is_what_then_is() {
    let world = World::new();
    let client = Client::new(&world.path("home"), &["--store", world.store.to_str().unwrap()]);
    for round in 1..=5 {
        for file in 0..4 {
            fs::write(world.source.join(format!("f{file}")), noise(10 * round + file, 20_000)).unwrap();
        }
        client.push("-rd", &world.source);
    }
    let taken = || -> u64 {
        let folders = ["vault", "snapshots"].map(|name| world.store.join(".rbbackup").join(name));
        let args = [folders[0].as_os_str(), folders[1].as_os_str(), "-type".as_ref(), "f".as_ref()];
        let sizes = shell("find", &[&args[..], &["-printf".as_ref(), "%s\n".as_ref()]].concat());
        sizes.stdout.lines().map(|line| line.parse::<u64>().unwrap()).sum()
    };
    let freed = |outcome: &Outcome| outcome.summary()["bytes_freed"].as_u64().unwrap();
    let said = prune(&world, TWO, &["-n", "--json"]);
    assert!(freed(&said) > 240_000 && said.summary()["estimate"] == false, "{}", said.stdout);
    let before = taken();
    let done = prune(&world, TWO, &["--json"]);
    assert_eq!((freed(&done), done.summary()["estimate"].clone()), (freed(&said), false.into()), "{}", done.stdout);
    assert_eq!(before - taken(), freed(&done));
}

#[test]
fn what_was_there_before_a_great_deletion_stays_until_it_is_released() {
    let world = World::new();
    let client = Client::new(&world.path("home"), &["--store", world.store.to_str().unwrap()]);
    for i in 0..120 {
        fs::write(world.source.join(format!("f{i}")), format!("{i}")).unwrap();
    }
    client.push("-r", &world.source);
    for i in 0..119 {
        fs::remove_file(world.source.join(format!("f{i}"))).unwrap();
    }
    client.push("-rd --force-delete", &world.source);
    for round in 0..2 {
        fs::write(world.source.join("f119"), format!("round {round}")).unwrap();
        client.push("-rd", &world.source);
    }
    assert!(prune(&world, TWO, &[]).stdout.ends_with("0 of 4 snapshots expired\n"));
    let why = prune(&world, TWO, &["-n"]).stdout;
    assert!(why.contains("what was there before snapshot 2 took most of it away"), "{why}");

    let (store, copy) = (world.store.to_str().unwrap(), format!("127.0.0.1/{}", login()));
    let refused = rbbackupd(&["release", store, &copy, "4"]);
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains("is not kept because of a run"), "{}", refused.stderr);
    assert_eq!(rbbackupd(&["release", store, "n/u", "1"]).code, 1);
    assert_eq!(rbbackupd(&["release", store, &copy, "1"]).code, 0);
    let done = prune(&world, TWO, &[]).stdout;
    assert!(done.lines().last().unwrap().starts_with("2 of 4 snapshots expired, "), "{done}");
}

/// Each run is within the guard, and needs no force.
#[test]
fn what_was_there_before_many_small_losses_stays_until_it_is_released() {
    let world = World::new();
    let client = Client::new(&world.path("home"), &["--store", world.store.to_str().unwrap()]);
    for i in 0..240 {
        fs::write(world.source.join(format!("f{i}")), format!("{i}")).unwrap();
    }
    client.push("-rd", &world.source);
    for i in 0..200 {
        fs::remove_file(world.source.join(format!("f{i}"))).unwrap();
        if i % 50 == 49 {
            client.push("-rd", &world.source);
        }
    }
    client.push("-rd", &world.source);
    assert!(
        prune(&world, TWO, &[]).stdout.contains("1 of 6 snapshots expired"),
        "who has 100 files less is short of nothing"
    );
    let why = prune(&world, TWO, &["-n"]).stdout;
    assert!(why.contains("what was there before runs up to snapshot 4 took most of it away"), "{why}");
    let (store, copy) = (world.store.to_str().unwrap(), format!("127.0.0.1/{}", login()));
    let released = rbbackupd(&["release", store, &copy, "1"]);
    assert_eq!(released.code, 0, "{}", released.said());
    let done = prune(&world, TWO, &[]).stdout;
    assert!(done.contains("2 of 5 snapshots expired"), "the largest of the year stays: {done}");
}

#[test]
fn a_wrong_configuration_is_refused_by_prune_and_by_the_daemon() {
    let (world, _) = five();
    let refused = prune(&world, "[retention]\ndayly = 3\n", &[]);
    assert_eq!(refused.code, 2);
    assert!(refused.stderr.contains("rbbackupd.toml, line 2: unknown key `dayly`"), "{}", refused.stderr);
    let config = world.path("rbbackupd.toml");
    let refused = rbbackupd(&[world.store.to_str().unwrap(), "--config", config.to_str().unwrap()]);
    assert_eq!(refused.code, 2);
    assert!(refused.stderr.contains("line 2: unknown key `dayly`"), "{}", refused.stderr);
    let missing = world.path("none.toml");
    assert_eq!(rbbackupd(&["prune", world.store.to_str().unwrap(), "--config", missing.to_str().unwrap()]).code, 2);
    assert_eq!(files(&world.store, ".snapshot").len(), 5);
}

#[test]
fn with_a_damaged_record_nothing_is_pruned_and_that_is_said() {
    let (world, _) = five();
    let dir = world.store.join(".rbbackup/snapshots").join(format!("127.0.0.1@{}", login()));
    fs::write(dir.join("000000000002.snapshot"), "garbage").unwrap();
    let said = prune(&world, TWO, &[]);
    assert_eq!(said.code, 1);
    assert!(said.stderr.contains("000000000002.snapshot"), "{}", said.stderr);
    assert_eq!(files(&world.store, ".snapshot").len(), 5);
}

/// Lets all but the last two go, and forgets what went.
fn prune_rounds(rounds: &mut Rounds) -> usize {
    let dry = prune(&rounds.world, TWO, &["-n", "--json"]);
    let mut gone = 0;
    for verdict in dry.stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()) {
        if verdict["keep"] == false {
            let number = usize::try_from(verdict["number"].as_u64().unwrap()).unwrap();
            fs::remove_dir_all(rounds.kept[number - 1].take().unwrap()).unwrap();
            gone += 1;
        }
    }
    let done = prune(&rounds.world, TWO, &[]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    gone
}

/// Rounds of random changes; after each few all but the last snapshots go, and those restore as the source was.
fn what_stays_restores(seed: u64, rounds: usize, every: usize) {
    let mut trial = Rounds::new(seed, false);
    let mut gone = 0;
    for round in 1..=rounds {
        trial.go_on();
        if round % every == 0 {
            gone += prune_rounds(&mut trial);
            trial.restore_each();
        }
    }
    assert!(gone >= rounds / 3, "only {gone} of {rounds} went");
    fs::remove_file(trial.world.store.join(".rbbackup/catalog.sqlite")).unwrap();
    trial.restore_each();
    trial.go_on();
    prune_rounds(&mut trial);
    trial.walk_back();
}

#[test]
fn what_stays_restores_as_the_source_was() {
    what_stays_restores(3, 4, 2);
}

#[test]
#[ignore = "slow: thirty rounds of changes, pruned every five"]
fn what_stays_of_thirty_rounds_restores_as_the_source_was() {
    what_stays_restores(Rng::announced("what_stays_of_thirty_rounds_restores_as_the_source_was").next(), 30, 5);
}

/// Points at which pruning may be killed.
const POINTS: [&str; 7] =
    ["expire", "expired-manifest", "expired-record", "pack-written", "pack-named", "pack-rewritten", "pack-forgotten"];

/// Every point, every time that it is come to: what is left restores as it was, before and after the next prune, which
/// leaves the same as one that was not killed.
#[test]
#[ignore = "slow: kills pruning at every step; needs --features failpoints"]
fn killed_anywhere_it_loses_nothing_and_the_next_one_finishes() {
    if !cfg!(feature = "failpoints") {
        eprintln!("skipped: the daemon has no failpoints; build with --features failpoints");
        return;
    }
    let (world, client, kept) = with_a_sparse_pack();
    let pristine = world.path("pristine");
    shell("cp", &["-a".as_ref(), world.store.as_os_str(), pristine.as_os_str()]);
    let done = prune(&world, TWO, &["--json"]);
    let summary: Value = serde_json::from_str(done.stdout.lines().last().unwrap()).unwrap();
    assert_eq!((&summary["expired"], &summary["packs_written"]), (&3.into(), &1.into()), "{}", done.stdout);
    assert!(summary["packs_removed"].as_u64().unwrap() >= 2, "{}", done.stdout);
    let wanted = inventory(&world.store);
    let mut kills = 0;
    for point in POINTS {
        for nth in 1.. {
            fs::remove_dir_all(&world.store).unwrap();
            shell("cp", &["-a".as_ref(), pristine.as_os_str(), world.store.as_os_str()]);
            let config = world.path("rbbackupd.toml");
            let mut command = Command::new(env!("CARGO_BIN_EXE_rbbackupd"));
            command.args([OsStr::new("prune"), world.store.as_os_str(), "--config".as_ref(), config.as_os_str()]);
            let died = Outcome::of(command.env("RBBACKUP_FAILPOINT", format!("{point}:{nth}"))).code != 0;
            let what = format!("killed at {point}:{nth}");
            restores(&world, &client, &kept, &what);
            let again = prune(&world, TWO, &[]);
            assert_eq!(again.code, 0, "{what}: {}", again.stderr);
            restores(&world, &client, &kept, &format!("{what}, and pruned again"));
            assert_eq!(inventory(&world.store), wanted, "{what}");
            if !died {
                break;
            }
            kills += 1;
        }
    }
    assert!(kills >= 10, "only {kills} kills");
}

type Kept = Vec<(u64, BTreeMap<String, Vec<u8>>)>;

/// Five snapshots; of what the second retired into one pack, a little is needed again by those that stay.
fn with_a_sparse_pack() -> (World, Client, Kept) {
    let world = World::new();
    let client = Client::new(&world.path("home"), &["--store", world.store.to_str().unwrap()]);
    let rounds: [&[(&str, usize)]; 5] = [
        &[("little", 2_000), ("much", 200_000), ("changes", 1)],
        &[("changes", 2)],
        &[("little", 2_000), ("changes", 3)],
        &[("little", 2_000), ("changes", 4)],
        &[("changes", 5)],
    ];
    let mut kept = Kept::new();
    for (number, files) in (1..).zip(rounds) {
        fs::remove_dir_all(&world.source).unwrap();
        fs::create_dir(&world.source).unwrap();
        let content = |len: usize| noise(len as u64, len);
        let files: BTreeMap<String, Vec<u8>> =
            files.iter().map(|(name, len)| ((*name).to_owned(), content(*len))).collect();
        files.iter().for_each(|(name, content)| fs::write(world.source.join(name), content).unwrap());
        assert_eq!(client.push("-rd", &world.source)["snapshot"], number);
        if number > 3 {
            kept.push((number, files));
        }
    }
    (world, client, kept)
}

fn restores(world: &World, client: &Client, kept: &Kept, what: &str) {
    for (number, files) in kept {
        let to = tempfile::tempdir_in(world.dir.path()).unwrap();
        let (number, source) = (number.to_string(), world.source.to_str().unwrap());
        let restored = client.run(&["restore", "--at", &number, source, "--to", to.path().to_str().unwrap()]);
        assert_eq!(restored.code, 0, "{what}: {}", restored.stderr);
        let entries = fs::read_dir(to.path().join("source")).unwrap().map(Result::unwrap);
        let read = |entry: fs::DirEntry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap());
        assert!(entries.map(read).collect::<BTreeMap<_, _>>() == *files, "{what}: snapshot {number}");
    }
}

/// Names of packs, snapshots and manifests.
fn inventory(store: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut folders = vec![store.join(".rbbackup/snapshots"), store.join(".rbbackup/vault")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            if entry.path().is_dir() {
                folders.push(entry.path());
            } else {
                found.insert(entry.file_name().into_string().unwrap());
            }
        }
    }
    found
}

#[test]
fn what_was_pruned_is_told_from_what_is_there() {
    let (world, client) = five();
    prune(&world, TWO, &[]).expect(0, &[]);
    let at = |name: &str| world.source.join(name).to_str().unwrap().to_owned();
    let pruned = "snapshot 2 was pruned; there are 4 to 5";
    for words in [&["ls", "--at", "2", &at("")][..], &["cat", "--at", "2", &at("changes")], &["diff", "2", "5"]] {
        client.run(words).expect(1, &[pruned]);
    }
    client.run(&["cat", "--at", "5", &at("only-in-4")]).expect(1, &["snapshot 5 has no", "it is in 4 (of"]);
    client.run(&["history", &at("only-in-1")]).expect(1, &["no backup has"]);
    for (words, lines) in [(&["snapshots"][..], 2), (&["history", &at("changes")], 2), (&["find", "only-in*"], 2)] {
        let outcome = client.run(words);
        outcome.expect(0, &[]);
        assert_eq!(outcome.stdout.lines().count(), lines, "{}", outcome.said());
    }
}

#[test]
fn a_daemon_prunes_when_it_is_told_to_by_its_own_configuration() {
    let world = World::new();
    let config = world.path("rbbackupd.toml");
    fs::write(&config, TWO).unwrap();
    let daemon = Daemon::start(&world.store, &["--config", config.to_str().unwrap()]);
    let client = world.client(&daemon, "home");
    for round in 1..=5 {
        fs::write(world.source.join("changes"), format!("{round}")).unwrap();
        client.push("-rd", &world.source);
    }
    let store = world.store.to_str().unwrap();
    let done = rbbackupd(&["prune", store]);
    assert!(done.code == 0 && done.stdout.starts_with("3 of 5 snapshots expired"), "{}{}", done.stdout, done.stderr);
    assert_eq!(files(&world.store, ".snapshot"), ["000000000004.snapshot", "000000000005.snapshot"]);
    let again = rbbackupd(&["prune", store, "--json"]).object("summary");
    assert_eq!((&again["snapshots"], &again["expired"], &again["dry_run"]), (&2.into(), &0.into(), &false.into()));
    let copy = format!("127.0.0.1/{}", login());
    rbbackupd(&["release", store, &copy, "5"]).expect(1, &["is not kept because of a run"]);
    rbbackupd(&["release", store, "10.9.9.9/x", "5"]).expect(1, &["there is no copy '10.9.9.9/x'"]);
    client.run(&["status"]).expect(0, &["2 snapshots"]);
}
