//! Several workers on one simulated network, who hand fresh connections to each other: none is lost, whatever becomes of
//! the one that it was handed to.

use super::app::TestApp;
use super::client::{Client, Ended, Terms};
use super::directed::all;
use super::wire::Ask;
use super::{Settings, millis, secs, settings};
use crate::limits::balance as limits;
use crate::runtime::context;
use crate::runtime::driver::SocketAddrAny;
use crate::runtime::driver::sim::{SimConfig, SimDriver, run_seeds};
use crate::runtime::executor::{JoinHandle, Runtime, spawn};
use crate::runtime::heartbeat::Heartbeat;
use crate::runtime::net::Listener;
use crate::runtime::time::{sleep, timeout};
use crate::server::{Balance, Leave, Leaves, Port, Seat, Server, accept};
use std::cell::RefCell;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;
use tokio::sync::oneshot;

/// Workers of one process, each with an address of its own in place of the kernel's hash.
#[derive(Clone)]
pub(super) struct Crew {
    pub(super) balance: Arc<Balance>,
    pub(super) heartbeat: Arc<Heartbeat>,
    pub(super) workers: Vec<Worker>,
    /// A socket that is none of theirs, to stand in for.
    pub(super) other: Rc<RefCell<Option<Listener>>>,
    pub(super) other_addr: SocketAddrAny,
}

#[derive(Clone)]
pub(super) struct Worker {
    pub(super) server: Rc<Server<TestApp>>,
    pub(super) addr: SocketAddrAny,
    pub(super) stop: Rc<RefCell<Option<oneshot::Sender<()>>>>,
    pub(super) run: Rc<RefCell<Option<JoinHandle<usize>>>>,
}

impl Crew {
    /// A life that is no server: it takes what it is told to take.
    pub(super) fn another(&self, heartbeat: Arc<Heartbeat>, room: usize) -> (Seat, Leaves) {
        let (seat, leaves) = self.balance.join(heartbeat, room, true, context::now_ns());
        // From now on it is handed some.
        assert!(seat.take(0, &Context::from_waker(Waker::noop())).is_empty());
        (seat, leaves)
    }

    pub(super) fn open(&self) -> Vec<usize> {
        self.workers.iter().map(|worker| worker.server.open()).collect()
    }

    pub(super) fn count(&self, of: impl Fn(&TestApp) -> usize) -> usize {
        self.workers.iter().map(|worker| of(worker.server.app())).sum()
    }

    pub(super) fn handed_over(&self) -> usize {
        self.count(|app| app.handed_over.get())
    }

    pub(super) fn handed_back(&self) -> usize {
        self.count(|app| app.handed_back.get())
    }

    pub(super) async fn connect(&self, at: usize, terms: Terms) -> Client {
        Client::connect(self.workers[at].addr.clone(), terms).await.unwrap()
    }
}

/// Runs `scenario` on `count` workers, ends them, and looks for what is left.
pub(super) fn simulate<F: Future<Output = ()> + 'static>(
    seed: u64,
    settings: Settings,
    count: usize,
    scenario: impl FnOnce(Crew) -> F + 'static,
) {
    simulate_some(seed, settings, count, count, scenario);
}

/// The same, where the first `sharing` of the workers share what comes to them.
pub(super) fn simulate_some<F: Future<Output = ()> + 'static>(
    seed: u64,
    settings: Settings,
    count: usize,
    sharing: usize,
    scenario: impl FnOnce(Crew) -> F + 'static,
) {
    let config = if seed.is_multiple_of(2) {
        SimConfig::calm()
    } else {
        SimConfig::rough()
    };
    let (driver, net) = SimDriver::new(seed, config);
    let (network, stands_in_for) = (
        net.clone(),
        SocketAddrAny::from(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 79)),
    );
    let runtime = Runtime::new(Box::new(driver), seed);
    let heartbeat = runtime.heartbeat();
    let run = async move {
        let balance = Arc::<Balance>::default();
        let mut ends = Vec::new();
        let mut workers = Vec::new();
        for at in 0..count {
            let addr = SocketAddrAny::from(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 80 + at as u16));
            let listener = Listener::from_driver(net.listen(addr.clone()));
            let server = Rc::new(Server::new(TestApp::default(), settings.clone()));
            let max = settings.connections_max;
            let (seat, leaves) = balance.join(Arc::clone(&heartbeat), max, at < sharing, context::now_ns());
            server.share(seat);
            ends.push(leaves);
            let (stop, stopped) = oneshot::channel::<()>();
            let run = accept::run(Rc::clone(&server), listener, async { drop(stopped.await) }, secs(30));
            workers.push(Worker {
                server,
                addr,
                stop: Rc::new(RefCell::new(Some(stop))),
                run: Rc::new(RefCell::new(Some(spawn("accept", run)))),
            });
        }
        let crew = Crew {
            balance,
            heartbeat,
            workers,
            other: Rc::new(RefCell::new(Some(Listener::from_driver(
                net.listen(stands_in_for.clone()),
            )))),
            other_addr: stands_in_for,
        };
        let scenario = spawn("scenario", scenario(crew.clone()));
        timeout(secs(3000), scenario)
            .await
            .expect("it hangs")
            .expect("the scenario");
        for worker in &crew.workers {
            drop(worker.stop.take());
            let run = worker.run.take().expect("once");
            assert_eq!(run.await.expect("the accept loop"), 0, "cut off");
            assert_eq!(worker.server.app().opened.get(), worker.server.app().closed.get());
        }
        drop(ends);
        drop(crew.other.take());
        sleep(secs(2)).await;
        assert_eq!(context::in_flight(), (0, 0), "operations and timers are left");
    };
    runtime.block_on(run).unwrap();
    drop(runtime);
    assert_eq!(
        (network.open_fds(), network.armed()),
        (vec![], vec![]),
        "the network still holds something"
    );
}

