//! Handshakes with a rustls server on a thread, certificates of a CA of our own.

use super::*;
use crate::backend::dial::{Target, dial};
use crate::backend::tests::run;
use std::io::{Read, Write};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

struct Authority {
    cert: rcgen::Certificate,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

fn authority(name: &str) -> Authority {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    Authority {
        cert: params.self_signed(&key).unwrap(),
        issuer: rcgen::Issuer::new(params, key),
    }
}

/// An endless echo server with a certificate for `name`; gives its port.
fn serve(authority: &Authority, name: &str) -> u16 {
    let key = rcgen::KeyPair::generate().unwrap();
    let cert = rcgen::CertificateParams::new(vec![name.to_owned()])
        .unwrap()
        .signed_by(&key, &authority.issuer)
        .unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![cert.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    let config = Arc::new(config);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        while let Ok((mut tcp, _)) = listener.accept() {
            let mut session = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut tls = rustls::Stream::new(&mut session, &mut tcp);
            let mut bytes = vec![0; 100_000];
            // A client that does not believe us goes away.
            if tls.read_exact(&mut bytes).is_ok() {
                tls.write_all(&bytes).unwrap();
                tls.conn.send_close_notify();
                let _ = tls.flush();
            }
        }
    });
    port
}

async fn echoed(settings: TlsSettings, host: &'static str, port: u16) -> io::Result<()> {
    let tls = Tls::new(&settings).map_err(io::Error::other)?;
    let target = Target::Tcp {
        host: "127.0.0.1".to_owned(),
        port,
    };
    let stream = dial(&target, None, Duration::from_secs(20))
        .await
        .map_err(io::Error::other)?;
    let mut stream = tls.connect(host, stream).await?;
    assert_eq!(server_end_point(&stream).unwrap().len(), 32, "ECDSA with SHA-256");
    let sent: Vec<u8> = (0..100_000u32).map(|n| n as u8).collect();
    stream.write_all(&sent).await?;
    stream.flush().await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    assert!(answer == sent);
    Ok(())
}

#[test]
fn each_mode_believes_what_it_says() {
    let dir = tempfile::tempdir().unwrap();
    let ours = authority("ours");
    let file = dir.path().join("ca.pem");
    std::fs::write(&file, ours.cert.pem()).unwrap();
    let (known, stranger) = (serve(&ours, "db.test"), serve(&authority("theirs"), "db.test"));
    run(async move {
        let with = |verify| TlsSettings {
            verify,
            roots: Some(file.clone()),
            identity: None,
            only_tls13: false,
        };
        echoed(with(Verify::Nothing), "db.test", stranger).await.unwrap();
        echoed(with(Verify::Ca), "other.test", known).await.unwrap();
        // As an address: a name that no certificate here is for.
        echoed(with(Verify::Ca), "127.0.0.1", known).await.unwrap();
        echoed(with(Verify::Full), "db.test", known).await.unwrap();
        let refused = [
            echoed(with(Verify::Ca), "db.test", stranger).await,
            echoed(with(Verify::Full), "db.test", stranger).await,
            echoed(with(Verify::Full), "other.test", known).await,
            echoed(with(Verify::Full), "127.0.0.1", known).await,
            echoed(with(Verify::Full), "not a name", known).await,
        ];
        for (at, outcome) in refused.into_iter().enumerate() {
            let error = outcome.expect_err(&format!("the attempt number {at} should be refused"));
            assert!(
                matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput),
                "{error}"
            );
        }
    });
}

#[test]
fn files_that_do_not_serve_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let empty = dir.path().join("empty.pem");
    std::fs::write(&empty, "nothing\n").unwrap();
    let cases = [
        (Some(dir.path().join("missing.pem")), None, "missing.pem"),
        (Some(empty.clone()), None, "empty.pem"),
        (None, Some((empty.clone(), empty.clone())), "empty.pem"),
    ];
    for (roots, identity, named) in cases {
        let settings = TlsSettings {
            verify: if roots.is_some() { Verify::Full } else { Verify::Nothing },
            roots,
            identity,
            only_tls13: true,
        };
        let error = Tls::new(&settings).unwrap_err().to_string();
        assert!(error.contains(named), "{error}");
    }
}
