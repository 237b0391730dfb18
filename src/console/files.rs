//! What was backed up, as it is: a file to be saved, a look at one, a folder as an archive.
//!
//! What somebody backed up may be a page with a script in it: it is sent as a download, or as plain text or one of a few kinds
//! of picture, and in any case with a policy under which nothing in it runs (see `gate`).

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderValue, Uri, header};
use axum::response::Response;
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use tokio::sync::{Semaphore, SemaphorePermit, mpsc};
use tokio_stream::wrappers::ReceiverStream;

use super::answer::{Answer, ApiError};
use super::archive::{self, Format};
use super::asking::{Query, blocking};
use super::copies::{Copy, path_of, way, when};
use super::gate::BACKED_UP;
use super::serve::Shared;
use crate::backup::bytes::escape;
use crate::backup::when::When;
use crate::engine::client::ClientOptions;
use crate::engine::error::{EngineError, ErrorKind};
use crate::engine::{inspect, past};

/// Of a text, so much is shown.
const TEXT_BYTES_MAX: usize = 256 * 1024;
/// Largest picture that is shown.
const PICTURE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Downloads at once: each takes up to two conversations with the server, however slowly its reader takes it.
const DOWNLOADS_MAX: usize = 8;
static DOWNLOADS: Semaphore = Semaphore::const_new(DOWNLOADS_MAX);
/// So long a further one waits for its turn.
const DOWNLOADS_PATIENCE: Duration = Duration::from_secs(30);
/// Pieces that wait for a slow reader.
const PIECES_QUEUED_MAX: usize = 16;
const PIECE_BYTES: usize = 64 * 1024;

/// What a browser reads, or why it ends.
type Pieces = mpsc::Sender<Result<Bytes, io::Error>>;

/// Hands over what is written to it, in pieces of a size; blocks while the reader is slow.
pub(super) struct Sending {
    to: Pieces,
    piece: Vec<u8>,
}

impl Sending {
    pub(super) fn new(to: Pieces) -> Self {
        Self { to, piece: Vec::new() }
    }
}

impl Write for Sending {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = Bytes::from(std::mem::take(&mut self.piece));
        self.to.blocking_send(Ok(piece)).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// Cuts a body short unless it was told that all is there: also when what writes it panics.
struct CutShort(Option<Pieces>);

impl CutShort {
    /// All is there.
    fn no_more(&mut self) {
        self.0 = None;
    }
}

impl Drop for CutShort {
    fn drop(&mut self) {
        if let Some(to) = self.0.take() {
            let _ = to.blocking_send(Err(io::Error::other("it ended in the middle")));
        }
    }
}

/// The turn of a download.
async fn turn() -> Result<SemaphorePermit<'static>, ApiError> {
    let busy = || ApiError::too_many(format!("{DOWNLOADS_MAX} downloads go on already; wait for one of them to end"));
    match tokio::time::timeout(DOWNLOADS_PATIENCE, DOWNLOADS.acquire()).await {
        Ok(Ok(turn)) => Ok(turn),
        _ => Err(busy()),
    }
}

/// A body that is written by `fill` on a thread of its own. What goes wrong later cuts it short, so that nobody takes a part
/// for the whole.
fn streamed(turn: SemaphorePermit<'static>, fill: impl FnOnce(Sending) -> io::Result<()> + Send + 'static) -> Body {
    let (to, pieces) = mpsc::channel(PIECES_QUEUED_MAX);
    let mut cut_short = CutShort(Some(to.clone()));
    tokio::task::spawn_blocking(move || {
        let _turn = turn;
        match fill(Sending::new(to)) {
            Ok(()) => cut_short.no_more(),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                tracing::debug!("console: a download is not wanted any more");
            }
            Err(error) => tracing::warn!("console: a download ends early: {error}"),
        }
    });
    Body::from_stream(ReceiverStream::new(pieces))
}

