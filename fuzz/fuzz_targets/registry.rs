//! What the store knows of who may come in: `which u8 | text`; even an identity's file, odd an invitation's.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rbbackup::backup::fingerprint::Timestamp;
use rbbackup::store::names::CopyName;
use rbbackup::store::{invitations, registry};

fuzz_target!(|data: &[u8]| {
    let Some((which, text)) = data.split_first() else { return };
    let error = if which % 2 == 0 {
        let member = registry::parse(text);
        if let Ok(member) = &member {
            let copy = &member.identity.copy;
            assert_eq!(CopyName::from_component(copy.component().as_bytes()).as_ref(), Some(copy));
            assert!(member.identity.key.is_some(), "a file is about a key");
        }
        member.err()
    } else {
        let invitation = invitations::parse(text);
        if let Ok(invitation) = &invitation {
            assert_eq!(invitations::InvitationId::from_hex(&invitation.id.to_string()), Some(invitation.id));
            let over = invitation.expires;
            assert!(
                !invitation.is_open(over)
                    && (invitation.redeemed_by.is_none() || !invitation.is_open(Timestamp::default()))
            );
        }
        invitation.err()
    };
    if let Some(error) = error {
        assert!(!error.chars().any(char::is_control), "{error:?}");
    }
});
