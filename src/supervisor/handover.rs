//! What one process leaves open for the next: listening sockets, and two pipes to agree on the moment.
//!
//! Two manners are understood. systemd's socket activation (sd_listen_fds(3): LISTEN_PID, LISTEN_FDS, descriptors from 3
//! on): a socket is used where its address is one of the configured ones, and all workers accept from it. And our own for
//! a hot upgrade, in [`TABLE`]: words with spaces between, of which `listen=KEY:OWN:3,4,5` (KEY: the configured address in
//! hexadecimal; OWN: 1 where each worker has a socket of its own, 2 where it is systemd's, 0 else) names the sockets, `ready=6` the pipe on which the new
//! process says how far it is, `go=7` the one on which it is told to open the store, or that it is given up, `pids=8` the one on which a process
//! that stays behind (`stay`) hears of its successors, `alive=9` (more than one may be) a pipe whose other end a process before holds
//! for as long as a worker of its may wait for connections (`elders`), and `driver=epoll` how the workers of the old process talk to
//! the kernel.
//!
//! Called by `boot` (taking) and `upgrade` (leaving).

use super::parent::Parent;
use crate::config::{At, Bind};
use crate::limits::life::{ELDERS_MAX, INHERITED_MAX};
use crate::runtime::driver::choose::IoDriver;
use crate::runtime::driver::inherit::{Nature, take};
use crate::runtime::net::listen;
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::SocketAddrUnix;
use std::fmt::Write as _;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// The variable of a hot upgrade.
pub(super) const TABLE: &str = "ROADTRIP_API_HANDOVER";
/// The first descriptor of systemd's.
const SYSTEMD_FIRST: RawFd = 3;

/// Who accepts from the sockets of an address, and what becomes of them at the process's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    /// Each worker has its own.
    Workers,
    /// All workers accept from one.
    Process,
    /// The same, and somebody else keeps it beyond this process's end (systemd): who connects then is for the next start.
    Giver,
}

impl Whose {
    /// All workers accept from one socket.
    pub(super) fn is_shared(self) -> bool {
        self != Whose::Workers
    }
}

/// Sockets of one address.
#[derive(Debug)]
pub(super) struct Group {
    /// At least one.
    pub(super) sockets: Vec<OwnedFd>,
    /// Whose they are.
    pub(super) whose: Whose,
}

/// What this process was started with.
#[derive(Debug, Default)]
pub(super) struct Inherited {
    groups: Vec<(String, Group)>,
    activated: Vec<OwnedFd>,
    parent: Option<Parent>,
    pids: Option<OwnedFd>,
    alive: Vec<OwnedFd>,
    /// The process before has given this one up already.
    pub(super) is_given_up: bool,
}

impl Inherited {
    /// Takes over what the environment names; before anything else is opened.
    pub(super) fn take() -> Inherited {
        let text = |name: &str| std::env::var(name).ok();
        let mut inherited = match text(TABLE) {
            // A variable that was left over from another process names nothing that fits: then there is no hand-over.
            Some(table) => Self::of_table(&table).unwrap_or_else(|why| {
                tracing::warn!(why, "{TABLE} is set, but nothing is handed over");
                Inherited::default()
            }),
            None => Inherited::default(),
        };
        let number = |name: &str| text(name).and_then(|text| text.parse::<u32>().ok());
        if let (Some(pid), Some(count), true) =
            (number("LISTEN_PID"), number("LISTEN_FDS"), inherited.groups.is_empty())
            && pid == std::process::id()
        {
            for number in (SYSTEMD_FIRST..).take(count.min(INHERITED_MAX as u32) as usize) {
                match take(number, Nature::Listener) {
                    Ok(socket) => inherited.activated.push(socket),
                    Err(error) => tracing::warn!(%error, number, "a socket of LISTEN_FDS cannot be used"),
                }
            }
        }
        inherited
    }

    fn of_table(table: &str) -> Result<Inherited, String> {
        let mut inherited = Inherited::default();
        let (mut ready, mut go, mut driver) = (None, None, None);
        let pipe = |number: &str| one(number, Nature::Pipe);
        let mut no_socket = None;
        for word in table.split(' ').filter(|word| !word.is_empty()) {
            let (name, value) = word.split_once('=').ok_or("a word of it has no value")?;
            match name {
                "ready" => ready = Some(pipe(value)?),
                "go" => go = Some(pipe(value)?),
                "pids" => inherited.pids = Some(pipe(value)?),
                "alive" if inherited.alive.len() < ELDERS_MAX => inherited.alive.push(pipe(value)?),
                "driver" => driver = value.parse().ok(),
                "listen" => {
                    let mut parts = value.split(':');
                    let mut part = || parts.next().ok_or("a listen word of it is too short");
                    let (key, own, numbers) = (part()?, part()?, part()?);
                    let key = unhex(key).ok_or("an address of it is not hexadecimal")?;
                    let sockets = numbers.split(',').take(INHERITED_MAX);
                    let sockets = sockets
                        .map(|number| one(number, Nature::Listener))
                        .collect::<Result<_, _>>();
                    // Perhaps the process before has ended, and has shut it.
                    let sockets = match sockets {
                        Ok(sockets) => sockets,
                        Err(why) => {
                            no_socket = Some(why);
                            continue;
                        }
                    };
                    let whose = match own {
                        "1" => Whose::Workers,
                        "2" => Whose::Giver,
                        _ => Whose::Process,
                    };
                    inherited.groups.push((key, Group { sockets, whose }));
                }
                // Of a newer version, which can do without it.
                _ => {}
            }
        }
        if let (Some(ready), Some(go)) = (ready, go) {
            let parent = Parent::new(ready, go, driver);
            inherited.is_given_up = parent.has_given_up();
            inherited.parent = Some(parent);
        }
        match no_socket {
            Some(why) if !inherited.is_given_up => Err(why),
            _ => Ok(inherited),
        }
    }

