//! The small TOML files of a store's state, read: what they say, or why not, in words that can be shown.

use serde::de::DeserializeOwned;

use crate::backup::bytes::escape;

/// Understands a state file's content.
///
/// # Errors
/// What is wrong, on one line and without a control byte: it may quote what the file says.
pub(super) fn parse<T: DeserializeOwned>(content: &[u8]) -> Result<T, String> {
    let text = std::str::from_utf8(content).map_err(|_| "it is not text".to_owned())?;
    toml::from_str(text).map_err(|e| escape(e.message().replace('\n', "; ").as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::registry::Right;

    #[derive(Debug, serde::Deserialize)]
    struct File {
        #[expect(dead_code, reason = "only whether it can be read is asked")]
        rights: Vec<Right>,
    }

    #[test]
    fn what_a_damaged_file_says_cannot_move_the_cursor() {
        let why = parse::<File>(b"rights = [\"\\u001b[2Jbackup\\nx\"]").unwrap_err();
        assert!(why.contains("\\x1b[2Jbackup"), "{why}");
        assert!(!why.chars().any(char::is_control), "{why:?}");
        assert_eq!(parse::<File>(b"\xff").unwrap_err(), "it is not text");
        parse::<File>(b"rights = [\"backup\"]").unwrap();
    }
}
