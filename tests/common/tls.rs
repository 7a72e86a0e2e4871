//! Certificates made for a test, and a client over TLS: rustls, blocking, with a reader of its own.

use super::{PATIENCE, Setup};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384,
    PKCS_ED25519, date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;

/// Kinds of key that are served.
pub const KINDS: [&str; 4] = ["rsa", "p256", "p384", "ed25519"];

/// An authority, and a folder with what it has issued.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub folder: TempDir,
}

/// A certificate with its key, in files.
#[derive(Clone)]
pub struct Pair {
    pub cert: PathBuf,
    pub key: PathBuf,
}

impl Pair {
    /// Puts another's files in the place of these.
    pub fn replace_by(&self, other: &Pair) {
        fs::copy(&other.key, &self.key).unwrap();
        fs::copy(&other.cert, &self.cert).unwrap();
    }
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
}

impl Authority {
    pub fn new() -> Authority {
        let folder = TempDir::new().unwrap();
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(DnType::CommonName, "an authority for a test");
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let cert = params.self_signed(&key).unwrap();
        write(&folder.path().join("ca.pem"), &cert.pem());
        Authority {
            issuer: Issuer::new(params, key),
            folder,
        }
    }

    /// Its own certificate.
    pub fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// A certificate for this machine's loopback, valid to the first of this year.
    pub fn issue_until(&self, name: &str, kind: &str, year: i32) -> Pair {
        let pair = Pair {
            cert: self.folder.path().join(format!("{name}.pem")),
            key: self.folder.path().join(format!("{name}.key")),
        };
        let key = match kind {
            "rsa" => {
                // ring signs with RSA keys, and makes none.
                let made = super::tools::run(
                    "openssl",
                    &["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
                );
                KeyPair::from_pem(&made.expect(0).out()).unwrap()
            }
            "p256" => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap(),
            "p384" => KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap(),
            "ed25519" => KeyPair::generate_for(&PKCS_ED25519).unwrap(),
            _ => panic!("{kind}"),
        };
        let mut params = CertificateParams::new(vec!["localhost".into(), "127.0.0.1".into()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(year, 1, 1);
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        write(&pair.cert, &cert.pem());
        write(&pair.key, &key.serialize_pem());
        pair
    }

    pub fn issue(&self, name: &str, kind: &str) -> Pair {
        self.issue_until(name, kind, 2090)
    }

    /// A client that trusts this authority, and shows this certificate if asked.
    pub fn client(&self, shows: Option<&Pair>) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.ca()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match shows {
            None => builder.with_no_client_auth(),
            Some(pair) => builder
                .with_client_auth_cert(
                    vec![CertificateDer::from_pem_file(&pair.cert).unwrap()],
                    PrivateKeyDer::from_pem_file(&pair.key).unwrap(),
                )
                .unwrap(),
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Arc::new(config)
    }
}

/// A server with this certificate.
pub fn sealed(setup: Setup, pair: &Pair) -> Setup {
    setup
        .env("TLS_CERT", pair.cert.to_str().unwrap())
        .env("TLS_KEY", pair.key.to_str().unwrap())
}

/// A connection over TLS.
pub struct Client {
    pub stream: StreamOwned<ClientConnection, TcpStream>,
    got: Vec<u8>,
    /// The last answer said `Connection: close`.
    pub is_told_to_close: bool,
}

impl Client {
    /// Connects; the handshake is made with the first bytes.
    pub fn connect(addr: SocketAddr, config: &Arc<ClientConfig>) -> Client {
        let socket = TcpStream::connect_timeout(&addr, PATIENCE).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        socket.set_nodelay(true).unwrap();
        let tls = ClientConnection::new(Arc::clone(config), "localhost".try_into().unwrap()).unwrap();
        Client {
            stream: StreamOwned::new(tls, socket),
            got: Vec::new(),
            is_told_to_close: false,
        }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
        self.stream.flush().unwrap();
    }

    /// A GET, its status and its body, or why there is none.
    pub fn try_get(&mut self, path: &str) -> Result<(u16, Vec<u8>), String> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let sent = self
            .stream
            .write_all(request.as_bytes())
            .and_then(|()| self.stream.flush());
        sent.map_err(|error| format!("sending: {error}"))?;
        self.read()
    }

    pub fn get(&mut self, path: &str) -> (u16, Vec<u8>) {
        self.try_get(path).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// An answer with a Content-Length.
    pub fn read(&mut self) -> Result<(u16, Vec<u8>), String> {
        let head_end = loop {
            if let Some(at) = super::http::find(&self.got, b"\r\n\r\n") {
                break at + 4;
            }
            self.more()?;
        };
        let head = String::from_utf8(self.got.drain(..head_end).collect()).unwrap();
        let status = head[9..12].parse().unwrap();
        self.is_told_to_close = head.contains("\r\nConnection: close\r\n");
        let length: usize = head
            .lines()
            .find_map(|line| line.strip_prefix("Content-Length: "))
            .unwrap_or_else(|| panic!("no length: {head}"))
            .parse()
            .unwrap();
        while self.got.len() < length {
            self.more()?;
        }
        Ok((status, self.got.drain(..length).collect()))
    }

    /// The server's own certificate, in DER.
    pub fn certificate(&self) -> Vec<u8> {
        self.stream.conn.peer_certificates().unwrap()[0].to_vec()
    }

    /// How the connection ends, nothing being left to read: true for close_notify.
    pub fn ends_cleanly(&mut self) -> bool {
        assert!(self.got.is_empty());
        matches!(self.stream.read(&mut [0; 1]), Ok(0))
    }

    fn more(&mut self) -> Result<(), String> {
        let mut buffer = [0; 16 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(0) => Err("closed".to_owned()),
            Ok(bytes) => {
                self.got.extend_from_slice(&buffer[..bytes]);
                Ok(())
            }
            Err(error) => Err(error.to_string()),
        }
    }
}
