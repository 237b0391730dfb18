//! What an operator would notice of retention.

use proptest::prelude::*;

use super::*;
use crate::backup::digest::{Digest, RunId};
use crate::backup::snapshot::{ClientInfo, ManifestRef};

mod decline;

const DAY: i64 = DAY_SECS as i64;
/// 2026-11-21 12:00 UTC, a Saturday.
const NOW: Timestamp = Timestamp { secs: 1_795_262_400, nanos: 0 };
/// Keeps nothing.
const NONE: Policy =
    Policy { within_secs: 0, last: 0, hourly: 0, daily: 0, weekly: 0, monthly: 0, yearly: 0, min_age_secs: 0 };

fn at(number: u64, secs: i64) -> Candidate {
    Candidate {
        number,
        root: RelPath::new(b"home").unwrap(),
        kind: RunKind::Backup,
        received: Timestamp { secs, nanos: 0 },
        offset_secs: 0,
        complete: true,
        recursive: true,
        files: 5,
        shrank: false,
        overwrote: false,
        released: false,
    }
}

/// Number `n` of `ages`, counted from 1: so many days ago; the oldest first.
fn days_ago(ages: &[i64]) -> Vec<Candidate> {
    (1..).zip(ages).map(|(number, days)| at(number, NOW.secs - days * DAY)).collect()
}

fn kept(candidates: &[Candidate], policy: Policy) -> Vec<u64> {
    decide(candidates, &policy, NOW).iter().filter(|verdict| verdict.keep).map(|verdict| verdict.number).collect()
}

fn reasons(candidates: &[Candidate], policy: Policy, number: u64) -> String {
    let verdicts = decide(candidates, &policy, NOW);
    let verdict = verdicts.iter().find(|verdict| verdict.number == number).unwrap();
    let words: Vec<String> = verdict.reasons.iter().map(ToString::to_string).collect();
    format!("{}: {}", if verdict.keep { "stays" } else { "goes" }, words.join("; "))
}

#[test]
fn each_period_is_stood_for_by_its_newest() {
    // 2026-11-21 is a Saturday: days 0 to 5 ago are its week.
    let daily: Vec<i64> = (0..800).rev().collect();
    let of_number = |days: i64| u64::try_from(800 - days).unwrap();
    let snapshots = days_ago(&daily);
    let numbers = |days: &[i64]| days.iter().rev().map(|days| of_number(*days)).collect::<Vec<_>>();
    assert_eq!(kept(&snapshots, NONE), numbers(&[0]), "the last complete one");
    assert_eq!(kept(&snapshots, Policy { last: 3, ..NONE }), numbers(&[0, 1, 2]));
    assert_eq!(kept(&snapshots, Policy { daily: 2, ..NONE }), numbers(&[0, 1]));
    assert_eq!(kept(&snapshots, Policy { weekly: 3, ..NONE }), numbers(&[0, 6, 13]));
    assert_eq!(kept(&snapshots, Policy { monthly: 4, ..NONE }), numbers(&[0, 21, 52, 82]));
    assert_eq!(kept(&snapshots, Policy { yearly: 9, ..NONE }), numbers(&[0, 325, 690]));
    assert_eq!(kept(&snapshots, Policy { within_secs: 3 * DAY_SECS, ..NONE }), numbers(&[0, 1, 2]));
    assert_eq!(kept(&snapshots, Policy { min_age_secs: 3 * DAY_SECS, ..NONE }), numbers(&[0, 1, 2]));
    assert_eq!(kept(&snapshots, Policy { within_secs: u64::MAX, ..NONE }).len(), 800);
}

#[test]
fn periods_follow_the_wall_clock_of_the_server() {
    // 22:30 and 23:30 UTC: in Berlin's winter the second is tomorrow.
    let pair = |offset_secs| {
        let evening = NOW.secs - 30 * DAY + 10 * 3600 + 1800;
        [at(1, evening), at(2, evening + 3600), at(3, NOW.secs)].map(|c| Candidate { offset_secs, ..c })
    };
    assert_eq!(kept(&pair(0), Policy { daily: 9, ..NONE }), [2, 3]);
    assert_eq!(kept(&pair(3600), Policy { daily: 9, ..NONE }), [1, 2, 3]);
    assert_eq!(kept(&pair(0), Policy { hourly: 9, ..NONE }), [1, 2, 3]);
}

#[test]
fn periods_without_a_snapshot_do_not_count() {
    let snapshots = days_ago(&[900, 700, 400, 30, 0]);
    assert_eq!(kept(&snapshots, Policy { daily: 4, ..NONE }), [2, 3, 4, 5]);
}

