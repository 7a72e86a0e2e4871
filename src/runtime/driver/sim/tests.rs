use super::*;
use crate::runtime::driver::HandleInner;
use crate::runtime::driver::buffers::BufferQueue;
use crate::runtime::driver::tests::{Exchange, Rig, pattern};
use crate::runtime::executor::{Runtime, spawn, spawn_detached};
use crate::runtime::net::{Listener, Stream};
use crate::runtime::time::{sleep, timeout};
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddrV4};

/// Three exchanges at once in a hostile network, one of them dropped at a random moment.
fn hostile(seed: u64) -> Rig {
    let mut rig = Rig::sim(seed, SimConfig::hostile());
    let mut rng = fastrand::Rng::with_seed(!seed);
    let mut all: Vec<Option<Exchange>> = (0..3)
        .map(|_| {
            let (listener, addr) = rig.listen();
            let bytes = rng.usize(1..4000);
            Some(Exchange::begin(&mut rig, &listener, &addr, pattern(bytes, seed)))
        })
        .collect();
    let dropped_after = rng.usize(0..400);
    let mut turns = 0;
    loop {
        let mut busy = false;
        for one in all.iter_mut().flatten() {
            busy |= !one.step(&mut rig);
            one.assert_honest();
        }
        if !busy {
            break;
        }
        if turns == dropped_after
            && let Some(one) = all[0].take()
        {
            one.abandon(&mut rig);
        }
        // For ever: if an event were lost, this would be a deadlock.
        if all.iter().any(Option::is_some) {
            rig.turn(Park::For(Duration::from_secs(300)));
        }
        turns += 1;
        assert!(turns < 100_000, "it never ends");
    }
    for one in all.into_iter().flatten() {
        one.abandon(&mut rig);
    }
    rig.assert_clean();
    rig
}

#[test]
fn hostile_networks_leave_nothing_behind() {
    run_seeds("hostile_networks_leave_nothing_behind", 2000, |seed| {
        drop(hostile(seed))
    });
}

async fn echo_server(listener: RawFd) {
    let mut listener = Listener::from_driver(listener);
    loop {
        match listener.accept().await {
            Ok(mut stream) => spawn_detached("connection", async move {
                while let Ok(Some(bytes)) = stream.recv().await {
                    let data = bytes.to_vec();
                    drop(bytes);
                    if stream.send(data).await.0.is_err() {
                        return;
                    }
                }
            }),
            // EMFILE.
            Err(_) => sleep(Duration::from_millis(100)).await,
        }
    }
}

/// True if everything came back; an error of the network is an answer, too.
async fn echo_client(addr: SocketAddrAny, data: Vec<u8>) -> io::Result<bool> {
    let mut stream = Stream::connect(addr).await?;
    stream.send(data.clone()).await.0?;
    let mut got = Vec::new();
    while got.len() < data.len()
        && let Some(bytes) = stream.recv().await?
    {
        got.extend_from_slice(&bytes);
        assert!(data.starts_with(&got), "an echo of something else");
    }
    Ok(got == data)
}

/// The executor on the hostile network: four clients, one of which is given up at a random moment.
fn tasks(seed: u64) -> u32 {
    let (driver, net) = SimDriver::new(seed, SimConfig::hostile());
    let addr = SocketAddrAny::from(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 80));
    let listener = net.listen(addr.clone());
    let runtime = Runtime::new(Box::new(driver), seed);
    let mut rng = fastrand::Rng::with_seed(seed);
    let given_up_after = Duration::from_micros(rng.u64(0..50_000));
    let bytes = rng.usize(1..3000);
    let good = runtime.block_on(async move {
        let server = spawn("server", echo_server(listener));
        let clients: Vec<_> = (0..4)
            .map(|at| {
                let limit = if at == 0 {
                    given_up_after
                } else {
                    Duration::from_secs(300)
                };
                spawn(
                    "client",
                    timeout(limit, echo_client(addr.clone(), pattern(bytes, seed + at))),
                )
            })
            .collect();
        let mut good = 0;
        for (at, client) in clients.into_iter().enumerate() {
            match client.await.unwrap() {
                Ok(Ok(whole)) => good += u32::from(whole),
                Ok(Err(_)) => {}
                Err(_) => assert!(at == 0, "client {at} hangs"),
            }
        }
        server.abort();
        good
    });
    drop(runtime);
    assert_eq!((net.open_fds(), net.armed(), net.buffers_out()), (vec![], vec![], 0));
    good.unwrap()
}