/// So many places for each worker.
pub(super) fn places(max: usize) -> Settings {
    Settings {
        connections_max: max,
        ..settings()
    }
}

/// The beat of a worker that makes no turns, as long as the runtime lives that it is of.
pub(super) fn standing() -> (Runtime, Arc<Heartbeat>) {
    let (driver, _) = SimDriver::new(1, SimConfig::calm());
    let runtime = Runtime::new(Box::new(driver), 1);
    let heartbeat = runtime.heartbeat();
    (runtime, heartbeat)
}

/// Asks once, and stays.
pub(super) async fn ask(mut client: Client, n: u64) -> Client {
    client.ask(&Ask::size(n, 50));
    client.until_answered(1).await;
    assert_eq!(client.answered, 1, "a connection that was made is not served");
    client
}

#[test]
fn connections_that_stay_are_even_wherever_they_come_to() {
    run_seeds("connections_that_stay_are_even_wherever_they_come_to", 60, |seed| {
        let count = 2 + (seed % 4) as usize;
        simulate(seed, settings(), count, move |crew| async move {
            let mut rng = fastrand::Rng::with_seed(seed);
            let one_for_all = rng.bool();
            let clients = (0..rng.u64(1..60)).map(|n| {
                let (crew, at) = (crew.clone(), if one_for_all { 0 } else { rng.usize(..count) });
                let wait = millis(rng.u64(0..30));
                spawn("client", async move {
                    sleep(wait).await;
                    ask(crew.connect(at, Terms::Strict).await, n).await
                })
            });
            let held = all(clients.collect()).await;
            let open = crew.open();
            assert_eq!(open.iter().sum::<usize>(), held.len());
            let (least, most) = (open.iter().min().unwrap(), open.iter().max().unwrap());
            assert!(most - least <= 1, "{open:?}");
            assert_eq!(crew.handed_back(), 0);
        });
    });
}

/// Clients of all manners, and workers that leave at any moment: whoever is connected is served.
#[test]
fn nobody_is_lost_as_workers_leave() {
    run_seeds("nobody_is_lost_as_workers_leave", 200, |seed| {
        simulate(seed, settings(), 4, move |crew| async move {
            let mut rng = fastrand::Rng::with_seed(seed);
            // The first stays. Nobody connects to one that is about to leave, since who waits in the queue of its socket then
            // waits for that socket's next user, of whom there is none here; it is handed connections until its last moment.
            let leave_ms = [u64::MAX, rng.u64(0..200), rng.u64(0..200), rng.u64(0..200)];
            for (at, after) in leave_ms.into_iter().enumerate().skip(1) {
                let worker = crew.workers[at].clone();
                spawn("leaves", async move {
                    sleep(millis(after)).await;
                    drop(worker.stop.take());
                });
            }
            let clients = (0..rng.u64(5..80)).map(|n| {
                let from_ms = rng.u64(0..250);
                let (at, stays) = (rng.usize(..4), rng.bool());
                let at = if leave_ms[at] <= from_ms + 50 { 0 } else { at };
                let crew = crew.clone();
                spawn("client", async move {
                    sleep(millis(from_ms)).await;
                    let made = Client::connect(crew.workers[at].addr.clone(), Terms::Draining).await;
                    let mut client = made.unwrap();
                    client.ask(&Ask::size(n, 50));
                    client.until_answered(1).await;
                    let end = client.ended;
                    assert!(client.answered == 1, "{at} {from_ms} {leave_ms:?} {end:?}");
                    if stays {
                        client.until_ended().await;
                        assert_eq!(client.ended, Some(Ended::Cleanly));
                    }
                })
            });
            all(clients.collect()).await;
        });
    });
}

#[test]
fn who_makes_no_turn_is_handed_nothing_more_and_what_it_had_is_taken_back() {
    run_seeds("who_makes_no_turn_is_handed_nothing_more", 30, |seed| {
        simulate(seed, settings(), 2, move |crew| async move {
            let (_still, heartbeat) = standing();
            let (seat, leaves) = crew.another(heartbeat, 1000);
            let mut held = Vec::new();
            let mut longest = Duration::ZERO;
            for n in 0..20 {
                let from = context::now_ns();
                held.push(ask(crew.connect(n as usize % 2, Terms::Strict).await, n).await);
                longest = longest.max(Duration::from_nanos(context::now_ns() - from));
            }
            // The first two workers to find out have each waited for it once.
            assert!((1..=2).contains(&crew.handed_back()), "{}", crew.handed_back());
            assert!(longest < limits::TAKE_BACK + millis(60), "{longest:?}");
            assert_eq!(crew.open().iter().sum::<usize>(), 20);
            drop((seat, leaves));
        });
    });
}

