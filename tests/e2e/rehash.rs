//! A disk that damages a file says nothing: `--rehash` reads everything, and does.

use std::fs;
use std::process::Command;

use crate::support::daemon::{World, skipped, wait_until};
use crate::support::mount::Mount;
use crate::support::trees::{noise, write};

#[test]
fn content_that_changed_without_a_trace_is_named_and_the_version_before_is_kept() {
    let (world, _daemon, client) = World::served();
    let image = world.path("image");
    fs::File::create(&image).unwrap().set_len(16 << 20).unwrap();
    let made = Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image).status();
    if !made.is_ok_and(|status| status.success()) {
        return skipped("there is no mkfs.ext4");
    }
    let Some(disk) = Mount::image(&image, &world.source) else { return skipped("one may not mount") };
    let (small, large) = (noise(41, 9_000), noise(42, 700_000));
    write(&world.source.join("small"), &small);
    write(&world.source.join("large"), &large);
    write(&world.source.join("sound"), noise(43, 9_000));
    // Until a file is two seconds old it would be read anyway.
    let settled = || client.push("-rd", &world.source)["bytes_read"] == 0;
    wait_until("the files to be believed", settled);
    let first = client.push("-rd", &world.source);
    drop(disk);
    let mut bytes = fs::read(&image).unwrap();
    for content in [&small[4096..8192], &large[8192..12_288]] {
        let at = bytes.windows(64).position(|window| window == &content[..64]).expect("the content on the disk");
        bytes[at + 10] ^= 1;
    }
    fs::write(&image, bytes).unwrap();
    let _disk = Mount::image(&image, &world.source).unwrap();
    assert_ne!(fs::read(world.source.join("small")).unwrap(), small, "it is damaged");
    let blind = client.push("-rd", &world.source);
    assert_eq!((&blind["bytes_read"], &blind["updated"]), (&0.into(), &0.into()), "nothing says so: {blind}");
    let said = client.run(&["-rd", "--rehash", world.source.to_str().unwrap()]);
    said.expect(1, &["small: its content is not what it was", "large: its content is not what it was"]);
    assert!(!said.said().contains("sound"), "{}", said.said());
    let again = client.run(&["-rd", "--rehash", "--json", world.source.to_str().unwrap()]).summary();
    assert_eq!((&again["altered"], &again["updated"]), (&0.into(), &0.into()), "it is told once: {again}");
    let (before, out) = (first["snapshot"].to_string(), world.path("out"));
    let to = ["restore", "--at", &before, "--to", out.to_str().unwrap(), world.source.to_str().unwrap()];
    client.run(&to).expect(0, &[]);
    assert_eq!(fs::read(out.join("source/small")).unwrap(), small);
    assert_eq!(fs::read(out.join("source/large")).unwrap(), large);
}
