//! Invitation tokens as a person pastes them: `which u8 | …`; 0 any text; else a payload whose check is put right here.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rbbackup::backup::token::{Secret, Token};
use rbbackup_fuzz::token_text;

fuzz_target!(|data: &[u8]| {
    let Some((which, rest)) = data.split_first() else { return };
    let text = match which {
        0 => String::from_utf8_lossy(rest).into_owned(),
        _ => token_text(rest),
    };
    match Token::parse(&text) {
        Ok(token) => {
            // One spelling, capitals and the space around it aside: who looks for a token in a log finds it.
            assert_eq!(token.to_text(), text.trim().to_ascii_lowercase());
            // The rest may hold the same bytes.
            let other = Token { secret: Secret([0; 16]), user: token.user.clone(), ..token };
            assert_eq!(format!("{token:?}"), format!("{other:?}"), "the secret shows");
        }
        Err(error) => assert!(!error.to_string().chars().any(char::is_control)),
    }
});
