//! Ids that are 32 or 16 bytes: [`Digest`] names content, [`RunId`] names a run.
//!
//! A file's digest is plain BLAKE3 of its whole content: what `b3sum` prints. A chunk's digest is plain BLAKE3 of the
//! chunk. A manifest's digest is BLAKE3 of its canonical encoding (see [`super::manifest`]).

use std::fmt;

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// BLAKE3 of some content.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest of `content`.
    pub fn of(content: &[u8]) -> Self {
        Self(*blake3::hash(content).as_bytes())
    }

    /// From exactly 32 bytes.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        Some(Self(bytes.try_into().ok()?))
    }

    /// 64 lower-case hex digits, as `b3sum` prints them.
    pub fn to_hex(self) -> String {
        HEXLOWER.encode(&self.0)
    }
}

impl From<blake3::Hash> for Digest {
    fn from(hash: blake3::Hash) -> Self {
        Self(*hash.as_bytes())
    }
}

/// 128 random bits that the client gives a run; with the manifest digest it names the snapshot on every target.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(pub [u8; 16]);

impl RunId {
    /// 32 lower-case hex digits.
    pub fn to_hex(self) -> String {
        HEXLOWER.encode(&self.0)
    }

    /// Back from [`RunId::to_hex`].
    pub fn from_hex(text: &str) -> Option<Self> {
        HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok()?.try_into().ok().map(Self)
    }
}

macro_rules! id_impls {
    ($name:ident, $len:literal) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.to_hex())
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.to_hex())
            }
        }
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_bytes(&self.0)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct IdVisitor;
                impl serde::de::Visitor<'_> for IdVisitor {
                    type Value = $name;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str(concat!("an id of ", $len, " bytes"))
                    }

                    fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<$name, E> {
                        let array = bytes.try_into().map_err(|_| E::invalid_length(bytes.len(), &self))?;
                        Ok($name(array))
                    }
                }
                deserializer.deserialize_bytes(IdVisitor)
            }
        }
    };
}

id_impls!(Digest, "32");
id_impls!(RunId, "16");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_round_trips() {
        let id = RunId(*b"0123456789abcdef");
        assert_eq!(RunId::from_hex(&id.to_hex()), Some(id));
        assert_eq!(RunId::from_hex("xyz"), None);
        let shown = "00112233445566778899aabbccddeeff";
        assert_eq!(RunId::from_hex(&shown.to_uppercase()), RunId::from_hex(shown));
        // Found by fuzzing: a sign was taken for a digit, so that an id had several spellings.
        assert_eq!(RunId::from_hex(&shown.replacen("00", "+0", 1)), None);
        assert_eq!((RunId::from_hex(&shown[1..]), RunId::from_hex(&format!("{shown}00"))), (None, None));
    }

    #[test]
    fn digest_is_what_b3sum_prints() {
        let text = Digest::of(b"").to_hex();
        assert_eq!(text, "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262");
    }
}
