//! Who the server is to PostgreSQL, and PostgreSQL to it: client certificates, channel binding with somebody in the
//! middle, and the forms of a connection string, none of which shows its password.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::postgres::{OWNER, Postgres};
use common::{Setup, until};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

fn on(url: &str) -> Setup {
    Setup::new().env("DATABASE_URL", url).env("WORKERS", "1")
}

/// Exit code and words of `migrate status`: 1 where it got in (migrations are pending), 69 where it did not.
fn outcome(url: &str) -> (Option<i32>, String) {
    let ran = on(url).run(&["migrate", "status", "--wait", "0"]);
    (ran.status.code(), format!("{}{}", ran.out(), ran.err()))
}

/// An authority.
struct Authority {
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Authority {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Authority {
            issuer: rcgen::Issuer::new(params, key),
            pem,
        }
    }

    /// Certificate and key for a name, which stands in the common name, too: there PostgreSQL looks for a client's role.
    fn certify(&self, name: &str) -> (String, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

/// A database over TLS, and its authority.
fn encrypted() -> (Postgres, Authority) {
    let mut database = Postgres::start();
    let ours = Authority::new();
    let (chain, key) = ours.certify("localhost");
    let files = [("server.crt", &chain), ("server.key", &key), ("ca.crt", &ours.pem)];
    let paths = files.map(|(name, text)| database.write(name, text).display().to_string());
    database.stop();
    database.set(&[
        "ssl=on".to_owned(),
        format!("ssl_cert_file={}", paths[0]),
        format!("ssl_key_file={}", paths[1]),
        format!("ssl_ca_file={}", paths[2]),
    ]);
    database.launch();
    (database, ours)
}

#[test]
fn a_client_certificate_is_shown_where_it_is_asked_for() {
    let (database, ours) = encrypted();
    database.sql("CREATE ROLE robot LOGIN; GRANT ALL ON SCHEMA public TO robot");
    database.allow("hostssl all robot 127.0.0.1/32 cert\nhostssl all owner 127.0.0.1/32 trust clientcert=verify-ca");
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let identity = |name: &str, (chain, key): (String, String)| {
        let (chain, key) = (
            write(&format!("{name}.crt"), &chain),
            write(&format!("{name}.key"), &key),
        );
        format!("sslcert={}&sslkey={}", chain.display(), key.display())
    };
    let ca = write("ca.crt", &ours.pem);
    let verified = format!("sslmode=verify-full&sslrootcert={}", ca.display());
    let robot = identity("robot", ours.certify("robot"));
    let other = identity("other", ours.certify("somebody"));
    let stranger = identity("stranger", Authority::new().certify("robot"));

    for (role, query) in [
        ("robot", format!("{verified}&{robot}")),
        (
            "robot",
            format!("sslmode=require&{robot}&ssl_min_protocol_version=TLSv1.3"),
        ),
        (OWNER, format!("sslmode=require&{other}")),
    ] {
        let (code, said) = outcome(&database.url_of(role, "localhost", &query));
        assert_eq!(code, Some(1), "{role} {query}: {said}");
    }
    for (role, query, named) in [
        ("robot", verified.clone(), "28000"),
        ("robot", format!("{verified}&{other}"), "28000"),
        ("robot", format!("{verified}&{stranger}"), "not reachable"),
        (OWNER, verified.clone(), "28000"),
        ("robot", format!("sslmode=disable&{robot}"), "28000"),
    ] {
        let (code, said) = outcome(&database.url_of(role, "localhost", &query));
        assert_eq!(code, Some(69), "{role} {query}: {said}");
        assert!(said.contains(named), "{role} {query}: {said}");
    }

    // A key under a passphrase, and the passphrase: the file is named, the parameter is refused, nothing is shown.
    let locked = dir.path().join("locked.key");
    let ran = Command::new("openssl")
        .args(["pkcs8", "-topk8", "-passout", "pass:s3ntinel", "-in"])
        .arg(dir.path().join("robot.key"))
        .arg("-out")
        .arg(&locked)
        .output()
        .unwrap();
    assert!(ran.status.success(), "{ran:?}");
    let with_locked = format!(
        "sslmode=require&sslcert={}&sslkey={}",
        dir.path().join("robot.crt").display(),
        locked.display()
    );
    let ran = on(&database.url_of("robot", "localhost", &with_locked))
        .run(&["serve"])
        .expect(69);
    assert!(
        ran.err().contains("locked.key") && ran.err().contains("unencrypted"),
        "{}",
        ran.err()
    );
    let with_word = format!("{with_locked}&sslpassword=s3ntinel");
    let ran = on(&database.url_of("robot", "localhost", &with_word))
        .run(&["serve"])
        .expect(78);
    assert!(
        ran.err().contains("sslpassword") && !ran.err().contains("s3ntinel"),
        "{}",
        ran.err()
    );
}

/// Somebody in the middle, who has a certificate of their own and passes on what they read: until the test ends.
fn somebody_in_the_middle(to: u16) -> u16 {
    let (chain, key) = Authority::new().certify("localhost");
    let chain = CertificateDer::pem_slice_iter(chain.as_bytes())
        .map(Result::unwrap)
        .collect();
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            let config = Arc::clone(&config);
            std::thread::spawn(move || {
                let _ = pass_on(stream, config, to);
            });
        }
    });
    port
}

