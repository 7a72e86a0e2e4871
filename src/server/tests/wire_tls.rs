//! The client's end of a connection, in the clear or by rustls' own client: another implementation of its buffers than
//! the server's.

use super::House;
use super::client::Terms;
use crate::runtime::driver::{Shutdown, SocketAddrAny};
use crate::runtime::net::Stream;
use crate::tls::{Loaded, MinVersion, TlsFiles, load};
use rcgen::{CertificateParams, KeyPair, PKCS_ED25519};
use rustls::client::Resumption;
use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion, version};
use std::future::poll_fn;
use std::io::{self, Read, Write};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

/// A server's settings and those of its clients, made once.
pub(super) struct Keys {
    pub(super) loaded: Loaded,
    pub(super) tls13: Arc<ClientConfig>,
    pub(super) tls12: Arc<ClientConfig>,
}

/// Ed25519: its signatures are all of one length, so that a seed's schedule is the same at each run.
pub(super) fn keys() -> &'static Keys {
    static KEYS: OnceLock<Keys> = OnceLock::new();
    KEYS.get_or_init(|| {
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let certificate = CertificateParams::new(vec!["test".to_owned()])
            .unwrap()
            .self_signed(&key)
            .unwrap();
        let folder = tempfile::TempDir::new().unwrap();
        let (cert, key_file) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
        std::fs::write(&cert, certificate.pem()).unwrap();
        std::fs::write(&key_file, key.serialize_pem()).unwrap();
        let files = TlsFiles {
            cert,
            key: key_file,
            client_ca: None,
            min_version: MinVersion::Tls12,
        };
        let client = |versions: &[&'static SupportedProtocolVersion]| {
            let mut roots = RootCertStore::empty();
            roots.add(certificate.der().clone()).unwrap();
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let mut config = ClientConfig::builder_with_provider(provider)
                .with_protocol_versions(versions)
                .unwrap()
                .with_root_certificates(roots)
                .with_no_client_auth();
            config.resumption = Resumption::disabled();
            Arc::new(config)
        };
        Keys {
            loaded: load(&files, None).unwrap(),
            tls13: client(&[&version::TLS13]),
            tls12: client(&[&version::TLS12]),
        }
    })
}

/// A client's end.
pub(super) enum Wire {
    Plain(Stream),
    Tls(Box<TlsWire>),
}

pub(super) struct TlsWire {
    pub(super) stream: Stream,
    pub(super) tls: ClientConnection,
    got: Vec<u8>,
    /// The server said that it sends no more.
    goodbye: bool,
    pub(super) broken: bool,
    /// To be ended once everything is sent.
    half_closing: bool,
}

impl TlsWire {
    pub(super) async fn connect(addr: SocketAddrAny, config: &Arc<ClientConfig>) -> io::Result<TlsWire> {
        let stream = Stream::connect(addr).await?;
        let tls = ClientConnection::new(Arc::clone(config), "test".try_into().unwrap()).unwrap();
        let mut wire = TlsWire {
            stream,
            tls,
            got: Vec::new(),
            goodbye: false,
            broken: false,
            half_closing: false,
        };
        wire.tls.set_buffer_limit(None);
        while wire.tls.is_handshaking() {
            poll_fn(|cx| {
                if let Poll::Ready((Err(error), _)) = wire.poll_sent(cx) {
                    return Poll::Ready(Err(error));
                }
                let bytes = ready!(wire.stream.poll_recv(cx))?;
                let bytes = bytes.ok_or(io::ErrorKind::UnexpectedEof)?;
                wire.feed(&bytes);
                Poll::Ready(if wire.broken {
                    Err(io::ErrorKind::InvalidData.into())
                } else {
                    Ok(())
                })
            })
            .await?;
        }
        // The last flight of TLS 1.3 is the client's.
        poll_fn(|cx| wire.poll_sent(cx)).await.0?;
        Ok(wire)
    }

    fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && !self.broken && !self.goodbye {
            self.tls.read_tls(&mut bytes).expect("room");
            match self.tls.process_new_packets() {
                Ok(state) => {
                    let mut plain = vec![0; state.plaintext_bytes_to_read()];
                    self.tls.reader().read_exact(&mut plain).expect("as told");
                    self.got.extend_from_slice(&plain);
                    self.goodbye = state.peer_has_closed();
                }
                Err(_) => self.broken = true,
            }
        }
    }

    pub(super) fn poll_sent(&mut self, cx: &Context<'_>) -> Poll<(io::Result<()>, Vec<u8>)> {
        loop {
            let (result, memory) = ready!(self.stream.poll_sent(cx));
            if result.is_err() || !self.tls.wants_write() {
                if std::mem::take(&mut self.half_closing) {
                    let _ = self.stream.shutdown(Shutdown::Write);
                }
                return Poll::Ready((result, memory));
            }
            let mut sealed = Vec::new();
            while self.tls.wants_write() {
                self.tls.write_tls(&mut sealed).unwrap();
            }
            self.stream.start_send(sealed);
        }
    }

    pub(super) fn poll_recv(&mut self, cx: &Context<'_>) -> Poll<io::Result<Option<Vec<u8>>>> {
        loop {
            if !self.got.is_empty() {
                return Poll::Ready(Ok(Some(std::mem::take(&mut self.got))));
            }
            if self.broken {
                return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
            }
            if self.goodbye {
                return Poll::Ready(Ok(None));
            }
            match ready!(self.stream.poll_recv(cx))? {
                Some(bytes) => self.feed(&bytes),
                // Cut off: nobody said goodbye.
                None => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
            }
        }
    }
}

impl Wire {
    pub(super) async fn connect(house: &House, addr: SocketAddrAny) -> io::Result<Wire> {
        Ok(match &house.tls {
            None => Wire::Plain(Stream::connect(addr).await?),
            Some(config) => Wire::Tls(Box::new(TlsWire::connect(addr, config).await?)),
        })
    }

    pub(super) fn poll_sent(&mut self, cx: &Context<'_>) -> Poll<(io::Result<()>, Vec<u8>)> {
        match self {
            Wire::Plain(stream) => stream.poll_sent(cx),
            Wire::Tls(wire) => wire.poll_sent(cx),
        }
    }

    pub(super) fn start_send(&mut self, data: Vec<u8>) {
        match self {
            Wire::Plain(stream) => stream.start_send(data),
            Wire::Tls(wire) => {
                wire.tls.writer().write_all(&data).unwrap();
            }
        }
    }

    pub(super) fn poll_recv(&mut self, cx: &Context<'_>) -> Poll<io::Result<Option<Vec<u8>>>> {
        match self {
            Wire::Plain(stream) => stream.poll_recv(cx).map_ok(|bytes| bytes.map(|bytes| bytes.to_vec())),
            Wire::Tls(wire) => wire.poll_recv(cx),
        }
    }

    /// Stops receiving, and gives what has come.
    pub(super) fn pause_recv(&mut self) -> Vec<u8> {
        match self {
            Wire::Plain(stream) => stream.pause_recv().iter().flat_map(|bytes| bytes.to_vec()).collect(),
            Wire::Tls(wire) => {
                for bytes in wire.stream.pause_recv() {
                    wire.feed(&bytes);
                }
                std::mem::take(&mut wire.got)
            }
        }
    }

    /// Says that nothing more comes. What is sent before goes before it.
    pub(super) fn half_close(&mut self) {
        match self {
            // Fails where the connection is broken already.
            Wire::Plain(stream) => drop(stream.shutdown(Shutdown::Write)),
            Wire::Tls(wire) => {
                wire.tls.send_close_notify();
                wire.half_closing = true;
            }
        }
    }
}

impl House {
    /// A client of this house, which speaks what it speaks.
    pub(super) async fn connect(&self, terms: Terms) -> io::Result<super::client::Client> {
        let wire = Wire::connect(self, self.addr.clone()).await?;
        Ok(super::client::Client::over(wire, terms))
    }
}
