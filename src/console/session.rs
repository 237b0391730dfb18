//! Signing in and out.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::access::{AccessError, Visitor};
use super::answer::{Answer, ApiError, json};
use super::asking::{self, Query};
use super::serve::{Peer, Shared};
use crate::engine::client::now;

impl From<AccessError> for ApiError {
    fn from(error: AccessError) -> Self {
        let (status, code) = match error {
            AccessError::Link(_) | AccessError::Password => (StatusCode::UNAUTHORIZED, "sign_in"),
            AccessError::TooMany => (StatusCode::TOO_MANY_REQUESTS, "too_many"),
            AccessError::Io(_) => (StatusCode::INTERNAL_SERVER_ERROR, "failed"),
        };
        Self::new(status, code, error.to_string())
    }
}

#[derive(Serialize)]
struct Session<'a> {
    program: &'a str,
    version: &'a str,
    role: crate::store::console_links::Role,
    csrf: &'a str,
    name: &'a str,
    host: &'a str,
}

/// Who is signed in, and to what.
pub(super) async fn show(State(shared): State<Arc<Shared>>, Extension(visitor): Extension<Visitor>) -> Response {
    let Visitor { role, csrf } = &visitor;
    let (program, name, host) = (shared.program, &shared.name, &shared.host);
    json(&Session { program, version: env!("CARGO_PKG_VERSION"), role: *role, csrf, name, host })
}

#[derive(Deserialize)]
struct Password {
    password: String,
}

/// Opens a session with the password.
pub(super) async fn sign_in(
    State(shared): State<Arc<Shared>>,
    Extension(Peer(from)): Extension<Peer>,
    headers: HeaderMap,
    sent: Body,
) -> Answer {
    // A page elsewhere could send a form, but no JSON without asking first.
    let is_json =
        headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    if !is_json {
        return Err(ApiError::usage("a request's body is JSON, and says so (Content-Type: application/json)"));
    }
    let Password { password } = asking::body(sent).await?;
    let cookie = shared.access.sign_in(&password, from, now().secs);
    let cookie = cookie.map_err(|error| ApiError { password: shared.access.has_password(), ..error.into() })?;
    let mut response = json(&serde_json::Map::new());
    response.headers_mut().insert(header::SET_COOKIE, shared.gate.set_cookie(&cookie));
    Ok(response)
}

/// Ends the session.
pub(super) async fn sign_out(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    if let Some(cookie) = shared.gate.cookie(&headers) {
        shared.access.sign_out(cookie);
    }
    let mut response = json(&serde_json::Map::new());
    response.headers_mut().insert(header::SET_COOKIE, shared.gate.set_cookie(""));
    response
}

/// A one-time link: opens a session and leads to the pages.
pub(super) async fn open(State(shared): State<Arc<Shared>>, uri: Uri) -> Response {
    let opened = Query::of(uri.query()).text("token").map(|token| token.unwrap_or_default().to_owned());
    let opened = opened.and_then(|token| Ok(shared.access.redeem(&token, now().secs)?));
    match opened {
        Ok(cookie) => {
            let mut response = StatusCode::SEE_OTHER.into_response();
            let headers = response.headers_mut();
            headers.insert(header::SET_COOKIE, shared.gate.set_cookie(&cookie));
            headers.insert(header::LOCATION, HeaderValue::from_static("/"));
            response
        }
        // The page says what to do.
        Err(error) if error.status == StatusCode::UNAUTHORIZED => {
            let mut response = StatusCode::SEE_OTHER.into_response();
            response.headers_mut().insert(header::LOCATION, HeaderValue::from_static("/#/sign-in?used=1"));
            response
        }
        Err(error) => error.into_response(),
    }
}
