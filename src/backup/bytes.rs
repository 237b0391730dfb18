//! [`Bytes`]: a byte string that serde moves in one piece.
//!
//! Names in a file system are bytes, not text. A plain `Vec<u8>` goes through serde one element at a time; this type
//! uses `serialize_bytes`, which bincode copies as one block (length, then bytes).

use std::borrow::Cow;
use std::fmt;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A byte string: a file name, a symlink's target, an xattr's value.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Bytes(pub Vec<u8>);

impl Bytes {
    /// The bytes themselves.
    pub fn as_slice(&self) -> &[u8] {
        &self.0
    }
}

impl From<&[u8]> for Bytes {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b\"{}\"", escape(&self.0))
    }
}

/// Whether a character does something to a screen instead of being seen on it: control characters (C0, DEL, C1), line and
/// paragraph separators, and those that turn the direction of writing, with which `gpj.exe` reads `exe.jpg`.
pub fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Lines as they may be shown, whoever wrote them: what is not seen becomes `\xNN`. As a rule there is none of that.
pub fn shown(lines: &str) -> Cow<'_, str> {
    let is_bad = |c: char| c != '\n' && is_unseen(c);
    if !lines.contains(is_bad) {
        return Cow::Borrowed(lines);
    }
    Cow::Owned(lines.split('\n').map(|line| escape(line.as_bytes())).collect::<Vec<_>>().join("\n"))
}

/// Shows a name on a terminal or in a log: what is seen stays, control bytes and the rest become `\xNN`.
pub fn escape(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for part in bytes.utf8_chunks() {
        for c in part.valid().chars() {
            if is_unseen(c) {
                let mut buf = [0; 4];
                for b in c.encode_utf8(&mut buf).bytes() {
                    out.push_str(&format!("\\x{b:02x}"));
                }
            } else {
                out.push(c);
            }
        }
        for b in part.invalid() {
            out.push_str(&format!("\\x{b:02x}"));
        }
    }
    out
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

struct BytesVisitor;

impl<'de> Visitor<'de> for BytesVisitor {
    type Value = Bytes;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a byte string")
    }

    fn visit_bytes<E: Error>(self, v: &[u8]) -> Result<Bytes, E> {
        Ok(Bytes(v.to_vec()))
    }

    fn visit_byte_buf<E: Error>(self, v: Vec<u8>) -> Result<Bytes, E> {
        Ok(Bytes(v))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Bytes, A::Error> {
        let mut out = Vec::new();
        while let Some(b) = seq.next_element()? {
            out.push(b);
        }
        Ok(Bytes(out))
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Not `deserialize_byte_buf`: bincode would allocate the length that is claimed before it looks for the bytes.
        deserializer.deserialize_bytes(BytesVisitor)
    }
}

/// A size for people: `0 B`, `1.4 KiB`, `23 MiB`.
pub fn show_bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut units = UNITS.iter();
    let mut unit = units.next().unwrap_or(&"KiB");
    while value >= 1023.5 {
        let Some(next) = units.next() else { break };
        value /= 1024.0;
        unit = next;
    }
    if value < 9.95 { format!("{value:.1} {unit}") } else { format!("{value:.0} {unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_bytes_and_broken_utf8_are_escaped() {
        assert_eq!(escape(b"a\x1b[31m\xffz"), "a\\x1b[31m\\xffz");
        assert_eq!(escape("año\n".as_bytes()), "año\\x0a");
        assert_eq!(escape("\u{9b}2J\u{7f}".as_bytes()), "\\xc2\\x9b2J\\x7f");
        assert_eq!(escape("exe.\u{202e}gpj\u{2028}".as_bytes()), "exe.\\xe2\\x80\\xaegpj\\xe2\\x80\\xa8");
    }

    /// Found by fuzzing: half a gigabyte was taken for a file of 36 bytes.
    #[test]
    fn a_length_claims_no_memory_before_its_bytes_are_there() {
        let claim = [&[0xfd][..], &(1u64 << 62).to_le_bytes(), b"few"].concat();
        let decoded = bincode::serde::decode_from_slice::<Bytes, _>(&claim, bincode::config::standard());
        assert!(matches!(decoded, Err(bincode::error::DecodeError::UnexpectedEnd { .. })), "{decoded:?}");
    }

    #[test]
    fn whole_lines_are_shown_as_such() {
        assert!(matches!(shown("one\nzwei ä € 文"), Cow::Borrowed(_)));
        assert_eq!(shown("one\ntwo\x1b[2J\u{85}\n"), "one\ntwo\\x1b[2J\\xc2\\x85\n");
        assert_eq!(escape(&escape(b"\x1b\xff").into_bytes()), "\\x1b\\xff", "once is enough");
    }
}
