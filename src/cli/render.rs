//! Text for people: progress, the last two lines, `ls`, `status`. Pure; names come out escaped.

mod copies;

use jiff::Timestamp;
use jiff::tz::TimeZone;

pub use self::copies::{copy_lines, gathering_line};
use super::units::{show_bytes, show_count, show_secs};
use crate::backup::bytes::{escape, shown};
use crate::backup::entry::{Entry, Kind};
use crate::engine::inspect::{DestinationStatus, ListedEntry, Listing, StatusReport};
use crate::engine::observer::Summary;
use crate::engine::progress::{FileView, Label, View};
use crate::engine::restore::RestoreSummary;

/// Fewest columns of a name in a bar, however narrow the terminal is.
const NAME_COLUMNS_MIN: usize = 12;

/// The file's line in that many columns: `1.2 MiB of 80 MiB  .../drivers/net/foo.c`. Of a long path the end is shown.
pub fn file_line(file: &FileView, columns: usize) -> String {
    let numbers = format!("{} of {}  ", show_bytes(file.done), show_bytes(file.bytes));
    let left = columns.saturating_sub(numbers.len()).max(NAME_COLUMNS_MIN);
    format!("{numbers}{}", short_name(&file.path, left))
}

/// The total's line: `sending 34 %  1.2 GiB of 3.4 GiB  112 MiB/s  0:20 left  1,234 files`.
pub fn total_line(view: &View) -> String {
    let mut parts: Vec<String> = view.label.iter().map(label).collect();
    match view.permille {
        Some(permille) => {
            parts.push(format!("{} {} %", view.phase.name(), permille / 10));
            parts.push(format!("{} of {}", show_bytes(view.done), show_bytes(view.planned)));
        }
        None if view.planned > 0 => {
            parts.push(view.phase.name().to_owned());
            parts.push(format!("{} of {} so far", show_bytes(view.done), show_bytes(view.planned)));
        }
        None => parts.push(view.phase.name().to_owned()),
    }
    if let Some(note) = &view.note {
        parts.push(note.clone());
    } else if view.permille != Some(1000) {
        parts.extend(view.rate.filter(|rate| *rate >= 1.0).map(|rate| format!("{}/s", show_bytes(rate as u64))));
        parts.extend(view.eta_secs.map(|secs| format!("{} left", show_secs(secs))));
    }
    if view.files_done > 0 {
        parts.push(count(view.files_done, "file", "files"));
    }
    parts.join("  ")
}

/// `192.168.1.20/u /home/u`.
pub(super) fn label(label: &Label) -> String {
    format!("{}/{} {}", escape(label.node.as_bytes()), escape(label.user.as_bytes()), escape(&label.root))
}

/// The beginning of a line, in that many columns.
pub fn cut(line: &str, columns: usize) -> String {
    let mut wide = 0;
    let fits = |c: &char| {
        wide += columns_of(*c);
        wide <= columns
    };
    shown(line).chars().take_while(fits).collect()
}

fn short_name(path: &[u8], columns: usize) -> String {
    let name = escape(path);
    let mut wide: usize = name.chars().map(columns_of).sum();
    if wide <= columns {
        return name;
    }
    let mut tail = name.chars();
    while wide + 3 > columns {
        let Some(first) = tail.next() else { break };
        wide -= columns_of(first);
    }
    format!("...{}", tail.as_str())
}

/// Columns that a character takes in a terminal, near enough: East Asian scripts and pictures take two.
fn columns_of(c: char) -> usize {
    let wide = matches!(c, '\u{1100}'..='\u{115f}' | '\u{2e80}'..='\u{a4cf}' | '\u{ac00}'..='\u{d7a3}'
        | '\u{f900}'..='\u{faff}' | '\u{fe30}'..='\u{fe4f}' | '\u{ff00}'..='\u{ff60}' | '\u{1f300}'..='\u{1faff}'
        | '\u{20000}'..='\u{3fffd}');
    if wide { 2 } else { 1 }
}

