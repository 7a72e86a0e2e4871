//! One TLS session, sans-IO: sealed bytes in, plain bytes out, and the other way round.

use crate::limits::tls as limits;
use crate::runtime::net;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};
use rustls::{Error, ServerConfig};
use std::sync::Arc;

/// A session and the bytes about it. Idle, it holds no buffer.
pub(super) struct Session {
    tls: UnbufferedServerConnection,
    /// Received, and not yet whole.
    incoming: Vec<u8>,
    /// Opened, and not yet taken.
    pub(super) plain: Vec<u8>,
    /// Sealed, and not yet handed to the kernel.
    pub(super) outgoing: Vec<u8>,
    /// How many of these are records of TLS itself.
    unasked_bytes: usize,
    /// The peer sends no more.
    pub(super) ended: bool,
    /// What broke the session. The alert for the peer, if there is one, is in `outgoing`.
    pub(super) fault: Option<Error>,
}

/// What to do once the session has nothing to do by itself.
enum Then<'d> {
    Rest,
    Seal(&'d [u8]),
    SayGoodbye,
}

impl Session {
    pub(super) fn new(settings: Arc<ServerConfig>) -> Result<Session, Error> {
        Ok(Session {
            tls: UnbufferedServerConnection::new(settings)?,
            incoming: Vec::new(),
            plain: Vec::new(),
            outgoing: Vec::new(),
            unasked_bytes: 0,
            ended: false,
            fault: None,
        })
    }

    /// The handshake is not through.
    pub(super) fn is_handshaking(&self) -> bool {
        self.tls.is_handshaking()
    }

    /// What the client has chosen to speak.
    pub(super) fn protocol(&self) -> Option<&[u8]> {
        self.tls.alpn_protocol()
    }

    /// Reads bytes from the network.
    pub(super) fn open(&mut self, bytes: &[u8]) {
        if self.ended || self.fault.is_some() {
            // "Any data received after a closure alert has been received MUST be ignored" (RFC 8446 section 6.1).
            return;
        }
        if self.incoming.capacity() == 0 {
            self.incoming = net::write_buffer();
        }
        self.incoming.extend_from_slice(bytes);
        self.advance(Then::Rest);
        if self.incoming.len() > limits::INCOMING_BYTES_MAX && self.fault.is_none() {
            self.fault = Some(Error::General("a message is too long".to_owned()));
        }
    }

    /// Seals bytes for the peer; false where that cannot be.
    pub(super) fn seal(&mut self, plain: &[u8]) -> bool {
        self.fault.is_none() && (plain.is_empty() || self.advance(Then::Seal(plain)))
    }

    /// Tells the peer that nothing more comes (close_notify). To be called once.
    pub(super) fn say_goodbye(&mut self) {
        if self.fault.is_none() && !self.is_handshaking() {
            self.advance(Then::SayGoodbye);
        }
    }

    /// Takes what is to be sent.
    pub(super) fn take_outgoing(&mut self) -> Vec<u8> {
        self.unasked_bytes = 0;
        std::mem::take(&mut self.outgoing)
    }

    /// Bytes of memory that its buffers hold.
    #[cfg(test)]
    pub(super) fn held_bytes(&self) -> usize {
        self.incoming.capacity() + self.plain.capacity() + self.outgoing.capacity()
    }

    /// Does what the received bytes ask for, and then `then`; true if that was done.
    fn advance(&mut self, mut then: Then<'_>) -> bool {
        let mut done = false;
        let mut at = 0;
        // After a fault only what is to be sent is asked for, the alert: rustls would read the bad record again.
        while self.fault.is_none() || self.tls.wants_write() {
            let incoming = self.incoming.get_mut(at..).unwrap_or_default();
            let UnbufferedStatus { discard, state } = self.tls.process_tls_records(incoming);
            at += discard;
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(Ok(record)) = traffic.next_record() {
                        at += record.discard;
                        self.plain.extend_from_slice(record.payload);
                    }
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    let encoded = append(&mut self.outgoing, 0, |out| match data.encode(out) {
                        Err(EncodeError::InsufficientSize(size)) => Err(Some(size.required_size)),
                        Err(EncodeError::AlreadyEncoded) => Err(None),
                        Ok(bytes) => Ok(bytes),
                    });
                    self.unasked_bytes += encoded.unwrap_or_default();
                    if self.unasked_bytes > limits::UNASKED_BYTES_MAX {
                        self.fault
                            .get_or_insert(Error::General("the peer does not read".to_owned()));
                        break;
                    }
                }
                // It is in `outgoing`, from where it will be sent.
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::PeerClosed) => self.ended = true,
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    let (room, data) = match then {
                        Then::Rest => break,
                        Then::Seal(data) => {
                            let records = data.len().div_ceil(limits::RECORD_BYTES_MAX);
                            (data.len() + records * limits::RECORD_OVERHEAD_BYTES, Some(data))
                        }
                        Then::SayGoodbye => (0, None),
                    };
                    let sealed = append(&mut self.outgoing, room, |out| {
                        let sealed = match data {
                            Some(data) => traffic.encrypt(data, out),
                            None => traffic.queue_close_notify(out),
                        };
                        sealed.map_err(|error| match error {
                            EncryptError::InsufficientSize(size) => Some(size.required_size),
                            EncryptError::EncryptExhausted => None,
                        })
                    });
                    done = sealed.is_some();
                    then = Then::Rest;
                }
                Ok(ConnectionState::BlockedHandshake | ConnectionState::Closed) => break,
                // Early data, which is not offered, or what later versions of rustls may add.
                Ok(_) => {
                    self.fault.get_or_insert(Error::HandshakeNotComplete);
                    break;
                }
                Err(error) => {
                    let known = self.fault.is_some();
                    self.fault.get_or_insert(error);
                    if known {
                        break;
                    }
                }
            }
        }
        if self.ended || self.fault.is_some() || at >= self.incoming.len() {
            net::recycle(std::mem::take(&mut self.incoming));
        } else {
            self.incoming.drain(..at);
        }
        done
    }
}

/// Lets `write` append to `out`, where `room` may do; it says how much it needs where that is too little, or that it
/// cannot. Gives how many bytes were appended.
fn append(
    out: &mut Vec<u8>,
    room: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, Option<usize>>,
) -> Option<usize> {
    if out.capacity() == 0 {
        *out = net::write_buffer();
    }
    let begun = out.len();
    out.resize(begun + room, 0);
    let mut written = write(out.get_mut(begun..).unwrap_or_default());
    if let Err(Some(room)) = written {
        out.resize(begun + room, 0);
        written = write(out.get_mut(begun..).unwrap_or_default());
    }
    let written = written.ok();
    out.truncate(begun + written.unwrap_or_default());
    written
}
