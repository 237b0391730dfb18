//! The numbers of owners that a scan meets, and the names behind them.

use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt;

use crate::backup::bytes::Bytes;
use crate::backup::entry::{Meta, OwnerNames};
use crate::backup::limits::OWNER_NAMES_MAX;

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
            users: self.users.iter().filter_map(user).take(OWNER_NAMES_MAX).collect(),
            groups: self.groups.iter().filter_map(group).take(OWNER_NAMES_MAX).collect(),
        }
    }
}
