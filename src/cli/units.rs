//! Times, sizes and addresses as people write and read them. Pure text in, value out, and back.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

pub use crate::backup::bytes::show_bytes;

/// A time span: `90`, `90s`, `15m`, `2h`, `1d`, `1w`, or several: `1h30m`. A bare number means seconds.
///
/// # Errors
/// A sentence that names the text.
pub fn parse_time(text: &str) -> Result<Duration, String> {
    let wrong = || format!("'{text}' is not a time; write 90, 90s, 15m, 2h, 1d or 1h30m");
    let text = text.trim();
    if let Ok(secs) = text.parse::<u64>() {
        return Ok(Duration::from_secs(secs));
    }
    let mut secs: u64 = 0;
    let mut number = String::new();
    for c in text.chars() {
        if c.is_ascii_digit() {
            number.push(c);
            continue;
        }
        let factor = match c {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 86_400,
            'w' => 604_800,
            _ => return Err(wrong()),
        };
        let count: u64 = number.parse().map_err(|_| wrong())?;
        number.clear();
        secs = count.checked_mul(factor).and_then(|s| secs.checked_add(s)).ok_or_else(wrong)?;
    }
    if !number.is_empty() || text.is_empty() {
        return Err(wrong());
    }
    Ok(Duration::from_secs(secs))
}

/// The value of `--wait`: a time span, or `forever` ([`Duration::MAX`]).
///
/// # Errors
/// As [`parse_time`].
pub fn parse_wait(text: &str) -> Result<Duration, String> {
    if text == "forever" { Ok(Duration::MAX) } else { parse_time(text) }
}

/// `ADDR[:PORT]`; without a port `port_default`. An IPv6 address with a port stands in brackets.
///
/// # Errors
/// A sentence that names the text.
pub fn parse_address(text: &str, port_default: u16) -> Result<SocketAddr, String> {
    if let Ok(addr) = text.parse::<SocketAddr>() {
        return Ok(addr);
    }
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    match bare.parse::<IpAddr>() {
        Ok(ip) => Ok(SocketAddr::new(ip, port_default)),
        Err(_) => Err(format!("'{text}' is not an address; write 192.0.2.1, 192.0.2.1:8730, ::1 or [::1]:8730")),
    }
}

/// A size in bytes: `1000`, `512M`, `10G`, `1.5T`. The letters mean KiB, MiB, GiB, TiB; `GiB` may be written out.
///
/// # Errors
/// A sentence that names the text.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let wrong = || format!("'{text}' is not a size; write 1000, 512M, 10G or 1.5T (1G = 1024M)");
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim() {
        "" | "B" => 0,
        "K" | "k" | "KiB" => 10,
        "M" | "MiB" => 20,
        "G" | "GiB" => 30,
        "T" | "TiB" => 40,
        "P" | "PiB" => 50,
        _ => return Err(wrong()),
    };
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(1 << shift).ok_or_else(wrong);
    }
    let (whole, part) = number.split_once('.').ok_or_else(wrong)?;
    if part.is_empty() || part.len() > 3 {
        return Err(wrong());
    }
    let (whole, part, scale) = (whole.parse::<u64>(), part.parse::<u64>(), 10_u64.pow(part.len() as u32));
    let (Ok(whole), Ok(part)) = (whole, part) else { return Err(wrong()) };
    let fraction = u128::from(part) * (1_u128 << shift) / u128::from(scale);
    let bytes = whole.checked_mul(1 << shift).and_then(|bytes| bytes.checked_add(u64::try_from(fraction).ok()?));
    bytes.ok_or_else(wrong)
}

/// A count with separators: `83 214` would break columns, so `83,214`.
pub fn show_count(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// A time span for people: `0.8 s`, `42 s`, `3:07`, `1:02:03`, `3 d 04 h`.
pub fn show_secs(secs: f64) -> String {
    if secs < 9.95 {
        return format!("{:.1} s", secs.max(0.0));
    }
    let whole = secs.round() as u64;
    match whole {
        0..60 => format!("{whole} s"),
        60..3600 => format!("{}:{:02}", whole / 60, whole % 60),
        3600..172_800 => format!("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60),
        _ => format!("{} d {:02} h", whole / 86_400, whole / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (text, secs) in [("0", 0), ("90", 90), ("90s", 90), ("15m", 900), ("1h30m", 5400), ("1w", 604_800)] {
            assert_eq!(parse_time(text), Ok(Duration::from_secs(secs)), "{text}");
        }
        for bad in ["", "m", "5x", "5m3", "-1", "99999999999999999999", "99999999999999999w", "1.5h"] {
            assert!(parse_time(bad).is_err(), "{bad}");
        }
        assert_eq!(parse_wait("forever"), Ok(Duration::MAX));
    }

    #[test]
    fn addresses() {
        assert_eq!(parse_address("127.0.0.2", 0).unwrap().to_string(), "127.0.0.2:0");
        assert_eq!(parse_address("127.0.0.2:9", 0).unwrap().to_string(), "127.0.0.2:9");
        assert_eq!(parse_address("::1", 8730).unwrap().to_string(), "[::1]:8730");
        assert_eq!(parse_address("[::]", 8730).unwrap().to_string(), "[::]:8730");
        assert_eq!(parse_address("[::1]:5", 8730).unwrap().to_string(), "[::1]:5");
        assert!(parse_address("localhost", 0).unwrap_err().contains("'localhost'"));
    }

    #[test]
    fn sizes_are_read() {
        for (text, bytes) in [
            ("0", 0),
            ("1000", 1000),
            ("512M", 512 << 20),
            ("10G", 10 << 30),
            ("10 GiB", 10 << 30),
            ("1.5T", 3 << 39),
            ("0.25k", 256),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for bad in ["", "G", "10X", "-1", "1.2345G", "1.G", "99999999999G", "1e9", "10GB", "1.1.1M"] {
            assert!(parse_size(bad).is_err_and(|why| why.contains("is not a size")), "{bad}");
        }
    }

    #[test]
    fn sizes_and_counts() {
        for (bytes, text) in
            [(0, "0 B"), (1023, "1023 B"), (1434, "1.4 KiB"), (1024 * 1024 - 1, "1.0 MiB"), (24 << 20, "24 MiB")]
        {
            assert_eq!(show_bytes(bytes), text);
        }
        assert_eq!(show_bytes(u64::MAX), "16 EiB");
        for (count, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(show_count(count), text);
        }
    }

    #[test]
    fn spans() {
        for (secs, text) in
            [(0.84, "0.8 s"), (9.97, "10 s"), (187.0, "3:07"), (3723.0, "1:02:03"), (273_600.0, "3 d 04 h")]
        {
            assert_eq!(show_secs(secs), text);
        }
    }
}