#[test]
fn what_waits_for_one_that_breaks_down_is_served_by_others() {
    run_seeds("what_waits_for_one_that_breaks_down_is_served_by_others", 30, |seed| {
        simulate(seed, settings(), 2, move |crew| async move {
            let (_still, heartbeat) = standing();
            let (seat, leaves) = crew.another(heartbeat, 1000);
            let clients = (0..8).map(|n| {
                let crew = crew.clone();
                spawn("client", async move {
                    let client = crew.connect((n % 2) as usize, Terms::Strict).await;
                    ask(client, n).await
                })
            });
            let clients = clients.collect();
            while crew.handed_over() == 0 {
                sleep(Duration::from_micros(100)).await;
            }
            drop(leaves);
            let held = all(clients).await;
            assert_eq!(held.len(), 8);
            assert_eq!(crew.open().iter().sum::<usize>(), 8);
            // It has nothing, and gets nothing any more.
            assert!(seat.close().is_empty());
        });
    });
}

#[test]
fn what_a_stand_in_has_handed_over_is_taken_back_when_it_stands_in_no_more() {
    run_seeds(
        "what_a_stand_in_has_handed_over_is_taken_back_when_it_stands_in_no_more",
        20,
        |seed| {
            simulate(seed, settings(), 1, move |crew| async move {
                let server = Rc::clone(&crew.workers[0].server);
                // So that the next is one too many here.
                let held = ask(crew.connect(0, Terms::Strict).await, 1).await;
                let (_still, heartbeat) = standing();
                let (seat, leaves) = crew.another(heartbeat, 1000);
                let (stop, stopped) = oneshot::channel::<()>();
                let ports = vec![Port::from(crew.other.take().expect("once"))];
                let stop_it = async move {
                    drop(stopped.await);
                    Leave::ToOwner
                };
                let standing_in = accept::stand_in(server, ports, stop_it, |_| Vec::new());
                let standing_in = spawn("stand in", standing_in);
                let mut client = Client::connect(crew.other_addr.clone(), Terms::Strict).await.unwrap();
                client.ask(&Ask::size(2, 50));
                while crew.handed_over() == 0 {
                    sleep(Duration::from_micros(100)).await;
                }
                drop(stop);
                assert_eq!(standing_in.await.expect("it stood in"), 1);
                client.until_answered(1).await;
                assert_eq!((client.answered, crew.handed_back()), (1, 1));
                assert_eq!(crew.open(), [2]);
                drop((seat, leaves, held));
            });
        },
    );
}

#[test]
fn each_is_taken_back_when_its_own_time_is_over() {
    run_seeds("each_is_taken_back_when_its_own_time_is_over", 10, |seed| {
        simulate(2 * seed, settings(), 1, move |crew| async move {
            let (_still, heartbeat) = standing();
            let (seat, leaves) = crew.another(heartbeat, 1000);
            let clients = (0..4).map(|n| {
                let crew = crew.clone();
                spawn("client", async move {
                    sleep(millis(n / 2 * 30)).await;
                    let from = context::now_ns();
                    let client = ask(crew.connect(0, Terms::Strict).await, n).await;
                    (client, Duration::from_nanos(context::now_ns() - from))
                })
            });
            let held = all(clients.collect()).await;
            assert_eq!(crew.handed_back(), 2);
            for (_, took) in &held {
                assert!(*took < limits::TAKE_BACK + millis(15), "{took:?}");
            }
            drop((seat, leaves));
        });
    });
}

/// BALANCE was switched off since: who shares nothing serves what is left all the same.
#[test]
fn what_is_left_by_a_breakdown_is_served_by_those_who_do_not_share() {
    run_seeds(
        "what_is_left_by_a_breakdown_is_served_by_those_who_do_not_share",
        20,
        |seed| {
            simulate_some(seed, places(1), 2, 1, move |crew| async move {
                let held = ask(crew.connect(0, Terms::Strict).await, 1).await;
                assert_eq!(crew.open(), [1, 0]);
                // Nothing is handed to one that does not share, though it alone has a place.
                let mut client = crew.connect(0, Terms::Strict).await;
                client.ask(&Ask::size(2, 50));
                client.dwell(millis(200)).await;
                assert_eq!((client.answered, crew.handed_over()), (0, 0));
                let (_still, heartbeat) = standing();
                let (seat, leaves) = crew.another(heartbeat, 1000);
                while crew.handed_over() == 0 {
                    sleep(Duration::from_micros(100)).await;
                }
                drop(leaves);
                client.until_answered(1).await;
                assert_eq!((client.answered, crew.open()), (1, vec![1, 1]));
                drop((seat, held));
            });
        },
    );
}
