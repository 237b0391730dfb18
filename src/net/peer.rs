//! [`PeerInfo`]: who is at the other end of a connection.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::identity::PublicKey;
use super::peer_uid::{self, Ends};

/// Who is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerInfo {
    /// Its address; an IPv4 peer's is IPv4 also on a dual-stack socket.
    pub addr: SocketAddr,
    /// Our address, in the same form.
    pub local: SocketAddr,
    /// The key that it proved to hold.
    pub key: PublicKey,
    /// The user whose process holds the other end; only on this machine, and only when it could be found out.
    pub uid: Option<u32>,
}

impl PeerInfo {
    /// Blocks while it looks the uid up; after the handshake, because a socket that nobody accepted has no owner.
    pub(super) fn look_up(ends: &Ends, key: PublicKey) -> Self {
        let Ends { peer: addr, local, .. } = *ends;
        let uid = if is_same_machine(addr, local) { peer_uid::look_up(ends) } else { None };
        Self { addr, local, key, uid }
    }

    /// Whether both ends are on the loopback interface.
    pub fn is_loopback(&self) -> bool {
        is_same_machine(self.addr, self.local)
    }

    /// The address that names a node's folder.
    pub fn ip(&self) -> IpAddr {
        self.addr.ip()
    }
}

fn is_same_machine(addr: SocketAddr, local: SocketAddr) -> bool {
    addr.ip().is_loopback() && local.ip().is_loopback()
}

/// Addresses that belong to one peer, as far as one can tell: an IPv4 address; of IPv6 a /64, all of which whoever has one
/// of its addresses can use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Neighbourhood(IpAddr);

impl Neighbourhood {
    pub(crate) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(v6) if !v6.is_loopback() => Self(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into()),
            other => Self(other),
        }
    }

    pub(crate) fn is_loopback(&self) -> bool {
        self.0.is_loopback()
    }
}

impl fmt::Display for Neighbourhood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V6(v6) if !v6.is_loopback() => write!(f, "{v6}/64"),
            other => write!(f, "{other}"),
        }
    }
}

/// `[::ffff:1.2.3.4]` becomes `1.2.3.4`.
pub(super) fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_or_one_network_is_one_neighbourhood() {
        let shown = |address: &str| Neighbourhood::of(address.parse().unwrap()).to_string();
        for (address, is) in [
            ("192.0.2.7", "192.0.2.7"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
            ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
            ("::1", "::1"),
            ("127.0.0.9", "127.0.0.9"),
        ] {
            assert_eq!(shown(address), is);
        }
    }
}
