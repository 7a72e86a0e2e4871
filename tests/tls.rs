//! TLS as clients of other makers see it: curl, openssl, Python; its certificates, and their renewal.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::exposition::Exposition;
use common::tls::{Authority, Client, KINDS, sealed};
use common::tools::{curl, python, run};
use common::{Server, Setup, on_each_driver, until};
use sonic_rs::JsonValueTrait;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

fn https(server: &Server, path: &str) -> String {
    format!("https://127.0.0.1:{}{path}", server.port)
}

fn text(path: &std::path::Path) -> &str {
    path.to_str().unwrap()
}

fn metrics(server: &Server, client: &Arc<rustls::ClientConfig>) -> Exposition {
    let (status, body) = Client::connect(server.addr(), client).get("/metrics");
    assert_eq!(status, 200);
    Exposition::parse(&String::from_utf8(body).unwrap())
}

#[test]
fn curl_speaks_both_versions_with_every_kind_of_key() {
    on_each_driver(|driver| {
        let authority = Authority::new();
        let ca = authority.ca();
        let plain = Server::start();
        let openapi = plain.get("/openapi.json").body;
        for kind in KINDS {
            let pair = authority.issue(kind, kind);
            let server = sealed(Setup::new().driver(driver), &pair).start();
            for version in ["1.2", "1.3"] {
                let tls = format!("--tlsv{version}");
                let args = |path: &str| {
                    let words = ["--http1.1", &tls, "--tls-max", version, "--cacert", text(&ca)];
                    let mut words: Vec<String> = words.map(str::to_owned).into();
                    words.push(https(&server, path));
                    words
                };
                let get = |path: &str| curl(&args(path).iter().map(String::as_str).collect::<Vec<_>>());
                assert_eq!(get("/health"), br#"{"status":"healthy"}"#, "{kind} {version}");
                assert!(get("/openapi.json") == openapi, "{kind} {version}: another body");
            }
            // Whose certificate nobody vouches for.
            let ran = run("curl", &["-sS", "--http1.1", &https(&server, "/health")]);
            assert_eq!(ran.status.code(), Some(60), "{ran:?}");
        }
    });
}

#[test]
fn stories_events_and_large_bodies_over_tls() {
    on_each_driver(|driver| {
        let authority = Authority::new();
        let server = sealed(Setup::new().driver(driver), &authority.issue("trips", "p256")).start();
        let ca = authority.ca();
        let url = https(&server, "/api/v1/stories/generate");
        let told = curl(&[
            "--http1.1",
            "--cacert",
            text(&ca),
            "--json",
            r#"{"location":"Cusco"}"#,
            &url,
        ]);
        let story: sonic_rs::Value = sonic_rs::from_slice(&told).unwrap();
        assert!(story["story"].as_str().unwrap().len() > 500);
        let events = curl(&[
            "--http1.1",
            "-N",
            "--cacert",
            text(&ca),
            "-H",
            "Accept: text/event-stream",
            "--json",
            r#"{"location":"Cusco","style":"comedy"}"#,
            &url,
        ]);
        let events = String::from_utf8(events).unwrap();
        assert!(
            events.contains("event: token") && events.contains("event: story"),
            "{events}"
        );

        let client = authority.client(None);
        let mut connection = Client::connect(server.addr(), &client);
        // As large as it may be, which is no story: read whole and refused for what it is; then one byte more.
        let post = |bytes: usize| {
            let mut request = format!(
                "POST /api/v1/stories/generate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {bytes}\r\n\r\n"
            )
            .into_bytes();
            request.extend(std::iter::repeat_n(b' ', bytes));
            request
        };
        connection.send(post(65_536));
        assert_eq!(connection.read().unwrap().0, 400);
        connection.send(post(65_537));
        assert_eq!(connection.read().unwrap().0, 413);
        assert!(connection.ends_cleanly());

        // Many at once, in one record and in as many as there are bytes.
        let mut connection = Client::connect(server.addr(), &client);
        let one = "GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n";
        connection.send(one.repeat(20));
        let first = connection.read().unwrap();
        assert_eq!(first.0, 200);
        for _ in 1..20 {
            assert!(connection.read().unwrap() == first);
        }
        for byte in one.bytes() {
            connection.send([byte]);
        }
        assert!(connection.read().unwrap() == first);
    });
}

#[test]
fn python_gets_a_proper_end() {
    let authority = Authority::new();
    let server = sealed(Setup::new(), &authority.issue("trips", "rsa")).start();
    let program = r#"
import http.client, socket, ssl, sys
port, ca = int(sys.argv[1]), sys.argv[2]
context = ssl.create_default_context(cafile=ca)
for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
    context.minimum_version = context.maximum_version = version
    connection = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=50)
    for _ in range(50):
        connection.request("GET", "/health/v2/live")
        answer = connection.getresponse()
        assert answer.status == 200 and b"alive" in answer.read()
    connection.close()
    # Without close_notify this raises.
    with socket.create_connection(("127.0.0.1", port), timeout=50) as plain:
        with context.wrap_socket(plain, server_hostname="127.0.0.1", suppress_ragged_eofs=False) as sealed:
            sealed.sendall(b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            got = b""
            while piece := sealed.recv(4096):
                got += piece
            assert got.endswith(b'{"status":"healthy"}'), got
    # The client ends its half first, and is answered.
    with socket.create_connection(("127.0.0.1", port), timeout=50) as plain:
        sealed = context.wrap_socket(plain, server_hostname="127.0.0.1", suppress_ragged_eofs=False)
        sealed.sendall(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
        assert sealed.recv(4096).startswith(b"HTTP/1.1 200")
        sealed.unwrap()
print("well")
"#;
    let said = python(program, &[&server.port.to_string(), text(&authority.ca())]);
    assert_eq!(said.trim(), "well");
}

/// `openssl s_client`, with nothing to say.
fn s_client(server: &Server, args: &[&str]) -> String {
    let addr = format!("127.0.0.1:{}", server.port);
    let mut all = vec!["s_client", "-connect", &addr];
    all.extend_from_slice(args);
    let ran = run("openssl", &all);
    String::from_utf8_lossy(&[ran.stdout, ran.stderr].concat()).into_owned()
}

#[test]
fn openssl_agrees_on_protocols_and_versions() {
    let authority = Authority::new();
    let pair = authority.issue("trips", "p256");
    let server = sealed(Setup::new(), &pair).start();
    let ca = authority.ca();
    let said = s_client(
        &server,
        &["-CAfile", text(&ca), "-alpn", "http/1.1", "-verify_return_error"],
    );
    assert!(
        said.contains("ALPN protocol: http/1.1") && said.contains("Verification: OK"),
        "{said}"
    );
    let said = s_client(&server, &["-alpn", "h2,http/1.1"]);
    assert!(said.contains("ALPN protocol: h2"), "{said}");
    let said = s_client(&server, &["-alpn", "imap"]);
    assert!(said.contains("alert no application protocol"), "{said}");
    let said = s_client(&server, &[]);
    assert!(said.contains("No ALPN negotiated"), "{said}");
    let said = s_client(&server, &["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"]);
    assert!(
        said.contains("SSL alert number") && said.contains("Cipher is (NONE)"),
        "{said}"
    );

    let server = sealed(Setup::new().env("TLS_MIN_VERSION", "1.3"), &pair).start();
    assert!(s_client(&server, &["-tls1_2"]).contains("alert protocol version"));
    assert!(s_client(&server, &["-tls1_3"]).contains("TLSv1.3, Cipher is TLS_"));
}

#[test]
fn sessions_are_resumed_on_every_worker() {
    let authority = Authority::new();
    let server = sealed(Setup::new().env("WORKERS", "4"), &authority.issue("trips", "p256")).start();
    let client = authority.client(None);
    for at in 0..24 {
        let mut connection = Client::connect(server.addr(), &client);
        assert_eq!(connection.get("/health").0, 200);
        let kind = connection.stream.conn.handshake_kind().unwrap();
        assert_eq!(
            kind == rustls::HandshakeKind::Resumed,
            at > 0,
            "connection {at}: {kind:?}"
        );
    }
    let folder = tempfile::TempDir::new().unwrap();
    let session = folder.path().join("session");
    for version in ["-tls1_2", "-tls1_3"] {
        let request = format!(
            "printf 'GET /health HTTP/1.0\\r\\n\\r\\n' | openssl s_client -connect 127.0.0.1:{} {version} -ign_eof",
            server.port
        );
        let first = run("sh", &["-c", &format!("{request} -sess_out {}", session.display())])
            .expect(0)
            .out();
        assert!(first.contains("New, TLS"), "{first}");
        for _ in 0..6 {
            let again = run("sh", &["-c", &format!("{request} -sess_in {}", session.display())])
                .expect(0)
                .out();
            assert!(again.contains("Reused, TLS") && again.contains("healthy"), "{again}");
        }
    }
}

#[test]
fn what_is_no_tls_ends_in_good_order() {
    on_each_driver(|driver| {
        let authority = Authority::new();
        let server = sealed(Setup::new().driver(driver), &authority.issue("trips", "p256")).start();
        let plain = server.get("/health");
        assert!(plain.status == 400 && plain.text().contains("speaks TLS"), "{plain:?}");
        let rng = &mut fastrand::Rng::with_seed(7);
        for round in 0..200 {
            let mut garbage: Vec<u8> = (0..rng.usize(1..3000)).map(|_| rng.u8(..)).collect();
            if round % 2 == 0 {
                // The head of a handshake record.
                garbage.splice(..0, [0x16, 3, 1, rng.u8(..0x42), rng.u8(..)]);
            }
            let mut stream = TcpStream::connect(server.addr()).unwrap();
            stream.set_read_timeout(Some(common::PATIENCE)).unwrap();
            let _ = stream.write_all(&garbage);
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            // An alert, an answer in the clear, or nothing; and the end.
            let mut got = Vec::new();
            let _ = stream.read_to_end(&mut got);
            assert!(got.len() < 1000);
        }
        let client = authority.client(None);
        let metrics = metrics(&server, &client);
        assert!(metrics.sum("tls_handshakes_total", &[("result", "failed")]) >= 200.0);
        assert!(metrics.sum("tls_handshakes_total", &[("result", "ok")]) >= 1.0);
        until("all of them to be gone", || {
            self::metrics(&server, &client).sum("http_connections_open", &[]) <= 1.0
        });
        assert!(!server.all_said().contains("panicked"));
    });
}

#[test]
fn http_in_the_clear_behind_a_proxy_header_is_told_so() {
    let authority = Authority::new();
    let setup = sealed(Setup::new(), &authority.issue("trips", "p256"));
    let setup = setup.env("PROXY_PROTOCOL", "on").env("TRUSTED_PROXIES", "loopback");
    let server = setup.start();
    let header = "PROXY TCP4 203.0.113.7 198.51.100.2 1 2\r\n";
    let request = "GET /health HTTP/1.1\r\nHost: a\r\n\r\n";
    for pieces in [vec![[header, request].concat()], vec![header.into(), request.into()]] {
        let mut stream = TcpStream::connect(server.addr()).unwrap();
        stream.set_nodelay(true).unwrap();
        for piece in &pieces {
            stream.write_all(piece.as_bytes()).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 400 "),
            "{} pieces: {answer:?}",
            pieces.len()
        );
    }
}

#[test]
fn a_handshake_that_does_not_come_is_not_waited_for() {
    on_each_driver(|driver| {
        let authority = Authority::new();
        let setup = Setup::new().driver(driver).env("HEAD_TIMEOUT", "2s");
        let server = sealed(setup, &authority.issue("trips", "p256")).start();
        let client = authority.client(None);
        let mut hello = Vec::new();
        rustls::ClientConnection::new(Arc::clone(&client), "localhost".try_into().unwrap())
            .unwrap()
            .write_tls(&mut hello)
            .unwrap();
        let begun = [&[][..], &hello[..hello.len() / 2], &hello[..]].map(|bytes| {
            let mut stream = TcpStream::connect(server.addr()).unwrap();
            stream.set_read_timeout(Some(common::PATIENCE)).unwrap();
            stream.write_all(bytes).unwrap();
            stream
        });
        for mut stream in begun {
            // Ends by itself: the patience of this client is a minute.
            stream.read_to_end(&mut Vec::new()).unwrap();
        }
        assert_eq!(
            metrics(&server, &client).sum("tls_handshakes_total", &[("result", "failed")]),
            3.0
        );
    });
}

#[test]
fn a_thousand_connections() {
    common::raise_open_files();
    on_each_driver(|driver| {
        let authority = Authority::new();
        // A slow machine takes its time for a thousand handshakes.
        let setup = Setup::new().driver(driver).env("KEEP_ALIVE", "1h");
        let server = sealed(setup, &authority.issue("trips", "ed25519")).start();
        let client = authority.client(None);
        let mut open: Vec<Client> = Vec::new();
        for _ in 0..1000 {
            let mut connection = Client::connect(server.addr(), &client);
            assert_eq!(connection.get("/health").0, 200);
            open.push(connection);
        }
        for connection in &mut open {
            connection.send("GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n");
        }
        for connection in &mut open {
            assert_eq!(connection.read().unwrap().0, 200);
        }
        let figures = metrics(&server, &client);
        assert!(figures.sum("http_connections_open", &[]) >= 1000.0);
        drop(open);
        until("all of them to be gone", || {
            metrics(&server, &client).sum("http_connections_open", &[]) <= 1.0
        });
    });
}

#[test]
fn the_healthcheck_speaks_tls_too() {
    let authority = Authority::new();
    let pair = authority.issue("trips", "p256");
    let server = sealed(Setup::new(), &pair).start();
    let port = server.port.to_string();
    sealed(Setup::new().env("PORT", &port), &pair)
        .run(&["healthcheck"])
        .expect(0);
    let in_the_clear = Setup::new().env("PORT", &port).run(&["healthcheck"]).expect(1);
    assert!(in_the_clear.err().contains("400"), "{in_the_clear:?}");
}

#[test]
fn draining_says_goodbye() {
    on_each_driver(|driver| {
        let authority = Authority::new();
        let setup = Setup::new().driver(driver).env("GRACEFUL_TIMEOUT", "300s");
        let mut server = sealed(setup, &authority.issue("trips", "p256")).start();
        let client = authority.client(None);
        let mut idle = Client::connect(server.addr(), &client);
        idle.get("/health");
        // One that has begun no handshake is not waited for.
        let _silent = TcpStream::connect(server.addr()).unwrap();
        until("both to be accepted", || {
            let (_, body) = idle.get("/metrics");
            Exposition::parse(&String::from_utf8(body).unwrap()).sum("http_connections_open", &[]) >= 2.0
        });
        server.terminate();
        assert!(idle.ends_cleanly(), "without close_notify");
        assert_eq!(server.wait().code(), Some(0));
    });
}