#[test]
fn an_incomplete_one_stands_for_a_period_only_if_no_complete_one_can() {
    let mut snapshots = days_ago(&[40, 40, 39, 1, 0]);
    for number in [1, 2] {
        snapshots[number].complete = false;
    }
    // Day 40: the earlier one is complete; day 39: only an incomplete one.
    assert_eq!(kept(&snapshots, Policy { daily: 9, ..NONE }), [1, 3, 4, 5]);
    assert!(reasons(&snapshots, Policy { daily: 9, ..NONE }, 2).starts_with("goes: incomplete"));
    assert_eq!(kept(&snapshots, Policy { last: 3, ..NONE }), [1, 4, 5]);
    assert_eq!(kept(&snapshots, Policy { last: 4, ..NONE }), [1, 3, 4, 5]);
}

#[test]
fn the_last_complete_one_and_the_newest_record_never_go() {
    let mut snapshots = days_ago(&[900, 800, 700, 600]);
    snapshots[2].complete = false;
    snapshots[3].complete = false;
    assert_eq!(kept(&snapshots, NONE), [2, 4]);
    assert_eq!(reasons(&snapshots, NONE, 2), "stays: the last complete one of its root");
    assert_eq!(reasons(&snapshots, NONE, 4), "stays: the newest of its root");
    snapshots.push(Candidate { root: RelPath::new(b"etc").unwrap(), ..at(5, NOW.secs - 950 * DAY) });
    assert_eq!(kept(&snapshots, NONE), [2, 4, 5], "each root for itself");
}

#[test]
fn a_forgotten_root_keeps_its_last_complete_snapshot_and_that_it_was_forgotten() {
    let mut snapshots = days_ago(&[900, 800, 700]);
    snapshots[2].kind = RunKind::Forget;
    assert_eq!(kept(&snapshots, NONE), [2, 3]);
    snapshots.push(at(4, NOW.secs - 650 * DAY));
    assert_eq!(kept(&snapshots, Policy { daily: 1, ..NONE }), [4]);
    assert!(reasons(&snapshots, NONE, 3).starts_with("goes: tells that the root was forgotten"));
}

#[test]
fn what_was_there_before_a_run_that_shrank_the_root_stays_until_that_is_released() {
    let mut snapshots = days_ago(&[900, 890, 880, 870, 0]);
    snapshots[1].complete = false;
    snapshots[2].shrank = true;
    assert_eq!(kept(&snapshots, NONE), [1, 2, 3, 5], "the incomplete predecessor, and the complete one before it");
    assert_eq!(reasons(&snapshots, NONE, 2), "stays: what was there before snapshot 3 took most of it away");
    snapshots[2].shrank = false;
    assert_eq!(kept(&snapshots, NONE), [5]);
    // The very first has nothing before it.
    snapshots[0].shrank = true;
    assert_eq!(kept(&snapshots, NONE), [5]);
}

#[test]
fn a_run_shrank_its_root_when_the_guard_would_have_stopped_it() {
    let record = |counts, files| SnapshotRecord {
        number: 2,
        kind: RunKind::Backup,
        root: RelPath::root(),
        recursive: true,
        delete: true,
        run: RunId([1; 16]),
        parent: None,
        manifest: Digest::of(b""),
        manifest_file: ManifestRef::Full,
        received: NOW,
        complete: true,
        counts,
        entries: files,
        files,
        bytes: 0,
        content_bytes: 0,
        errors: Vec::new(),
        errors_total: 0,
        file_system: 0,
        client: ClientInfo::default(),
    };
    assert!(shrank(&record([0, 0, 0, 400, 0, 600], 600)));
    assert!(!shrank(&record([0, 0, 0, 200, 0, 800], 800)));
    assert!(!shrank(&record([5000, 0, 400, 0, 0, 600], 1000)), "moves do not count");
    assert!(shrank(&record([0, 0, 0, 20, 0, 1], 0)), "emptied");
    assert!(!Candidate::of(&record([0, 0, 0, 400, 0, 600], 600), 0, true).shrank, "released");
    assert!(Candidate::of(&record([0, 260, 0, 0, 0, 740], 1000), 0, false).overwrote);
    assert!(!Candidate::of(&record([0, 40, 0, 0, 400, 960], 1000), 0, false).overwrote, "4 %, and metadata");
    assert!(!Candidate::of(&record([900, 0, 0, 0, 0, 1], 901), 0, false).overwrote, "the first");
}

#[test]
fn a_clock_that_was_wrong_lets_nothing_young_go() {
    let snapshots = [at(1, NOW.secs + 900 * DAY), at(2, i64::MAX), at(3, i64::MIN), at(4, NOW.secs)];
    let policy = Policy { min_age_secs: DAY_SECS, ..NONE };
    assert_eq!(kept(&snapshots, policy), [1, 2, 4]);
    assert_eq!(kept(&snapshots, Policy { yearly: 9, ..policy }), [1, 2, 3, 4]);
}

#[test]
fn a_reason_reads_as_a_sentence() {
    let snapshots = days_ago(&[40, 10, 0]);
    let policy = Policy { within_secs: 11 * DAY_SECS, last: 2, daily: 3, min_age_secs: DAY_SECS, ..NONE };
    assert_eq!(reasons(&snapshots, policy, 1), "stays: daily 3 of 3");
    assert_eq!(reasons(&snapshots, policy, 2), "stays: younger than 11 days (within); last 2 of 2; daily 2 of 3");
    assert!(reasons(&snapshots, policy, 3).starts_with(
        "stays: the newest of its root; the last complete one of its root; younger than 1 day (min-age); "
    ));
    assert_eq!(reasons(&snapshots, Policy { daily: 2, ..NONE }, 1), "goes: no rule keeps it");
}

