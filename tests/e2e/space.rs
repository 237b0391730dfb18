//! Who has had enough: quotas, and a disk that is nearly full.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::client::Outcome;
use crate::support::daemon::{World, skipped, wait_until};
use crate::support::mount::Mount;
use crate::support::trees::{assert_same, noise, write};

const MIB: usize = 1 << 20;

fn rbbackupd(args: &[&str]) -> Outcome {
    Outcome::of(Command::new(env!("CARGO_BIN_EXE_rbbackupd")).env_remove("RBBACKUP_LOG").args(args))
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_quota_ends_what_grows_and_nothing_else() {
    let world = World::new();
    let (daemon, client) = world.served_with("[limits]\nquota = \"2M\"\n");
    let file = |name: &str| world.source.join(name);
    write(&file("a"), noise(1, MIB));
    write(&file("b"), noise(2, MIB / 2));
    client.push("-rd", &world.source);
    let status = client.run(&["--json", "status"]).object("status");
    let used = status["used_bytes"].as_u64().unwrap() - 3 * MIB as u64 / 2;
    assert!(used < 64 << 10 && status["quota_bytes"] == 2 * MIB, "{status}");
    client.run(&["status"]).expect(0, &["quota     1.5 MiB used of 2.0 MiB"]);

    // One large file, and many small ones: each is refused, and given back.
    write(&file("large"), noise(3, 5 * MIB));
    let words = ["the quota of 127.0.0.1/", "1.5 MiB of 2.0 MiB are used", "raise the quota"];
    let dry = client.run(&["-rdnv", world.source.to_str().unwrap()]);
    dry.expect(13, &[&words[..], &["this needs 5.0 MiB more", "large"]].concat());
    client.try_push("-rd", &world.source).expect(13, &words);
    fs::remove_file(file("large")).unwrap();
    (0..80).for_each(|i| write(&file(&format!("many/{i}")), noise(100 + i, 20_000)));
    client.try_push("-rd", &world.source).expect(13, &words);
    assert_eq!(fs::read_dir(world.store.join(".rbbackup/staging")).unwrap().count(), 0);
    fs::remove_dir_all(file("many")).unwrap();
    assert_eq!(names(&world.copy()), ["a", "b"]);

    // What fits goes, what deletes goes, and everything comes back.
    write(&file("c"), noise(4, MIB / 4));
    client.push("-rd", &world.source);
    fs::remove_file(file("a")).unwrap();
    client.push("-rd --force-delete", &world.source);
    let back = world.path("back");
    let source = world.source.to_str().unwrap();
    client.run(&["restore", source, "--to", back.to_str().unwrap()]).expect(0, &[]);
    assert_same(&back.join("source"), &world.source);
    let stats = rbbackupd(&["stats", world.store.to_str().unwrap(), "--json"]).object("stats");
    assert_eq!(stats["quota_bytes"], 2 * MIB);
    assert!(stats["used_bytes"].as_u64().unwrap() >= 7 * MIB as u64 / 4, "history counts: {stats}");
    drop(daemon);
}

/// Check 7 of issue 5's users: a disk that is nearly full can be managed, and what was backed up stays valid.
#[test]
fn a_disk_at_its_reserve_is_managed_and_serves_on() {
    let world = World::new();
    let image = world.path("image");
    fs::File::create(&image).unwrap().set_len(64 << 20).unwrap();
    let made = Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(&image).status();
    if !made.is_ok_and(|status| status.success()) {
        return skipped("there is no mkfs.ext4");
    }
    fs::create_dir(&world.store).unwrap();
    let Some(_disk) = Mount::image(&image, &world.store) else { return skipped("one may not mount") };
    // An empty file system holds more than the store.
    let _ = fs::remove_dir(world.store.join("lost+found"));
    let retention = "[retention]\nlast = 1\nhourly = 0\ndaily = 0\nweekly = 0\nmonthly = 0\nyearly = 0\nmin-age = 0\n";
    let (daemon, client) = world.served_with(&format!("[limits]\nreserve = \"16M\"\n{retention}"));
    let file = |name: &str| world.source.join(name);
    write(&file("old"), noise(1, 8 * MIB));
    write(&file("kept"), noise(2, MIB));
    client.push("-rd", &world.source);
    let kept = fs::read(file("kept")).unwrap();
    // Until a file is two seconds old it may have changed unseen, and is offered again.
    wait_until("the files to be believed", || client.push("-rd", &world.source)["bytes_read"] == 0);

    // More than there is room for: the run ends above the reserve, and gives back what it had staged.
    write(&file("large"), noise(3, 48 * MIB));
    client.try_push("-rd", &world.source).expect(13, &["16 MiB and ", "are kept free", "[limits] reserve"]);
    let free = || rustix::fs::statvfs(&world.store).map(|disk| disk.f_bfree * disk.f_frsize).unwrap();
    assert!(free() > 32 << 20, "it was not given back: {} bytes are free", free());
    fs::remove_file(file("large")).unwrap();
    assert_eq!(names(&world.copy()), ["kept", "old"]);

    // Full up to the reserve by somebody else: no content, but everything that makes room.
    fs::write(world.store.join(".rbbackup/filler"), vec![7; (free() - (12 << 20)) as usize]).unwrap();
    write(&file("new"), "new");
    client.try_push("-rd", &world.source).expect(13, &["kept free"]);
    fs::remove_file(file("new")).unwrap();
    fs::remove_file(file("old")).unwrap();
    client.push("-rd --force-delete", &world.source);
    client.run(&["ls".as_ref(), world.source.as_os_str()]).expect(0, &["kept"]);
    client.run(&["verify"]).expect(0, &[]);
    // History goes, and with it what fills the disk.
    rbbackupd(&["prune", world.store.to_str().unwrap()]).expect(0, &["snapshots expired"]);
    assert!(free() > 16 << 20, "pruning gave nothing back: {} bytes are free", free());
    write(&file("new"), "new");
    client.push("-rd", &world.source);
    assert_same(&world.copy(), &world.source);
    assert_eq!(fs::read(world.copy().join("kept")).unwrap(), kept);
    drop(daemon);
}
