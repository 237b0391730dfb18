//! A folder as an archive, written while it is read: `zip` for who double-clicks it, `tar` for who wants modes, owners and
//! special files too.
//!
//! ```text
//! export (a thread) ── bounded channel ──> tar or zip (another) ──> the browser
//! ```

use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded};
use jiff::tz::TimeZone;
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::backup::entry::{Entry, Kind};
use crate::backup::fingerprint::Timestamp;
use crate::backup::when::When;
use crate::engine::client::{ClientOptions, now};
use crate::engine::past::{self, Exported};
use crate::json::text;

/// Pieces that wait.
const QUEUED_MAX: usize = 16;
/// What lies beside the folder in an archive from which files are missing.
const LEFT_OUT_NAME: &str = "RBBACKUP-ERRORS.txt";
/// Roughly the most that it says.
const LEFT_OUT_BYTES_MAX: usize = 1024 * 1024;
/// A zip ends with a list of what is in it, which is gathered in memory.
pub(super) const ZIP_ENTRIES_MAX: u64 = 500_000;
/// A file of more bytes than this takes the larger form of zip.
const ZIP_SMALL_MAX: u64 = 0xffff_0000;

/// Which archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Zip,
    Tar,
}

impl Format {
    pub(super) fn ending(self) -> &'static str {
        match self {
            Self::Zip => "zip",
            Self::Tar => "tar",
        }
    }

    pub(super) fn kind(self) -> &'static str {
        match self {
            Self::Zip => "application/zip",
            Self::Tar => "application/x-tar",
        }
    }
}

enum Part {
    Entry(Box<Entry>),
    Bytes(Vec<u8>),
    /// A file that is not there any more: why.
    LeftOut(String),
    /// All of it came.
    End,
    Failed(String),
}

/// The exporting end.
struct Parts(Sender<Part>);

impl Parts {
    fn send(&self, part: Part) -> io::Result<()> {
        self.0.send(part).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Exported for Parts {
    fn entry(&mut self, entry: &Entry) -> io::Result<()> {
        self.send(Part::Entry(Box::new(entry.clone())))
    }

    fn content(&mut self) -> &mut dyn Write {
        self
    }

    fn left_out(&mut self, why: &str) -> io::Result<()> {
        self.send(Part::LeftOut(why.to_owned()))
    }
}

impl Write for Parts {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.send(Part::Bytes(bytes.to_vec()))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The archiving end: reads the content of the entry that came last.
struct Incoming {
    parts: Receiver<Part>,
    /// What came, less what was taken of it.
    bytes: Vec<u8>,
    taken: usize,
    next: Option<Part>,
    /// What is told of files that are missing, and how many there are.
    left_out: String,
    left_out_count: u64,
}

impl Incoming {
    fn part(&mut self) -> io::Result<Part> {
        let cut = || io::Error::other("it ended in the middle");
        match self.next.take().map_or_else(|| self.parts.recv().map_err(|_| cut()), Ok)? {
            Part::Failed(why) => Err(io::Error::other(why)),
            part => Ok(part),
        }
    }

    fn note(&mut self, why: &str) {
        self.left_out_count += 1;
        if self.left_out.len() < LEFT_OUT_BYTES_MAX {
            self.left_out.push_str(why);
            self.left_out.push('\n');
        }
    }

    /// What is to be said at the end, if anything is missing.
    fn missing(&self) -> Option<String> {
        let told = format!("missing: {} of the files that belong in here\n{}", self.left_out_count, self.left_out);
        (self.left_out_count > 0).then_some(told)
    }

    /// The next entry; none: that was all.
    fn entry(&mut self) -> io::Result<Option<Box<Entry>>> {
        loop {
            match self.part()? {
                Part::Entry(entry) => return Ok(Some(entry)),
                Part::End => return Ok(None),
                Part::LeftOut(why) => self.note(&why),
                _ => {}
            }
        }
    }
}

impl Read for Incoming {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.taken == self.bytes.len() {
            match self.part()? {
                Part::Bytes(bytes) => (self.bytes, self.taken) = (bytes, 0),
                other => {
                    self.next = Some(other);
                    return Ok(0);
                }
            }
        }
        let rest = self.bytes.get(self.taken..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
        self.taken += count;
        Ok(count)
    }
}

/// Writes what the snapshot of that time has at and below `path`, in a folder (or as a file) of the name `top`.
pub(super) fn write(
    format: Format,
    client: &ClientOptions,
    path: &Path,
    when: When,
    top: &[u8],
    out: impl Write,
) -> io::Result<()> {
    let (send, parts) = bounded(QUEUED_MAX);
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut to = Parts(send);
            let last = match past::export(client, path, when, &mut to) {
                Ok(()) => Part::End,
                Err(error) => Part::Failed(error.message),
            };
            let _ = to.send(last);
        });
        let (left_out, left_out_count) = (String::new(), 0);
        let incoming = Incoming { parts, bytes: Vec::new(), taken: 0, next: None, left_out, left_out_count };
        match format {
            Format::Tar => tar(incoming, top, out),
            Format::Zip => zip(incoming, top, out),
        }
    })
}

