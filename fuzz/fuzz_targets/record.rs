//! Records of snapshots, runs and purges: `which u8 | bytes`; below 3 a whole file, else a body that is sealed here.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rbbackup::backup::purge::{PURGE_MAGIC, PURGE_VERSION, PurgeRecord};
use rbbackup::backup::snapshot::{RUN_MAGIC, RUN_VERSION, RunRecord, SNAPSHOT_MAGIC, SNAPSHOT_VERSION, SnapshotRecord};
use rbbackup_fuzz::sealed;

fuzz_target!(|data: &[u8]| {
    let Some((which, bytes)) = data.split_first() else { return };
    let (magic, version) =
        [(&SNAPSHOT_MAGIC, SNAPSHOT_VERSION), (&RUN_MAGIC, RUN_VERSION), (&PURGE_MAGIC, PURGE_VERSION)]
            [usize::from(which % 3)];
    let file = if *which < 3 { bytes.to_vec() } else { sealed(magic, version, bytes) };
    match which % 3 {
        0 => {
            if let Ok(record) = SnapshotRecord::decode(&file) {
                let again = record.encode().expect("what was decoded fits");
                let back = SnapshotRecord::decode(&again).expect("what was encoded");
                // Too many errors are left out when a record is written; all else stays.
                assert_eq!(SnapshotRecord { errors: back.errors.clone(), ..record }, back);
                assert!(again.len() <= file.len(), "a record became longer");
            }
        }
        1 => {
            if let Ok(record) = RunRecord::decode(&file) {
                let again = record.encode().expect("what was decoded fits");
                let back = RunRecord::decode(&again).expect("what was encoded");
                assert_eq!(RunRecord { errors: back.errors.clone(), ..record }, back);
            }
        }
        _ => {
            if let Ok(record) = PurgeRecord::decode(&file) {
                let again = record.encode().expect("what was decoded fits");
                assert_eq!(PurgeRecord::decode(&again), Ok(record));
            }
        }
    }
});
