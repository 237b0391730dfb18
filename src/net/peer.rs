//! [`PeerInfo`]: who is at the other end of a connection.

use std::net::{IpAddr, SocketAddr};

use super::identity::PublicKey;
use super::peer_uid;

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
    pub(super) fn look_up(addr: SocketAddr, local: SocketAddr, key: PublicKey) -> Self {
        let (addr, local) = (canonical(addr), canonical(local));
        let uid = if is_same_machine(addr, local) { peer_uid::look_up(addr, local) } else { None };
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

/// `[::ffff:1.2.3.4]` becomes `1.2.3.4`.
pub(super) fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}
