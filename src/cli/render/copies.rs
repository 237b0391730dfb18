//! Who holds a run, for people.

use crate::backup::bytes::escape;
use crate::engine::observer::{CopyState, Held};

/// `2 of 3 destinations are connected, waiting for 1 more`.
pub fn gathering_line(connected: u32, wanted: u32) -> String {
    let there = format!("{connected} of {wanted} destinations are connected");
    match wanted.checked_sub(connected) {
        Some(missing) if missing > 0 => format!("{there}, waiting for {missing} more"),
        _ => there,
    }
}

/// A line for each target that does not hold the run; with `all` also for those that do.
pub fn copy_lines(copies: &[CopyState], all: bool) -> Vec<String> {
    // A relay has nothing that anybody could catch up from.
    let later = if copies.iter().any(|copy| !copy.destination) { "catches up" } else { "gets it with the next run" };
    let told = copies.iter().filter(|copy| all || copy.state != Held::Held);
    told.map(|copy| {
        let name = if copy.destination { escape(copy.name.as_bytes()) } else { "the server's store".to_owned() };
        match (copy.state, copy.reason.as_str()) {
            (Held::Held, _) => format!("held by {name}"),
            (Held::Behind, why) => format!("NOT held by {name}, which {later}: {}", escape(why.as_bytes())),
            (Held::Failed, why) => format!("NOT held by {name}: {}", escape(why.as_bytes())),
        }
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_hears_for_how_many() {
        assert_eq!(gathering_line(2, 3), "2 of 3 destinations are connected, waiting for 1 more");
        assert_eq!(gathering_line(3, 3), "3 of 3 destinations are connected");
        assert_eq!(gathering_line(4, 3), "4 of 3 destinations are connected");
    }

    #[test]
    fn who_lacks_it_is_always_named() {
        let copy = |name: &str, state, reason: &str| {
            let (name, reason) = (name.to_owned(), reason.to_owned());
            CopyState { destination: !name.is_empty(), name, state, reason }
        };
        let copies = [
            copy("", Held::Held, ""),
            copy("attic", Held::Behind, "it left in the middle"),
            copy("cel\nlar", Held::Failed, "its disk is full"),
        ];
        let lacking =
            ["NOT held by attic, which catches up: it left in the middle", "NOT held by cel\\x0alar: its disk is full"];
        assert_eq!(copy_lines(&copies, false), lacking);
        assert!(copy_lines(&copies[1..], false)[0].starts_with("NOT held by attic, which gets it with the next run: "));
        assert_eq!(copy_lines(&copies, true), [&["held by the server's store"], &lacking[..]].concat());
    }
}
