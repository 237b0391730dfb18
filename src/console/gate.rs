//! [`Gate`]: what every request passes before anything is done for it.
//!
//! 1. `Host` is the console's own address, so that no other site's name leads here (DNS rebinding): a name for this machine's
//!    loopback, with any port (it may be forwarded), an IP address, where the console listens on more than loopback, or a name
//!    that the administrator gave.
//! 2. `Origin`, where it is sent, is that of the same address: no other site's page asks for anything.
//! 3. The session's cookie. Without one only the pages and the way to sign in are there.
//! 4. What changes something brings the session's CSRF token, and its role allows it.
//!
//! Every answer says what a browser may do with it.

use std::net::IpAddr;

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use axum::response::Response;

use super::access::{Access, Visitor};
use super::answer::ApiError;
use crate::store::console_links::Role;

/// The header that changing requests bring.
const CSRF: HeaderName = HeaderName::from_static("x-csrf-token");
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
/// For what was backed up: nothing at all may run or load.
const SANDBOX: &str = "default-src 'none'; sandbox; frame-ancestors 'none'";

/// Which addresses are the console's own.
#[derive(Clone, Debug, Default)]
pub(super) struct Gate {
    /// It listens on more than loopback.
    pub(super) is_open: bool,
    /// Names that lead here.
    pub(super) names: Vec<String>,
    /// TLS is spoken.
    pub(super) is_secure: bool,
    /// The port that it listens on: names the cookie, for cookies know no ports.
    pub(super) port: u16,
}

impl Gate {
    /// Checks `Host` and `Origin`.
    pub(super) fn check_address(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        let host = one(headers, &header::HOST).ok_or_else(|| ApiError::not_allowed("the request names no host"))?;
        if !self.is_own(host) {
            let message =
                "the console is not asked for by its own address; open it by the address that it was started with";
            return Err(ApiError::not_allowed(message));
        }
        let scheme = if self.is_secure { "https://" } else { "http://" };
        let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
        if origin.to_str().is_ok_and(|origin| origin.strip_prefix(scheme) == Some(host)) {
            return Ok(());
        }
        Err(ApiError::not_allowed("another site's page asks for this"))
    }

    fn is_own(&self, host: &str) -> bool {
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.parse::<u16>().is_ok() => name,
            _ => host,
        };
        let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
        match bare.parse::<IpAddr>() {
            Ok(address) => self.is_open || address.is_loopback(),
            Err(_) => name == "localhost" || self.names.iter().any(|known| known.eq_ignore_ascii_case(name)),
        }
    }

    /// What names the session's cookie.
    pub(super) fn cookie_name(&self) -> String {
        format!("rbbackup-{}", self.port)
    }

    /// What the session's cookie holds.
    pub(super) fn cookie<'a>(&self, headers: &'a HeaderMap) -> Option<&'a str> {
        let name = self.cookie_name();
        let sent = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        sent.flat_map(|cookies| cookies.split(';'))
            .filter_map(|cookie| cookie.trim().split_once('='))
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value)
    }

    /// The header that sets it; `value` empty: that takes it away.
    pub(super) fn set_cookie(&self, value: &str) -> HeaderValue {
        let age = if value.is_empty() { "; Max-Age=0" } else { "" };
        let secure = if self.is_secure { "; Secure" } else { "" };
        let text = format!("{}={value}; Path=/; HttpOnly; SameSite=Strict{secure}{age}", self.cookie_name());
        HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""))
    }

    /// Who asks, and whether they may ask for this.
    pub(super) fn visitor(
        &self,
        access: &Access,
        method: &Method,
        headers: &HeaderMap,
        now_secs: i64,
    ) -> Result<Visitor, ApiError> {
        let visitor = self.cookie(headers).and_then(|cookie| access.visitor(cookie, now_secs));
        let Some(visitor) = visitor else {
            let message = format!("sign in: {}", access.way());
            let password = access.has_password();
            return Err(ApiError {
                password,
                ..ApiError::new(axum::http::StatusCode::UNAUTHORIZED, "sign_in", message)
            });
        };
        if matches!(*method, Method::GET | Method::HEAD) {
            return Ok(visitor);
        }
        let sent = one(headers, &CSRF).unwrap_or_default();
        // Compared in constant time.
        if blake3::hash(sent.as_bytes()) != blake3::hash(visitor.csrf.as_bytes()) {
            return Err(ApiError::not_allowed(
                "the request does not bring the session's CSRF token; load the page again",
            ));
        }
        let has_body = headers.contains_key(header::CONTENT_LENGTH) || headers.contains_key(header::TRANSFER_ENCODING);
        let is_json = one(headers, &header::CONTENT_TYPE).is_some_and(|kind| kind.starts_with("application/json"));
        if has_body && !is_json && one(headers, &header::CONTENT_LENGTH) != Some("0") {
            return Err(ApiError::usage("a request's body is JSON, and says so (Content-Type: application/json)"));
        }
        Ok(visitor)
    }
}