#[test]
fn tasks_on_a_hostile_network_end_and_leave_nothing_behind() {
    let good = std::cell::Cell::new(0);
    let count = 500;
    run_seeds(
        "tasks_on_a_hostile_network_end_and_leave_nothing_behind",
        count,
        |seed| {
            good.set(good.get() + tasks(seed));
        },
    );
    // Most of them meet nothing that they cannot bear. (With SIM_SEED set there is only one run.)
    assert!(good.get() > count as u32 || std::env::var_os("SIM_SEED").is_some());
}

#[test]
fn every_misbehaviour_happens() {
    let mut met = BTreeSet::new();
    for seed in 0..300 {
        met.extend(hostile(seed).met);
    }
    let wanted = [
        Errno::NOBUFS,
        Errno::INTR,
        Errno::CANCELED,
        Errno::CONNRESET,
        Errno::CONNREFUSED,
        Errno::TIMEDOUT,
        Errno::MFILE,
        Errno::PIPE,
    ];
    for errno in wanted {
        assert!(met.contains(&(-errno.raw_os_error(), false)), "never seen: {errno:?}");
    }
    assert!(met.contains(&(0, true)) && met.contains(&(0, false)));
}

#[test]
fn a_seed_is_a_run() {
    let trace = |seed| {
        let rig = hostile(seed);
        let net = rig.net.clone().unwrap();
        (net.trace(), net.now_ns())
    };
    assert_eq!(trace(7), trace(7));
    assert_ne!(trace(7), trace(8));
}

#[test]
fn a_wait_without_an_end_is_a_deadlock() {
    let (mut driver, _net) = SimDriver::new(5, SimConfig::calm());
    let error = driver.turn(Park::Forever, &mut Vec::new()).unwrap_err().to_string();
    assert!(error.contains("deadlock") && error.contains("seed 5"), "{error}");
    driver.unparker().unpark();
    driver.turn(Park::Forever, &mut Vec::new()).unwrap();
}

#[test]
fn a_failing_seed_is_named() {
    let runs = std::cell::Cell::new(0);
    let run = std::panic::AssertUnwindSafe(|| {
        run_seeds("a_failing_seed_is_named", 10, |seed| {
            runs.set(runs.get() + 1);
            assert_ne!(seed, 3);
        })
    });
    let failed = std::panic::catch_unwind(run).is_err();
    // With SIM_SEED or SIM_SEEDS set, other seeds run.
    assert!(failed && runs.get() == 4 || std::env::vars().any(|(name, _)| name.starts_with("SIM_SEED")));
}

#[test]
fn a_connection_can_be_cut() {
    run_seeds("a_connection_can_be_cut", 100, |seed| {
        let mut rig = Rig::sim(seed, SimConfig::rough());
        let (client, server) = rig.pair();
        let recv = rig.recv(&client);
        rig.net.as_ref().unwrap().cut(server.fd());
        let error = rig.read_all(recv).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        drop((client, server));
        rig.assert_clean();
    });
}

#[test]
fn a_black_hole_swallows_until_it_is_healed() {
    run_seeds("a_black_hole_swallows_until_it_is_healed", 100, |seed| {
        let mut rig = Rig::sim(seed, SimConfig::rough());
        let net = rig.net.clone().unwrap();
        let (client, server) = rig.pair();
        net.black_hole(client.fd());
        let send = rig.send(&client, pattern(2000, seed));
        rig.until("the send", |rig| rig.poll_send(send)).unwrap();
        drop(client);
        let recv = rig.recv(&server);
        let healed_at = net.now_ns() + 10_000_000_000;
        while net.now_ns() < healed_at {
            rig.turn(Park::For(Duration::from_secs(1)));
            assert!(rig.poll_recv(recv).is_none(), "something came through");
        }
        net.heal(server.fd());
        assert!(rig.read_all(recv).unwrap() == pattern(2000, seed));
        drop(server);
        rig.assert_clean();
    });
}