/// Marks a body as what somebody backed up, of this kind.
fn backed_up(body: Body, kind: &'static str) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(BACKED_UP, HeaderValue::from_static("1"));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// A download under this name.
fn download(body: Body, kind: &'static str, name: &[u8]) -> Response {
    let plain: String = name
        .iter()
        .map(|b| if b.is_ascii_alphanumeric() || b"._-".contains(b) { char::from(*b) } else { '_' })
        .collect();
    let exact = percent_encode(name, NON_ALPHANUMERIC);
    let said = format!("attachment; filename=\"{plain}\"; filename*=UTF-8''{exact}");
    let mut response = backed_up(body, kind);
    let said = HeaderValue::try_from(said).unwrap_or(HeaderValue::from_static("attachment"));
    response.headers_mut().insert(header::CONTENT_DISPOSITION, said);
    response
}

/// The last component of a path; `all` for the root.
pub(super) fn name_of(path: &[u8]) -> &[u8] {
    match path.rsplit(|byte| *byte == b'/').find(|part| !part.is_empty()) {
        Some(name) => name,
        None => b"all",
    }
}

/// The size of the file at a path, and the snapshot that has it: what is asked next is asked of that one, for another run
/// may be committed meanwhile.
fn size_of(way: &ClientOptions, path: &[u8], at: When) -> Result<(u64, When), EngineError> {
    let mut size = None;
    let listing = inspect::list(way, Some(&path_of(path)), at, &mut |entry| {
        size = entry.entry.file().filter(|_| entry.path == path).map(|content| content.size);
        ControlFlow::Break(())
    })?;
    let at = listing.map_or(at, |listing| When::Number(listing.snapshot));
    size.map(|size| (size, at)).ok_or_else(|| {
        let shown = escape(path);
        EngineError::new(
            ErrorKind::Usage,
            format!("'{shown}' is no file with content; a folder is to be had as an archive"),
        )
    })
}

/// `file`.
pub(super) async fn file(State(shared): State<Arc<Shared>>, copy: Copy, uri: Uri) -> Answer {
    let (way, query) = (way(&shared, copy), Query::of(uri.query()));
    let (path, at) = (query.needed("path")?.to_vec(), when(&query)?);
    let turn = turn().await?;
    let (asked, asked_path) = (way.clone(), path.clone());
    let (size, at) = blocking(move || size_of(&asked, &asked_path, at)).await?;
    let name = name_of(&path).to_vec();
    let body = streamed(turn, move |mut out| {
        past::cat(&way, &path_of(&path), at, &mut out).map_err(|e| io::Error::other(e.message))?;
        out.flush()
    });
    let mut response = download(body, "application/octet-stream", &name);
    response.headers_mut().insert(header::CONTENT_LENGTH, size.into());
    Ok(response)
}

/// Takes so much, and no more.
struct Beginning {
    bytes: Vec<u8>,
    most: usize,
}

impl Write for Beginning {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(self.most.saturating_sub(self.bytes.len()));
        if taken == 0 && !bytes.is_empty() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.bytes.extend_from_slice(bytes.get(..taken).unwrap_or_default());
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A picture, by what it holds.
fn picture(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Some("image/png"),
        [0xff, 0xd8, 0xff, ..] => Some("image/jpeg"),
        [b'G', b'I', b'F', b'8', ..] => Some("image/gif"),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some("image/webp"),
        _ => None,
    }
}

/// The beginning of a text; none: it is none.
fn text(bytes: &[u8]) -> Option<&[u8]> {
    let beginning = bytes.get(..TEXT_BYTES_MAX.min(bytes.len()))?;
    let whole = match std::str::from_utf8(beginning) {
        Ok(_) => beginning,
        // A character that was cut.
        Err(e) if e.error_len().is_none() => beginning.get(..e.valid_up_to())?,
        Err(_) => return None,
    };
    (!whole.contains(&0)).then_some(whole)
}

/// `preview`.
pub(super) async fn preview(State(shared): State<Arc<Shared>>, copy: Copy, uri: Uri) -> Answer {
    let (way, query) = (way(&shared, copy), Query::of(uri.query()));
    let (path, at) = (query.needed("path")?.to_vec(), when(&query)?);
    let (size, bytes) = blocking(move || {
        let (size, at) = size_of(&way, &path, at)?;
        let most = if size > PICTURE_BYTES_MAX as u64 { TEXT_BYTES_MAX + 4 } else { PICTURE_BYTES_MAX };
        let mut beginning = Beginning { bytes: Vec::new(), most };
        past::cat(&way, &path_of(&path), at, &mut beginning)?;
        Ok((size, beginning.bytes))
    })
    .await?;
    if let Some(kind) = picture(&bytes) {
        if size > PICTURE_BYTES_MAX as u64 {
            let message = "this picture is larger than 8 MiB; download it to see it";
            return Err(ApiError::new(axum::http::StatusCode::PAYLOAD_TOO_LARGE, "too_large", message));
        }
        return Ok(backed_up(Body::from(bytes), kind));
    }
    let shown =
        text(&bytes).ok_or_else(|| ApiError::usage("this is neither text nor a picture; download it to see it"))?;
    Ok(backed_up(Body::from(shown.to_vec()), "text/plain; charset=utf-8"))
}

/// `archive`.
pub(super) async fn archive(State(shared): State<Arc<Shared>>, copy: Copy, uri: Uri) -> Answer {
    let (way, query) = (way(&shared, copy), Query::of(uri.query()));
    let (path, at) = (query.needed("path")?.to_vec(), when(&query)?);
    let format = match query.text("format")? {
        None | Some("zip") => Format::Zip,
        Some("tar") => Format::Tar,
        Some(_) => return Err(ApiError::usage("'format' is 'zip' or 'tar'")),
    };
    let turn = turn().await?;
    // Whether it is there, and how much, is to be known before the answer begins.
    let (asked, asked_path) = (way.clone(), path_of(&path));
    let extent = blocking(move || past::extent(&asked, &asked_path, at)).await?;
    if format == Format::Zip && extent.entries > archive::ZIP_ENTRIES_MAX {
        let most = archive::ZIP_ENTRIES_MAX;
        let message =
            format!("a zip holds {most} files and folders at most, and here are {}: take a tar", extent.entries);
        return Err(ApiError::usage(message));
    }
    let at = When::Number(extent.snapshot);
    let top = name_of(&path).to_vec();
    let name = [&top[..], b".", format.ending().as_bytes()].concat();
    let body = streamed(turn, move |out| archive::write(format, &way, &path_of(&path), at, &top, out));
    Ok(download(body, format.kind(), &name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_shown_is_found_out_by_what_it_holds() {
        assert_eq!(picture(b"\x89PNG\r\n\x1a\nrest"), Some("image/png"));
        assert_eq!(picture(b"<svg onload=alert(1)>"), None);
        assert_eq!(text("añ".as_bytes()), Some("añ".as_bytes()));
        assert_eq!(text(b"a\xc3"), Some(&b"a"[..]), "a character that was cut");
        assert_eq!((text(b"a\xffb"), text(b"a\0b")), (None, None));
        let long = vec![b'x'; TEXT_BYTES_MAX + 3];
        assert_eq!(text(&long).unwrap().len(), TEXT_BYTES_MAX);
        let mut beginning = Beginning { bytes: Vec::new(), most: 3 };
        assert!(beginning.write_all(b"abcd").is_err());
        assert_eq!(beginning.bytes, b"abc");
    }

    #[test]
    fn so_many_downloads_go_on_and_a_further_one_waits_for_its_turn() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut turns = Vec::new();
            for _ in 0..DOWNLOADS_MAX {
                turns.push(turn().await.unwrap());
            }
            assert_eq!(turn().await.unwrap_err().code, "too_many");
            let waiting = tokio::spawn(turn());
            tokio::time::sleep(DOWNLOADS_PATIENCE / 2).await;
            turns.pop();
            drop(waiting.await.unwrap().unwrap());
        });
    }

    #[test]
    fn a_name_cannot_leave_its_header() {
        let response = download(Body::empty(), "a/b", b"x\"\r\nSet-Cookie: a\xff");
        let said = response.headers().get(header::CONTENT_DISPOSITION).unwrap().to_str().unwrap();
        assert_eq!(
            said,
            "attachment; filename=\"x___Set-Cookie__a_\"; filename*=UTF-8''x%22%0D%0ASet%2DCookie%3A%20a%FF"
        );
        assert_eq!((name_of(b"/a/b/"), name_of(b"/")), (&b"b"[..], &b"all"[..]));
    }
}
