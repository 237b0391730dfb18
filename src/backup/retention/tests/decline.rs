//! What a thief cannot push out, and what honest use is spared.

use super::*;

/// Numbered from 1: days ago, files.
fn series(of: &[(i64, u64)]) -> Vec<Candidate> {
    let one =
        |(number, (days, files)): (u64, &(i64, u64))| Candidate { files: *files, ..at(number, NOW.secs - days * DAY) };
    (1..).zip(of).map(one).collect()
}

#[test]
fn many_small_losses_are_one_great_loss() {
    // Each run is within the guard: 24 %, then 99 of what is left.
    let mut snapshots = series(&[(903, 1000), (902, 1000), (901, 760), (900, 661), (899, 562), (0, 562)]);
    assert_eq!(kept(&snapshots, NONE), [1, 2, 3, 4, 5, 6], "whatever was there before, exactly");
    assert_eq!(reasons(&snapshots, NONE, 2), "stays: what was there before runs up to snapshot 4 took most of it away");
    assert!(reasons(&snapshots, NONE, 4).contains("has lost most of what was there before, which was not released"));
    let by = |number: u64| {
        let verdicts = decide(&snapshots, &NONE, NOW);
        let verdict = verdicts.iter().find(|verdict| verdict.number == number).unwrap();
        verdict.reasons.iter().flat_map(|reason| release_for(&snapshots, number, *reason)).collect::<Vec<_>>()
    };
    assert_eq!(by(2), [4]);
    snapshots[3].released = true;
    assert_eq!(kept(&snapshots, NONE), [6], "one release, and all of it goes");
}

#[test]
fn who_takes_longer_than_a_month_does_not_get_rid_of_the_largest() {
    let slow: Vec<(i64, u64)> = (0..=300).map(|day| (900 - day, 1000 - 3 * u64::try_from(day).unwrap())).collect();
    let snapshots = series(&[&slow[..], &[(0, 90)]].concat());
    // As they were judged day by day: only what was kept then is there later.
    let mut left: Vec<Candidate> = Vec::new();
    for snapshot in &snapshots {
        left.push(snapshot.clone());
        let verdicts = decide(&left, &NONE, snapshot.received);
        left.retain(|c| verdicts.iter().any(|v| v.keep && v.number == c.number));
    }
    assert_eq!(left[0].files, 1000);
    assert!(left.len() < 25, "one for each quarter that was lost, and who tells of it: {}", left.len());
    let years_later = Timestamp { secs: NOW.secs + 9000 * DAY, nanos: 0 };
    assert!(decide(&left, &NONE, years_later)[0].keep);
}

#[test]
fn garbage_in_the_place_of_what_goes_hides_no_loss() {
    // More files than before, and then they go, too.
    let snapshots = series(&[(902, 900), (901, 1500), (900, 600), (899, 1500), (0, 1500)]);
    assert_eq!(kept(&snapshots, NONE), [1, 2, 3, 5]);
}

#[test]
fn the_largest_of_a_year_is_kept_for_what_may_come() {
    let snapshots = series(&[(400, 1100), (300, 1050), (200, 1000), (0, 1000)]);
    assert_eq!(kept(&snapshots, NONE), [2, 4]);
    assert_eq!(reasons(&snapshots, NONE, 2), "stays: the largest of its root within a year");
    assert_eq!(release_for(&snapshots, 2, Reason::Largest { by: 3 }), [3]);
    let released: Vec<Candidate> = snapshots.into_iter().map(|c| Candidate { released: c.number == 3, ..c }).collect();
    assert_eq!(kept(&released, NONE), [4]);
}

#[test]
fn what_is_incomplete_is_short_of_nothing_that_is_complete() {
    let mut snapshots = series(&[(901, 1000), (900, 0), (899, 1000), (0, 1000)]);
    snapshots[1].complete = false;
    assert_eq!(kept(&snapshots, NONE), [4], "a disk that was not there for a day");
    // Whoever has never a complete one is protected all the same.
    let mut snapshots = series(&[(901, 1000), (900, 800), (899, 650), (0, 650)]);
    snapshots.iter_mut().for_each(|c| c.complete = false);
    assert_eq!(kept(&snapshots, NONE), [1, 3, 4]);
    // And what is called complete takes no place from it either.
    snapshots[3].complete = true;
    snapshots[3].files = 0;
    assert!(kept(&snapshots, NONE).contains(&1));
}

