//! [`Token`]: the text of an invitation, as an administrator hands it to a person.
//!
//! ```text
//! TOKEN    "rb1" | BASE32 (RFC 4648, small letters, no padding) of PAYLOAD | CHECK
//! PAYLOAD  32 bytes, the daemon's public key | 16 bytes of secret | the user name
//! CHECK    4 bytes, the first of BLAKE3("rbbackup token 1" | PAYLOAD)
//! ```
//!
//! The daemon's key is in it so that who redeems it knows whom to give the secret to; the check tells a mistyped or cut
//! token from one that the daemon does not know. Whoever has the text can redeem it: it is never logged, and its `Debug`
//! does not show the secret.

use std::fmt;

use data_encoding::BASE32_NOPAD;

use super::limits::NAME_BYTES_MAX;

const HEAD: &str = "rb1";
const CHECK_CONTEXT: &[u8] = b"rbbackup token 1";
const KEY_BYTES: usize = 32;
const SECRET_BYTES: usize = 16;
const CHECK_BYTES: usize = 4;
/// Longest text that is looked at.
const TEXT_BYTES_MAX: usize = 2 * (KEY_BYTES + SECRET_BYTES + NAME_BYTES_MAX + CHECK_BYTES);

/// What only the invited know.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Secret(pub [u8; SECRET_BYTES]);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// An invitation, for the one who is invited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// The daemon's public key.
    pub daemon: [u8; KEY_BYTES],
    /// What is to be shown to it.
    pub secret: Secret,
    /// The user name that it is for.
    pub user: String,
}

/// A text is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no invitation token: {why}; copy all of what 'rbbackupd invite' printed, from 'rb1' on")]
pub struct TokenError {
    /// In words.
    pub why: &'static str,
}

impl Token {
    /// The text.
    pub fn to_text(&self) -> String {
        let mut bytes = [&self.daemon[..], &self.secret.0, self.user.as_bytes()].concat();
        bytes.extend_from_slice(&check(&bytes));
        format!("{HEAD}{}", BASE32_NOPAD.encode(&bytes).to_ascii_lowercase())
    }

    /// Back from [`Token::to_text`]; capital letters and white space around it do no harm.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        let wrong = |why| TokenError { why };
        let text = text.trim().to_ascii_lowercase();
        if text.len() > TEXT_BYTES_MAX {
            return Err(wrong("it is too long"));
        }
        let code = text.strip_prefix(HEAD).ok_or_else(|| wrong("it does not begin with 'rb1'"))?;
        let bytes = BASE32_NOPAD.decode(code.to_ascii_uppercase().as_bytes());
        let bytes = bytes.map_err(|_| wrong("it is cut short, or holds other characters"))?;
        let damaged = || wrong("it is cut short, or mistyped");
        let (payload, said) = bytes.split_last_chunk::<CHECK_BYTES>().ok_or_else(damaged)?;
        if *said != check(payload) {
            return Err(damaged());
        }
        let (daemon, rest) = payload.split_first_chunk().ok_or_else(damaged)?;
        let (secret, user) = rest.split_first_chunk().ok_or_else(damaged)?;
        let user = std::str::from_utf8(user).map_err(|_| damaged())?;
        Ok(Self { daemon: *daemon, secret: Secret(*secret), user: user.to_owned() })
    }
}

fn check(payload: &[u8]) -> [u8; CHECK_BYTES] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(CHECK_CONTEXT).update(payload);
    let [a, b, c, d, ..] = *hasher.finalize().as_bytes();
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn token() -> Token {
        Token { daemon: [0xAB; 32], secret: Secret([0x5C; 16]), user: "ana".into() }
    }

    #[test]
    fn a_token_is_one_word_and_stays_what_it_is() {
        let text = token().to_text();
        assert_eq!(
            text, "rb1vov2xk5lvov2xk5lvov2xk5lvov2xk5lvov2xk5lvov2xk5lvovvyxc4lrofyxc4lrofyxc4lrofyylomhavuvio",
            "handed out tokens must stay valid"
        );
        assert!(text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()), "{text}");
        assert_eq!(Token::parse(&text), Ok(token()));
        assert_eq!(Token::parse(&format!("  {}\n", text.to_uppercase())), Ok(token()));
    }

    #[test]
    fn every_slip_of_the_hand_is_noticed() {
        let text = token().to_text();
        for end in 0..text.len() {
            assert!(Token::parse(&text[..end]).is_err(), "cut to {end}");
        }
        for at in 0..text.len() {
            for other in [b'a', b'7', b'-', b'1'] {
                let mut wrong = text.clone().into_bytes();
                if wrong[at] != other {
                    wrong[at] = other;
                    assert!(Token::parse(std::str::from_utf8(&wrong).unwrap()).is_err(), "{at}");
                }
            }
        }
        assert!(Token::parse(&format!("{text}a")).is_err());
        assert!(Token::parse(&"rb1".repeat(10_000)).unwrap_err().why.contains("too long"));
    }

    #[test]
    fn the_secret_does_not_show() {
        assert!(format!("{:?}", token()).contains("Secret(..)"));
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "(rb1)?[a-z2-7]{0,120}", user in "\\PC{0,20}") {
            let _ = Token::parse(&text);
            let token = Token { user, ..token() };
            prop_assert_eq!(Token::parse(&token.to_text()), Ok(token));
        }
    }
}
