//! `verify` and `stats`, of both programs: they ask, and print what comes as text or as one JSON object a line.

use serde::Serialize;

use super::exit::Exit;
use super::render::{count, show_time};
use super::terminal::Terminal;
use super::units::show_bytes;
use crate::backup::bytes::escape;
use crate::engine::admin::{Asker, DamageReport, StatsReport, VerifyReport, stats, verify};
use crate::engine::error::EngineError;
use crate::json;

/// Most parts that a verification can be cut into.
const PARTS_MAX: u32 = 10_000;

/// Reads `--sample 1/30`: how many parts there are.
///
/// # Errors
/// A sentence on how it is written.
pub fn parse_sample(text: &str) -> Result<u32, String> {
    let parts = text.strip_prefix("1/").and_then(|parts| parts.parse().ok());
    let parts = parts.filter(|parts| (1..=PARTS_MAX).contains(parts));
    parts.ok_or_else(|| format!("write 1/N, N being 1 to {PARTS_MAX}: with 1/30 thirty runs look at everything"))
}

/// How to speak.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// One object a line.
    pub json: bool,
    /// Nothing when all is well.
    pub quiet: bool,
}

/// Verifies, and says what was found.
///
/// # Errors
/// It could not be found out.
pub fn run_verify(
    asker: Asker<'_>,
    path: Option<&std::path::Path>,
    parts: u32,
    manner: Manner,
    terminal: &Terminal,
) -> Result<Exit, EngineError> {
    let mut healed = 0;
    let report = verify(asker, path, parts, &mut |damage| {
        healed += u64::from(damage.healed);
        if manner.json {
            terminal.out(&damage_json(damage));
        } else {
            terminal.say(&damage_line(damage));
        }
    })?;
    if manner.json {
        terminal.out(&verify_json(&report));
    } else if !manner.quiet {
        terminal.out(&verify_line(&report, parts, healed));
    }
    Ok(if report.damages == 0 { Exit::Done } else { Exit::Failed })
}

fn damage_line(damage: &DamageReport) -> String {
    let touched = match damage.snapshots {
        0 => "no snapshot needs it".to_owned(),
        snapshots => format!("touches {}", count(snapshots, "snapshot", "snapshots")),
    };
    let outcome = match (damage.healed, damage.next_run) {
        (true, _) => "; it was put right",
        (_, true) => "; the next backup puts it right",
        _ => "",
    };
    format!("damaged: {}: {} ({touched}{outcome})", escape(&damage.what), escape(&damage.why))
}

#[derive(Serialize)]
struct Damage {
    r#type: &'static str,
    path: String,
    message: String,
    snapshots: u64,
    outcome: &'static str,
}

fn damage_json(damage: &DamageReport) -> String {
    let outcome = match (damage.healed, damage.next_run) {
        (true, _) => "healed",
        (_, true) => "next_run",
        _ => "stays",
    };
    json::line(&Damage {
        r#type: "damage",
        path: json::text(&damage.what),
        message: json::text(&damage.why),
        snapshots: damage.snapshots,
        outcome,
    })
}

fn verify_line(report: &VerifyReport, parts: u32, healed: u64) -> String {
    let part = match report.part {
        0 => String::new(),
        part => format!("part {part} of {parts}: "),
    };
    let looked = format!(
        "{}, {}, {}, {} read",
        count(report.snapshots, "snapshot", "snapshots"),
        count(report.files, "file", "files"),
        count(report.objects, "pack or retired file", "packs and retired files"),
        show_bytes(report.bytes)
    );
    match report.damages {
        0 => format!("{part}{looked}: all intact"),
        damages => format!("{part}{looked}: {}, {healed} put right", count(damages, "damage", "damages")),
    }
}

#[derive(Serialize)]
struct Verified {
    r#type: &'static str,
    part: u32,
    snapshots: u64,
    files: u64,
    objects: u64,
    bytes: u64,
    damages: u64,
}

