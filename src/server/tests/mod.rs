//! The server over simulated and real drivers.
//!
//! - this file: a server, its network and its end, where nothing may be left
//! - `app`: the application: a path for each way a handler may behave
//! - `wire`: requests, and the strict reader of answers
//! - `wire_tls`: the client's end of a connection, sealed or not
//! - `client`: a client that checks each byte
//! - `random`: many clients of all manners at once, thousands of seeds
//! - `siege`: peers that mean harm, networks that fail at everything, and a server that may be told to end meanwhile
//! - `directed`: one promise at a time: time limits, room
//! - `draining`: the end of a server
//! - `tls`, `tls_session`: the same crowd over TLS, and what TLS alone promises
//! - `introduced`: connections that begin with a PROXY header, or should
//! - `http2`, `http2_budgets`, `http2_directed`, `http2_raw`: streams, on the same terms
//! - `slow`: limits of time and rate
//! - `leaving`: the end of the listening sockets, too
//! - `many`: limits of number and room
//! - `balance`: several workers, who share fresh connections out
//! - `full`: the same where one has no place left
//! - `short`: memory that runs short
//! - `real`: the same on io_uring and epoll over loopback
//!
//! A seed that fails is named; `SIM_SEED=n` runs it alone.

mod app;
mod balance;
mod client;
mod directed;
mod draining;
mod full;
mod http2;
mod http2_budgets;
mod http2_directed;
mod http2_raw;
mod introduced;
mod leaving;
mod many;
mod random;
mod real;
mod short;
mod siege;
mod slow;
mod tls;
mod tls_session;
mod wire;
mod wire_tls;

use super::guests::Guest;
use super::tls::{PANICKED, TlsTransport};
use super::{Server, Settings, Terms, accept, connection};
use crate::runtime::context;
use crate::runtime::driver::sim::{SimConfig, SimDriver, SimNet};
use crate::runtime::driver::{Driver, SocketAddrAny};
use crate::runtime::executor::{JoinHandle, Runtime, spawn};
use crate::runtime::net::{Listener, Stream, listen};
use crate::runtime::time::{sleep, timeout};
use app::TestApp;
use rustls::ClientConfig;
use std::cell::RefCell;
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

const fn secs(number: u64) -> Duration {
    Duration::from_secs(number)
}

const fn millis(number: u64) -> Duration {
    Duration::from_millis(number)
}

fn settings() -> Settings {
    Settings {
        keep_alive: secs(20),
        head_timeout: secs(5),
        body_timeout: secs(8),
        write_timeout: secs(10),
        connections_max: 1000,
        connections_per_address: 0,
        ..Settings::default()
    }
}

/// A server that runs, as a scenario sees it.
#[derive(Clone)]
struct House {
    server: Rc<Server<TestApp>>,
    addr: SocketAddrAny,
    stop: Rc<RefCell<Option<oneshot::Sender<()>>>>,
    run: Rc<RefCell<Option<JoinHandle<usize>>>>,
    /// Of the simulated network.
    net: Option<SimNet>,
    /// What clients speak.
    tls: Option<Arc<ClientConfig>>,
}

impl House {
    fn app(&self) -> &TestApp {
        self.server.app()
    }

    /// Tells the server to drain.
    fn stop(&self) {
        drop(self.stop.take());
    }

    /// How many connections were cut off, once the server has drained. Once only.
    async fn stopped(&self) -> usize {
        let run = self.run.take();
        run.expect("waited for once").await.expect("the accept loop")
    }

    /// Waits until no connection is open, for at most `time`.
    async fn until_empty(&self, time: Duration) {
        let until = context::now_ns() + time.as_nanos() as u64;
        while self.server.open() > 0 {
            assert!(
                context::now_ns() < until,
                "{} connections are left after {time:?}",
                self.server.open()
            );
            sleep(millis(5)).await;
        }
    }
}

enum Listening {
    Sim(SimNet, i32, SocketAddrAny),
    Real,
    /// TLS on it, with clients of these settings.
    Tls(Box<Listening>, Arc<ClientConfig>),
    /// The sockets end with the server.
    ToEnd(Box<Listening>),
}

