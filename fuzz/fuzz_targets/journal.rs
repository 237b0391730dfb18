//! The journal of a commit: `which u8 | bytes`; 0 a whole file, else a body that is sealed here.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rbbackup::store::journal::Journal;
use rbbackup_fuzz::seal;

fuzz_target!(|data: &[u8]| {
    let Some((which, bytes)) = data.split_first() else { return };
    let file = match which {
        0 => bytes.to_vec(),
        _ => seal([&b"RBJOURNL"[..], &1u32.to_le_bytes(), &(bytes.len() as u64).to_le_bytes(), bytes].concat()),
    };
    if let Ok(journal) = Journal::decode(&file) {
        let again = journal.encode().expect("what was decoded");
        assert_eq!(Journal::decode(&again), Ok(journal));
        assert!(again.len() <= file.len(), "a journal became longer");
    }
});