#[test]
fn a_run_without_r_does_not_stand_for_the_tree() {
    let mut snapshots = series(&[(901, 1000), (900, 3), (899, 3), (0, 3)]);
    snapshots[1..].iter_mut().for_each(|c| c.recursive = false);
    assert_eq!(kept(&snapshots, Policy { last: 1, ..NONE }), [1, 4]);
    assert_eq!(reasons(&snapshots, NONE, 1), "stays: the newest of its root; the last complete one of its root");
}

#[test]
fn forgetting_a_root_that_is_empty_by_then_is_a_loss_like_any_other() {
    let mut snapshots = series(&[(901, 1000), (900, 0), (899, 20), (0, 20)]);
    snapshots[1].kind = RunKind::Forget;
    assert_eq!(kept(&snapshots, NONE), [1, 2, 4]);
}

#[test]
fn what_was_overwritten_stays_for_a_year() {
    let mut snapshots = series(&[(302, 1000), (301, 1000), (300, 1000), (299, 1000), (298, 1000), (0, 1000)]);
    snapshots[2].overwrote = true;
    assert_eq!(kept(&snapshots, NONE), [2, 3, 6]);
    assert_eq!(
        reasons(&snapshots, NONE, 2),
        "stays: what was there before snapshot 3 overwrote most of it, less than a year ago"
    );
    snapshots[3].overwrote = true;
    snapshots[4].overwrote = true;
    assert_eq!(kept(&snapshots, NONE), [2, 3, 6], "a root that is written anew each time");
    let later = Timestamp { secs: NOW.secs + 66 * DAY, nanos: 0 };
    assert!(decide(&snapshots, &NONE, later)[..5].iter().all(|verdict| !verdict.keep));
    snapshots[2].released = true;
    assert_eq!(kept(&snapshots, NONE), [6]);
}

#[test]
fn a_release_is_remembered_as_long_as_there_is_something_to_be_held_again() {
    let mut snapshots = series(&[(900, 1000), (899, 100), (898, 100), (0, 100)]);
    snapshots[1].released = true;
    let yearly = Policy { yearly: 2, ..NONE };
    assert_eq!(kept(&snapshots, yearly), [3, 4]);
    snapshots[0].received.secs -= 365 * DAY;
    assert_eq!(kept(&snapshots, Policy { yearly: 3, ..NONE }), [1, 2, 3, 4]);
    assert_eq!(
        reasons(&snapshots, Policy { yearly: 3, ..NONE }, 2),
        "stays: what was there before it was released, and is not all gone"
    );
    assert_eq!(kept(&snapshots, NONE), [4]);
}

/// Lets days pass; each may bring a snapshot, and ends with a pruning. What is left, and what would be without what this
/// file is about.
fn live(days: u64, mut day: impl FnMut(u64) -> Option<Candidate>) -> (Vec<Candidate>, usize) {
    let policy = Policy::default();
    let (mut left, mut all) = (Vec::new(), Vec::new());
    let begin = NOW.secs - DAY * i64::try_from(days).unwrap();
    for today in 0..days {
        let received = Timestamp { secs: begin + DAY * i64::try_from(today).unwrap(), nanos: 0 };
        let new = day(today).map(|c| Candidate { number: today + 1, received, ..c });
        left.extend(new.clone());
        all.extend(new);
        let verdicts = decide(&left, &policy, received);
        left.retain(|c: &Candidate| verdicts.iter().any(|v| v.keep && v.number == c.number));
    }
    // Without losses: every state as large as any other.
    let level = |c: &Candidate| Candidate { files: 1, overwrote: false, shrank: false, ..c.clone() };
    let mut plain: Vec<Candidate> = Vec::new();
    for candidate in &all {
        plain.push(level(candidate));
        let verdicts = decide(&plain, &policy, candidate.received);
        plain.retain(|c| verdicts.iter().any(|v| v.keep && v.number == c.number));
    }
    (left, plain.len())
}

fn dice(seed: &mut u64, below: u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*seed >> 33) % below
}

