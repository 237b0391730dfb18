//! What `rbbackupd prune` prints: why each snapshot stays or goes. Pure: a report in, lines out.
//!
//! A dry run tells of all snapshots, a real one of those that went.

use serde::Serialize;

use super::render::{count, show_time};
use super::units::show_bytes;
use crate::backup::bytes::escape;
use crate::engine::admin::PruneDone;
use crate::engine::prune::{CopyReport, Judged, PruneReport};
use crate::json;

#[derive(Serialize)]
struct VerdictLine {
    r#type: &'static str,
    copy: String,
    number: u64,
    root: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    root_hex: Option<String>,
    time_secs: i64,
    complete: bool,
    files: u64,
    bytes: u64,
    keep: bool,
    reasons: Vec<String>,
}

#[derive(Serialize)]
struct SummaryLine {
    r#type: &'static str,
    dry_run: bool,
    snapshots: u64,
    expired: u64,
    packs_removed: u64,
    packs_written: u64,
    bytes_freed: u64,
    /// `bytes_freed` is reckoned, not known.
    estimate: bool,
}

fn root_of(judged: &Judged) -> Vec<u8> {
    [b"/", judged.root.as_bytes()].concat()
}

fn shown<'a>(report: &PruneReport, copy: &'a CopyReport) -> impl Iterator<Item = &'a Judged> {
    let dry_run = report.dry_run;
    copy.snapshots.iter().filter(move |judged| dry_run || !judged.keep)
}

/// JSON lines.
pub(super) fn json_lines(report: &PruneReport) -> Vec<String> {
    let mut lines = Vec::new();
    for copy in &report.copies {
        for judged in shown(report, copy) {
            let root = root_of(judged);
            lines.push(json::line(&VerdictLine {
                r#type: "verdict",
                copy: copy.copy.to_string(),
                number: judged.number,
                root: json::text(&root),
                root_hex: json::hex_of_odd(&root),
                time_secs: judged.time_secs,
                complete: judged.complete,
                files: judged.files,
                bytes: judged.bytes,
                keep: judged.keep,
                reasons: judged.reasons.iter().map(ToString::to_string).collect(),
            }));
        }
        lines.extend(copy.trouble.as_ref().map(|trouble| json::error(None, trouble, Some(1))));
    }
    lines.push(json::line(&SummaryLine {
        r#type: "summary",
        dry_run: report.dry_run,
        snapshots: report.copies.iter().map(|copy| copy.snapshots.len() as u64).sum(),
        expired: report.expired() as u64,
        packs_removed: report.copies.iter().map(|copy| copy.swept.packs_removed).sum(),
        packs_written: report.copies.iter().map(|copy| copy.swept.packs_written).sum(),
        bytes_freed: report.freed(),
        estimate: !report.is_exact(),
    }));
    lines
}

/// Lines for people.
pub(super) fn lines(report: &PruneReport) -> Vec<String> {
    let mut lines = Vec::new();
    for copy in &report.copies {
        let mut judged: Vec<&Judged> = shown(report, copy).collect();
        judged.sort_by_key(|judged| (&judged.root, judged.number));
        let width = judged.iter().map(|judged| judged.number.to_string().len()).max().unwrap_or(0);
        for group in judged.chunk_by(|a, b| a.root == b.root) {
            lines.extend(group.first().map(|first| format!("{} {}", copy.copy, escape(&root_of(first)))));
            lines.extend(group.iter().map(|judged| line(judged, width)));
        }
    }
    for stranger in &report.strangers {
        lines.push(format!("{stranger} is named in the configuration, and has nothing in this store"));
    }
    let (all, gone) = (report.copies.iter().map(|copy| copy.snapshots.len() as u64).sum(), report.expired() as u64);
    lines.push(match (report.dry_run, report.freed()) {
        (false, freed) => end_line((gone, all), freed),
        (true, 0) => format!("{gone} of {} would expire", count(all, "snapshot", "snapshots")),
        (true, freed) => format!(
            "{gone} of {} would expire, {}{} would be given back",
            count(all, "snapshot", "snapshots"),
            if report.is_exact() { "" } else { "about " },
            show_bytes(freed)
        ),
    });
    lines
}

