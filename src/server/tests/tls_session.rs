//! One TLS session between two streams.

use super::client::{Client, Terms};
use super::wire::Ask;
use super::wire_tls::{TlsWire, Wire, keys};
use super::{Guest, millis, secs, settings};
use crate::runtime::driver::SocketAddrAny;
use crate::runtime::driver::sim::{SimConfig, SimDriver};
use crate::runtime::executor::{Runtime, spawn};
use crate::runtime::net::Listener;
use crate::runtime::time::sleep;
use crate::server::Server;
use crate::server::tls::{TlsTransport, greet};
use crate::server::transport::Transport;
use rustls::ClientConfig;
use std::future::{Future, poll_fn};
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

#[test]
fn an_idle_session_holds_no_buffer_and_a_slow_reader_shows_progress() {
    for version in [&keys().tls13, &keys().tls12] {
        pair(version, |mut transport, mut client| async move {
            // The server's own last flight.
            assert!(poll_fn(|cx| transport.poll_sent(cx)).await.0.is_ok());
            // More than both sockets hold; the client does not read.
            transport.start_send_detached(vec![7; 400_000]);
            sleep(secs(1)).await;
            assert!(transport.is_sending());
            assert!(poll_fn(|cx| Poll::Ready(transport.poll_sent(cx))).await.is_pending());
            let first = transport.taken_bytes();
            assert!(first > 10_000, "{first}");
            let mut got = 0;
            let mut last = first;
            while got < 400_000 {
                got += poll_fn(|cx| client.poll_recv(cx)).await.unwrap().unwrap().len();
                let _ = poll_fn(|cx| Poll::Ready(transport.poll_sent(cx))).await;
                if transport.is_sending() {
                    assert!(transport.taken_bytes() >= last, "progress went back");
                    last = transport.taken_bytes();
                }
            }
            assert!(last > first, "no progress was seen");
            assert!(poll_fn(|cx| transport.poll_sent(cx)).await.0.is_ok());
            assert_eq!((transport.taken_bytes(), transport.is_sending()), (0, false));

            client.tls.writer().write_all(&[8; 50_000]).unwrap();
            poll_fn(|cx| client.poll_sent(cx)).await.0.unwrap();
            let mut got = 0;
            while got < 50_000 {
                got += poll_fn(|cx| transport.poll_recv(cx)).await.unwrap().unwrap().len();
            }
            assert_eq!((got, transport.held_bytes()), (50_000, 0));

            // Paused, it gives what has come, and the rest later.
            client.tls.writer().write_all(&[9; 20_000]).unwrap();
            poll_fn(|cx| client.poll_sent(cx)).await.0.unwrap();
            assert!(poll_fn(|cx| Poll::Ready(transport.poll_recv(cx))).await.is_pending());
            sleep(secs(1)).await;
            let mut got: usize = transport.pause_recv().iter().map(Vec::len).sum();
            poll_fn(|cx| transport.poll_paused(cx)).await;
            got += transport.pause_recv().iter().map(Vec::len).sum::<usize>();
            while got < 20_000 {
                got += poll_fn(|cx| transport.poll_recv(cx)).await.unwrap().unwrap().len();
            }
            assert_eq!((got, transport.held_bytes()), (20_000, 0));

            // Each half ends for itself.
            client.tls.send_close_notify();
            poll_fn(|cx| client.poll_sent(cx)).await.0.unwrap();
            assert!(poll_fn(|cx| transport.poll_recv(cx)).await.unwrap().is_none());
            transport.start_send_detached(b"still here".to_vec());
            assert!(poll_fn(|cx| transport.poll_sent(cx)).await.0.is_ok());
            let last = poll_fn(|cx| client.poll_recv(cx)).await.unwrap();
            assert_eq!(last.as_deref(), Some(&b"still here"[..]));
            transport.say_goodbye();
            assert!(poll_fn(|cx| transport.poll_sent(cx)).await.0.is_ok());
            assert!(poll_fn(|cx| client.poll_recv(cx)).await.unwrap().is_none());
        });
    }
}

/// Sealed bytes that came before anybody knew what they were, as behind a PROXY header.
#[test]
fn early_bytes_are_part_of_the_handshake() {
    for early_bytes in [1, 5, 100, usize::MAX] {
        let (driver, net) = SimDriver::new(1, SimConfig::calm());
        let addr = SocketAddrAny::from(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 80));
        let listener = net.listen(addr.clone());
        Runtime::new(Box::new(driver), 1)
            .block_on(async move {
                let mut listener = Listener::from_driver(listener);
                let client = spawn("client", async move {
                    let wire = TlsWire::connect(addr, &keys().tls13).await.unwrap();
                    let mut client = Client::over(Wire::Tls(Box::new(wire)), Terms::Strict);
                    client.ask(&Ask::size(1, 10));
                    client.until_answered(1).await;
                    client.answered
                });
                let mut stream = listener.accept().await.unwrap();
                let mut early = Vec::new();
                while early.len() < early_bytes.min(150) {
                    early.extend_from_slice(&stream.recv().await.unwrap().unwrap());
                }
                let server = Rc::new(Server::new(super::TestApp::default(), settings()));
                server.set_tls(Arc::clone(&keys().loaded.settings));
                spawn("greeting", greet(stream, Guest::new(Rc::clone(&server)), early));
                assert_eq!(client.await.unwrap(), 1);
                while server.open() > 0 {
                    sleep(millis(10)).await;
                }
            })
            .unwrap();
    }
}

/// A transport and its client, without a server between.
fn pair<F: Future<Output = ()> + 'static>(
    version: &'static Arc<ClientConfig>,
    scenario: impl FnOnce(TlsTransport, TlsWire) -> F + 'static,
) {
    let (driver, net) = SimDriver::new(1, SimConfig::calm());
    let addr = SocketAddrAny::from(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 80));
    let listener = net.listen(addr.clone());
    Runtime::new(Box::new(driver), 1)
        .block_on(async move {
            let mut listener = Listener::from_driver(listener);
            let client = spawn("client", async move { TlsWire::connect(addr, version).await.unwrap() });
            let stream = listener.accept().await.unwrap();
            let settings = Arc::clone(&keys().loaded.settings);
            let mut transport = TlsTransport::new(stream, settings, &[]).unwrap();
            poll_fn(|cx| transport.poll_handshake(cx)).await.unwrap();
            let client = client.await.unwrap();
            scenario(transport, client).await;
        })
        .unwrap();
}