#[test]
fn years_of_honest_work_expire() {
    // A source tree: some files come and go each day, a branch is merged now and then.
    let (mut files, mut seed) = (5000, 7);
    let (left, plain) = live(1000, |day| {
        files = files + dice(&mut seed, 30) - dice(&mut seed, 25);
        if day % 60 == 30 {
            files = files * 94 / 100;
        }
        Some(Candidate { files, ..at(0, 0) })
    });
    assert!(left.len() <= plain + 1, "{} instead of {plain}", left.len());

    // The kernel's: every nine weeks a release with 4 % of other files, and once a tree that is a quarter smaller.
    let mut files = 60_000;
    let (left, plain) = live(1500, |day| {
        files = if day % 63 == 0 { files * 104 / 100 } else { files };
        (day % 7 == 0).then(|| Candidate { files, ..at(0, 0) })
    });
    assert_eq!(left.len(), plain);

    // Built anew each week, so that most of it is overwritten: what was there before stays for a year, not for ever.
    let (left, plain) = live(1000, |day| Some(Candidate { files: 3000, overwrote: day % 7 == 0, ..at(0, 0) }));
    assert!(left.len() > plain && left.len() <= plain + 2 * 53, "{} instead of {plain}", left.len());
    // Each night: nothing of that.
    let (left, plain) = live(1000, |_| Some(Candidate { files: 3000, overwrote: true, ..at(0, 0) }));
    assert_eq!(left.len(), plain);
}

#[test]
fn a_great_loss_that_was_meant_costs_the_month_before_it() {
    let (left, plain) = live(1000, |day| Some(Candidate { files: if day < 500 { 4000 } else { 2000 }, ..at(0, 0) }));
    assert!(left.len() <= plain + 32, "{} instead of {plain}", left.len());
    assert!(left.iter().filter(|c| c.files == 4000).count() >= 30);
}

#[test]
fn thousands_are_judged_at_once() {
    let mut seed = 5;
    let many: Vec<Candidate> = (1..=5000)
        .map(|number| {
            let files = 1000 + dice(&mut seed, 3000);
            Candidate { files, ..at(number, NOW.secs - 40_000_000 + 7000 * i64::try_from(number).unwrap()) }
        })
        .collect();
    let began = std::time::Instant::now();
    assert!(decide(&many, &Policy::default(), NOW).iter().any(|verdict| verdict.keep));
    assert!(began.elapsed().as_secs() < 5, "{:?}", began.elapsed());
}

proptest! {
    /// Some honest history, then whatever a thief may think of that leaves the root short of it; and pruning after every
    /// run and for years afterwards, by a policy that keeps nothing.
    #[test]
    fn a_thief_pushes_nothing_out(
        honest in proptest::collection::vec(900..1100_u64, 1..30),
        thief in proptest::collection::vec((0..2000_u64, any::<bool>(), any::<bool>(), 0..20_000_i64), 1..60),
        end in 0..650_u64,
    ) {
        let mut left: Vec<Candidate> = Vec::new();
        let (mut clock, mut number) = (NOW.secs, 0);
        let prune = |left: &mut Vec<Candidate>, clock: i64| {
            let policy = Policy { last: 2, min_age_secs: 30 * DAY_SECS, ..NONE };
            let verdicts = decide(left, &policy, Timestamp { secs: clock, nanos: 0 });
            let before = left.clone();
            left.retain(|c| verdicts.iter().any(|v| v.keep && v.number == c.number));
            before.iter().all(|c| left.contains(c) || clock - c.received.secs >= 30 * DAY)
        };
        for files in honest {
            (clock, number) = (clock + DAY, number + 1);
            left.push(Candidate { files, ..at(number, clock) });
            prop_assert!(prune(&mut left, clock));
        }
        let state = number;
        for (files, complete, recursive, wait) in thief {
            (clock, number) = (clock + wait, number + 1);
            left.push(Candidate { files, complete, recursive, ..at(number, clock) });
            prop_assert!(prune(&mut left, clock));
        }
        left.push(Candidate { files: end, ..at(number + 1, clock + 1) });
        for years in 0..9 {
            prop_assert!(prune(&mut left, clock + 1 + years * 366 * DAY));
            prop_assert!(left.iter().any(|c| c.number == state), "gone after {} years", years);
        }
    }
}
