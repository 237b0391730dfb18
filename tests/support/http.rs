//! A browser, as far as a console's API needs one: a cookie, a CSRF token, one request a connection.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::daemon::rbbackupd;

/// Longer than anything takes to be answered.
const PATIENCE: Duration = Duration::from_secs(60);

/// A signed-in visitor of a console.
#[derive(Clone, Debug)]
pub struct Browser {
    /// `127.0.0.1:PORT`.
    pub address: String,
    pub cookie: String,
    pub csrf: String,
}

/// What was answered.
#[derive(Debug)]
pub struct Page {
    pub status: u16,
    /// Names in small letters.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Page {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&self.body)))
    }

    /// The error's code; it must be one.
    #[track_caller]
    pub fn error(&self) -> (u16, String) {
        (self.status, self.json()["error"]["code"].as_str().unwrap().to_owned())
    }
}

fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Sends a request with exactly these headers, and reads the answer to its end.
pub fn raw(address: &str, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Page {
    let mut stream = connect(address);
    send(&mut stream, method, target, headers, body);
    let mut reader = BufReader::new(stream);
    let (status, headers) = head(&mut reader);
    let mut body = Vec::new();
    // An answer that is cut short ends so.
    let _ = reader.read_to_end(&mut body);
    if headers.iter().any(|(name, value)| name == "transfer-encoding" && value == "chunked") {
        body = unchunk(&body);
    }
    Page { status, headers, body }
}

fn send(stream: &mut TcpStream, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) {
    let mut request = format!("{method} {target} HTTP/1.1\r\nConnection: close\r\n");
    headers.iter().for_each(|(name, value)| request.push_str(&format!("{name}: {value}\r\n")));
    if !body.is_empty() {
        request.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    request.push_str("\r\n");
    stream.write_all(&[request.as_bytes(), body].concat()).unwrap();
}

fn head(reader: &mut impl BufRead) -> (u16, Vec<(String, String)>) {
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let status = line.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_else(|| panic!("'{line}'"));
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let Some((name, value)) = line.trim_end().split_once(':') else { return (status, headers) };
        headers.push((name.to_lowercase(), value.trim().to_owned()));
    }
}

fn unchunk(mut bytes: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    while let Some(end) = bytes.windows(2).position(|pair| pair == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&bytes[..end]).unwrap(), 16).unwrap();
        let rest = &bytes[end + 2..];
        whole.extend_from_slice(&rest[..size.min(rest.len())]);
        bytes = rest.get(size + 2..).unwrap_or_default();
    }
    whole
}

/// What cookie an answer sets: name and value.
pub fn cookie_of(page: &Page) -> String {
    page.header("set-cookie").unwrap().split(';').next().unwrap().to_owned()
}

impl Browser {
    /// Signs in with a one-time link.
    #[track_caller]
    pub fn open(link: &str) -> Self {
        let (address, target) = link.strip_prefix("http://").unwrap().split_once('/').unwrap();
        let page = raw(address, "GET", &format!("/{target}"), &[("Host", address)], b"");
        assert_eq!((page.status, page.header("location")), (303, Some("/")), "{page:?}");
        let mut browser = Self { address: address.to_owned(), cookie: cookie_of(&page), csrf: String::new() };
        browser.csrf = browser.get("session").json()["csrf"].as_str().unwrap().to_owned();
        browser
    }

    /// At the console of the daemon that serves a store.
    #[track_caller]
    pub fn of_store(store: &Path, options: &[&str]) -> Self {
        let outcome = rbbackupd(&[&["console", store.to_str().unwrap()], options].concat());
        outcome.expect(0, &["/open?token="]);
        Self::open(outcome.stdout.trim())
    }

    /// `GET /api/v1/…`.
    pub fn get(&self, what: &str) -> Page {
        let headers = [("Host", self.address.as_str()), ("Cookie", &self.cookie)];
        raw(&self.address, "GET", &format!("/api/v1/{what}"), &headers, b"")
    }

    /// The same, which must go well.
    #[track_caller]
    pub fn json(&self, what: &str) -> Value {
        let page = self.get(what);
        assert_eq!(page.status, 200, "{what}: {}", String::from_utf8_lossy(&page.body));
        page.json()
    }

    /// A request that changes something.
    pub fn send(&self, method: &str, what: &str, body: &Value) -> Page {
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let headers = [
            ("Host", self.address.as_str()),
            ("Cookie", &self.cookie),
            ("X-CSRF-Token", &self.csrf),
            ("Content-Type", "application/json"),
        ];
        raw(&self.address, method, &format!("/api/v1/{what}"), &headers, &body)
    }

    /// The same, which must go well.
    #[track_caller]
    pub fn change(&self, method: &str, what: &str, body: &Value) -> Value {
        let page = self.send(method, what, body);
        assert_eq!(page.status, 200, "{what}: {}", String::from_utf8_lossy(&page.body));
        page.json()
    }

    /// The events of `live`, as they come.
    pub fn live(&self) -> Events {
        let mut stream = connect(&self.address);
        send(&mut stream, "GET", "/api/v1/live", &[("Host", &self.address), ("Cookie", &self.cookie)], b"");
        let mut reader = BufReader::new(stream);
        let (status, headers) = head(&mut reader);
        assert_eq!(status, 200, "{headers:?}");
        Events { reader, until: Instant::now() + 2 * PATIENCE }
    }
}

/// An open event stream.
pub struct Events {
    reader: BufReader<TcpStream>,
    /// Longer than anything may take; a stream says at least that it is there.
    until: Instant,
}

impl Iterator for Events {
    type Item = Value;

    fn next(&mut self) -> Option<Value> {
        loop {
            assert!(Instant::now() < self.until, "the stream goes on, and what was waited for did not come");
            let mut line = Vec::new();
            if self.reader.read_until(b'\n', &mut line).ok()? == 0 {
                return None;
            }
            // Chunk sizes stand between the lines.
            if let Some(data) = line.strip_prefix(b"data: ") {
                return serde_json::from_slice(data).ok();
            }
        }
    }
}