    /// The sockets of an address, if there are some.
    pub(super) fn sockets_of(&mut self, bind: &Bind) -> Option<Group> {
        let key = bind.to_string();
        if let Some(at) = self.groups.iter().position(|(known, _)| *known == key) {
            return Some(self.groups.swap_remove(at).1);
        }
        let at = self.activated.iter().position(|socket| is_at(socket, &bind.at))?;
        Some(Group {
            sockets: vec![self.activated.swap_remove(at)],
            whose: Whose::Giver,
        })
    }

    /// Closes the sockets that nobody has asked for.
    pub(super) fn close_rest(&mut self) {
        for (key, _) in self.groups.drain(..) {
            tracing::info!(
                addr = key,
                "a socket of the process before is closed: its address is not configured any more"
            );
        }
        for socket in self.activated.drain(..) {
            let addr = listen::local_addr(&socket).map(|addr| addr.to_string());
            tracing::warn!(
                addr = addr.unwrap_or_else(|_| "a Unix socket".to_owned()),
                "a socket of LISTEN_FDS is closed: its address is none of PORT, HOST or BIND"
            );
        }
    }

    /// Whom to tell of the progress.
    pub(super) fn parent(&mut self) -> Option<Parent> {
        self.parent.take()
    }

    /// Where this process hears that those before it wait for connections no more.
    pub(super) fn alive(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.alive)
    }

    /// Where a process that stays behind hears of successors.
    pub(super) fn pids(&mut self) -> Option<OwnedFd> {
        self.pids.take()
    }
}

/// Whether a socket listens at the configured address.
fn is_at(socket: &OwnedFd, at: &At) -> bool {
    match at {
        At::Tcp(configured) => listen::local_addr(socket).is_ok_and(|addr| configured.candidates().contains(&addr)),
        At::Unix(_) | At::Abstract(_) => {
            let wanted = match at {
                At::Unix(path) => SocketAddrUnix::new(path),
                At::Abstract(name) => SocketAddrUnix::new_abstract_name(name.as_bytes()),
                At::Tcp(_) => return false,
            };
            let found = rustix::net::getsockname(socket).and_then(SocketAddrUnix::try_from);
            matches!((wanted, found), (Ok(wanted), Ok(found)) if wanted == found)
        }
    }
}

fn one(number: &str, nature: Nature) -> Result<OwnedFd, String> {
    let number: RawFd = number
        .parse()
        .map_err(|_| "a descriptor of it is no number".to_owned())?;
    take(number, nature).map_err(|error| format!("its descriptor {number} cannot be used: {error}"))
}