fn pass_on(mut stream: TcpStream, config: Arc<rustls::ServerConfig>, to: u16) -> std::io::Result<()> {
    // The question for TLS: eight bytes, answered by one.
    stream.read_exact(&mut [0; 8])?;
    stream.write_all(b"S")?;
    let connection = rustls::ServerConnection::new(config).map_err(std::io::Error::other)?;
    let mut client = rustls::StreamOwned::new(connection, stream);
    let mut server = Command::new("openssl")
        .args([
            "s_client",
            "-quiet",
            "-starttls",
            "postgres",
            "-connect",
            &format!("127.0.0.1:{to}"),
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let (mut ask, mut answers) = (server.stdin.take().unwrap(), server.stdout.take().unwrap());
    let (said, heard) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok(count @ 1..) = answers.read(&mut bytes) {
            let _ = said.send(bytes[..count].to_vec());
        }
    });
    client.sock.set_read_timeout(Some(Duration::from_millis(5)))?;
    let mut bytes = [0; 4096];
    let ended = loop {
        match client.read(&mut bytes) {
            Ok(0) => break Ok(()),
            Ok(count) => ask.write_all(&bytes[..count]).and_then(|()| ask.flush())?,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => break Err(error),
        }
        match heard.try_recv() {
            Ok(bytes) => client.write_all(&bytes).and_then(|()| client.flush())?,
            Err(std::sync::mpsc::TryRecvError::Empty) => {}
            Err(std::sync::mpsc::TryRecvError::Disconnected) => break Ok(()),
        }
    };
    drop(ask);
    let _ = server.kill();
    let _ = server.wait();
    ended
}

#[test]
fn channel_binding_finds_somebody_in_the_middle_where_certificates_are_not_verified() {
    let (database, _) = encrypted();
    database.sql(
        "SET password_encryption = 'scram-sha-256'; CREATE ROLE teller LOGIN PASSWORD 's3ntinel'; \
         GRANT ALL ON SCHEMA public TO teller",
    );
    database.allow("hostssl all teller 127.0.0.1/32 scram-sha-256");
    let middle = somebody_in_the_middle(database.port);
    let url = |port: u16, binding: &str| {
        format!("postgresql://teller:s3ntinel@localhost:{port}/trips?sslmode=require&channel_binding={binding}")
    };
    for binding in ["disable", "prefer", "require"] {
        let (code, said) = outcome(&url(database.port, binding));
        assert_eq!(code, Some(1), "{binding}: {said}");
        let (code, said) = outcome(&url(middle, binding));
        // Without it nothing is noticed, which shows that the one in the middle does the work.
        let fooled = if binding == "disable" { Some(1) } else { Some(69) };
        assert_eq!(code, fooled, "{binding}, in the middle: {said}");
        assert!(!said.contains("s3ntinel"), "{said}");
    }
}

#[test]
fn pairs_and_drivers_lead_to_the_same_database_and_show_no_password() {
    const WORD: &str = r"s3ntinel '\ @/?#%=";
    let database = Postgres::start();
    database.sql(&format!(
        "SET password_encryption = 'scram-sha-256'; SET standard_conforming_strings = on; \
         CREATE ROLE teller LOGIN PASSWORD '{}'; GRANT ALL ON SCHEMA public TO teller",
        WORD.replace('\'', "''")
    ));
    database.allow("host all teller 127.0.0.1/32 scram-sha-256");
    let quoted = WORD.replace('\\', r"\\").replace('\'', r"\'");
    let encoded = "s3ntinel%20%27%5C%20%40%2F%3F%23%25%3D";
    let port = database.port;
    for url in [
        format!("host=localhost port={port} user=teller password='{quoted}' dbname=trips sslmode=disable"),
        format!("postgresql+asyncpg://teller:{encoded}@localhost:{port}/trips?ssl=disable"),
        format!("postgres://localhost:{port}/trips?user=teller&password={encoded}"),
    ] {
        let setup = || {
            on(&url)
                .env("LOG_LEVEL", "trace")
                .env("PGPASSWORD", "s3ntinel2")
                .env("PGSSLMODE", "verify-full")
        };
        let mut server = setup().start();
        until("readiness", || server.get("/health/v2/ready").status == 200);
        server.tell(r#"{"location":"Cork"}"#).expect(200);
        let status = server.get("/health/v2/status").text();
        let checked = setup().run(&["check"]);
        server.stop();
        let said = format!("{status}{}{}{}", server.all_said(), checked.out(), checked.err());
        assert!(!said.contains("s3ntinel") && !said.contains(encoded), "{said}");
        assert!(said.contains("PGPASSWORD, PGSSLMODE are set and not read"), "{said}");
        // A password that is wrong, and one that is cut short by the shape of the string.
        let wrong = url.replace("s3ntinel", "s3ntinel-wrong");
        let (code, said) = outcome(&wrong);
        assert_eq!(code, Some(69), "{said}");
        assert!(said.contains("28P01") && !said.contains("s3ntinel"), "{said}");
    }
    for (broken, named) in [
        (
            "host=localhost user=teller password=s3ntinel 1 dbname=trips",
            "key=value",
        ),
        ("host=localhost user=teller password='s3ntinel", "password"),
        ("postgresql+nonsense://teller:s3ntinel@localhost/trips", "nonsense"),
        ("mysql://teller:s3ntinel@localhost/trips", "postgresql://"),
        ("host=localhost sslcrl=x password=s3ntinel", "sslcrl"),
        (
            "postgresql://teller:s3ntinel@localhost/trips?sslnegotiation=direct",
            "sslnegotiation=direct",
        ),
    ] {
        let ran = on(broken).run(&["serve"]).expect(78);
        assert!(
            ran.err().contains(named) && !ran.err().contains("s3ntinel"),
            "{broken}: {}",
            ran.err()
        );
    }
}