fn end_line((gone, all): (u64, u64), freed: u64) -> String {
    let given_back = match freed {
        0 => String::new(),
        bytes => format!(", {} given back", show_bytes(bytes)),
    };
    format!("{gone} of {} expired{given_back}", count(all, "snapshot", "snapshots"))
}

/// What a daemon did, in one line.
pub(super) fn daemon_line(done: &PruneDone, json: bool) -> String {
    if !json {
        return end_line((done.expired, done.snapshots), done.bytes_freed);
    }
    json::line(&SummaryLine {
        r#type: "summary",
        dry_run: false,
        snapshots: done.snapshots,
        expired: done.expired,
        packs_removed: done.packs_removed,
        packs_written: done.packs_written,
        bytes_freed: done.bytes_freed,
        estimate: false,
    })
}

fn line(judged: &Judged, width: usize) -> String {
    let words: Vec<String> = judged.reasons.iter().map(ToString::to_string).collect();
    format!(
        "{:>width$}  {}  {:<5}  {:>8}{}  {}",
        judged.number,
        show_time(judged.time_secs),
        if judged.keep { "stays" } else { "goes" },
        show_bytes(judged.bytes),
        if judged.complete { "" } else { "  incomplete" },
        words.join("; ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::relpath::RelPath;
    use crate::backup::retention::{Period, Reason};
    use crate::engine::prune::Swept;
    use crate::store::names::CopyName;

    fn report(dry_run: bool) -> PruneReport {
        let judged = |number, root: &[u8], keep, reasons| Judged {
            number,
            root: RelPath::new(root).unwrap(),
            time_secs: i64::MAX,
            complete: keep,
            files: 3,
            bytes: 2048,
            keep,
            reasons,
        };
        let daily = Reason::Period { period: Period::Day, rank: 2, of: 7 };
        let snapshots = vec![
            judged(9, b"home\n", false, vec![Reason::Incomplete]),
            judged(10, b"etc", true, vec![Reason::Newest, daily]),
            judged(11, b"home\n", true, vec![daily]),
        ];
        let swept = Swept { packs_removed: 2, bytes_removed: 4096, packs_written: 1, bytes_written: 2048 };
        let copy = CopyReport {
            copy: CopyName::new(b"n", b"u").unwrap(),
            snapshots,
            swept,
            record_bytes: 1024,
            exact: !dry_run,
            trouble: Some("the disk".into()),
        };
        PruneReport { dry_run, copies: vec![copy], strangers: vec![CopyName::new(b"n", b"x").unwrap()] }
    }

    #[test]
    fn a_dry_run_says_of_each_why_it_stays_or_goes() {
        let time = show_time(i64::MAX);
        let expected = [
            "n/u /etc".to_owned(),
            format!("10  {time}  stays   2.0 KiB  the newest of its root; daily 2 of 7"),
            "n/u /home\\x0a".to_owned(),
            format!(" 9  {time}  goes    2.0 KiB  incomplete  incomplete, and no rule keeps it"),
            format!("11  {time}  stays   2.0 KiB  daily 2 of 7"),
            "n/x is named in the configuration, and has nothing in this store".to_owned(),
            "1 of 3 snapshots would expire, about 3.0 KiB would be given back".to_owned(),
        ];
        assert_eq!(lines(&report(true)), expected);
        assert_eq!(json_lines(&report(true)).len(), 3 + 2);
    }

    #[test]
    fn a_real_run_tells_what_went() {
        let said = lines(&report(false));
        assert_eq!((said.len(), said[3].as_str()), (4, "1 of 3 snapshots expired, 3.0 KiB given back"));
        let json = json_lines(&report(false));
        let first: serde_json::Value = serde_json::from_str(&json[0]).unwrap();
        assert_eq!(
            (&first["type"], &first["number"], &first["root"]),
            (&"verdict".into(), &9.into(), &"/home\n".into())
        );
        assert!(json[1].contains(r#""type":"error""#) && json[2].contains(r#""expired":1"#));
        assert!(json[2].contains(r#""bytes_freed":3072,"estimate":false"#), "{}", json[2]);
    }
}
