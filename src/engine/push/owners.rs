//! The numbers of owners that a scan meets, and the names behind them.

use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt;

use crate::backup::bytes::Bytes;
use crate::backup::entry::{Meta, OwnerNames};
use crate::backup::limits::{NAME_BYTES_MAX, OWNER_NAMES_BYTES_MAX, OWNER_NAMES_MAX};

/// Numbers seen so far.
#[derive(Default)]
pub(super) struct Owners {
    users: BTreeSet<u32>,
    groups: BTreeSet<u32>,
    last: Option<(u32, u32)>,
}

impl Owners {
    /// Notes an entry's owner.
    pub(super) fn add(&mut self, meta: &Meta) {
        if self.last != Some((meta.uid, meta.gid)) {
            self.last = Some((meta.uid, meta.gid));
            self.users.insert(meta.uid);
            self.groups.insert(meta.gid);
        }
    }

    /// Looks the names up in this system's tables; a number without a name is left out.
    pub(super) fn names(&self) -> OwnerNames {
        let user = |uid: &u32| Some((*uid, Bytes(uzers::get_user_by_uid(*uid)?.name().as_bytes().to_vec())));
        let group = |gid: &u32| Some((*gid, Bytes(uzers::get_group_by_gid(*gid)?.name().as_bytes().to_vec())));
        OwnerNames {
            users: fitting(self.users.iter().filter_map(user)),
            groups: fitting(self.groups.iter().filter_map(group)),
        }
    }
}

/// As many names as a manifest may have.
fn fitting(names: impl Iterator<Item = (u32, Bytes)>) -> Vec<(u32, Bytes)> {
    let mut bytes = 0;
    let fits = |(_, name): &(u32, Bytes)| {
        bytes += name.0.len();
        bytes <= OWNER_NAMES_BYTES_MAX
    };
    names.filter(|(_, name)| name.0.len() <= NAME_BYTES_MAX).take(OWNER_NAMES_MAX).take_while(fits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_into_a_message() {
        let long = fitting((0..5000).map(|uid| (uid, Bytes(vec![b'x'; NAME_BYTES_MAX]))));
        assert_eq!(long.len(), OWNER_NAMES_BYTES_MAX / NAME_BYTES_MAX);
        assert_eq!(fitting((0..9000).map(|uid| (uid, Bytes(vec![b'x'])))).len(), OWNER_NAMES_MAX);
        assert_eq!(fitting([(1, Bytes(vec![b'x'; 256])), (2, Bytes(vec![b'y']))].into_iter()).len(), 1);
    }
}
