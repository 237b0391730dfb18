//! A destination and a daemon's sessions over TLS, in one process: it attends, is called, takes runs, and says so.

use std::net::SocketAddr;
use std::thread::JoinHandle;
use std::time::Duration;

use super::fake_daemon::{begin, heard, send_tree, source};
use super::observer::{Arrival, Arrived, ArrivingRun};
use super::*;
use crate::backup::digest::RunId;
use crate::backup::relpath::RelPath;
use crate::engine::fan_out::board::{BoardEvent, CallId, Destination, Subscription};
use crate::engine::fan_out::whose::for_whom;
use crate::engine::observer::{Event, Observer};
use crate::engine::stop::Stop;
use crate::engine::{inspect_serve, receive};
use crate::net::identity::Identity;
use crate::net::link::Link;
use crate::net::listener::{Handler, ListenLimits, Listener};
use crate::net::message::{Commit, Message};
use crate::net::packing::Compress;
use crate::net::tls::ServerKey;

const LONG: Duration = Duration::from_secs(120);

struct Unseen;

impl Receiving for Unseen {
    fn attending(&self, _: &str) {}

    fn lost(&self, _: &str, _: Duration) {}

    fn begin(&self, _: &ArrivingRun) -> Arc<dyn Arrival> {
        Arc::new(Self)
    }
}

impl Observer for Unseen {
    fn event(&self, _: &Event<'_>) {}
}

impl Arrival for Unseen {
    fn end(&self, _: Result<&Arrived, &EngineError>) {}
}

/// A store that is served, and a destination of it.
struct World {
    temp: tempfile::TempDir,
    hub: Arc<Hub>,
    address: SocketAddr,
    shutdown: Shutdown,
    serving: JoinHandle<usize>,
}

impl World {
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let hub = Arc::new(Hub::open(&temp.path().join("store"), HubOptions::default()).unwrap());
        let identity = Identity::load_or_create(&hub.store.meta_path("key")).unwrap();
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let (address, shutdown) = (listener.local_addr(), Shutdown::new());
        let handler: Handler = {
            let hub = Arc::clone(&hub);
            Arc::new(move |incoming| session::serve(&hub, incoming))
        };
        let shown = Arc::new(ServerKey::new(&identity).unwrap());
        let (connections, ending) = (hub.connections.clone(), shutdown.clone());
        let serving = thread::spawn(move || {
            let limits = ListenLimits { max_sessions: 9, drain: LONG, ..ListenLimits::default() };
            listener.serve(&shown, limits, &connections, &ending, handler).unwrap()
        });
        Self { temp, hub, address, shutdown, serving }
    }

    fn destination(&self, shutdown: &Shutdown) -> JoinHandle<Result<(), EngineError>> {
        let client = ClientOptions {
            trust_first_use: false,
            target: Target::Server { server: self.address.to_string(), bind: None },
            user: uzers::get_current_username().unwrap().to_str().unwrap().to_owned(),
            of: None,
            state_dir: self.temp.path().join("state"),
            cache_dir: self.temp.path().join("cache"),
            retry_for: Duration::ZERO,
            compress: Compress::Auto,
            stop: Stop::default(),
        };
        let options = ReceiveOptions {
            client,
            store: self.temp.path().join("d"),
            name: "nas".to_owned(),
            from: Vec::new(),
            retention: Retention::default(),
            verify: VerifyOptions { every_secs: u64::MAX, rate: 1 },
        };
        let shutdown = shutdown.clone();
        thread::spawn(move || run(options, Arc::new(Unseen), &shutdown))
    }

    /// A backup to the daemon's own store.
    fn own_backup(&self, run: u8) {
        let (mut link, mut theirs) = Link::pair();
        let hub = Arc::clone(&self.hub);
        let serving = thread::spawn(move || {
            receive::serve(&hub, &source(), &mut theirs, &begin(run), &receive::Terms::default())
        });
        assert!(matches!(heard(&mut link), Message::Granted(_)));
        send_tree(&link);
        assert!(matches!(heard(&mut link), Message::Committed(_)));
        serving.join().unwrap().unwrap();
    }

