//! One connection, many commands: they are sent as they come, and answered in the order they were sent.
//!
//! A worker has one: commands of all its flights share it, and those of one turn of the executor share a system call.
//! Dropping an [`Answer`] gives the answer up; it is still read, and let go. Everything is bounded: commands that wait
//! for an answer, bytes that wait to be sent, and what is read before it makes an answer.

use super::fault::Fault;
use super::resp::{self, Reply};
use crate::limits::redis as limits;
use crate::runtime::executor::spawn_detached;
use crate::runtime::time::sleep;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

#[derive(Default)]
struct Slot {
    reply: Option<Result<Reply, Fault>>,
    waker: Option<Waker>,
}

#[derive(Default)]
struct Shared {
    /// Commands not yet handed to the stream.
    outgoing: RefCell<Vec<u8>>,
    /// Who waits, in the order of the commands.
    waiting: RefCell<VecDeque<Rc<RefCell<Slot>>>>,
    pump: RefCell<Option<Waker>>,
    /// Something is in `outgoing` that need not go at once, and will in a moment.
    lingers: Cell<bool>,
    ended: Cell<Option<Fault>>,
    watching: RefCell<Option<Waker>>,
}

impl Shared {
    fn wake_pump(&self) {
        let pump = self.pump.borrow_mut().take();
        if let Some(pump) = pump {
            pump.wake();
        }
    }

    fn end(&self, fault: Fault) {
        if self.ended.get().is_some() {
            return;
        }
        self.ended.set(Some(fault));
        let waiting = std::mem::take(&mut *self.waiting.borrow_mut());
        for slot in waiting {
            fill(&slot, Err(fault));
        }
        let wakers = [self.pump.borrow_mut().take(), self.watching.borrow_mut().take()];
        wakers.into_iter().flatten().for_each(Waker::wake);
    }
}

