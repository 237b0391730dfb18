//! Leases that overlap, wait, are taken over and end.

use std::sync::mpsc;
use std::thread;

use super::*;
use crate::backup::digest::RunId;
use crate::backup::fingerprint::Timestamp;

fn request(root: &str, run: u8, wait: Option<Duration>) -> LeaseRequest {
    LeaseRequest {
        copy: CopyName::new(b"n", b"u").unwrap(),
        root: RelPath::new(root.as_bytes()).unwrap(),
        recursive: true,
        holder: Holder {
            key: [run; 32],
            run: RunId([run; 16]),
            name: format!("run {run}"),
            since: Timestamp::default(),
        },
        wait,
        on_revoke: Arc::new(|| {}),
    }
}

fn at_once(leases: &Arc<Leases>, root: &str, run: u8) -> Result<LeaseGuard, LeaseError> {
    leases.acquire(request(root, run, None), &mut |_| true)
}

#[test]
fn the_store_s_own_leases_refuse_nobody() {
    let leases = Leases::new();
    let first = at_once(&leases, "home", 1).unwrap();
    let own = |wait| {
        let mut request = request("home/u", 9, wait);
        request.holder.key = BRIEF_KEY;
        request
    };
    assert!(leases.acquire(own(None), &mut |_| true).is_err(), "it waits for a backup only if it says so");
    drop(first);
    let held = leases.acquire(own(None), &mut |_| true).unwrap();
    thread::scope(|scope| {
        let next = scope.spawn(|| at_once(&leases, "home", 2).map(drop));
        thread::sleep(ASK_EVERY);
        assert!(!next.is_finished(), "it waits");
        drop(held);
        next.join().unwrap().unwrap();
    });
}

#[test]
fn nested_is_refused_and_names_the_holder_disjoint_passes() {
    let leases = Leases::new();
    let guard = at_once(&leases, "home", 1).unwrap();
    let Err(LeaseError::Locked(conflict)) = at_once(&leases, "home/u", 2) else { panic!("locked") };
    assert_eq!(conflict.holder.name, "run 1");
    let other = at_once(&leases, "etc", 3).unwrap();
    assert_eq!(leases.held().len(), 2);
    drop(guard);
    at_once(&leases, "home/u", 2).unwrap();
    drop(other);
    assert!(leases.held().is_empty());
}

#[test]
fn whoever_waits_gets_it_when_it_is_released() {
    let leases = Leases::new();
    let guard = at_once(&leases, "home", 1).unwrap();
    let (tell, told) = mpsc::channel();
    let waiter = thread::spawn({
        let leases = leases.clone();
        move || {
            let mut ask = |conflict: &Conflict| tell.send(conflict.holder.name.clone()).is_ok();
            leases.acquire(request("home/u", 2, Some(Duration::MAX)), &mut ask).map(drop)
        }
    });
    assert_eq!(told.recv().unwrap(), "run 1");
    drop(guard);
    // Keep the receiver alive: a waiter that cannot tell gives up.
    waiter.join().unwrap().unwrap();
    drop(told);
}

#[test]
fn a_run_of_the_same_client_that_has_just_ended_is_waited_for() {
    let leases = Leases::new();
    let next = || {
        let mut next = request("home/u", 2, None);
        next.holder.key = [1; 32];
        leases.acquire(next, &mut |_| true).map(drop)
    };
    // This thread may be without a processor for longer than the other waits: not five times.
    let is_waited_for = || {
        let guard = at_once(&leases, "home", 1).unwrap();
        thread::scope(|scope| {
            let waiting = scope.spawn(next);
            // Most likely it waits by then.
            for _ in 0..20 {
                thread::yield_now();
            }
            drop(guard);
            waiting.join().unwrap().is_ok()
        })
    };
    assert!((0..5).any(|_| is_waited_for()));
    let _guard = at_once(&leases, "home", 1).unwrap();
    let begun = Instant::now();
    assert!(next().is_err() && begun.elapsed() >= LEAVING_MAX);
}

#[test]
fn a_run_that_is_committed_is_waited_for_while_it_ends() {
    let leases = Leases::new();
    let guard = at_once(&leases, "home", 1).unwrap();
    assert!(at_once(&leases, "home/u", 2).is_err());
    guard.finishing();
    let (started, start) = mpsc::channel();
    let next = thread::spawn({
        let leases = leases.clone();
        move || {
            started.send(()).unwrap();
            at_once(&leases, "home/u", 2).map(drop)
        }
    });
    start.recv().unwrap();
    for _ in 0..20 {
        thread::yield_now();
    }
    assert!(!next.is_finished());
    drop(guard);
    next.join().unwrap().unwrap();
}

#[test]
fn whoever_gives_up_or_is_late_leaves_the_queue() {
    let leases = Leases::new();
    let guard = at_once(&leases, "home", 1).unwrap();
    let gave_up = leases.acquire(request("home", 2, Some(Duration::MAX)), &mut |_| false);
    assert!(matches!(gave_up, Err(LeaseError::Cancelled)));
    let late = leases.acquire(request("home", 3, Some(Duration::ZERO)), &mut |_| true);
    assert!(matches!(late, Err(LeaseError::Locked(_))));
    drop(guard);
    at_once(&leases, "home", 4).unwrap();
}

#[test]
fn a_reconnect_takes_over_but_works_only_when_the_old_session_let_go() {
    let leases = Leases::new();
    let (revoke, revoked) = mpsc::channel();
    let on_revoke: OnRevoke = Arc::new(move || revoke.send(()).unwrap());
    let old = leases.acquire(LeaseRequest { on_revoke, ..request("home", 1, None) }, &mut |_| true).unwrap();
    let new = thread::spawn({
        let leases = leases.clone();
        move || at_once(&leases, "home", 1)
    });
    revoked.recv().unwrap();
    assert!(matches!(old.check(), Err(LeaseError::Revoked)));
    assert!(!new.is_finished());
    assert!(at_once(&leases, "home", 2).is_err());
    drop(old);
    let new = new.join().unwrap().unwrap();
    new.check().unwrap();
    assert!(at_once(&leases, "home", 2).is_err());
    drop(new);
    at_once(&leases, "home", 2).unwrap();
}

#[test]
fn a_takeover_that_gives_up_does_not_end_the_lease_under_the_old_sessions_feet() {
    let leases = Leases::new();
    let old = at_once(&leases, "home", 1).unwrap();
    assert!(matches!(leases.acquire(request("home", 1, None), &mut |_| false), Err(LeaseError::Cancelled)));
    assert!(at_once(&leases, "home", 2).is_err());
    drop(old);
    at_once(&leases, "home", 2).unwrap();
}