/// A reader looks, and changes nothing.
pub(super) fn check_role(visitor: &Visitor, method: &Method) -> Result<(), ApiError> {
    if visitor.role == Role::Admin || matches!(*method, Method::GET | Method::HEAD) {
        return Ok(());
    }
    Err(ApiError::not_allowed("you may look and download here, but not change anything; sign in as an administrator"))
}

fn one<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut all = headers.get_all(name).iter();
    let first = all.next()?.to_str().ok()?;
    all.next().is_none().then_some(first)
}

/// What a browser may do with an answer.
pub(super) fn protect(response: &mut Response) {
    let headers = response.headers_mut();
    let is_backup = headers.remove(BACKED_UP).is_some();
    let said: [(HeaderName, &'static str); 6] = [
        (header::CONTENT_SECURITY_POLICY, if is_backup { SANDBOX } else { POLICY }),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ];
    for (name, value) in said {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
}

/// Marks, inside, an answer whose body is what somebody backed up.
pub(super) const BACKED_UP: HeaderName = HeaderName::from_static("x-rbbackup-backed-up");

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::try_from(*value).unwrap());
        }
        headers
    }

    #[test]
    fn only_its_own_address_leads_to_it() {
        let gate = Gate { port: 8731, ..Gate::default() };
        let check = |gate: &Gate, pairs: &[(&'static str, &str)]| gate.check_address(&headers(pairs)).is_ok();
        for host in ["localhost:8731", "127.0.0.1:8731", "[::1]:8731", "localhost:9000", "localhost", "127.0.0.1"] {
            assert!(check(&gate, &[("host", host)]), "{host}");
            assert!(check(&gate, &[("host", host), ("origin", &format!("http://{host}"))]), "{host}");
        }
        for host in ["evil.example:8731", "localhost.evil.example", "192.168.1.5:8731", "", "127.0.0.1.nip.io", "nas"] {
            assert!(!check(&gate, &[("host", host)]), "{host}");
        }
        assert!(!check(&gate, &[]), "no host at all");
        assert!(!check(&gate, &[("host", "localhost:8731"), ("host", "evil.example")]), "two");
        for origin in ["http://evil.example", "null", "https://localhost:8731", "http://localhost:8732", ""] {
            assert!(!check(&gate, &[("host", "localhost:8731"), ("origin", origin)]), "{origin}");
        }
        let open = Gate { is_open: true, names: vec!["nas".to_owned()], is_secure: true, port: 8731 };
        for host in ["192.168.1.5:8731", "[fe80::1]:8731", "NAS:8731", "localhost:1"] {
            assert!(check(&open, &[("host", host), ("origin", &format!("https://{host}"))]), "{host}");
        }
        assert!(!check(&open, &[("host", "evil.example:8731")]));
        assert!(!check(&open, &[("host", "nas:8731"), ("origin", "http://nas:8731")]));
    }

    #[test]
    fn changes_need_the_session_its_token_and_its_role() {
        let (gate, access) = (Gate { port: 1, ..Gate::default() }, Access::new(None, None, "do this"));
        let cookie = access.redeem(&access.token(Role::Reader, 0).unwrap(), 0).unwrap();
        let cookie = format!("other=1; rbbackup-1={cookie}");
        let ask = |method: Method, pairs: &[(&'static str, &str)]| gate.visitor(&access, &method, &headers(pairs), 0);
        let refused = ask(Method::GET, &[]).unwrap_err();
        assert!(refused.status == 401 && refused.message.contains("do this"));
        assert_eq!(ask(Method::GET, &[("cookie", "rbbackup-2=x; rbbackup-1=y")]).unwrap_err().status, 401);
        let visitor = ask(Method::GET, &[("cookie", &cookie)]).unwrap();
        let csrf = visitor.csrf.as_str();
        assert_eq!(ask(Method::POST, &[("cookie", &cookie)]).unwrap_err().status, 403);
        assert_eq!(ask(Method::POST, &[("cookie", &cookie), ("x-csrf-token", "x")]).unwrap_err().status, 403);
        ask(Method::POST, &[("cookie", &cookie), ("x-csrf-token", csrf)]).unwrap();
        let form =
            [("cookie", &cookie[..]), ("x-csrf-token", csrf), ("content-length", "3"), ("content-type", "text/plain")];
        assert_eq!(ask(Method::POST, &form).unwrap_err().status, 400);
        assert_eq!(check_role(&visitor, &Method::DELETE).unwrap_err().status, 403);
        check_role(&visitor, &Method::GET).unwrap();
        check_role(&Visitor { role: Role::Admin, ..visitor }, &Method::DELETE).unwrap();
    }
}