fn fill(slot: &RefCell<Slot>, reply: Result<Reply, Fault>) {
    let waker = {
        let mut slot = slot.borrow_mut();
        slot.reply = Some(reply);
        slot.waker.take()
    };
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// The handle; dropping it ends the connection.
pub(super) struct Connection {
    shared: Rc<Shared>,
}

/// An answer to come.
pub(super) struct Answer(Rc<RefCell<Slot>>);

impl Future for Answer {
    type Output = Result<Reply, Fault>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut slot = self.0.borrow_mut();
        match slot.reply.take() {
            Some(reply) => Poll::Ready(reply),
            None => {
                slot.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Connection {
    /// Over a connected stream; starts the task that reads and writes.
    pub(super) fn over(stream: impl AsyncRead + AsyncWrite + Unpin + 'static) -> Connection {
        let shared = Rc::new(Shared::default());
        let mut pump = Pump {
            stream,
            shared: Rc::clone(&shared),
            writing: Vec::new(),
            written: 0,
            flushed: true,
            buffer: vec![0; limits::READ_BYTES],
            filled: 0,
            skip: 0,
        };
        spawn_detached("redis", async move {
            let fault = poll_fn(|cx| pump.poll(cx)).await;
            pump.shared.end(fault);
        });
        Connection { shared }
    }

    /// Sends one command.
    ///
    /// # Errors
    /// At once, where the connection has ended or too much waits already; later through the answer.
    pub(super) fn send(&self, words: &[&[u8]]) -> Result<Answer, Fault> {
        self.admit(1)?;
        resp::command(&mut self.shared.outgoing.borrow_mut(), words);
        let answer = self.expect();
        self.shared.wake_pump();
        Ok(answer)
    }

    /// Sends so many commands, encoded in `bytes`, with no other between them. All or none.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub(super) fn send_all(&self, bytes: &[u8], commands: usize) -> Result<Vec<Answer>, Fault> {
        let answers = self.append(bytes, commands)?;
        self.shared.wake_pump();
        Ok(answers)
    }

    /// The same for what nobody waits for: it goes with the next command, or in [`limits::WRITE_LINGER_MS`]. A loaded
    /// worker so pays no system call and no wake-up of Redis for it.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub(super) fn send_with_others(&self, bytes: &[u8], commands: usize) -> Result<Vec<Answer>, Fault> {
        let answers = self.append(bytes, commands)?;
        if !self.shared.lingers.replace(true) {
            let shared = Rc::clone(&self.shared);
            spawn_detached("redis-linger", async move {
                sleep(Duration::from_millis(limits::WRITE_LINGER_MS)).await;
                shared.lingers.set(false);
                shared.wake_pump();
            });
        }
        Ok(answers)
    }

    fn append(&self, bytes: &[u8], commands: usize) -> Result<Vec<Answer>, Fault> {
        self.admit(commands)?;
        self.shared.outgoing.borrow_mut().extend_from_slice(bytes);
        Ok((0..commands).map(|_| self.expect()).collect())
    }

    fn admit(&self, commands: usize) -> Result<(), Fault> {
        if let Some(fault) = self.shared.ended.get() {
            return Err(fault);
        }
        let waiting = self.shared.waiting.borrow().len().saturating_add(commands);
        if waiting > limits::IN_FLIGHT_MAX || self.shared.outgoing.borrow().len() >= limits::OUTGOING_BYTES_MAX {
            return Err(Fault::Full);
        }
        Ok(())
    }

    /// The answer to a command just appended.
    fn expect(&self) -> Answer {
        let slot = Rc::new(RefCell::new(Slot::default()));
        self.shared.waiting.borrow_mut().push_back(Rc::clone(&slot));
        Answer(slot)
    }

    /// True once nothing can be sent any more.
    pub(super) fn has_ended(&self) -> bool {
        self.shared.ended.get().is_some()
    }

    /// Commands without an answer yet.
    pub(super) fn in_flight(&self) -> usize {
        self.shared.waiting.borrow().len()
    }

    /// Ends it; whoever waits is told.
    pub(super) fn end(&self, fault: Fault) {
        self.shared.end(fault);
    }

    /// Waits for its end. One caller at a time.
    pub(super) async fn ended(&self) -> Fault {
        poll_fn(|cx| match self.shared.ended.get() {
            Some(fault) => Poll::Ready(fault),
            None => {
                *self.shared.watching.borrow_mut() = Some(cx.waker().clone());
                Poll::Pending
            }
        })
        .await
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.shared.end(Fault::Lost);
    }
}

struct Pump<S> {
    stream: S,
    shared: Rc<Shared>,
    writing: Vec<u8>,
    written: usize,
    flushed: bool,
    /// Its first `filled` bytes were read and not yet understood.
    buffer: Vec<u8>,
    filled: usize,
    /// Bytes of a value that is too long, still to come.
    skip: u64,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Pump<S> {
    /// Runs until the connection ends.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Fault> {
        if let Some(fault) = self.shared.ended.get() {
            return Poll::Ready(fault);
        }
        *self.shared.pump.borrow_mut() = Some(cx.waker().clone());
        // Both ways each time: a peer that answers before it reads on must not wait for us, nor we for it.
        if let Err(fault) = self.write(cx) {
            return Poll::Ready(fault);
        }
        match self.read(cx) {
            Ok(()) => Poll::Pending,
            Err(fault) => Poll::Ready(fault),
        }
    }

    fn write(&mut self, cx: &mut Context<'_>) -> Result<(), Fault> {
        loop {
            if self.written >= self.writing.len() {
                self.writing.clear();
                self.written = 0;
                std::mem::swap(&mut self.writing, &mut *self.shared.outgoing.borrow_mut());
            }
            let rest = self.writing.get(self.written..).unwrap_or_default();
            if rest.is_empty() {
                break;
            }
            match Pin::new(&mut self.stream).poll_write(cx, rest) {
                Poll::Ready(Ok(0)) | Poll::Ready(Err(_)) => return Err(Fault::Lost),
                Poll::Ready(Ok(bytes)) => {
                    self.written = self.written.saturating_add(bytes);
                    self.flushed = false;
                }
                Poll::Pending => return Ok(()),
            }
        }
        if !self.flushed {
            match Pin::new(&mut self.stream).poll_flush(cx) {
                Poll::Ready(Ok(())) => self.flushed = true,
                Poll::Ready(Err(_)) => return Err(Fault::Lost),
                Poll::Pending => {}
            }
        }
        Ok(())
    }

    fn read(&mut self, cx: &mut Context<'_>) -> Result<(), Fault> {
        loop {
            if self.filled == self.buffer.len() {
                // An answer longer than the buffer: `resp` bounds how long one may be.
                let room = self.buffer.len().saturating_mul(2);
                self.buffer.resize(room.min(BUFFER_BYTES_MAX), 0);
            }
            let mut free = ReadBuf::new(self.buffer.get_mut(self.filled..).unwrap_or_default());
            match Pin::new(&mut self.stream).poll_read(cx, &mut free) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Err(_)) => return Err(Fault::Lost),
                Poll::Ready(Ok(())) if free.filled().is_empty() => return Err(Fault::Lost),
                Poll::Ready(Ok(())) => self.filled += free.filled().len(),
            }
            self.understand()?;
        }
    }

    /// Hands out the answers that are whole.
    fn understand(&mut self) -> Result<(), Fault> {
        let mut at = 0;
        loop {
            let rest = self.buffer.get(at..self.filled).unwrap_or_default();
            if self.skip > 0 {
                let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(rest.len());
                self.skip -= skipped as u64;
                at += skipped;
                if self.skip > 0 {
                    break;
                }
                continue;
            }
            if rest.is_empty() {
                break;
            }
            match resp::read(rest) {
                Ok(None) => break,
                Err(resp::Garbage) => return Err(Fault::Garbage),
                Ok(Some((reply, bytes))) => {
                    at += bytes;
                    if let Reply::TooLong(more) = reply {
                        self.skip = more;
                    }
                    if reply != Reply::Push {
                        // An answer to nothing: the two sides are out of step, and every later answer would be
                        // somebody else's.
                        let slot = self.shared.waiting.borrow_mut().pop_front().ok_or(Fault::Garbage)?;
                        fill(&slot, Ok(reply));
                    }
                }
            }
        }
        self.buffer.copy_within(at..self.filled, 0);
        self.filled -= at;
        if self.filled >= BUFFER_BYTES_MAX {
            return Err(Fault::Garbage);
        }
        if self.filled == 0 && self.buffer.len() > limits::READ_BYTES {
            self.buffer.truncate(limits::READ_BYTES);
            self.buffer.shrink_to_fit();
        }
        Ok(())
    }
}