/// Runs `scenario` on a server, ends the server, and looks for what is left. `bound`: longer is a hang.
fn serve<F: Future<Output = ()> + 'static>(
    driver: Box<dyn Driver>,
    listening: Listening,
    seed: u64,
    (settings, graceful, bound): (Settings, Duration, Duration),
    scenario: impl FnOnce(House) -> F + 'static,
) {
    let (listening, to_end) = match listening {
        Listening::ToEnd(below) => (*below, true),
        stays => (stays, false),
    };
    let (listening, tls) = match listening {
        Listening::Tls(below, config) => (*below, Some(config)),
        plain => (plain, None),
    };
    let is_sim = matches!(listening, Listening::Sim(..));
    let runtime = Runtime::new(driver, seed);
    let run = async move {
        let (listener, addr, net) = match listening {
            Listening::Sim(net, fd, addr) => (Listener::from_driver(fd), addr, Some(net)),
            Listening::Real | Listening::Tls(..) | Listening::ToEnd(..) => {
                let socket = listen::tcp(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0).into(), 64).unwrap();
                let addr = listen::local_addr(&socket).unwrap();
                (Listener::new(socket).unwrap(), addr.into(), None)
            }
        };
        let server = Rc::new(Server::new(TestApp::default(), settings));
        let (stop, stopped) = oneshot::channel::<()>();
        let stopping = async move {
            let _ = stopped.await;
        };
        if tls.is_some() {
            server.set_tls(Arc::clone(&wire_tls::keys().loaded.settings));
        }
        // Where somebody is trusted, connections are introduced.
        let proxy = !server.settings.trusted.is_none();
        let port = accept::Port {
            listener,
            terms: Terms {
                tls: tls.is_some(),
                proxy,
            },
            stays: false,
        };
        let served = Rc::clone(&server);
        let run = if to_end {
            let stopping = async {
                stopping.await;
                accept::Leave::ForGood
            };
            let run = accept::run_to_end(served, vec![port], stopping, graceful, |_| Vec::new());
            spawn("accept", run)
        } else {
            spawn("accept", accept::run(served, port, stopping, graceful))
        };
        let house = House {
            server,
            addr,
            stop: Rc::new(RefCell::new(Some(stop))),
            run: Rc::new(RefCell::new(Some(run))),
            net,
            tls,
        };
        let scenario = spawn("scenario", scenario(house.clone()));
        timeout(bound, scenario).await.expect("it hangs").expect("the scenario");
        house.until_empty(secs(60)).await;
        let app = house.app();
        assert_eq!(app.opened.get(), app.closed.get());
        assert_eq!(house.server.pending_bytes(), 0, "bytes are reserved for nobody");
        assert_eq!(house.server.crowd.origins(), 0, "connections are counted for nobody");
        house.stop();
        if house.run.borrow().is_some() {
            let from = context::now_ns();
            assert_eq!(house.stopped().await, 0, "cut off though nobody is there");
            assert!(
                context::now_ns() - from < 1_000_000_000,
                "nobody is there, and the server waits"
            );
        }
        // What was abandoned comes back.
        sleep(if is_sim { secs(2) } else { millis(20) }).await;
        assert_eq!(context::in_flight(), (0, 0), "operations and timers are left");
    };
    PANICKED.set(false);
    runtime.block_on(run).unwrap();
    assert!(!PANICKED.get(), "TLS panicked");
}

/// [`serve`] on the simulated network.
fn simulate<F: Future<Output = ()> + 'static>(
    seed: u64,
    config: SimConfig,
    settings: Settings,
    graceful: Duration,
    scenario: impl FnOnce(House) -> F + 'static,
) {
    simulate_on(None, seed, config, settings, graceful, scenario);
}

/// The same, where the sockets end with the server.
fn simulate_to_end<F: Future<Output = ()> + 'static>(
    seed: u64,
    config: SimConfig,
    settings: Settings,
    graceful: Duration,
    scenario: impl FnOnce(House) -> F + 'static,
) {
    let (driver, net) = SimDriver::new(seed, config);
    let addr = SocketAddrAny::from(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 80));
    let listening = Listening::Sim(net.clone(), net.listen(addr.clone()), addr);
    serve(
        Box::new(driver),
        Listening::ToEnd(Box::new(listening)),
        seed,
        (settings, graceful, secs(3000)),
        scenario,
    );
    assert_eq!(
        (net.open_fds(), net.armed(), net.buffers_out()),
        (vec![], vec![], 0),
        "the network still holds something"
    );
}

/// The same over TLS, if clients have settings for it.
fn simulate_on<F: Future<Output = ()> + 'static>(
    tls: Option<Arc<ClientConfig>>,
    seed: u64,
    config: SimConfig,
    settings: Settings,
    graceful: Duration,
    scenario: impl FnOnce(House) -> F + 'static,
) {
    let (driver, net) = SimDriver::new(seed, config);
    let addr = SocketAddrAny::from(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 80));
    let mut listening = Listening::Sim(net.clone(), net.listen(addr.clone()), addr);
    if let Some(tls) = tls {
        listening = Listening::Tls(Box::new(listening), tls);
    }
    serve(
        Box::new(driver),
        listening,
        seed,
        (settings, graceful, secs(3000)),
        scenario,
    );
    assert_eq!(
        (net.open_fds(), net.armed(), net.buffers_out()),
        (vec![], vec![], 0),
        "the network still holds something"
    );
}

/// The memory budget of an idle connection is 512 bytes, of which this is the largest part that is ours.
#[test]
fn the_future_of_a_connection_is_small() {
    // In the clear, and over TLS, where rustls holds kilobytes beside it.
    const BYTES_MAX: [usize; 2] = [128, 136];
    let (driver, net) = SimDriver::new(1, SimConfig::calm());
    let addr = SocketAddrAny::from(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 80));
    let listener = net.listen(addr.clone());
    let addr_2 = addr.clone();
    let bytes = Runtime::new(Box::new(driver), 1)
        .block_on(async move {
            let mut listener = Listener::from_driver(listener);
            let _client = client::Client::connect(addr, client::Terms::Strict).await.unwrap();
            let stream = listener.accept().await.unwrap();
            let server = Rc::new(Server::new(TestApp::default(), settings()));
            let settings = Arc::clone(&wire_tls::keys().loaded.settings);
            let stream_2 = Stream::connect(addr_2).await.unwrap();
            let sealed = TlsTransport::new(stream_2, settings, &[]).unwrap();
            [
                size_of_val(&connection::serve(stream, Guest::new(Rc::clone(&server)), Vec::new())),
                size_of_val(&connection::serve(sealed, Guest::new(server), Vec::new())),
            ]
        })
        .unwrap();
    println!("a connection's future takes {bytes:?} bytes in the clear and over TLS");
    assert!(bytes[0] <= BYTES_MAX[0] && bytes[1] <= BYTES_MAX[1], "{bytes:?} bytes");
}