fn verify_json(report: &VerifyReport) -> String {
    let VerifyReport { part, snapshots, files, objects, bytes, damages } = *report;
    json::line(&Verified { r#type: "verify", part, snapshots, files, objects, bytes, damages })
}

/// Asks for the statistics, and prints them.
///
/// # Errors
/// They could not be had.
pub fn run_stats(asker: Asker<'_>, manner: Manner, terminal: &Terminal) -> Result<Exit, EngineError> {
    for copy in stats(asker)? {
        if manner.json {
            terminal.out(&stats_json(&copy));
        } else {
            stats_lines(&copy).iter().for_each(|line| terminal.out(line));
        }
    }
    Ok(Exit::Done)
}

/// What a copy holds, for people.
pub fn stats_lines(copy: &StatsReport) -> Vec<String> {
    let mut lines = vec![format!("{}/{}", escape(&copy.node), escape(&copy.user))];
    for root in &copy.roots {
        let good = match root.complete_secs {
            0 => "never complete".to_owned(),
            secs => format!("complete {}", show_time(secs)),
        };
        lines.push(format!(
            "  root      {}  {}, {}, {}, {good}",
            escape(&root.path),
            count(root.snapshots, "snapshot", "snapshots"),
            count(root.files, "file", "files"),
            show_bytes(root.bytes)
        ));
    }
    lines.extend(history_lines(copy).into_iter().map(|line| format!("  {line}")));
    lines
}

/// What its past takes, for people.
pub fn history_lines(copy: &StatsReport) -> Vec<String> {
    let mut history = format!(
        "history   {}, {} of content in {}, {}",
        count(copy.snapshots, "snapshot", "snapshots"),
        show_bytes(copy.raw_bytes),
        count(copy.packs, "pack", "packs"),
        show_bytes(copy.pack_bytes),
    );
    if copy.retired_files > 0 {
        let files = count(copy.retired_files, "file", "files");
        history.push_str(&format!("; {files} of {} wait to be packed", show_bytes(copy.retired_bytes)));
    }
    let saved = format!(
        "saved     {} in all snapshots take {}",
        show_bytes(copy.logical_bytes),
        show_bytes(copy.stored_bytes())
    );
    let verified = match (copy.verified_secs, copy.damages) {
        (0, _) => "verified  never".to_owned(),
        (secs, 0) => format!("verified  {}, intact", show_time(secs)),
        (secs, damages) => format!("verified  {}, {}", show_time(secs), count(damages, "DAMAGE", "DAMAGES")),
    };
    let quota = copy
        .quota_bytes
        .map(|quota| format!("quota     {} used of {}", show_bytes(copy.used_bytes), show_bytes(quota)));
    [history, saved].into_iter().chain(quota).chain([verified]).collect()
}

#[derive(Serialize)]
struct Stats {
    r#type: &'static str,
    node: String,
    user: String,
    snapshots: u64,
    logical_bytes: u64,
    stored_bytes: u64,
    current_bytes: u64,
    packs: u64,
    pack_bytes: u64,
    pack_content_bytes: u64,
    retired_files: u64,
    retired_bytes: u64,
    snapshot_bytes: u64,
    quota_bytes: Option<u64>,
    used_bytes: u64,
    verified_secs: Option<i64>,
    damages: u64,
    roots: Vec<Root>,
}

#[derive(Serialize)]
struct Root {
    root: String,
    snapshots: u64,
    newest: u64,
    files: u64,
    bytes: u64,
    complete_secs: Option<i64>,
}

fn stats_json(copy: &StatsReport) -> String {
    let known = |secs: i64| Some(secs).filter(|secs| *secs != 0);
    let roots = copy.roots.iter().map(|root| Root {
        root: json::text(&root.path),
        snapshots: root.snapshots,
        newest: root.newest,
        files: root.files,
        bytes: root.bytes,
        complete_secs: known(root.complete_secs),
    });
    json::line(&Stats {
        r#type: "stats",
        node: json::text(&copy.node),
        user: json::text(&copy.user),
        snapshots: copy.snapshots,
        logical_bytes: copy.logical_bytes,
        stored_bytes: copy.stored_bytes(),
        current_bytes: copy.current_bytes(),
        packs: copy.packs,
        pack_bytes: copy.pack_bytes,
        pack_content_bytes: copy.raw_bytes,
        retired_files: copy.retired_files,
        retired_bytes: copy.retired_bytes,
        snapshot_bytes: copy.snapshot_bytes,
        quota_bytes: copy.quota_bytes,
        used_bytes: copy.used_bytes,
        verified_secs: known(copy.verified_secs),
        damages: copy.damages,
        roots: roots.collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_one_of_many() {
        assert_eq!(parse_sample("1/30"), Ok(30));
        assert_eq!(parse_sample("1/1"), Ok(1));
        for bad in ["30", "2/30", "1/0", "1/-3", "1/10001", "1/", ""] {
            assert!(parse_sample(bad).unwrap_err().contains("1/N"), "{bad}");
        }
    }

    #[test]
    fn a_damage_in_one_line() {
        let damage = DamageReport {
            what: b"/home/u/a\n".to_vec(),
            why: b"its content is not what was backed up".to_vec(),
            snapshots: 3,
            healed: true,
            next_run: false,
        };
        let line =
            "damaged: /home/u/a\\x0a: its content is not what was backed up (touches 3 snapshots; it was put right)";
        assert_eq!(damage_line(&damage), line);
        let json: serde_json::Value = serde_json::from_str(&damage_json(&damage)).unwrap();
        assert_eq!((&json["path"], &json["outcome"]), (&"/home/u/a\n".into(), &"healed".into()));
    }
}
