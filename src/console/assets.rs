//! The pages: plain files that the binary carries.

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use rust_embed::{EmbeddedFile, RustEmbed};

use super::answer::{Answer, ApiError};

#[derive(RustEmbed)]
#[folder = "src/console/assets"]
struct Pages;

fn kind_of(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, ending)| ending) {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "application/octet-stream",
    }
}

/// A file of the pages. Browsers ask each time whether theirs is still the same.
pub(super) fn page(name: &str, known: Option<&HeaderValue>) -> Answer {
    let found = Pages::get(name).ok_or_else(|| ApiError::not_found("there is no such page"))?;
    let EmbeddedFile { data, metadata } = found;
    let tag: String = metadata.sha256_hash().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    let tag = HeaderValue::try_from(format!("\"{tag}\"")).unwrap_or(HeaderValue::from_static("\"\""));
    let mut response = if known == Some(&tag) {
        let mut unchanged = Response::new(Body::empty());
        *unchanged.status_mut() = axum::http::StatusCode::NOT_MODIFIED;
        unchanged
    } else {
        Response::new(Body::from(data.into_owned()))
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind_of(name)));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(header::ETAG, tag);
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_is_of_a_known_kind_and_small() {
        let names: Vec<_> = Pages::iter().collect();
        assert!(names.iter().any(|name| name == "index.html"));
        for name in names {
            assert_ne!(kind_of(&name), "application/octet-stream", "{name}");
            let page = page(&name, None).unwrap();
            let tag = page.headers().get(header::ETAG).cloned();
            assert_eq!(super::page(&name, tag.as_ref()).unwrap().status(), 304);
        }
        assert!(page("../mod.rs", None).is_err());
    }
}
