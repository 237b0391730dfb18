//! [`Identity`]: an Ed25519 key pair, made at first start and kept in a file that only its owner can read.
//!
//! ```text
//! FILE         "rbbackup ed25519 key 1 " | 64 hex digits of the secret seed | "\n"
//! SPKI         302a300506032b6570032100 | 32 bytes of public key        (RFC 8410: what travels in TLS)
//! fingerprint  "SHA256:" | base64 of SHA-256 of the SPKI, without padding (as ssh prints keys)
//! ```
//!
//! The fingerprint is of the SPKI and not of the bare key, so that it would stay the same inside a certificate.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest;
use aws_lc_rs::encoding::AsBigEndian;
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use data_encoding::BASE64_NOPAD;

const FILE_HEAD: &str = "rbbackup ed25519 key 1 ";
/// Longest key file that is read.
const FILE_BYTES_MAX: u64 = 1024;
/// What stands before the 32 bytes of an Ed25519 key in its SPKI.
const SPKI_HEAD: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// Why there is no identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// Reading, writing, or no randomness.
    #[error("cannot {action} the key file {path:?}: {source}")]
    Io {
        /// `read` or `create`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file is not a key.
    #[error(
        "{path:?} is not a key file of this version; restore it from a copy, or move it away to start as a new identity"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// Others can read or write the file.
    #[error("others may read the key file {path:?} (mode {mode:o}); if nobody has, run: chmod 600 {path:?}")]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The system has no randomness to give.
    #[error("cannot make a key: the system gives no random numbers")]
    NoRandomness,
}

/// A key pair. The secret never shows in `Debug`.
pub struct Identity {
    pair: Ed25519KeyPair,
    public: PublicKey,
}

impl Identity {
    /// A new key pair, in memory only.
    ///
    /// # Errors
    /// [`IdentityError::NoRandomness`].
    pub fn generate() -> Result<Self, IdentityError> {
        Self::from_seed(&new_seed()?).ok_or(IdentityError::NoRandomness)
    }

    /// Loads the key in `path`; makes one, and the folders above it, if there is none. Several processes may do so at
    /// once: all get the same key.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn load_or_create(path: &Path) -> Result<Self, IdentityError> {
        let io_error = |action| move |source| IdentityError::Io { action, path: path.to_path_buf(), source };
        match Self::load(path) {
            Err(IdentityError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            loaded => return loaded,
        }
        create(path, &new_seed()?).map_err(io_error("create"))?;
        Self::load(path)
    }

    /// Loads the key in `path`.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn load(path: &Path) -> Result<Self, IdentityError> {
        let io_error = |source| IdentityError::Io { action: "read", path: path.to_path_buf(), source };
        let file = File::open(path).map_err(io_error)?;
        let mode = file.metadata().map_err(io_error)?.permissions().mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(IdentityError::Exposed { path: path.to_path_buf(), mode });
        }
        let mut text = Vec::new();
        file.take(FILE_BYTES_MAX).read_to_end(&mut text).map_err(io_error)?;
        std::str::from_utf8(&text)
            .ok()
            .and_then(|text| from_hex(text.strip_prefix(FILE_HEAD)?.trim_end()))
            .and_then(|seed| Self::from_seed(&seed))
            .ok_or_else(|| IdentityError::Damaged { path: path.to_path_buf() })
    }

    fn from_seed(seed: &[u8; 32]) -> Option<Self> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).ok()?;
        let public = PublicKey(pair.public_key().as_ref().try_into().ok()?);
        Some(Self { pair, public })
    }

    /// Keeps this key in `path`, in the place of what is there; durable when this returns.
    ///
    /// # Errors
    /// [`IdentityError::Io`].
    pub fn store(&self, path: &Path) -> Result<(), IdentityError> {
        let io_error = |source| IdentityError::Io { action: "create", path: path.to_path_buf(), source };
        let seed = self.pair.seed().and_then(|seed| seed.as_be_bytes());
        let seed = seed.map_err(|_| io_error(io::Error::other("the key has no seed")))?;
        let seed: &[u8; 32] = seed.as_ref().try_into().map_err(|_| io_error(io::Error::other("an odd seed")))?;
        write_beside(path, seed, |temporary, path| fs::rename(temporary, path)).map_err(io_error)
    }

    /// Signs `parts`, for one purpose only.
    pub fn sign(&self, purpose: &str, parts: &[&[u8]]) -> Vec<u8> {
        self.pair.sign(&signed_bytes(purpose, parts)).as_ref().to_vec()
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        self.public
    }

    /// The key pair as PKCS#8, for TLS.
    pub(super) fn to_pkcs8(&self) -> Option<Vec<u8>> {
        Some(self.pair.to_pkcs8v1().ok()?.as_ref().to_vec())
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.public)
    }
}

