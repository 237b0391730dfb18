//! Whose directory is it?

use std::fs;

use super::*;

const NOW: Timestamp = Timestamp { secs: 1_700_000_000, nanos: 0 };
const LATER: Timestamp = Timestamp { secs: 1_700_000_500, nanos: 0 };

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn open() -> (tempfile::TempDir, Registry) {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::open(dir.path()).unwrap();
    (dir, registry)
}

fn copy(text: &str) -> CopyName {
    let (node, user) = text.split_once('/').unwrap();
    CopyName::new(node.as_bytes(), user.as_bytes()).unwrap()
}

fn grant(user: &str, node: Option<&str>) -> Grant {
    Grant { user: user.into(), node: node.map(str::to_owned), rights: None, quota_bytes: None, replace: false }
}

fn replacing(user: &str, node: &str) -> Grant {
    Grant { replace: true, ..grant(user, Some(node)) }
}

/// A registry in which key 1 owns `10.0.0.1/u`.
fn owned() -> (tempfile::TempDir, Registry) {
    let (dir, registry) = open();
    registry.resolve([1; 32], ip("10.0.0.1"), b"u", Trust::FirstUse, NOW).unwrap();
    (dir, registry)
}

fn comes(registry: &Registry, key: u8) -> Result<Identity, RegistryError> {
    registry.resolve([key; 32], ip("10.0.0.9"), b"u", Trust::No, LATER)
}

#[test]
fn the_key_owns_its_directory_whatever_the_address() {
    let (dir, registry) = open();
    let first = registry.resolve([1; 32], ip("::ffff:10.0.0.1"), b"u", Trust::FirstUse, NOW).unwrap();
    assert_eq!(first.copy.to_string(), "10.0.0.1/u");
    // From elsewhere, without any trust, also after a restart.
    let registry = Registry::open(dir.path()).unwrap();
    assert_eq!(comes(&registry, 1).unwrap(), first);
    assert_eq!(registry.list(), [Member::new(first)]);
}

#[test]
fn another_key_from_the_same_address_is_refused_with_the_way_out() {
    let (_dir, registry) = owned();
    let error = registry.resolve([2; 32], ip("10.0.0.1"), b"u", Trust::FirstUse, NOW).unwrap_err();
    assert!(matches!(error, RegistryError::OwnedByAnother { .. }));
    let text = error.to_string();
    assert!(text.contains("invite u --node 10.0.0.1 --replace-key") && text.contains("invite u --node NAME"), "{text}");
}

