//! Names as long as they may be, many of them: no message outgrows its frame.

use std::fs;

use crate::support::daemon::World;
use crate::support::trees::{assert_same, write};

#[test]
fn many_long_paths_are_backed_up_moved_and_restored() {
    let (world, _daemon, client) = World::served();
    let deep = |top: &str| (0..13).fold(world.source.join(top), |path, _| path.join("d".repeat(250)));
    for i in 0..400 {
        write(&deep("one").join(i.to_string()), i.to_string());
    }
    client.push("-r", &world.source);
    assert_same(&world.copy(), &world.source);
    fs::rename(world.source.join("one"), world.source.join("two")).unwrap();
    let plan = client.try_push("-rdn", &world.source);
    plan.expect(0, &[]);
    assert_eq!(client.push("-rd", &world.source)["content_bytes_sent"], 0);
    assert_same(&world.copy(), &world.source);
    client.run(&["ls".as_ref(), deep("two").as_os_str()]).expect(0, &["399"]);
    // Answers of more than a frame, with links whose targets are as long.
    for i in 0..200 {
        let target = std::path::PathBuf::from(i.to_string()).join("t".repeat(250)).join("x/".repeat(1800));
        std::os::unix::fs::symlink(target, world.source.join(format!("link{i:03}"))).unwrap();
    }
    client.push("-rd", &world.source);
    for (words, lines) in [(&["find", "*9?"][..], 100), (&["find", "link*"], 200), (&["diff", "2"], 200)] {
        let outcome = client.run(words);
        outcome.expect(0, &[]);
        assert_eq!(outcome.stdout.lines().count(), lines, "{words:?}");
    }
}
