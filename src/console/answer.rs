//! What is answered: JSON, and errors that say what to do.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::engine::error::{EngineError, ErrorKind};

/// Why a request is not answered as it was meant.
#[derive(Debug)]
pub(super) struct ApiError {
    pub(super) status: StatusCode,
    pub(super) code: &'static str,
    pub(super) message: String,
    pub(super) exit_code: Option<u8>,
    /// A password would open a session.
    pub(super) password: bool,
}

/// What a handler comes to.
pub(super) type Answer = Result<Response, ApiError>;

impl ApiError {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), exit_code: None, password: false }
    }

    pub(super) fn usage(message: impl Into<String>) -> Self {
        Self { exit_code: Some(2), ..Self::new(StatusCode::BAD_REQUEST, "usage", message) }
    }

    pub(super) fn not_allowed(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "not_allowed", message)
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    pub(super) fn too_many(message: impl Into<String>) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many", message)
    }
}

impl From<EngineError> for ApiError {
    fn from(error: EngineError) -> Self {
        let (status, code) = match error.kind {
            ErrorKind::Usage => (StatusCode::BAD_REQUEST, "usage"),
            ErrorKind::Absent => (StatusCode::NOT_FOUND, "not_found"),
            ErrorKind::NotAllowed => (StatusCode::FORBIDDEN, "not_allowed"),
            ErrorKind::Locked | ErrorKind::Guard => (StatusCode::CONFLICT, "locked"),
            ErrorKind::NoSpace => (StatusCode::INSUFFICIENT_STORAGE, "no_space"),
            ErrorKind::Unreachable => (StatusCode::SERVICE_UNAVAILABLE, "unreachable"),
            _ => (StatusCode::INTERNAL_SERVER_ERROR, "failed"),
        };
        Self { exit_code: Some(error.exit_code()), ..Self::new(status, code, error.message) }
    }
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    error: ErrorText<'a>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    password: bool,
}

#[derive(Serialize)]
struct ErrorText<'a> {
    code: &'a str,
    message: &'a str,
    exit_code: Option<u8>,
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let error = ErrorText { code: self.code, message: &self.message, exit_code: self.exit_code };
        let mut response = json(&ErrorBody { error, password: self.password });
        *response.status_mut() = self.status;
        response
    }
}

/// An object.
pub(super) fn json<T: Serialize>(object: &T) -> Response {
    // Strings, numbers and nulls only: nothing that serde_json could refuse.
    let text = serde_json::to_vec(object).unwrap_or_default();
    let mut response = Response::new(Body::from(text));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
