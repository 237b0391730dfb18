//! What is asked: queries whose values are bytes, bodies that are small, and engine calls on threads of their own.

use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::StatusCode;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;

use super::answer::ApiError;
use crate::engine::client::ClientOptions;
use crate::engine::error::EngineError;
use crate::engine::stop::Stop;

/// Longest body of a request.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// All of it has to be there by then.
const BODY_PATIENCE: Duration = Duration::from_secs(10);
/// Engine calls at once; more wait. With the downloads (see `files`) fewer conversations than `net/control` has places
/// for the daemon's own.
const CALLS_MAX: usize = 6;
static CALLS: Semaphore = Semaphore::const_new(CALLS_MAX);
/// Looks at this machine's own files and settings at once.
const LOOKS_MAX: usize = 16;
static LOOKS: Semaphore = Semaphore::const_new(LOOKS_MAX);

/// What stays as it is in a `ref`: all that means nothing in a URL's query, and `/`, for people to read.
const REF: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// A path's bytes, to be put into a URL as they are.
pub(super) fn reference(bytes: &[u8]) -> String {
    percent_encode(bytes, REF).to_string()
}

/// The bytes that a percent-encoded text stands for.
pub(super) fn bytes_of(reference: &str) -> Vec<u8> {
    percent_decode_str(reference).collect()
}

/// The query of a request, with values as bytes.
pub(super) struct Query(Vec<(String, Vec<u8>)>);

impl Query {
    /// `query` as it stands in the URL. A `+` is a plus.
    pub(super) fn of(query: Option<&str>) -> Self {
        let pairs = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        Self(
            pairs
                .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
                .map(|(k, v)| (k.into(), bytes_of(v)))
                .collect(),
        )
    }

    /// The value of `key`; none: it is not there, or empty.
    pub(super) fn bytes(&self, key: &str) -> Option<&[u8]> {
        let found = self.0.iter().find(|(name, _)| name == key)?;
        Some(&found.1[..]).filter(|value| !value.is_empty())
    }

    /// The same as text.
    pub(super) fn text(&self, key: &str) -> Result<Option<&str>, ApiError> {
        let text = self.bytes(key).map(std::str::from_utf8).transpose();
        text.map_err(|_| ApiError::usage(format!("'{key}' is not text")))
    }

    /// The same as a number.
    pub(super) fn number(&self, key: &str) -> Result<Option<u64>, ApiError> {
        let number = self.text(key)?.map(str::parse).transpose();
        number.map_err(|_| ApiError::usage(format!("'{key}' is a number")))
    }

    /// What has to be there.
    pub(super) fn needed(&self, key: &str) -> Result<&[u8], ApiError> {
        self.bytes(key).ok_or_else(|| ApiError::usage(format!("'{key}' is missing")))
    }
}

/// A JSON body.
pub(super) async fn body<T: DeserializeOwned>(body: Body) -> Result<T, ApiError> {
    let cut = |_| ApiError::usage("the rest of the request did not come");
    let bytes = tokio::time::timeout(BODY_PATIENCE, to_bytes(body, BODY_BYTES_MAX)).await.map_err(cut)?;
    let bytes = bytes.map_err(|_| {
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "the request is longer than 64 KiB, or was cut")
    })?;
    serde_json::from_slice(&bytes).map_err(|e| ApiError::usage(format!("the request is not what was expected: {e}")))
}

/// Ends a conversation whose answer nobody waits for any more: the page was closed.
pub(super) struct Gone(Stop);

impl Gone {
    /// To be held while the answer is waited for.
    pub(super) fn of(way: &ClientOptions) -> Self {
        Self(way.stop.clone())
    }
}

impl Drop for Gone {
    fn drop(&mut self) {
        if self.0.is_talking() {
            let stop = self.0.clone();
            // Closing waits for the peer.
            drop(std::thread::Builder::new().spawn(move || stop.ask()));
        } else {
            // One that has not begun does not begin.
            self.0.ask();
        }
    }
}

/// Asks the engine, which waits for disks and peers, on a thread of its own. It counts until it ends, whether anybody still
/// waits for it or not.
pub(super) async fn blocking<T: Send + 'static>(
    ask: impl FnOnce() -> Result<T, EngineError> + Send + 'static,
) -> Result<T, ApiError> {
    counted(&CALLS, ask).await
}

/// The same for what asks nobody but this machine: a disk that does not answer holds up no conversation.
pub(super) async fn at_hand<T: Send + 'static>(
    look: impl FnOnce() -> Result<T, EngineError> + Send + 'static,
) -> Result<T, ApiError> {
    counted(&LOOKS, look).await
}

async fn counted<T: Send + 'static>(
    places: &'static Semaphore,
    ask: impl FnOnce() -> Result<T, EngineError> + Send + 'static,
) -> Result<T, ApiError> {
    let stopped = || ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "failed", "the console stops, or met a bug");
    let permit = places.acquire().await.map_err(|_| stopped())?;
    let asked = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        ask()
    });
    asked.await.map_err(|_| stopped())?.map_err(ApiError::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_travel_in_a_query() {
        let name: Vec<u8> = (0..=255).collect();
        let query = format!("path={}&at=7&empty=", reference(&name));
        let query = Query::of(Some(&query));
        assert_eq!(query.bytes("path").unwrap(), name);
        assert_eq!((query.number("at").unwrap(), query.bytes("empty"), query.bytes("none")), (Some(7), None, None));
        assert!(query.text("path").is_err() && query.number("path").is_err() && query.needed("none").is_err());
        assert_eq!(reference(b"/home/a b+c"), "/home/a%20b%2Bc");
        assert_eq!(Query::of(Some("path=a+b")).bytes("path").unwrap(), b"a+b");
        assert!(Query::of(None).bytes("path").is_none());
    }
}