#[test]
fn year_and_month_are_those_of_the_calendar() {
    for (day, expected) in [
        (0, (1970, 0)),
        (-1, (1969, 11)),
        (59, (1970, 2)),
        (11_015, (2000, 1)), // 2000-02-28
        (11_016, (2000, 1)), // 2000-02-29
        (11_017, (2000, 2)),
        (20_778, (2026, 10)), // 2026-11-21
        (-719_468, (0, 2)),
    ] {
        assert_eq!(year_and_month(day), expected, "day {day}");
    }
}

fn candidates() -> impl Strategy<Value = Vec<Candidate>> {
    let files = prop_oneof![Just(0_u64), 0..30_u64, 100..400_u64, 800..1000_u64];
    let what = (any::<bool>(), 0..10_u8, 0..10_u8, files);
    let one = (0..1200_i64, 0..24_i64, what, prop_oneof![Just("a"), Just("b")]);
    proptest::collection::vec(one, 0..40).prop_map(|mut all| {
        all.sort_by_key(|(days, hours, ..)| std::cmp::Reverse(days * 24 + 23 - hours));
        type One = (i64, i64, (bool, u8, u8, u64), &'static str);
        let make = |(number, (days, hours, (complete, rare, other, files), root)): (u64, One)| Candidate {
            root: RelPath::new(root.as_bytes()).unwrap(),
            kind: if rare == 0 { RunKind::Forget } else { RunKind::Backup },
            complete: complete || rare > 6,
            shrank: rare == 1,
            recursive: other > 0,
            overwrote: other == 1,
            released: other == 2 && rare != 1,
            files: if rare == 0 { 0 } else { files },
            ..at(number, NOW.secs - days * DAY + hours * 3600)
        };
        (1..).zip(all).map(make).collect()
    })
}

fn policies() -> impl Strategy<Value = Policy> {
    (proptest::collection::vec(0..6_u32, 6), 0..400_u64, 0..100_u64).prop_map(|(counts, within, min_age)| Policy {
        within_secs: within * DAY_SECS,
        last: counts[0],
        hourly: counts[1],
        daily: counts[2],
        weekly: counts[3],
        monthly: counts[4],
        yearly: counts[5],
        min_age_secs: min_age * DAY_SECS,
    })
}

proptest! {
    #[test]
    fn whatever_the_policy_says_some_stay(candidates in candidates(), policy in policies()) {
        let verdicts = decide(&candidates, &policy, NOW);
        prop_assert_eq!(verdicts.len(), candidates.len());
        let stays = |candidate: &Candidate| verdicts.iter().any(|v| v.number == candidate.number && v.keep);
        for (i, candidate) in candidates.iter().enumerate() {
            let later: Vec<_> = candidates[i + 1..].iter().filter(|l| l.is_of(candidate)).collect();
            let earlier: Vec<_> = candidates[..i].iter().filter(|e| e.is_of(candidate)).collect();
            let good = |c: &Candidate| c.complete && c.kind == RunKind::Backup;
            let young = age_secs(candidate, NOW) < policy.min_age_secs;
            let newest = later.is_empty();
            let last_complete = good(candidate) && !later.iter().any(|l| good(l));
            prop_assert!(stays(candidate) || !(young || newest || last_complete));
            if candidate.shrank {
                let before = earlier.iter().rev().find(|e| e.kind == RunKind::Backup);
                prop_assert!(before.is_none_or(|before| stays(before) && stays(candidate)));
            }
        }
        prop_assert!(verdicts.iter().all(|verdict| !verdict.reasons.is_empty()));
    }

    #[test]
    fn more_of_anything_never_lets_go_of_more(candidates in candidates(), policy in policies(), more in policies()) {
        let larger = Policy {
            within_secs: policy.within_secs + more.within_secs,
            last: policy.last + more.last,
            hourly: policy.hourly + more.hourly,
            daily: policy.daily + more.daily,
            weekly: policy.weekly + more.weekly,
            monthly: policy.monthly + more.monthly,
            yearly: policy.yearly + more.yearly,
            min_age_secs: policy.min_age_secs + more.min_age_secs,
        };
        let (few, many) = (kept(&candidates, policy), kept(&candidates, larger));
        prop_assert!(few.iter().all(|number| many.contains(number)));
    }

    #[test]
    fn what_is_left_is_left_again(candidates in candidates(), policy in policies()) {
        let stay = kept(&candidates, policy);
        let left: Vec<_> = candidates.into_iter().filter(|candidate| stay.contains(&candidate.number)).collect();
        prop_assert_eq!(kept(&left, policy), stay);
    }
}