/// The entry's name in the archive.
fn name_in(top: &[u8], entry: &Entry) -> Vec<u8> {
    if entry.path.is_root() { top.to_vec() } else { [top, b"/", entry.path.as_bytes()].concat() }
}

/// What a header of tar has no room for: parts of a second, extended attributes.
fn beyond_header(entry: &Entry) -> Vec<(String, Vec<u8>)> {
    let Timestamp { secs, nanos } = entry.meta.mtime;
    let time = (nanos > 0 && secs >= 0).then(|| ("mtime".to_owned(), format!("{secs}.{nanos:09}").into_bytes()));
    let xattrs = entry.meta.xattrs.iter().filter_map(|xattr| {
        let name = std::str::from_utf8(xattr.name.as_slice()).ok().filter(|name| !name.contains('='))?;
        Some((format!("SCHILY.xattr.{name}"), xattr.value.as_slice().to_vec()))
    });
    time.into_iter().chain(xattrs).collect()
}

fn tar(mut incoming: Incoming, top: &[u8], out: impl Write) -> io::Result<()> {
    let mut archive = tar::Builder::new(out);
    while let Some(entry) = incoming.entry()? {
        let name = name_in(top, &entry);
        let name = Path::new(std::ffi::OsStr::from_bytes(&name));
        let mut header = tar::Header::new_gnu();
        header.set_mode(entry.meta.mode & 0o7777);
        header.set_uid(entry.meta.uid.into());
        header.set_gid(entry.meta.gid.into());
        header.set_mtime(u64::try_from(entry.meta.mtime.secs).unwrap_or(0));
        header.set_size(0);
        let more = beyond_header(&entry);
        if !more.is_empty() {
            archive.append_pax_extensions(more.iter().map(|(key, value)| (key.as_str(), &value[..])))?;
        }
        match &entry.kind {
            Kind::Dir => header.set_entry_type(tar::EntryType::Directory),
            Kind::File(content) => {
                header.set_entry_type(tar::EntryType::Regular);
                header.set_size(content.size);
                archive.append_data(&mut header, name, (&mut incoming).take(content.size))?;
                continue;
            }
            Kind::Symlink { target } => {
                header.set_entry_type(tar::EntryType::Symlink);
                archive.append_link(&mut header, name, std::ffi::OsStr::from_bytes(target.as_slice()))?;
                continue;
            }
            Kind::Fifo => header.set_entry_type(tar::EntryType::Fifo),
            Kind::CharDevice { major, minor } => {
                header.set_entry_type(tar::EntryType::Char);
                header.set_device_major(*major)?;
                header.set_device_minor(*minor)?;
            }
            Kind::BlockDevice { major, minor } => {
                header.set_entry_type(tar::EntryType::Block);
                header.set_device_major(*major)?;
                header.set_device_minor(*minor)?;
            }
        }
        archive.append_data(&mut header, name, io::empty())?;
    }
    if let Some(said) = incoming.missing() {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Regular);
        header.set_mode(0o644);
        header.set_mtime(u64::try_from(now().secs).unwrap_or(0));
        header.set_size(said.len() as u64);
        archive.append_data(&mut header, LEFT_OUT_NAME, said.as_bytes())?;
    }
    archive.into_inner()?.flush()
}

