//! Certificates and keys: renewed, broken, asked of clients, and what cannot be served.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::exposition::Exposition;
use common::tls::{Authority, Client, Pair, sealed};
use common::tools::curl;
use common::{Server, Setup, on_each_driver, until};
use rustix::process::Signal;
use sonic_rs::JsonValueTrait;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

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
fn a_new_certificate_while_requests_go_on() {
    on_each_driver(|driver| {
        let authority = Authority::new();
        let served = authority.issue("served", "p256");
        let others = [
            authority.issue_until("even", "p256", 2071),
            authority.issue_until("odd", "ed25519", 2072),
        ];
        let mut server = sealed(Setup::new().driver(driver).env("WORKERS", "2"), &served).start();
        let client = authority.client(None);
        let mut old = Client::connect(server.addr(), &client);
        assert_eq!(old.get("/health").0, 200);
        let before = old.certificate();

        let stop = AtomicBool::new(false);
        let answered = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for keeps in [true, true, false, false] {
                let (stop, answered, server) = (&stop, &answered, &server);
                let fresh = authority.client(None);
                scope.spawn(move || {
                    let mut kept = Client::connect(server.addr(), &fresh);
                    while !stop.load(Ordering::Relaxed) {
                        if !keeps || kept.is_told_to_close {
                            kept = Client::connect(server.addr(), &fresh);
                        }
                        // A failure is a panic, which the scope hands on.
                        assert_eq!(kept.get("/health/v2/live").0, 200);
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            let mut seen = before.clone();
            for round in 0..6 {
                served.replace_by(&others[round % 2]);
                server.signal(Signal::HUP);
                let (expiry, at_least) = (
                    [3_187_296_000.0, 3_218_832_000.0][round % 2],
                    answered.load(Ordering::Relaxed) + 20,
                );
                until("the new certificate", || {
                    let mut connection = Client::connect(server.addr(), &authority.client(None));
                    connection.get("/health");
                    let now = connection.certificate();
                    let is_new = now != seen;
                    if is_new {
                        seen = now;
                    }
                    is_new
                });
                if round == 0 {
                    // The connection of the beginning is still there, with the certificate that it began with, and is
                    // asked to come again: its worker has been replaced.
                    assert_eq!(old.get("/health").0, 200);
                    assert_eq!(old.certificate(), before);
                    until("the round to be over", || {
                        server.all_said().contains("the round is over")
                    });
                }
                until("requests after it", || answered.load(Ordering::Relaxed) > at_least);
                let told = metrics(&server, &client).sum("tls_certificate_expiry_timestamp_seconds", &[]);
                assert_eq!(told, expiry);
            }
            stop.store(true, Ordering::Relaxed);
        });
        let line = server
            .log
            .find(|line| line["message"].as_str().is_some_and(|said| said.contains("read again")))
            .expect("a line that says so");
        assert_eq!(line["subject"].as_str(), Some("CN=even"));
        assert_eq!(line["not_after"].as_str(), Some("2071-01-01T00:00:00Z"));
        assert_eq!(line["sha256"].as_str().unwrap().len(), 95);
        drop(old);
        server.stop();
    });
}

#[test]
fn a_broken_pair_is_not_taken() {
    let authority = Authority::new();
    let served = authority.issue("served", "p256");
    let good = authority.issue("good", "p256");
    let mut server = sealed(Setup::new(), &served).start();
    let client = authority.client(None);
    let mut first = Client::connect(server.addr(), &client);
    first.get("/health");
    let errors = |server: &Server| server.all_said().matches("is kept").count();
    let breaks: [&dyn Fn(); 4] = [
        &|| std::fs::write(&served.cert, "nothing").unwrap(),
        &|| assert!(std::fs::copy(&good.cert, &served.cert).unwrap() > 0),
        &|| std::fs::remove_file(&served.cert).unwrap(),
        &|| std::fs::write(&served.key, "").unwrap(),
    ];
    for (at, damage) in breaks.iter().enumerate() {
        damage();
        server.signal(Signal::HUP);
        until("an error in the log", || errors(&server) == at + 1);
        let mut fresh = Client::connect(server.addr(), &authority.client(None));
        assert_eq!(fresh.get("/health").0, 200);
        assert_eq!(fresh.certificate(), first.certificate());
    }
    served.replace_by(&good);
    server.signal(Signal::HUP);
    until("the repaired pair", || {
        let mut fresh = Client::connect(server.addr(), &authority.client(None));
        fresh.get("/health");
        fresh.certificate() != first.certificate()
    });
    drop(first);
    server.stop();
}

#[test]
fn clients_that_must_show_a_certificate() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let pair = authority.issue("trips", "p256");
    let ca = authority.ca();
    let setup = || sealed(Setup::new(), &pair).env("TLS_CLIENT_CA", text(&ca));
    let server = setup().start();
    let shown = authority.issue("a client", "rsa");
    let mut known = Client::connect(server.addr(), &authority.client(Some(&shown)));
    assert_eq!(known.get("/health").0, 200);
    let said = Client::connect(server.addr(), &authority.client(None))
        .try_get("/health")
        .unwrap_err();
    assert!(said.contains("CertificateRequired"), "{said}");
    let other = stranger.issue("another client", "p256");
    let said = Client::connect(server.addr(), &authority.client(Some(&other)))
        .try_get("/health")
        .unwrap_err();
    assert!(said.contains("alert"), "{said}");
    let url = https(&server, "/health");
    let got = curl(&[
        "--http1.1",
        "--cacert",
        text(&ca),
        "--cert",
        text(&shown.cert),
        "--key",
        text(&shown.key),
        &url,
    ]);
    assert_eq!(got, br#"{"status":"healthy"}"#);
    let ran = Setup::new().env("PORT", &server.port.to_string());
    let ran = sealed(ran, &pair)
        .env("TLS_CLIENT_CA", text(&ca))
        .run(&["healthcheck"])
        .expect(1);
    assert!(ran.err().contains("TLS_CLIENT_CA"), "{ran:?}");
}

#[test]
fn what_cannot_be_served_is_said_at_the_start() {
    let authority = Authority::new();
    let (pair, other) = (authority.issue("trips", "p256"), authority.issue("other", "p256"));
    for (name, value) in [
        ("TLS_CERT", text(&pair.cert)),
        ("TLS_KEY", text(&pair.key)),
        ("TLS_CLIENT_CA", text(&pair.cert)),
    ] {
        let ran = Setup::new().env(name, value).run(&["check"]).expect(78);
        assert!(
            ran.err().contains(if name == "TLS_CLIENT_CA" {
                "without TLS"
            } else {
                "is not set, but"
            }),
            "{ran:?}"
        );
    }
    let mixed = Pair {
        cert: pair.cert.clone(),
        key: other.key,
    };
    let missing = Pair {
        cert: "/nowhere/tls.crt".into(),
        key: pair.key.clone(),
    };
    for (pair, words) in [(mixed, "not that of the first certificate"), (missing, "no such file")] {
        for (command, code) in [("check", 1), ("serve", 69)] {
            let said = sealed(Setup::new(), &pair).run(&[command]).expect(code).err();
            assert!(said.contains(words) && said.contains("Remedy: "), "{said}");
        }
    }
    let old = authority.issue_until("old", "p256", 2021);
    std::fs::set_permissions(&old.key, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let said = sealed(Setup::new(), &old).run(&["check"]).expect(0).out();
    assert!(said.contains("certificate: CN=old, valid from 2020-01-01T00:00:00Z to 2021-01-01T00:00:00Z, SHA-256 "));
    assert!(
        said.contains("warning: TLS_CERT: certificate 1") && said.contains("has expired on 2021-01-01"),
        "{said}"
    );
    assert!(said.contains("warning: TLS_KEY: every user"), "{said}");
    // It is served all the same, and says so.
    let server = sealed(Setup::new(), &old).start();
    assert!(server.all_said().contains("has expired on"));
    let got = curl(&["-k", "--http1.1", &https(&server, "/health")]);
    assert_eq!(got, br#"{"status":"healthy"}"#);
}