fn new_seed() -> Result<[u8; 32], IdentityError> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|_| IdentityError::NoRandomness)?;
    Ok(seed)
}

/// What a signature is over: each part with its length, so that none can be taken for another.
fn signed_bytes(purpose: &str, parts: &[&[u8]]) -> Vec<u8> {
    let mut bytes = b"rbbackup signature 1".to_vec();
    for part in std::iter::once(purpose.as_bytes()).chain(parts.iter().copied()) {
        bytes.extend_from_slice(&(part.len() as u64).to_le_bytes());
        bytes.extend_from_slice(part);
    }
    bytes
}

/// Makes the key file, and the folders above it, unless somebody was faster.
fn create(path: &Path, seed: &[u8; 32]) -> io::Result<()> {
    write_beside(path, seed, |temporary, path| match fs::hard_link(temporary, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        linked => linked,
    })
}

/// Writes the whole file beside its place, makes it durable, and has it put into place.
fn write_beside(path: &Path, seed: &[u8; 32], place: impl FnOnce(&Path, &Path) -> io::Result<()>) -> io::Result<()> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
    let mut suffix = [0; 8];
    getrandom::fill(&mut suffix).map_err(|_| io::Error::other("no random numbers"))?;
    let temporary = parent.join(format!(".key-{:016x}", u64::from_le_bytes(suffix)));
    let done = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        writeln!(file, "{FILE_HEAD}{}", to_hex(seed))?;
        file.sync_all()?;
        place(&temporary, path)
    })();
    let _ = fs::remove_file(&temporary);
    done?;
    File::open(parent)?.sync_all()
}

/// An Ed25519 public key: who a peer is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(pub [u8; 32]);

impl PublicKey {
    /// What people compare: see the module.
    pub fn fingerprint(&self) -> String {
        format!("SHA256:{}", BASE64_NOPAD.encode(digest::digest(&digest::SHA256, &self.to_spki()).as_ref()))
    }

    /// 64 lower-case hex digits: what files are named by.
    pub fn to_hex(&self) -> String {
        to_hex(&self.0)
    }

    /// Back from [`PublicKey::to_hex`].
    pub fn from_hex(text: &str) -> Option<Self> {
        from_hex(text).map(Self)
    }

    /// Whether this key signed `parts` for this purpose.
    pub fn has_signed(&self, purpose: &str, parts: &[&[u8]], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.0).verify(&signed_bytes(purpose, parts), signature).is_ok()
    }

    pub(super) fn to_spki(self) -> Vec<u8> {
        [&SPKI_HEAD[..], &self.0].concat()
    }

    /// The key in an SPKI; none when it is not exactly that of an Ed25519 key.
    pub(super) fn from_spki(spki: &[u8]) -> Option<Self> {
        Some(Self(spki.strip_prefix(&SPKI_HEAD)?.try_into().ok()?))
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.fingerprint())
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.fingerprint())
    }
}

