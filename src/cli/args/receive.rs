//! Arguments of a destination.

use std::path::PathBuf;

use clap::Args;

use crate::backup::bytes::escape;
use crate::backup::limits::{BATCH_COUNT_MAX, NAME_BYTES_MAX};
use crate::store::names::CopyName;

/// `rbbackup receive`.
#[derive(Clone, Debug, Args)]
pub struct ReceiveArgs {
    /// Folder of the store that is kept here; made when it is not there
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// What this destination is called [default: the host's name]
    #[arg(long, value_name = "NAME", value_parser = parse_name)]
    pub name: Option<String>,
    /// Take the backups of this node, or of one of its users, only (may be given several times)
    #[arg(long, value_name = "NODE[/USER]", value_parser = parse_from)]
    pub from: Vec<(String, Option<String>)>,
    /// What is kept, and for how long [default: /etc/rbbackup/rbbackupd.toml, if there]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Do not confine the process to DIR: for a file system or a kernel that it does not get on with
    #[arg(long)]
    pub no_confine: bool,
}

impl ReceiveArgs {
    /// What no single argument shows.
    ///
    /// # Errors
    /// In words.
    pub fn check(&self) -> Result<(), String> {
        if self.from.len() > BATCH_COUNT_MAX {
            return Err(format!("'--from' can be given {BATCH_COUNT_MAX} times at most"));
        }
        Ok(())
    }
}

fn parse_name(text: &str) -> Result<String, String> {
    if text.trim().is_empty() || text.len() > NAME_BYTES_MAX || text.contains(char::is_control) {
        let shown = escape(text.as_bytes());
        return Err(format!("'{shown}' cannot be a name: 1 to {NAME_BYTES_MAX} bytes, no control characters"));
    }
    Ok(text.to_owned())
}

fn parse_from(text: &str) -> Result<(String, Option<String>), String> {
    let (node, user) = match text.split_once('/') {
        Some((node, user)) => (node, Some(user)),
        None => (text, None),
    };
    // A node is checked together with any user.
    let checked = CopyName::new(node.as_bytes(), user.unwrap_or("all").as_bytes());
    let copy = checked.map_err(|error| {
        format!("{error}; write NODE or NODE/USER, as the folders in a store are called (192.168.1.20/u)")
    })?;
    Ok((copy.node().to_owned(), user.map(|_| copy.user().to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_whose_backups() {
        assert_eq!(parse_name("nas 2").unwrap(), "nas 2");
        for bad in ["", "  ", "a\nb", &"x".repeat(NAME_BYTES_MAX + 1)] {
            assert!(parse_name(bad).unwrap_err().contains("cannot be a name"), "{bad}");
        }
        assert_eq!(parse_from("10.0.0.1").unwrap(), ("10.0.0.1".to_owned(), None));
        assert_eq!(parse_from("10.0.0.1/u").unwrap(), ("10.0.0.1".to_owned(), Some("u".to_owned())));
        for bad in ["", "/u", "n/", "../u", "n/u/v", "a@b"] {
            assert!(parse_from(bad).unwrap_err().contains("NODE/USER"), "{bad}");
        }
    }
}