#[test]
fn an_unknown_key_needs_trust() {
    let (dir, registry) = open();
    for trust in [Trust::No, Trust::LoopbackUid(false)] {
        let error = registry.resolve([1; 32], ip("127.0.0.1"), b"u", trust, NOW).unwrap_err();
        assert!(matches!(error, RegistryError::NotTrusted { .. }), "{error}");
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    registry.resolve([1; 32], ip("127.0.0.1"), b"u", Trust::LoopbackUid(true), NOW).unwrap();
}

#[test]
fn one_key_with_two_user_names_is_two_identities_each_in_need_of_trust() {
    let (dir, registry) = owned();
    assert!(registry.resolve([1; 32], ip("10.0.0.1"), b"root", Trust::No, NOW).is_err());
    let second = registry.resolve([1; 32], ip("10.0.0.1"), b"v", Trust::FirstUse, NOW).unwrap();
    assert_eq!(second.copy.to_string(), "10.0.0.1/v");
    assert_eq!(Registry::open(dir.path()).unwrap().list().len(), 2);
}

#[test]
fn a_name_that_leads_elsewhere_is_refused() {
    let (_dir, registry) = open();
    for user in [&b".."[..], b".rbbackup", b"a/b", b""] {
        let resolved = registry.resolve([1; 32], ip("10.0.0.1"), user, Trust::FirstUse, NOW);
        assert!(matches!(resolved, Err(RegistryError::Name(_))));
    }
    for bad in [grant("..", None), grant("u", Some(".rbbackup")), grant("u", Some("a/b")), grant("u", Some("a@b"))] {
        assert!(matches!(registry.admit([1; 32], ip("10.0.0.1"), &bad, NOW), Err(RegistryError::Name(_))));
    }
}

#[test]
fn an_invitation_gives_a_directory_with_its_rights_and_quota() {
    let (dir, registry) = open();
    let rights = vec![Right::Restore, Right::Receive];
    let given = Grant { rights: Some(rights.clone()), quota_bytes: Some(7), ..grant("u", Some("attic")) };
    assert_eq!(registry.foresee([1; 32], ip("10.0.0.1"), &given, NOW).unwrap().rights, rights);
    assert!(registry.list().is_empty(), "looking ahead changes nothing");
    let identity = registry.admit([1; 32], ip("10.0.0.1"), &given, NOW).unwrap();
    assert_eq!((identity.copy.to_string().as_str(), &identity.rights), ("attic/u", &rights));
    assert_eq!(identity.quota_bytes, Some(7));
    assert_eq!(registry.admit([1; 32], ip("10.0.0.2"), &given, LATER).unwrap(), identity, "again: the same");
    assert_eq!(comes(&Registry::open(dir.path()).unwrap(), 1).unwrap(), identity);
    // Who is in already gets other rights, and no second directory.
    let more = Grant { rights: Some(vec![Right::Admin]), ..grant("u", None) };
    assert_eq!(registry.admit([1; 32], ip("10.0.0.2"), &more, LATER).unwrap().rights, [Right::Admin]);
    assert_eq!(comes(&registry, 1).unwrap().quota_bytes, Some(7));
    let elsewhere = registry.admit([1; 32], ip("10.0.0.2"), &grant("u", Some("cellar")), LATER).unwrap_err();
    assert!(matches!(elsewhere, RegistryError::HasAnother { .. }));
}

#[test]
fn an_invitation_does_not_give_what_another_has() {
    let (_dir, registry) = owned();
    for grant in [grant("u", None), grant("u", Some("10.0.0.1"))] {
        let error = registry.admit([2; 32], ip("10.0.0.1"), &grant, NOW).unwrap_err();
        assert!(matches!(error, RegistryError::OwnedByAnother { .. }), "{error}");
    }
    assert!(comes(&registry, 2).is_err() && comes(&registry, 1).is_ok());
}

#[test]
fn a_replaced_key_opens_nothing_any_more() {
    let (dir, registry) = owned();
    registry.change(&copy("10.0.0.1/u"), Some(&[Right::Backup]), Some(Some(9))).unwrap();
    assert!(matches!(
        registry.admit([2; 32], ip("10.0.0.2"), &replacing("u", "10.0.0.3"), NOW),
        Err(RegistryError::NotKnown { .. })
    ));
    let new = registry.admit([2; 32], ip("10.0.0.2"), &replacing("u", "10.0.0.1"), LATER).unwrap();
    assert_eq!((new.copy.to_string().as_str(), new.key), ("10.0.0.1/u", Some([2; 32])));
    assert_eq!((new.rights.as_slice(), new.quota_bytes), (&[Right::Backup][..], Some(9)), "they stay what they were");
    for registry in [registry, Registry::open(dir.path()).unwrap()] {
        let error = comes(&registry, 1).unwrap_err();
        assert!(matches!(error, RegistryError::NoLongerValid { what: "was replaced by another", .. }), "{error}");
        // Not even where everybody is trusted, and at another address.
        assert!(registry.resolve([1; 32], ip("10.0.0.7"), b"u", Trust::FirstUse, LATER).is_err());
        assert_eq!(comes(&registry, 2).unwrap(), new);
        assert_eq!(registry.list()[0].former, [FormerKey { key: [1; 32], until: LATER }]);
    }
}

#[test]
fn a_revoked_key_opens_nothing_and_its_directory_stays_its_own() {
    let (dir, registry) = owned();
    let identity = comes(&registry, 1).unwrap();
    assert!(matches!(registry.revoke(&copy("10.0.0.1/v"), NOW), Err(RegistryError::NotKnown { .. })));
    assert_eq!(registry.revoke(&copy("10.0.0.1/u"), NOW).unwrap(), [1; 32]);
    assert_eq!(registry.revoke(&copy("10.0.0.1/u"), LATER).unwrap(), [1; 32]);
    let registry = Registry::open(dir.path()).unwrap();
    assert_eq!(registry.list()[0].revoked, Some(NOW), "since when does not change");
    let error = comes(&registry, 1).unwrap_err();
    assert!(error.to_string().contains("was revoked"), "{error}");
    assert!(registry.refresh(&identity).is_err() && registry.rekey([1; 32], "u", [3; 32], NOW).is_err());
    let other = registry.resolve([2; 32], ip("10.0.0.1"), b"u", Trust::FirstUse, NOW);
    assert!(matches!(other, Err(RegistryError::OwnedByAnother { .. })));
    assert!(
        registry.admit([1; 32], ip("10.0.0.1"), &grant("u", None), NOW).is_err(),
        "a plain invitation is not enough"
    );
    registry.admit([1; 32], ip("10.0.0.1"), &replacing("u", "10.0.0.1"), NOW).unwrap();
    assert_eq!(comes(&registry, 1).unwrap(), identity);
}

#[test]
fn a_key_can_be_exchanged_by_its_owner() {
    let (dir, registry) = owned();
    let before = comes(&registry, 1).unwrap();
    let after = registry.rekey([1; 32], "u", [2; 32], LATER).unwrap();
    assert_eq!(after, Identity { key: Some([2; 32]), ..before.clone() });
    assert!(registry.refresh(&before).is_err(), "a session under the old key is over");
    assert_eq!(registry.refresh(&after).unwrap(), after);
    let registry = Registry::open(dir.path()).unwrap();
    assert!(comes(&registry, 1).is_err() && comes(&registry, 2).is_ok());
    assert!(registry.rekey([1; 32], "u", [3; 32], LATER).is_err(), "the old one cannot take it back");
    assert!(registry.rekey([2; 32], "u", [2; 32], LATER).is_err(), "it is the same");
    for key in 3..40 {
        registry.rekey([key - 1; 32], "u", [key; 32], LATER).unwrap();
    }
    assert_eq!(registry.list()[0].former.len(), FORMER_COUNT_MAX);
}

#[test]
fn rights_change_for_who_is_connected() {
    let (_dir, registry) = owned();
    let identity = comes(&registry, 1).unwrap();
    registry.change(&identity.copy, Some(&[Right::Restore]), None).unwrap();
    assert!(!registry.refresh(&identity).unwrap().may(Right::Backup));
    let local = Registry::local(b"u", NOW).unwrap();
    assert_eq!(registry.refresh(&local).unwrap(), local);
    let relayed = Identity::new(copy("10.0.0.1/u"), Some([8; 32]), NOW);
    assert_eq!(registry.refresh(&relayed).unwrap(), relayed, "another daemon vouches for it");
}

#[test]
fn a_damaged_file_stops_the_registry_and_is_named() {
    let (dir, registry) = owned();
    registry.rekey([1; 32], "u", [2; 32], LATER).unwrap();
    let path = dir.path().join("10.0.0.1@u");
    let text = fs::read_to_string(&path).unwrap();
    let damaged = |text: &str| {
        fs::write(&path, text).unwrap();
        match Registry::open(dir.path()) {
            Err(error @ RegistryError::Damaged { .. }) => error.to_string(),
            other => panic!("{text}: {:?}", other.err()),
        }
    };
    for (bad, why) in [
        (String::new(), "version"),
        (text.replace("user = \"u\"", "user = \"..\""), ".."),
        (text.replace("version = 2", "version = 1"), "its version is 1, this program knows 2"),
        (text.replace("user = \"u\"", "user = \"v\""), "does not match its node and user"),
        (text.replace("rights = [\"backup\"", "rights = [\"bakup\""), "bakup"),
        (text.replace("key = \"02", "key = \"0Z"), "64 hex digits"),
        (format!("quata = 3\n{text}"), "quata"),
    ] {
        let said = damaged(&bad);
        assert!(said.contains(why), "{said}");
    }
    fs::write(&path, &text).unwrap();
    fs::write(dir.path().join("10.0.0.2@u"), text.replace("10.0.0.1", "10.0.0.2")).unwrap();
    assert!(matches!(Registry::open(dir.path()), Err(RegistryError::Damaged { .. })), "one key, two directories");
}
