//! The executor over each real driver that can be had here. The simulation runs are beside the drivers and in `server`.

use super::driver::choose::{self, IoDriver};
use super::driver::sim::{SimConfig, SimDriver};
use super::executor::{JoinError, Runtime, spawn, yield_now};
use super::net::{Listener, Stream, listen};
use super::time::{Sleep, sleep, timeout};
use super::{context, driver};
use std::cell::{Cell, RefCell};
use std::future::{Future, pending, poll_fn};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// io_uring where there is one, and epoll.
fn drivers() -> impl Iterator<Item = Box<dyn driver::Driver>> {
    let open = |kind| {
        let (driver, fallback) = choose::open(kind).unwrap();
        if let Some(fallback) = fallback {
            println!("SKIPPED: {fallback}");
            return None;
        }
        println!("over {}", driver.name());
        Some(driver)
    };
    [IoDriver::Auto, IoDriver::Epoll].into_iter().filter_map(open)
}

fn runtimes() -> impl Iterator<Item = Runtime> {
    drivers().map(|driver| Runtime::new(driver, 1))
}

fn run<F: Future<Output = ()> + 'static>(test: impl Fn() -> F) {
    for runtime in runtimes() {
        runtime.block_on(test()).unwrap();
    }
}

#[test]
fn every_real_driver_is_tested() {
    let names: Vec<_> = drivers().map(|driver| driver.name()).collect();
    let has_uring = choose::open(IoDriver::Uring).is_ok();
    assert_eq!(names, if has_uring { &["uring", "epoll"][..] } else { &["epoll"] });
}

#[test]
fn tasks_join_abort_and_panic_without_harm_to_each_other() {
    struct Note(Rc<Cell<bool>>);
    impl Drop for Note {
        fn drop(&mut self) {
            self.0.set(true);
        }
    }
    run(|| async {
        let value = spawn("value", async {
            yield_now().await;
            7
        });
        let panicking = spawn("panicking", async { std::panic::resume_unwind(Box::new("meant")) });
        let dropped = Rc::new(Cell::new(false));
        let note = Note(Rc::clone(&dropped));
        let endless = spawn("endless", async move {
            let _note = note;
            pending::<()>().await
        });
        yield_now().await;
        assert!(!dropped.get());
        endless.abort();
        assert!(dropped.get(), "an aborted future is dropped at once");
        assert_eq!(endless.await, Err(JoinError::Aborted));
        assert_eq!(panicking.await, Err::<(), _>(JoinError::Panicked));
        assert_eq!(value.await, Ok(7));
    });
}

#[test]
fn a_wake_from_another_thread_ends_an_endless_wait() {
    run(|| async {
        let mut sum = 0;
        for round in 0..100u32 {
            let (tx, rx) = tokio::sync::oneshot::channel();
            let thread = std::thread::spawn(move || tx.send(round).unwrap());
            sum += rx.await.unwrap();
            thread.join().unwrap();
        }
        assert_eq!(sum, 4950);
    });
}

#[test]
fn timers_fire_in_order() {
    let (driver, _net) = SimDriver::new(1, SimConfig::calm());
    let order = Rc::new(RefCell::new(Vec::new()));
    let fired = Rc::clone(&order);
    let sleepers = async move {
        let sleeper = |ms| {
            let fired = Rc::clone(&fired);
            spawn("sleeper", async move {
                sleep(Duration::from_millis(ms)).await;
                fired.borrow_mut().push(ms);
            })
        };
        for task in [30u64, 10, 20, 0, 10].map(sleeper) {
            task.await.unwrap();
        }
    };
    Runtime::new(Box::new(driver), 1).block_on(sleepers).unwrap();
    assert_eq!(*order.borrow(), [0, 10, 10, 20, 30]);
}

