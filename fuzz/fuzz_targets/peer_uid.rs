//! The kernel's list of sockets, in which the owner of a connection is looked up. No list says that a stranger is somebody.
#![no_main]

use std::net::SocketAddr;

use libfuzzer_sys::fuzz_target;
use rbbackup::net::fuzzing::find_uid;

fuzz_target!(|list: &[u8]| {
    let address = |text: &str| text.parse::<SocketAddr>().expect("an address");
    for (peer, local) in
        [("127.0.0.1:50000", "127.0.0.1:8730"), ("[::1]:50000", "[::1]:8730"), ("127.0.0.2:1", "127.0.0.1:8730")]
    {
        let Some(uid) = find_uid(list, address(peer), address(local)) else { continue };
        // Whoever is found stands in one line with both ports, in this order, and the number.
        let ports = |line: &str| {
            let mut fields = line.split_ascii_whitespace().skip(1);
            let mut port = || fields.next().and_then(|field| u16::from_str_radix(field.rsplit_once(':')?.1, 16).ok());
            (port(), port())
        };
        let expected = (Some(address(peer).port()), Some(address(local).port()));
        let lines = list.split(|b| *b == b'\n').filter_map(|line| std::str::from_utf8(line).ok());
        let found = lines.filter(|line| ports(line) == expected);
        let said = found.filter(|line| line.split_ascii_whitespace().nth(7).and_then(|u| u.parse().ok()) == Some(uid));
        assert!(said.count() > 0, "{uid} came from nowhere");
    }
});
