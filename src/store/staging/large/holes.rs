//! Zeros that take no room on the disk.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::fs::{FallocateFlags, SeekFrom};

const READ_BYTES: usize = 1024 * 1024;
/// What a file system gives back at once.
const BLOCK: [u8; 4096] = [0; 4096];
/// Zeros that are worth a hole while a file is written: more and smaller ones would scatter it over the disk.
static ZEROS: [u8; 32 * 1024] = [0; 32 * 1024];

/// Writes `content` at `at`, beyond which the file holds nothing, without its longer stretches of zeros. Tells how many
/// bytes were written, and where in `content` the last of them ended.
pub(super) fn write(file: &File, content: &[u8], at: u64) -> io::Result<(u64, usize)> {
    let (mut written, mut end, mut from, mut here) = (0, 0, 0, 0);
    let mut put = |part: std::ops::Range<usize>| -> io::Result<()> {
        let Some(bytes) = content.get(part.clone()).filter(|bytes| !bytes.is_empty()) else { return Ok(()) };
        file.write_all_at(bytes, at + part.start as u64)?;
        written += bytes.len() as u64;
        end = part.end;
        Ok(())
    };
    while here < content.len() {
        // To the next multiple, as offsets of the file go.
        let step = ZEROS.len() - (at + here as u64) as usize % ZEROS.len();
        let next = content.len().min(here + step);
        let zeros = content.get(here..next).is_some_and(|bytes| ZEROS.get(..bytes.len()) == Some(bytes));
        if zeros {
            put(from..here)?;
            from = next;
        }
        here = next;
    }
    put(from..content.len())?;
    Ok((written, end))
}

/// Gives blocks of zeros back to the file system; where it cannot, the file is merely larger on disk.
pub(in crate::store::staging) fn punch(file: &File, size: u64) {
    let mut buffer = vec![0; READ_BYTES];
    let mut at = 0;
    while at < size {
        // Where nothing is stored there is nothing to give back.
        at = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Ok(data) => data - data % BLOCK.len() as u64,
            Err(rustix::io::Errno::NXIO) => return,
            Err(_) => at,
        };
        let Ok(read) = file.read_at(&mut buffer, at) else { return };
        if read == 0 {
            return;
        }
        for (i, block) in buffer.get(..read).unwrap_or_default().chunks(BLOCK.len()).enumerate() {
            if block == BLOCK {
                let (from, len) = (at + (i * BLOCK.len()) as u64, BLOCK.len() as u64);
                let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                if rustix::fs::fallocate(file, flags, from, len).is_err() {
                    return;
                }
            }
        }
        at += read as u64;
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn zeros_are_not_written_and_are_there() {
        let file = tempfile::tempfile().unwrap();
        let kib = 1024;
        let mut content = vec![0; 1000 * kib];
        for part in [0..100, 40 * kib..41 * kib, 300 * kib..700 * kib + 5] {
            content[part].fill(7);
        }
        let (mut at, mut written) = (0, 0);
        for piece in content.chunks(77 * kib + 1) {
            let (bytes, end) = write(&file, piece, at).unwrap();
            assert!(piece[end..].iter().all(|byte| *byte == 0) && bytes <= end as u64);
            written += bytes;
            at += piece.len() as u64;
        }
        file.set_len(at).unwrap();
        let mut found = vec![1; content.len()];
        file.read_exact_at(&mut found, 0).unwrap();
        assert!(found == content);
        assert!(written < 560 * kib as u64, "{written}");
        let before = file.metadata().unwrap().blocks() * 512;
        punch(&file, at);
        let after = file.metadata().unwrap().blocks() * 512;
        file.read_exact_at(&mut found, 0).unwrap();
        assert!(found == content && after <= before && after < 450 * kib as u64, "{before} {after}");
    }
}