fn to_hex(bytes: &[u8; 32]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let digits: Option<Vec<u8>> = text
        .bytes()
        .map(|b| match b {
            b'0'..=b'9' => Some(b - b'0'),
            b'a'..=b'f' => Some(b - b'a' + 10),
            _ => None,
        })
        .collect();
    let bytes: Vec<u8> = digits?.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect();
    if text.len() == 64 { bytes.try_into().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_is_for_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state/deep/key");
        let made: Vec<PublicKey> = std::thread::scope(|scope| {
            let load = || Identity::load_or_create(&path).unwrap().public();
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(load)).collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        assert!(made.iter().all(|key| *key == made[0]), "first starts at once made different keys");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "a temporary file is left");
        assert_eq!(Identity::load(&path).unwrap().public(), made[0]);
    }

    #[test]
    fn an_exposed_or_damaged_file_is_refused_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        Identity::load_or_create(&path).unwrap();
        let good = fs::read(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(Identity::load_or_create(&path), Err(IdentityError::Exposed { mode: 0o640, .. })));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        for bad in [&good[..good.len() - 2], b"", b"rbbackup ed25519 key 2 00", b"\xff\xfe"] {
            fs::write(&path, bad).unwrap();
            assert!(matches!(Identity::load_or_create(&path), Err(IdentityError::Damaged { .. })));
            assert_eq!(fs::read(&path).unwrap(), bad);
        }
    }

    #[test]
    fn the_secret_does_not_show() {
        let seed = [7; 32];
        let identity = Identity::from_seed(&seed).unwrap();
        assert_eq!(format!("{identity:?}"), format!("Identity({})", identity.public().fingerprint()));
    }

    #[test]
    fn a_fingerprint_is_as_other_tools_print_it() {
        // RFC 8032, test 1. `openssl pkey -pubin -outform DER | openssl dgst -sha256 -binary | base64`.
        let seed = from_hex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60").unwrap();
        let public = Identity::from_seed(&seed).unwrap().public();
        assert_eq!(public.to_hex(), "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a");
        assert_eq!(PublicKey::from_hex(&public.to_hex()), Some(public));
        assert_eq!(PublicKey::from_spki(&public.to_spki()), Some(public));
        assert_eq!(public.fingerprint(), "SHA256:BuP9j9opu2CrWVV95h7bCuzbIxE0vjDnW0Vfjht5L6k");
    }

    #[test]
    fn a_signature_is_for_one_key_one_purpose_and_one_message() {
        let (one, other) = (Identity::generate().unwrap(), Identity::generate().unwrap());
        let signature = one.sign("purpose", &[b"ab", b"c"]);
        assert_eq!(signature.len(), 64);
        assert!(one.public().has_signed("purpose", &[b"ab", b"c"], &signature));
        assert!(!other.public().has_signed("purpose", &[b"ab", b"c"], &signature));
        assert!(!one.public().has_signed("porpoise", &[b"ab", b"c"], &signature));
        assert!(!one.public().has_signed("purpose", &[b"a", b"bc"], &signature), "where a part ends counts");
        assert!(!one.public().has_signed("purpose", &[b"ab", b"c"], &signature[1..]));
        assert!(!one.public().has_signed("purpose", &[b"ab", b"c"], &[0; 64]));
        assert!(!PublicKey([0xFF; 32]).has_signed("purpose", &[], &signature), "that is no key");
    }

    #[test]
    fn a_new_key_is_written_whole_beside_the_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let old = Identity::load_or_create(&path).unwrap().public();
        let new = Identity::generate().unwrap();
        let next = folder.path().join("key.next");
        fs::write(&next, "left by a crash").unwrap();
        new.store(&next).unwrap();
        assert_eq!(fs::metadata(&next).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(
            (Identity::load(&path).unwrap().public(), Identity::load(&next).unwrap().public()),
            (old, new.public())
        );
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn hex_must_be_whole() {
        assert_eq!(PublicKey::from_hex(&"0".repeat(63)), None);
        assert_eq!(PublicKey::from_hex(&"0".repeat(66)), None);
        assert_eq!(PublicKey::from_hex(&"G".repeat(64)), None);
    }
}
