//! A client and a server in one rig.

use super::{Handle, OpId, Rig, SocketAddrAny};
use crate::runtime::driver::Shutdown;
use std::io;

/// A client that sends `payload`, a server that echoes it, a half-close, and the ends of both streams.
pub(in crate::runtime::driver) struct Exchange {
    client: Option<Handle>,
    server: Option<Handle>,
    connect: Option<OpId>,
    accept: Option<OpId>,
    client_recv: Option<OpId>,
    server_recv: Option<OpId>,
    client_send: Option<OpId>,
    server_send: Option<OpId>,
    payload: Vec<u8>,
    to_echo: Vec<u8>,
    /// All that the server got.
    got: Vec<u8>,
    echoed: Vec<u8>,
    half_closed: bool,
    server_done: bool,
    client_done: bool,
    failed: Option<io::Error>,
}

impl Exchange {
    pub(in crate::runtime::driver) fn begin(
        rig: &mut Rig,
        listener: &Handle,
        addr: &SocketAddrAny,
        payload: Vec<u8>,
    ) -> Exchange {
        let accept = Some(rig.accept(listener));
        let client = rig.socket(addr);
        let connect = Some(rig.connect(&client, addr));
        Exchange {
            client: Some(client),
            server: None,
            connect,
            accept,
            client_recv: None,
            server_recv: None,
            client_send: None,
            server_send: None,
            payload,
            to_echo: Vec::new(),
            got: Vec::new(),
            echoed: Vec::new(),
            half_closed: false,
            server_done: false,
            client_done: false,
            failed: None,
        }
    }

    /// Goes as far as it can; true at the end, good or bad.
    pub(in crate::runtime::driver) fn step(&mut self, rig: &mut Rig) -> bool {
        match self.try_step(rig) {
            Ok(()) => {}
            Err(error) => self.failed = Some(error),
        }
        (self.client_done && self.server_done) || self.failed.is_some()
    }

    fn try_step(&mut self, rig: &mut Rig) -> io::Result<()> {
        if let Some(id) = self.connect
            && let Some(result) = rig.poll_connect(id)
        {
            self.connect = None;
            result?;
            let client = self.client.clone().unwrap();
            self.client_recv = Some(rig.recv(&client));
            self.client_send = Some(rig.send(&client, self.payload.clone()));
        }
        if let Some(id) = self.accept
            && let Some(result) = rig.poll_accept(id)
        {
            rig.abandon(id);
            self.accept = None;
            let server = rig.handle(result?);
            self.server_recv = Some(rig.recv(&server));
            self.server = Some(server);
        }
        if let Some(id) = self.client_send
            && let Some(result) = rig.poll_send(id)
        {
            self.client_send = None;
            result?;
        }
        while let Some(id) = self.server_recv
            && let Some(result) = rig.poll_recv(id)
        {
            match result? {
                Some(bytes) => {
                    self.to_echo.extend_from_slice(&bytes);
                    self.got.extend_from_slice(&bytes);
                }
                None => {
                    rig.abandon(id);
                    self.server_recv = None;
                    self.server_done = true;
                }
            }
        }
        if let Some(id) = self.server_send
            && let Some(result) = rig.poll_send(id)
        {
            self.server_send = None;
            result?;
        }
        if let (None, Some(server), false) = (self.server_send, &self.server, self.to_echo.is_empty()) {
            let data = std::mem::take(&mut self.to_echo);
            self.server_send = Some(rig.send(server, data));
        }
        while let Some(id) = self.client_recv
            && let Some(result) = rig.poll_recv(id)
        {
            match result? {
                Some(bytes) => self.echoed.extend_from_slice(&bytes),
                None => {
                    rig.abandon(id);
                    self.client_recv = None;
                    self.client_done = true;
                }
            }
        }
        if self.echoed.len() == self.payload.len()
            && self.client_send.is_none()
            && self.client_recv.is_some()
            && !self.half_closed
        {
            self.half_closed = true;
            rig.driver
                .shutdown(self.client.as_ref().unwrap().fd(), Shutdown::Write)?;
        }
        if self.server_done && self.server_send.is_none() {
            self.server = None;
        }
        Ok(())
    }

    /// Lets go in the middle of whatever it is doing.
    pub(in crate::runtime::driver) fn abandon(self, rig: &mut Rig) {
        let ops = [
            self.connect,
            self.accept,
            self.client_recv,
            self.server_recv,
            self.client_send,
            self.server_send,
        ];
        for id in ops.into_iter().flatten() {
            rig.abandon(id);
        }
    }

    /// However it ended: what came through is a beginning of what was sent, and an end of stream comes only after
    /// all of it.
    pub(in crate::runtime::driver) fn assert_honest(&self) {
        assert!(self.payload.starts_with(&self.got), "the server got something else");
        assert!(self.payload.starts_with(&self.echoed), "the client got something else");
        if self.failed.is_none() && self.client_done && self.server_done {
            self.assert_good();
        }
    }

    pub(in crate::runtime::driver) fn assert_good(&self) {
        assert!(self.failed.is_none(), "{:?}", self.failed);
        assert!(self.echoed == self.payload, "the echo differs");
    }
}
