//! The executor and its drivers.

/// Receive buffers of a worker. Only requests being read hold one, so this bounds reads in one turn, not
/// connections; a receive that finds none is armed again when some have come back. A power of two (kernel).
pub const RECV_BUFFERS: u16 = 512;
/// Bytes of one receive buffer: an API client's request behind two proxies fits in one, and what does not is put
/// together. All of them are touched in time, so this times their number is resident memory: 1 MiB a worker.
pub const RECV_BUFFER_BYTES: usize = 2048;
/// Buffers that one connection may have waiting before its receive is stopped: a fast sender with a slow handler
/// must not take the buffers of the others.
pub const RECV_QUEUE_BUFFERS_MAX: u16 = 4;
/// The same of a connection that this process has opened, to a database, of `buffers` that the worker has: the answers
/// to a turn's calls come together, and to stop and begin again for every fourth buffer of them costs more than they
/// do. A part of all, so that a client which writes before it reads on cannot take the ones its peer's answer needs.
pub const fn client_recv_buffers_max(buffers: u16) -> u16 {
    let part = buffers / 16;
    if part > RECV_QUEUE_BUFFERS_MAX {
        part
    } else {
        RECV_QUEUE_BUFFERS_MAX
    }
}
/// Accepted connections that may wait to be taken before accepting stops.
pub const ACCEPT_QUEUE_MAX: usize = 256;
/// Connections that one listener gives in one turn at most where they are taken one by one.
pub const ACCEPTS_PER_TURN: u16 = 64;
/// The same of a listener that others accept from, too: they are to have their share of a burst.
pub const ACCEPTS_PER_TURN_SHARED: u16 = 8;
/// Submission queue entries: one turn's operations; when it is full the driver submits early.
pub const SUBMISSION_ENTRIES: u32 = 1024;
/// Turns in a row, a millisecond each, in which io_uring may take nothing and give nothing (no memory for requests)
/// before the worker gives its ring up and begins anew with another: half of the time after which the watchdog
/// calls it stuck.
pub const REFUSALS_MAX: u32 = 5_000;
/// Completion queue entries: several turns' worth, so that bursts of multishot events do not overflow into the
/// kernel's slow list.
pub const COMPLETION_ENTRIES: u32 = 4096;
/// Operations for which address space is reserved at start (an idle connection has one, a busy one two).
pub const OPS_RESERVED: usize = 32 * 1024;
/// Tasks, and timers, for which address space is reserved at start: a connection is one of each.
pub const TASKS_RESERVED: usize = 32 * 1024;
/// Task polls in one turn before the driver is asked again, so that a busy queue cannot starve the sockets.
pub const POLLS_PER_TURN_MAX: usize = 512;
/// Write buffers that a worker keeps for reuse: about as many as there are answers in one turn.
pub const SPARE_BUFFERS_MAX: usize = 128;
/// Bytes of capacity above which a write buffer is not kept: with the count, this bounds what is kept.
pub const SPARE_BUFFER_BYTES_MAX: usize = 16 * 1024;
/// Bytes that one `AsyncWrite::poll_write` takes: larger writes come in pieces, so that one does not copy megabytes.
pub const WRITE_COPY_BYTES_MAX: usize = 64 * 1024;
/// Nanoseconds that a task may hold the core before the stall detector names it.
pub const STALL_NS: u64 = 100_000_000;
/// Nanoseconds that the end of a runtime waits for the kernel to give operations back.
pub const TEARDOWN_NS_MAX: u64 = 2_000_000_000;

const _: () = assert!(RECV_BUFFERS.is_power_of_two() && RECV_BUFFERS <= 32768);
const _: () = assert!(RECV_QUEUE_BUFFERS_MAX * 16 <= RECV_BUFFERS);
const _: () = assert!(COMPLETION_ENTRIES >= 2 * SUBMISSION_ENTRIES);
const _: () = assert!((REFUSALS_MAX as u64) < super::drain::WORKER_TIMEOUT_MS);