/// The longest answer: a list of the most items could be longer, and is garbage then; a value with its head fits.
const BUFFER_BYTES_MAX: usize = 2 * (limits::VALUE_BYTES_MAX + limits::LINE_BYTES_MAX);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::tests::run;
    use crate::runtime::time::timeout;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn pair() -> (crate::runtime::net::Stream, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (crate::runtime::net::Stream::adopt(ours.into()).unwrap(), theirs)
    }

    const PING: &[&[u8]] = &[b"PING"];

    async fn wait(answer: Answer) -> Result<Reply, Fault> {
        timeout(PATIENCE, answer).await.expect("an answer in time")
    }

    #[test]
    fn answers_come_in_order_and_one_given_up_is_passed_over() {
        run(async {
            let (ours, mut theirs) = pair();
            let connection = Connection::over(ours);
            let first = connection.send(PING).unwrap();
            drop(connection.send(PING).unwrap());
            let third = connection.send(PING).unwrap();
            assert_eq!(connection.in_flight(), 3);
            let server = std::thread::spawn(move || {
                let mut commands = [0; 3 * 14];
                theirs.read_exact(&mut commands).unwrap();
                assert_eq!(commands[..14], *b"*1\r\n$4\r\nPING\r\n");
                // In halves, and a push between.
                theirs.write_all(b"+on").unwrap();
                std::thread::sleep(Duration::from_millis(20));
                theirs.write_all(b"e\r\n+two\r\n>1\r\n+invalidate\r\n:3\r\n").unwrap();
                theirs
            });
            assert_eq!(wait(first).await, Ok(Reply::Text(b"one".to_vec())));
            assert_eq!(wait(third).await, Ok(Reply::Int(3)));
            assert_eq!(connection.in_flight(), 0);
            drop(server.join().unwrap());
            assert_eq!(timeout(PATIENCE, connection.ended()).await, Ok(Fault::Lost));
            assert_eq!(connection.send(PING).err(), Some(Fault::Lost));
        });
    }

    #[test]
    fn what_nobody_waits_for_goes_with_the_next_command_or_soon() {
        run(async {
            let (ours, mut theirs) = pair();
            let connection = Connection::over(ours);
            let mut ping = Vec::new();
            resp::command(&mut ping, PING);
            let write = connection.send_with_others(&ping, 1).unwrap();
            let server = std::thread::spawn(move || {
                // Nothing else is sent: it comes by itself.
                let mut command = [0; 14];
                theirs.read_exact(&mut command).unwrap();
                theirs.write_all(b"+one\r\n").unwrap();
                // In the order in which they were given.
                let mut commands = [0; 2 * 14];
                theirs.read_exact(&mut commands).unwrap();
                assert!(commands.starts_with(b"*1\r\n$4\r\nPING") && commands.ends_with(b"ECHO\r\n"));
                theirs.write_all(b"+two\r\n+three\r\n").unwrap();
                theirs
            });
            assert_eq!(
                wait(write.into_iter().next().unwrap()).await,
                Ok(Reply::Text(b"one".to_vec()))
            );
            let write = connection.send_with_others(&ping, 1).unwrap();
            let read = connection.send(&[b"ECHO"]).unwrap();
            assert_eq!(wait(read).await, Ok(Reply::Text(b"three".to_vec())));
            assert_eq!(
                wait(write.into_iter().next().unwrap()).await,
                Ok(Reply::Text(b"two".to_vec()))
            );
            drop(server.join().unwrap());
        });
    }

    #[test]
    fn large_answers_and_ones_too_large() {
        run(async {
            let (ours, mut theirs) = pair();
            let connection = Connection::over(ours);
            let answers = [(); 3].map(|()| connection.send(PING).unwrap());
            let server = std::thread::spawn(move || {
                let value = vec![b'x'; limits::VALUE_BYTES_MAX];
                write!(theirs, "${}\r\n", value.len()).unwrap();
                theirs.write_all(&value).unwrap();
                let long = vec![b'y'; 3 * limits::VALUE_BYTES_MAX];
                write!(theirs, "\r\n${}\r\n", long.len()).unwrap();
                theirs.write_all(&long).unwrap();
                theirs.write_all(b"\r\n+end\r\n").unwrap();
                theirs
            });
            let [large, long, end] = answers;
            assert_eq!(wait(large).await, Ok(Reply::Bulk(vec![b'x'; limits::VALUE_BYTES_MAX])));
            assert!(matches!(wait(long).await, Ok(Reply::TooLong(_))));
            assert_eq!(wait(end).await, Ok(Reply::Text(b"end".to_vec())));
            drop(server.join().unwrap());
        });
    }

    #[test]
    fn garbage_and_an_answer_to_nothing_end_it() {
        run(async {
            for (bytes, asked) in [(&b"HTTP/1.1 200 OK\r\n"[..], true), (b"+OK\r\n", false)] {
                let (ours, mut theirs) = pair();
                let connection = Connection::over(ours);
                let answer = asked.then(|| connection.send(PING).unwrap());
                theirs.write_all(bytes).unwrap();
                assert_eq!(timeout(PATIENCE, connection.ended()).await, Ok(Fault::Garbage));
                if let Some(answer) = answer {
                    assert_eq!(wait(answer).await, Err(Fault::Garbage));
                }
            }
        });
    }

    #[test]
    fn no_more_waits_than_is_bounded() {
        run(async {
            let (ours, _theirs) = pair();
            let connection = Connection::over(ours);
            let answers: Vec<Answer> = (0..limits::IN_FLIGHT_MAX)
                .map(|_| connection.send(PING).unwrap())
                .collect();
            assert_eq!(connection.send(PING).err(), Some(Fault::Full));
            connection.end(Fault::Timeout);
            for answer in answers {
                assert_eq!(wait(answer).await, Err(Fault::Timeout));
            }
        });
    }
}
