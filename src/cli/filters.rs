//! Collects gitignore patterns from options and files, in order: the configuration's first, then the command line's,
//! so that the command line's have the last word.

use std::os::unix::ffi::OsStrExt;

use super::args::FilterSource;
use crate::backup::bytes::{Bytes, escape};
use crate::backup::limits::{FILTER_BYTES_MAX, FILTER_COUNT_MAX};
use crate::tree::operator;

/// Comments and all; of what is left, much less may travel.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Reads `sources` in order.
///
/// # Errors
/// A sentence that names the file, or the limit that is passed.
pub fn collect(sources: &[FilterSource]) -> Result<Vec<Bytes>, String> {
    let mut patterns = Vec::new();
    for source in sources {
        match source {
            FilterSource::Pattern(pattern) => patterns.push(Bytes::from(pattern.as_bytes())),
            FilterSource::File(path) => {
                let shown = escape(path.as_os_str().as_bytes());
                let content = operator::read(path, FILE_BYTES_MAX)
                    .map_err(|e| format!("cannot read the patterns in '{shown}': {e}"))?;
                patterns.extend(lines(&content));
            }
        }
    }
    let bytes: usize = patterns.iter().map(|pattern| pattern.0.len()).sum();
    if patterns.len() > FILTER_COUNT_MAX || bytes > FILTER_BYTES_MAX {
        return Err(format!(
            "too many patterns: {} with {bytes} bytes; at most {FILTER_COUNT_MAX} with {FILTER_BYTES_MAX} bytes",
            patterns.len()
        ));
    }
    Ok(patterns)
}

/// The patterns of a file, without comments and blank lines. `\r\n` ends a line too, a byte order mark is no pattern.
fn lines(content: &[u8]) -> impl Iterator<Item = Bytes> {
    let content = content.strip_prefix("\u{feff}".as_bytes()).unwrap_or(content);
    content
        .split(|b| *b == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
        .filter(|line| !line.starts_with(b"#") && !line.trim_ascii().is_empty())
        .map(Bytes::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_patterns_keep_their_order() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f");
        std::fs::write(&file, b"\xef\xbb\xbf*.o\r\n# no\n\n  \n!\xff\\#\n").unwrap();
        let sources = [FilterSource::Pattern("a".into()), FilterSource::File(file), FilterSource::Pattern("b".into())];
        let got: Vec<Vec<u8>> = collect(&sources).unwrap().into_iter().map(|p| p.0).collect();
        assert_eq!(got, [&b"a"[..], b"*.o", b"!\xff\\#", b"b"]);
    }

    #[test]
    fn a_missing_file_and_too_many_patterns_are_named() {
        let missing = collect(&[FilterSource::File("/no/such/file".into())]).unwrap_err();
        assert!(missing.contains("'/no/such/file'"), "{missing}");
        let many = vec![FilterSource::Pattern("x".into()); FILTER_COUNT_MAX + 1];
        assert!(collect(&many).unwrap_err().contains("too many patterns"));
    }
}