fn hex(text: &str) -> String {
    text.bytes().fold(String::new(), |mut hex, byte| {
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

fn unhex(hex: &str) -> Option<String> {
    let digits: Vec<u8> = hex
        .chars()
        .map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect::<Option<_>>()?;
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let bytes = digits
        .chunks_exact(2)
        .map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit));
    String::from_utf8(bytes.collect()).ok()
}

/// Descriptors that the next process finds open, and the table that names them.
#[derive(Debug, Default)]
pub(super) struct Left {
    table: String,
    /// Kept until it is started.
    open: Vec<OwnedFd>,
}

impl Left {
    /// Leaves a group of sockets.
    ///
    /// # Errors
    /// No descriptor is left.
    pub(super) fn sockets(&mut self, bind: &str, whose: Whose, sockets: &[OwnedFd]) -> io::Result<()> {
        let numbers = sockets
            .iter()
            .map(|socket| self.leave(socket))
            .collect::<io::Result<Vec<_>>>()?;
        let own = match whose {
            Whose::Process => 0,
            Whose::Workers => 1,
            Whose::Giver => 2,
        };
        self.word("listen", format_args!("{}:{own}:{}", hex(bind), numbers.join(",")));
        Ok(())
    }

    /// Leaves an end of a pipe.
    ///
    /// # Errors
    /// No descriptor is left.
    pub(super) fn pipe(&mut self, name: &str, end: &OwnedFd) -> io::Result<()> {
        let number = self.leave(end)?;
        self.word(name, format_args!("{number}"));
        Ok(())
    }

    /// Leaves word of the driver.
    pub(super) fn driver(&mut self, driver: IoDriver) {
        self.word("driver", format_args!("{driver}"));
    }

    fn word(&mut self, name: &str, value: std::fmt::Arguments<'_>) {
        let space = if self.table.is_empty() { "" } else { " " };
        // Writing to a String cannot fail.
        let _ = write!(self.table, "{space}{name}={value}");
    }

    fn leave(&mut self, fd: &OwnedFd) -> io::Result<String> {
        let fd = fd.try_clone()?;
        fcntl_setfd(&fd, FdFlags::empty())?;
        let number = fd.as_raw_fd().to_string();
        self.open.push(fd);
        Ok(number)
    }

    /// The value of [`TABLE`].
    pub(super) fn table(&self) -> &str {
        &self.table
    }
}

#[cfg(test)]
mod tests {
    use super::super::parent::GO;
    use super::*;
    use crate::config::{Listen, Scheme};
    use std::net::TcpListener;
    use std::os::fd::IntoRawFd;
    use std::time::Duration;

    fn bind(port: u16) -> Bind {
        let address = Some(std::net::Ipv4Addr::LOCALHOST.into());
        let v6only = false;
        Bind {
            scheme: Scheme::Default,
            at: At::Tcp(Listen { address, port, v6only }),
        }
    }

    /// As exec would: the same numbers, in other hands.
    fn handed(left: Left) -> String {
        for fd in left.open {
            let _ = fd.into_raw_fd();
        }
        left.table
    }

    #[test]
    fn what_is_left_is_found() {
        let listener = || OwnedFd::from(TcpListener::bind("127.0.0.1:0").unwrap());
        let (a, b, c, d) = (listener(), listener(), listener(), listener());
        let addr = listen::local_addr(&b).unwrap();
        let (hear, say) = std::io::pipe().unwrap();
        let (hear, say) = (OwnedFd::from(hear), OwnedFd::from(say));
        let mut left = Left::default();
        left.sockets(&bind(1).to_string(), Whose::Workers, &[a, b]).unwrap();
        left.sockets("unix:/with a space, a comma", Whose::Process, &[c])
            .unwrap();
        left.sockets("unix:/of systemd", Whose::Giver, &[d]).unwrap();
        left.pipe("ready", &say).unwrap();
        left.pipe("go", &hear).unwrap();
        left.pipe("alive", &hear).unwrap();
        left.pipe("alive", &hear).unwrap();
        left.driver(IoDriver::Epoll);
        let mut found = Inherited::of_table(&handed(left)).unwrap();
        assert!(found.sockets_of(&bind(2)).is_none());
        let group = found.sockets_of(&bind(1)).unwrap();
        assert_eq!((group.whose, group.sockets.len()), (Whose::Workers, 2));
        assert_eq!(listen::local_addr(&group.sockets[1]).unwrap(), addr);
        let mut rest: Vec<_> = found.groups.iter().map(|(key, group)| (&**key, group.whose)).collect();
        rest.sort_by_key(|(key, _)| *key);
        let wanted = [
            ("unix:/of systemd", Whose::Giver),
            ("unix:/with a space, a comma", Whose::Process),
        ];
        assert_eq!(rest, wanted);
        // One pipe has both ends here: what it says it hears, and does not take for the word to go on.
        let parent = found.parent().unwrap();
        assert!(parent.wait_for_go(Duration::from_secs(5)).is_err());
        rustix::io::write(&say, &[GO]).unwrap();
        assert!(parent.wait_for_go(Duration::from_secs(5)).unwrap());
        assert!(parent.agrees_on(IoDriver::Epoll) && !parent.agrees_on(IoDriver::Uring));
        assert_eq!((found.alive().len(), found.alive().len()), (2, 0));
        assert!(found.pids().is_none());
    }

    #[test]
    fn a_table_that_does_not_fit_names_nothing() {
        let file = std::fs::File::open("/proc/self/stat").unwrap();
        let no_listener = file.as_raw_fd();
        for table in [
            "x".to_owned(),
            "ready=x".to_owned(),
            "ready=1".to_owned(),
            "ready=999999".to_owned(),
            "listen=61:1".to_owned(),
            "listen=6:1:3".to_owned(),
            "listen=zz:1:3".to_owned(),
            format!("listen=61:1:{no_listener}"),
            format!("go={no_listener}"),
        ] {
            assert!(Inherited::of_table(&table).is_err(), "{table}");
        }
        assert!(Inherited::of_table("newer=7").unwrap().groups.is_empty());
    }

    #[test]
    fn a_socket_of_systemd_is_known_by_its_address() {
        let socket = OwnedFd::from(TcpListener::bind("127.0.0.1:0").unwrap());
        let port = listen::local_addr(&socket).unwrap().port();
        let mut inherited = Inherited {
            activated: vec![socket],
            ..Inherited::default()
        };
        assert!(inherited.sockets_of(&bind(port ^ 1)).is_none());
        assert_eq!(inherited.sockets_of(&bind(port)).unwrap().whose, Whose::Giver);
        assert!(inherited.sockets_of(&bind(port)).is_none());
    }
}
