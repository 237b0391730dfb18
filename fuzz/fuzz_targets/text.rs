//! Moments, times, addresses and keys as they are written on a command line: understood, or a sentence that shows them.
#![no_main]

use jiff::{Timestamp, tz::TimeZone};
use libfuzzer_sys::fuzz_target;
use rbbackup::backup::digest::RunId;
use rbbackup::backup::when::When;
use rbbackup::cli::units::{parse_address, parse_time, parse_wait};
use rbbackup::cli::when::parse_when;
use rbbackup::net::identity::PublicKey;

fuzz_target!(|text: &str| {
    for (secs, zone) in [(1_795_000_000, TimeZone::UTC), (0, TimeZone::fixed(jiff::tz::offset(-11)))] {
        let now = Timestamp::from_second(secs).expect("a good second").to_zoned(zone);
        match parse_when(text, &now) {
            Ok(When::Latest) => assert_eq!(text.trim(), "latest"),
            Ok(When::Number(number)) => assert_eq!(text.trim().trim_start_matches('0'), shown(number)),
            Ok(When::Before { secs }) => assert!(Timestamp::from_second(secs).is_ok()),
            Err(error) => assert!(error.contains("is not a moment")),
        }
    }
    if let Ok(time) = parse_time(text) {
        assert_eq!(parse_wait(text), Ok(time));
        assert_eq!(time.subsec_nanos(), 0);
    }
    if let Ok(address) = parse_address(text, 8730) {
        assert_eq!(parse_address(&address.to_string(), 1), Ok(address));
    }
    if let Some(key) = PublicKey::from_hex(text) {
        assert_eq!(key.to_hex(), text.to_ascii_lowercase());
    }
    if let Some(id) = RunId::from_hex(text) {
        assert_eq!(id.to_hex(), text.to_ascii_lowercase());
    }
});

fn shown(number: u64) -> String {
    if number == 0 { String::new() } else { number.to_string() }
}