#[test]
fn a_calm_network_only_takes_its_time() {
    let mut rig = Rig::sim(1, SimConfig::calm());
    let net = rig.net.clone().unwrap();
    let (listener, addr) = rig.listen();
    let mut exchange = Exchange::begin(&mut rig, &listener, &addr, pattern(100_000, 1));
    rig.until("an echo", |rig| exchange.step(rig).then_some(()));
    exchange.assert_good();
    assert!(
        rig.met
            .iter()
            .all(|(result, _)| *result == 0 || *result == -Errno::CANCELED.raw_os_error())
    );
    assert!((1..1_000_000_000).contains(&net.now_ns()), "{}", net.now_ns());
    drop((exchange, listener));
    rig.assert_clean();
}

// The contract that the simulation holds its caller to.

struct Caller {
    driver: SimDriver,
    net: SimNet,
    listener: RawFd,
}

fn caller() -> Caller {
    let (driver, net) = SimDriver::new(9, SimConfig::calm());
    let listener = net.listen(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 80).into());
    Caller { driver, net, listener }
}

fn id(index: u32) -> OpId {
    OpId { index, generation: 1 }
}

fn recv_on(fd: RawFd) -> Op {
    Op::Recv {
        socket: HandleInner::new(fd, Rc::default()),
        ready: BufferQueue::new(),
        buffers_max: 4,
    }
}

impl Caller {
    fn connected(&mut self) -> RawFd {
        let fd = self
            .driver
            .socket(&SocketAddrV4::new(Ipv4Addr::LOCALHOST, 80).into())
            .unwrap();
        let mut connect = Op::Connect {
            socket: HandleInner::new(fd, Rc::default()),
            addr: Box::new(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 80).into()),
        };
        self.driver.arm(id(0), &mut connect);
        let mut events = Vec::new();
        self.driver.turn(Park::Forever, &mut events).unwrap();
        assert_eq!(events[0].result, 0);
        fd
    }
}

#[test]
#[should_panic(expected = "armed on a closed descriptor")]
fn nothing_is_armed_on_a_closed_descriptor() {
    let mut caller = caller();
    let fd = caller.connected();
    caller.driver.close(fd);
    caller.driver.arm(id(1), &mut recv_on(fd));
}

#[test]
#[should_panic(expected = "two operations of one direction")]
fn one_receive_on_a_socket() {
    let mut caller = caller();
    let fd = caller.connected();
    caller.driver.arm(id(1), &mut recv_on(fd));
    caller.driver.arm(id(2), &mut recv_on(fd));
}

#[test]
#[should_panic(expected = "armed twice")]
fn an_operation_is_armed_once() {
    let mut caller = caller();
    let fd = caller.connected();
    caller.driver.arm(id(1), &mut recv_on(fd));
    caller.driver.arm(id(1), &mut recv_on(fd));
}

#[test]
#[should_panic(expected = "closed under an armed operation")]
fn nothing_is_closed_under_an_operation() {
    let mut caller = caller();
    let fd = caller.connected();
    let mut recv = recv_on(fd);
    caller.driver.arm(id(1), &mut recv);
    // Cancelled is not ended.
    caller.driver.cancel(id(1), &recv);
    caller.driver.close(fd);
}

#[test]
#[should_panic(expected = "closed that is not open")]
fn nothing_is_closed_twice() {
    let mut caller = caller();
    assert_eq!(caller.net.open_fds(), [caller.listener]);
    caller.driver.close(caller.listener);
    caller.driver.close(caller.listener);
}

#[test]
#[should_panic(expected = "a buffer is given back twice")]
fn a_buffer_is_given_back_once() {
    let mut caller = caller();
    caller.driver.turn(Park::Poll, &mut Vec::new()).unwrap();
    caller.driver.buffers().give_back(3);
    caller.driver.turn(Park::Poll, &mut Vec::new()).unwrap();
}

#[test]
#[should_panic(expected = "bytes of an armed send have changed")]
fn the_bytes_of_an_armed_send_stay() {
    let mut caller = caller();
    let fd = caller.connected();
    let mut send = Op::Send {
        socket: HandleInner::new(fd, Rc::default()),
        data: vec![1; 100],
        sent: 0,
    };
    caller.driver.arm(id(1), &mut send);
    if let Op::Send { data, .. } = &mut send {
        data[50] = 2;
    }
    let _ = caller.driver.turn(Park::Forever, &mut Vec::new());
}
