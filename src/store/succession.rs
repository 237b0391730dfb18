//! How the daemon's key came to be the one that it is: each key that it had signed the next one over.
//!
//! ```text
//! succession   "rbbackup succession 1\n" | line*
//! line         FROM " " TO " " SIGNATURE "\n"      64, 64 and 128 hex digits
//! ```
//! A client that knows an earlier key finds its way to the present one here. A line is durable before its key is in use;
//! one whose key never was leads nowhere, and harms nobody. Signatures are made and checked above (`engine::trust`).

use std::io;

use super::durable;
use super::layout::{Store, StoreError};
use crate::backup::bytes::escape;

const FILE: &str = "succession";
const HEAD: &str = "rbbackup succession 1";
/// Most lines: a key a month for twenty years.
pub const STEPS_MAX: usize = 256;
const BYTES_MAX: u64 = 128 * 1024;

/// One key that signed over to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The key before.
    pub from: [u8; 32],
    /// The key after.
    pub to: [u8; 32],
    /// Ed25519, by the key before.
    pub signature: [u8; 64],
}

impl Store {
    /// All steps, oldest first.
    ///
    /// # Errors
    /// The disk's, or the file is damaged.
    pub fn succession(&self) -> Result<Vec<Step>, StoreError> {
        let path = self.meta_path(FILE);
        let shown = || escape(path.as_os_str().as_encoded_bytes());
        match durable::read_file(&path, BYTES_MAX) {
            Ok(content) => parse(&content).map_err(|why| StoreError::Damaged { path: shown(), why }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(source) => Err(StoreError::Io { path: shown(), source }),
        }
    }

    /// Adds a step; durable when this returns.
    ///
    /// # Errors
    /// The disk's, the file is damaged, or there are too many.
    pub fn add_step(&self, step: Step) -> Result<(), StoreError> {
        let path = || escape(self.meta_path(FILE).as_os_str().as_encoded_bytes());
        let mut steps = self.succession()?;
        if steps.len() >= STEPS_MAX {
            let why = format!("it has {STEPS_MAX} steps, and no room for another key");
            return Err(StoreError::Damaged { path: path(), why });
        }
        steps.push(step);
        durable::write_file(&self.meta_path(""), FILE, to_text(&steps).as_bytes())
            .map_err(|source| StoreError::Io { path: path(), source })
    }
}

/// The way from one key to another; none if there is none.
pub fn way(steps: &[Step], from: [u8; 32], to: [u8; 32]) -> Option<Vec<&Step>> {
    let (mut way, mut at) = (Vec::new(), from);
    while at != to {
        // The last word of a key counts: an earlier one was cut short before it was of use.
        let step = steps.iter().rev().find(|step| step.from == at).filter(|_| way.len() < STEPS_MAX)?;
        way.push(step);
        at = step.to;
    }
    Some(way)
}

/// Understands the file's content.
///
/// # Errors
/// What is wrong, in words.
pub fn parse(content: &[u8]) -> Result<Vec<Step>, String> {
    let text = std::str::from_utf8(content).map_err(|_| "it is not text".to_owned())?;
    let mut lines = text.lines();
    if lines.next() != Some(HEAD) {
        return Err(format!("it does not begin with '{HEAD}'"));
    }
    let step = |(at, line): (usize, &str)| step_of(line).ok_or_else(|| format!("line {} is no step", at + 2));
    let steps: Vec<Step> = lines.enumerate().map(step).collect::<Result<_, _>>()?;
    if steps.len() > STEPS_MAX { Err(format!("it has more than {STEPS_MAX} steps")) } else { Ok(steps) }
}

fn to_text(steps: &[Step]) -> String {
    let hex = |bytes: &[u8]| data_encoding::HEXLOWER.encode(bytes);
    let line = |step: &Step| format!("{} {} {}\n", hex(&step.from), hex(&step.to), hex(&step.signature));
    steps.iter().fold(format!("{HEAD}\n"), |text, step| text + &line(step))
}

fn step_of(line: &str) -> Option<Step> {
    let mut words = line.split(' ');
    let step = Step { from: hex(words.next()?)?, to: hex(words.next()?)?, signature: hex(words.next()?)? };
    words.next().is_none().then_some(step)
}

fn hex<const N: usize>(word: &str) -> Option<[u8; N]> {
    data_encoding::HEXLOWER.decode(word.as_bytes()).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(from: u8, to: u8) -> Step {
        Step { from: [from; 32], to: [to; 32], signature: [from ^ to; 64] }
    }

    #[test]
    fn steps_are_kept_and_lead_from_key_to_key() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open_or_create(&dir.path().join("s")).unwrap();
        assert_eq!(store.succession().unwrap(), []);
        // The key 9 was never in use.
        let steps = [step(1, 9), step(1, 2), step(2, 3)];
        steps.iter().for_each(|step| store.add_step(step.clone()).unwrap());
        let known = store.succession().unwrap();
        assert_eq!(known, steps);
        assert_eq!(way(&known, [1; 32], [3; 32]), Some(vec![&steps[1], &steps[2]]));
        assert_eq!(way(&known, [3; 32], [3; 32]), Some(Vec::new()));
        assert_eq!(way(&known, [3; 32], [1; 32]), None, "there is no way back");
        assert_eq!(way(&known, [7; 32], [3; 32]), None);
    }

    #[test]
    fn a_circle_ends() {
        assert_eq!(way(&[step(1, 2), step(2, 1)], [1; 32], [3; 32]), None);
    }

    #[test]
    fn a_damaged_file_is_an_error() {
        let good = to_text(&[step(1, 2)]);
        assert_eq!(parse(good.as_bytes()).unwrap(), [step(1, 2)]);
        for bad in
            ["", "rbbackup succession 2\n", &good[..good.len() - 3], &format!("{good}x\n"), &good.replace("01", "0G")]
        {
            assert!(parse(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(parse(to_text(&vec![step(1, 2); STEPS_MAX + 1]).as_bytes()).is_err());
    }
}