pub(super) fn count(n: u64, one: &str, many: &str) -> String {
    format!("{} {}", show_count(n), if n == 1 { one } else { many })
}

fn counts(parts: &[(u64, &str)]) -> String {
    let told: Vec<String> =
        parts.iter().filter(|part| part.0 > 0).map(|(n, word)| format!("{} {word}", show_count(*n))).collect();
    if told.is_empty() { "nothing changed".to_owned() } else { told.join(", ") }
}

/// The last two lines of a backup.
pub fn summary_lines(summary: &Summary) -> [String; 2] {
    let what = counts(&[
        (summary.created, "created"),
        (summary.updated, "updated"),
        (summary.moved, "moved"),
        (summary.deleted, "deleted"),
        (summary.touched, "touched"),
    ]);
    let snapshot = match summary.snapshot {
        Some(number) if summary.incomplete => format!("snapshot {number}, INCOMPLETE"),
        Some(number) => format!("snapshot {number}"),
        None => "dry run".to_owned(),
    };
    let verb = if summary.snapshot.is_some() { "sent" } else { "would send" };
    let mut second = format!(
        "{verb} {} of {} in {}, {}",
        show_bytes(summary.content_bytes_sent),
        show_bytes(summary.bytes),
        count(summary.files, "file", "files"),
        show_secs(summary.elapsed_secs)
    );
    if summary.errors > 0 {
        second.push_str(&format!(", {}", count(summary.errors, "error", "errors")));
    }
    [format!("{} ({snapshot}): {what}", escape(&summary.root)), second]
}

/// The last two lines of a restore.
pub fn restore_lines(summary: &RestoreSummary, dry_run: bool) -> [String; 2] {
    let what = counts(&[
        (summary.created, "created"),
        (summary.updated, "updated"),
        (summary.deleted, "deleted"),
        (summary.touched, "touched"),
    ]);
    let incomplete = if summary.complete { "" } else { ", incomplete" };
    let first = format!(
        "{} (snapshot {} of {}{incomplete}) to {}: {what}",
        escape(&summary.path),
        summary.snapshot,
        show_time(summary.time_secs),
        escape(&summary.to)
    );
    let mut second = format!(
        "{} {} of {} in {}, {}",
        if dry_run { "would fetch" } else { "fetched" },
        show_bytes(summary.content_bytes_received),
        show_bytes(summary.bytes),
        count(summary.files, "file", "files"),
        show_secs(summary.elapsed_secs)
    );
    if summary.errors > 0 {
        second.push_str(&format!(", {}", count(summary.errors, "error", "errors")));
    }
    [first, second]
}

/// A line of a dry run.
pub fn plan_line(action: &str, path: &[u8], other: &[u8]) -> String {
    let path = escape(path);
    if other.is_empty() { format!("{action:<6} {path}") } else { format!("{action:<6} {path} -> {}", escape(other)) }
}

/// A line of `ls`, like `ls -l`.
pub fn listed_line(listed: &ListedEntry) -> String {
    let meta = &listed.entry.meta;
    let owner = |name: &Option<Vec<u8>>, id: u32| name.as_ref().map_or_else(|| id.to_string(), |name| escape(name));
    let size = match &listed.entry.kind {
        Kind::File(content) => content.size.to_string(),
        Kind::CharDevice { major, minor } | Kind::BlockDevice { major, minor } => format!("{major},{minor}"),
        _ => "-".to_owned(),
    };
    let target = match &listed.entry.kind {
        Kind::Symlink { target } => format!(" -> {}", escape(target.as_slice())),
        _ => String::new(),
    };
    format!(
        "{} {:<8} {:<8} {size:>12} {} {}{target}",
        mode_text(&listed.entry),
        owner(&listed.user, meta.uid),
        owner(&listed.group, meta.gid),
        show_time(meta.mtime.secs),
        escape(&listed.path)
    )
}