/// As zip knows it: local time, from 1980 to 2107, to two seconds.
fn zip_time(secs: i64) -> zip::DateTime {
    let time = jiff::Timestamp::from_second(secs).ok().map(|time| time.to_zoned(TimeZone::system()).datetime());
    let known = time.and_then(|t| {
        let small = |number: i8| u8::try_from(number).unwrap_or(0);
        let (year, day) = (u16::try_from(t.year()).ok()?, small(t.day()));
        let (hour, minute, second) = (small(t.hour()), small(t.minute()), small(t.second()));
        zip::DateTime::from_date_and_time(year, small(t.month()), day, hour, minute, second).ok()
    });
    known.unwrap_or_default()
}

/// Names in a zip are text, and there a backslash leads into a folder on some systems: what is no UTF-8, and backslashes, become
/// `%NN`; so does a `%` that could be taken for one. No two names become one.
fn zip_name(name: &[u8]) -> String {
    let mut said = String::with_capacity(name.len());
    let mut rest = name;
    while !rest.is_empty() {
        let valid = match std::str::from_utf8(rest) {
            Ok(all) => all,
            Err(e) => rest.get(..e.valid_up_to()).and_then(|part| std::str::from_utf8(part).ok()).unwrap_or_default(),
        };
        for (at, c) in valid.char_indices() {
            let after = valid.as_bytes().get(at + 1..at + 3);
            let like_ours = c == '%' && after.is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit));
            if c == '\\' || c.is_control() || like_ours {
                said.extend(percent_encode(c.encode_utf8(&mut [0; 4]).as_bytes(), NON_ALPHANUMERIC));
            } else {
                said.push(c);
            }
        }
        let (no_text, after) = rest.get(valid.len()..).unwrap_or_default().split_at_checked(1).unwrap_or_default();
        said.extend(percent_encode(no_text, NON_ALPHANUMERIC));
        rest = after;
    }
    said
}

fn zip(mut incoming: Incoming, top: &[u8], out: impl Write) -> io::Result<()> {
    let mut archive = ZipWriter::new_stream(out);
    while let Some(entry) = incoming.entry()? {
        let name = zip_name(&name_in(top, &entry));
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Deflated)
            .last_modified_time(zip_time(entry.meta.mtime.secs))
            .unix_permissions(entry.meta.mode & 0o777);
        match &entry.kind {
            Kind::Dir => archive.add_directory(name, options)?,
            Kind::File(content) => {
                archive.start_file(name, options.large_file(content.size > ZIP_SMALL_MAX))?;
                io::copy(&mut (&mut incoming).take(content.size), &mut archive)?;
            }
            Kind::Symlink { target } => archive.add_symlink(name, text(target.as_slice()), options)?,
            // A zip has no such thing.
            _ => {}
        }
    }
    if let Some(said) = incoming.missing() {
        archive.start_file(LEFT_OUT_NAME, SimpleFileOptions::default().last_modified_time(zip_time(now().secs)))?;
        archive.write_all(said.as_bytes())?;
    }
    archive.finish()?.into_inner().flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_a_zip_are_text_and_no_two_become_one() {
        let names: [&[u8]; 9] =
            [b"a/b", b"100%", b"\xff", b"%FF", b"%ff", b"%\xff", b"..\\up", b"..%5Cup", "a\u{e9}\n".as_bytes()];
        let said: Vec<String> = names.into_iter().map(zip_name).collect();
        let expected = ["a/b", "100%", "%FF", "%25FF", "%25ff", "%%FF", "..%5Cup", "..%255Cup", "a\u{e9}%0A"];
        assert_eq!(said, expected);
    }
}