#[test]
fn timers_fire_never_early_and_leave_nothing_behind() {
    run(|| async {
        let order = Rc::new(RefCell::new(Vec::new()));
        let started = context::precise_now_ns();
        let tasks: Vec<_> = [30u64, 10, 20, 0, 10]
            .into_iter()
            .map(|ms| {
                let order = Rc::clone(&order);
                spawn("sleeper", async move {
                    sleep(Duration::from_millis(ms)).await;
                    assert!(context::precise_now_ns() - started >= ms * 1_000_000);
                    order.borrow_mut().push(ms);
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        // On a clock that goes on between two spawns, who sleeps longer may have begun earlier by as much.
        order.borrow_mut().sort_unstable();
        assert_eq!(*order.borrow(), [0, 10, 10, 20, 30]);
        assert_eq!(
            timeout(Duration::from_millis(5), pending::<()>()).await,
            Err(super::time::Elapsed)
        );
        assert_eq!(timeout(Duration::from_secs(60), async { 1 }).await, Ok(1));

        // Pushed back while armed: it fires once, at the later time.
        let mut pushed = Sleep::after(Duration::from_millis(5));
        poll_fn(|cx| {
            assert!(pushed.poll_elapsed(cx).is_pending());
            Poll::Ready(())
        })
        .await;
        pushed.reset(Duration::from_millis(25));
        let from = context::precise_now_ns();
        (&mut pushed).await;
        assert!(context::precise_now_ns() - from >= 24_000_000);
        drop(pushed);
        assert_eq!(context::in_flight().1, 0);
    });
}

async fn pair() -> (Stream, Stream, Listener) {
    let socket = listen::tcp("127.0.0.1:0".parse().unwrap(), 16).unwrap();
    let addr = listen::local_addr(&socket).unwrap();
    let mut listener = Listener::new(socket).unwrap();
    let client = spawn("client", async move {
        Stream::connect(driver::SocketAddrAny::from(addr)).await.unwrap()
    });
    let server = listener.accept().await.unwrap();
    (client.await.unwrap(), server, listener)
}

#[test]
fn a_stream_carries_megabytes_both_ways_and_ends_cleanly() {
    run(|| async {
        let (mut client, mut server, listener) = pair().await;
        assert_eq!(server.peer_addr().unwrap().ip().to_string(), "127.0.0.1");
        let echo = spawn("echo", async move {
            let mut total = 0;
            while let Some(bytes) = server.recv().await.unwrap() {
                total += bytes.len();
                let copy = bytes.to_vec();
                drop(bytes);
                server.send(copy).await.0.unwrap();
            }
            total
        });
        let sent: Vec<u8> = (0..3_000_000u32).map(|i| ((i * 31) >> 3) as u8).collect();
        let mut received = Vec::new();
        let mut written = 0;
        let mut memory = vec![0u8; 50_000];
        poll_fn(|cx| {
            while written < sent.len() {
                match std::pin::Pin::new(&mut client).poll_write(cx, &sent[written..]) {
                    Poll::Ready(n) => written += n.unwrap(),
                    Poll::Pending => break,
                }
            }
            loop {
                let mut out = ReadBuf::new(&mut memory);
                match std::pin::Pin::new(&mut client).poll_read(cx, &mut out) {
                    Poll::Ready(read) => {
                        read.unwrap();
                        received.extend_from_slice(out.filled());
                        if received.len() == sent.len() {
                            return Poll::Ready(());
                        }
                    }
                    Poll::Pending => return Poll::Pending,
                }
            }
        })
        .await;
        assert!(received == sent);
        drop(client);
        assert_eq!(echo.await.unwrap(), sent.len());
        drop(listener);
        for _ in 0..5 {
            yield_now().await;
            sleep(Duration::from_millis(2)).await;
        }
        assert_eq!(context::in_flight(), (0, 0), "every operation and timer is given back");
    });
}

#[test]
fn a_listener_that_stops_keeps_what_it_had_accepted() {
    run(|| async {
        let socket = listen::tcp("127.0.0.1:0".parse().unwrap(), 16).unwrap();
        let addr = listen::local_addr(&socket).unwrap();
        let mut listener = Listener::new(socket).unwrap();
        // Armed, so that the next connections are accepted behind our back.
        poll_fn(|cx| {
            assert!(listener.poll_accept(cx).is_pending());
            Poll::Ready(())
        })
        .await;
        let mut clients = Vec::new();
        for _ in 0..3 {
            clients.push(Stream::connect(driver::SocketAddrAny::from(addr)).await.unwrap());
        }
        sleep(Duration::from_millis(5)).await;
        assert_eq!(listener.stop().await.len(), 3);
    });
}

#[test]
fn a_task_that_holds_the_core_is_counted() {
    for runtime in runtimes() {
        let heartbeat = runtime.heartbeat();
        let watched = runtime.heartbeat();
        let watcher = std::thread::spawn(move || {
            for _ in 0..1000 {
                if watched.pulse().task == Some("hog") {
                    return true;
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            false
        });
        runtime
            .block_on(async {
                spawn("hog", async { std::thread::sleep(Duration::from_millis(150)) })
                    .await
                    .unwrap();
            })
            .unwrap();
        assert_eq!(heartbeat.stalls(), 1);
        assert!(
            watcher.join().unwrap(),
            "the watchdog sees the name while the core is held"
        );
    }
}

/// As a process with another driver that takes the socket over, while this one did not get to stop.
#[test]
fn epoll_does_not_block_on_a_listener_that_was_made_blocking() {
    let (say, hear) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let (driver, _) = choose::open(IoDriver::Epoll).unwrap();
        Runtime::new(driver, 1)
            .block_on(async move {
                let socket = listen::tcp(std::net::SocketAddr::from(([127, 0, 0, 1], 0)), 8).unwrap();
                let addr = listen::local_addr(&socket).unwrap();
                let mut listener = Listener::new(socket.try_clone().unwrap()).unwrap();
                let armed = timeout(Duration::from_millis(20), listener.accept()).await;
                assert!(armed.is_err());
                rustix::io::ioctl_fionbio(&socket, false).unwrap();
                let client = std::net::TcpStream::connect(addr).unwrap();
                let refused = listener.accept().await.unwrap_err();
                assert_eq!(refused.kind(), std::io::ErrorKind::WouldBlock);
                // The connection is the other process's, or this one's once the mode is its own again.
                rustix::io::ioctl_fionbio(&socket, true).unwrap();
                listener.accept().await.unwrap();
                drop(client);
            })
            .unwrap();
        say.send(()).unwrap();
    });
    hear.recv_timeout(Duration::from_secs(30))
        .expect("it blocks, or failed");
}