/// `drwxr-xr-x`, as `ls -l` writes it.
pub(super) fn mode_text(entry: &Entry) -> String {
    let kind = match &entry.kind {
        Kind::Dir => 'd',
        Kind::File(_) => '-',
        Kind::Symlink { .. } => 'l',
        Kind::Fifo => 'p',
        Kind::CharDevice { .. } => 'c',
        Kind::BlockDevice { .. } => 'b',
    };
    let mode = entry.meta.mode;
    let mut text = String::from(kind);
    for (shift, special, set, unset) in [(6, 0o4000, 's', 'S'), (3, 0o2000, 's', 'S'), (0, 0o1000, 't', 'T')] {
        let bits = mode >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (mode & special != 0, bits & 1 != 0) {
            (true, true) => set,
            (true, false) => unset,
            (false, true) => 'x',
            (false, false) => '-',
        });
    }
    text
}

/// Which snapshot a listing comes from.
pub fn listing_line(listing: &Listing) -> String {
    let incomplete = if listing.complete { "" } else { ", incomplete" };
    format!("snapshot {} of {}, {}{incomplete}", listing.snapshot, escape(&listing.root), show_time(listing.time_secs))
}

/// `status`, line by line.
pub fn status_lines(report: &StatusReport) -> Vec<String> {
    let mut lines = vec![format!("target    {} ({})", escape(report.target.as_bytes()), escape(&report.software))];
    if let Some(key) = &report.daemon_key {
        lines.push(format!("key       {}", escape(key.as_bytes())));
        lines.push(format!(
            "up        {}, {}",
            show_secs(report.uptime_secs as f64),
            count(u64::from(report.sessions), "session", "sessions")
        ));
    }
    lines.push(if report.relay {
        "relay     keeps nothing, and passes on to the destinations below".to_owned()
    } else {
        format!("space     {} free of {}", show_bytes(report.space_free), show_bytes(report.space_total))
    });
    lines.push(format!("me        {}/{}", escape(&report.node), escape(&report.user)));
    lines.extend(
        report
            .quota_bytes
            .map(|quota| format!("quota     {} used of {}", show_bytes(report.used_bytes), show_bytes(quota))),
    );
    lines.extend(report.my_key.iter().map(|key| format!("my key    {}", escape(key.as_bytes()))));
    for root in &report.roots {
        lines.push(format!(
            "root      {}  snapshot {}, {}{}, {}, {}",
            escape(&root.root),
            root.snapshot,
            show_time(root.time_secs),
            if root.complete { "" } else { ", INCOMPLETE" },
            count(root.files, "file", "files"),
            show_bytes(root.bytes)
        ));
    }
    if report.roots.is_empty() && !report.relay {
        lines.push("root      none yet".to_owned());
    }
    lines.extend(report.running.iter().map(|run| format!("running   {}", escape(run))));
    lines.extend(report.destinations.iter().map(|destination| destination_line(destination, report.relay)));
    lines
}

fn destination_line(destination: &DestinationStatus, relay: bool) -> String {
    let mut line = format!(
        "copy      {} at {}, since {}, {} free of {}",
        escape(&destination.name),
        escape(&destination.address),
        show_time(destination.since_secs),
        show_bytes(destination.space_free),
        show_bytes(destination.space_total)
    );
    match destination.behind {
        // A relay has nothing to compare it with.
        0 if relay => {}
        0 => line.push_str(", up to date"),
        behind => line.push_str(&format!(", {} behind", count(behind, "snapshot", "snapshots"))),
    }
    if !destination.running.is_empty() {
        line.push_str(&format!("; running {}", escape(&destination.running)));
    }
    line
}

/// A moment in the local time zone; the number itself when it is out of any calendar.
pub(super) fn show_time(secs: i64) -> String {
    match Timestamp::from_second(secs) {
        Ok(time) => time.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string(),
        Err(_) => format!("@{secs}"),
    }
}

#[cfg(test)]
pub(crate) mod tests;
