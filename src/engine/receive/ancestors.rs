//! What leads to a root in the copy must be folders: where another root has put something else, both are named.

use crate::backup::relpath::RelPath;
use crate::engine::error::{EngineError, ErrorKind};
use crate::engine::hub::OpenCopy;
use crate::store::snapshots::Snapshots;
use crate::tree::stat::FileKind;

/// Refuses a root that lies below what is no folder in the copy.
///
/// # Errors
/// Which root holds what is in the way, and how to get past it; or the disk fails.
pub(super) fn check(copy: &OpenCopy, snapshots: &Snapshots, root: &RelPath) -> Result<(), EngineError> {
    let Some(parent) = root.parent() else { return Ok(()) };
    let (mut dir, mut at) = (copy.dir.try_clone()?, RelPath::root());
    for name in parent.components() {
        at = at.join(name).map_err(crate::engine::wire::WireError::from)?;
        match dir.stat(name) {
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) => return Err(error.into()),
            Ok(stat) if stat.kind == FileKind::Dir => dir = dir.open_child(name)?,
            Ok(_) => return Err(in_the_way(snapshots, root, &at)?),
        }
    }
    Ok(())
}

fn in_the_way(snapshots: &Snapshots, root: &RelPath, at: &RelPath) -> Result<EngineError, EngineError> {
    let roots = snapshots.roots()?;
    let holder = roots.iter().map(|record| &record.root).filter(|other| at.is_within(other)).max();
    let way_out = match holder {
        Some(holder) => format!(
            "it belongs to the root '/{holder}': back that up first, or let 'rbbackup forget /{holder}' move it into history"
        ),
        None => "it belongs to no root: move it out of the copy by hand".to_owned(),
    };
    let message = format!("the root '/{root}' cannot be placed, for '/{at}' is no folder in the copy; {way_out}");
    Ok(EngineError::new(ErrorKind::Failed, message))
}