    fn behind(&self) -> u64 {
        let told = inspect_serve::destinations(&self.hub, &source()).unwrap();
        told.first().expect("the destination").behind
    }

    fn end(self) {
        self.hub.board.end();
        self.shutdown.trigger();
        assert_eq!(self.serving.join().unwrap(), 0, "sessions were cut off");
    }
}

fn next(watch: &mut Subscription) -> BoardEvent {
    loop {
        if let Some(event) = watch.events().pop() {
            return event;
        }
        watch.bell().recv_timeout(LONG).expect("an event");
    }
}

fn run_to(world: &World, id: crate::engine::fan_out::board::DestinationId, link: &mut Link, run: u8) {
    let shown = world.hub.board.begin_run(id, source().copy(), &RelPath::new(b"home/u").unwrap());
    shown.advance(1, Some(4));
    link.send(for_whom(&source(), None, true)).unwrap();
    link.send(begin(run)).unwrap();
    assert!(matches!(heard(link), Message::Granted(_)));
    send_tree(link);
    assert!(matches!(heard(link), Message::Prepared(_)));
    let told = inspect_serve::destinations(&world.hub, &source()).unwrap();
    assert_eq!(told[0].running.0, b"'/home/u', 25 %");
    link.send(Commit { run: RunId([run; 16]) }).unwrap();
    assert!(matches!(heard(link), Message::Committed(_)));
}

/// The head of the source's root.
fn head(destination: &Destination) -> Option<RunId> {
    destination.head(source().copy(), &RelPath::new(b"home/u").unwrap()).map(|head| head.run)
}

#[test]
fn it_attends_answers_calls_takes_runs_and_says_what_it_holds() {
    let world = World::new();
    world.own_backup(1);
    let mut watch = world.hub.board.watch();
    let shutdown = Shutdown::new();
    let destination = world.destination(&shutdown);
    let BoardEvent::Connected(found) = next(&mut watch) else { panic!("not there") };
    assert_eq!((found.name.as_str(), head(&found), world.behind()), ("nas", None, 1));
    let (answers, answered) = bounded(4);
    let call = world.hub.board.call(found.id, &answers).unwrap();
    let answer = answered.recv_timeout(LONG).unwrap();
    assert_eq!((answer.call, answer.id), (call, found.id));
    let mut link = answer.link;
    for run in 1..3 {
        if run > 1 {
            world.own_backup(run);
            assert_eq!(world.behind(), 1);
        }
        run_to(&world, found.id, &mut link, run);
        assert!(matches!(next(&mut watch), BoardEvent::Changed));
        let changed = world.hub.board.find(found.id).unwrap();
        assert_eq!((head(&changed), world.behind()), (Some(RunId([run; 16])), 0));
    }
    // Two at once, each with a connection of its own.
    let calls: Vec<CallId> = (0..2).map(|_| world.hub.board.call(found.id, &answers).unwrap()).collect();
    let mut got: Vec<_> = (0..2).map(|_| answered.recv_timeout(LONG).unwrap()).collect();
    got.sort_by_key(|answer| answer.call);
    assert_eq!(got.iter().map(|answer| answer.call).collect::<Vec<_>>(), calls);
    // A run that is not committing does not hold up the end.
    let begun = &mut got[0].link;
    begun.send(for_whom(&source(), None, true)).unwrap();
    begun.send(begin(3)).unwrap();
    assert!(matches!(heard(begun), Message::Granted(_)));
    shutdown.trigger();
    while begun.recv().is_ok() {}
    drop((got, link));
    destination.join().unwrap().unwrap();
    assert!(matches!(next(&mut watch), BoardEvent::Gone(id) if id == found.id));
    world.end();
}

#[test]
fn the_daemon_s_end_lets_it_go_and_it_goes_on_dialling() {
    let world = World::new();
    let mut watch = world.hub.board.watch();
    let shutdown = Shutdown::new();
    let destination = world.destination(&shutdown);
    assert!(matches!(next(&mut watch), BoardEvent::Connected(_)));
    world.end();
    assert!(!destination.is_finished());
    shutdown.trigger();
    destination.join().unwrap().unwrap();
}
