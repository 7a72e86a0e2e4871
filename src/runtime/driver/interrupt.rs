//! Where a thread is, found out by a signal.
//!
//! The handler does what a handler may (signal-safety(7)): it writes registers into words that are there already, and
//! waits, asleep, until they have been looked at and its stack has been copied. Everything else (unwinding, names, the log)
//! is the business of the thread that asks, so that it does not matter what the other one was in the middle of: a lock of
//! the allocator, for one, or of the log.
#![allow(unsafe_code)] // Reason: a signal handler; see the SAFETY lines.

use crate::limits::drain::INTERRUPT;
use std::io;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

/// Ignored by default, so that one that comes too late, or from elsewhere, does no harm; and of no use to programs that
/// do not ask for it (socket(7), F_SETOWN).
const SIGNAL: libc::c_int = libc::SIGURG;

/// Registers that lead through a stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Registers {
    /// Of the next instruction.
    pub instruction: u64,
    /// Stack pointer.
    pub stack: u64,
    /// Frame pointer, where the code keeps one.
    pub frame: u64,
    /// Link register; 0 where the machine has none.
    pub link: u64,
}

const IDLE: u32 = 0;
const ASKED: u32 = 1;
const TAKING: u32 = 2;
const TAKEN: u32 = 3;

static STATE: AtomicU32 = AtomicU32::new(IDLE);
static WANTED: AtomicI32 = AtomicI32::new(0);
static REGISTERS: [AtomicU64; 4] = [const { AtomicU64::new(0) }; 4];

const STEP: Duration = Duration::from_millis(1);

extern "C" fn on_signal(_: libc::c_int, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the handler's own thread's errno, which is put back: the code that was interrupted may be about to read it.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    let before = unsafe { *errno };
    // SAFETY: no arguments, no memory.
    let own = unsafe { libc::syscall(libc::SYS_gettid) };
    let is_asked = own == i64::from(WANTED.load(Ordering::Relaxed)) as libc::c_long
        && STATE
            .compare_exchange(ASKED, TAKING, Ordering::Acquire, Ordering::Relaxed)
            .is_ok();
    if is_asked {
        // SAFETY: with SA_SIGINFO the third argument is a ucontext_t (sigaction(2)), which lives as long as the handler.
        let registers = read(unsafe { &*context.cast::<libc::ucontext_t>() });
        for (cell, value) in REGISTERS.iter().zip(registers) {
            cell.store(value, Ordering::Relaxed);
        }
        STATE.store(TAKEN, Ordering::Release);
        let step = libc::timespec {
            tv_sec: 0,
            tv_nsec: STEP.as_nanos() as libc::c_long,
        };
        let mut left = 2 * INTERRUPT.as_millis();
        while STATE.load(Ordering::Acquire) == TAKEN && left > 0 {
            // SAFETY: reads `step`, and writes nothing.
            unsafe { libc::nanosleep(&raw const step, std::ptr::null_mut()) };
            left -= 1;
        }
        // Nobody came: this thread goes on.
        let _ = STATE.compare_exchange(TAKEN, IDLE, Ordering::Relaxed, Ordering::Relaxed);
    }
    // SAFETY: as above.
    unsafe { *errno = before };
}

#[cfg(target_arch = "x86_64")]
fn read(context: &libc::ucontext_t) -> [u64; 4] {
    let of = |register: libc::c_int| context.uc_mcontext.gregs[register as usize] as u64;
    [of(libc::REG_RIP), of(libc::REG_RSP), of(libc::REG_RBP), 0]
}

#[cfg(target_arch = "aarch64")]
fn read(context: &libc::ucontext_t) -> [u64; 4] {
    let machine = &context.uc_mcontext;
    [machine.pc, machine.sp, machine.regs[29], machine.regs[30]]
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn read(_: &libc::ucontext_t) -> [u64; 4] {
    [0; 4]
}

fn install() -> io::Result<()> {
    static INSTALLED: OnceLock<Result<(), i32>> = OnceLock::new();
    let done = INSTALLED.get_or_init(|| {
        // SAFETY: zeroed is a valid sigaction: no flags, an empty mask.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = on_signal as *const () as usize;
        // A system call that can go on does.
        action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
        // SAFETY: the handler keeps to signal-safety(7), and lives as long as the program.
        let refused = unsafe { libc::sigaction(SIGNAL, &raw const action, std::ptr::null_mut()) };
        if refused == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error().raw_os_error().unwrap_or_default())
        }
    });
    done.map_err(io::Error::from_raw_os_error)
}

/// Interrupts thread `tid` of this process, and lets `look` see its registers while it stands still. `look` must take no
/// lock that the other may hold.
///
/// # Errors
/// ETIMEDOUT for a thread that does not answer within [`INTERRUPT`]: it is in the kernel, for good. Those of sigaction(2)
/// and tgkill(2).
pub fn interrupt<R>(tid: i32, look: impl FnOnce(Registers) -> R) -> io::Result<R> {
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    install()?;
    WANTED.store(tid, Ordering::Relaxed);
    STATE.store(ASKED, Ordering::Release);
    // SAFETY: sends a signal whose handler is in place; a number that is no thread of this process gives ESRCH.
    let refused = unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), tid, SIGNAL) };
    let sent = if refused == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    };
    let deadline = Instant::now() + INTERRUPT;
    while sent.is_ok() && STATE.load(Ordering::Acquire) != TAKEN && Instant::now() < deadline {
        std::thread::sleep(STEP);
    }
    if STATE.load(Ordering::Acquire) != TAKEN {
        // One that answers now finds that nobody asks.
        STATE.store(IDLE, Ordering::Relaxed);
        sent?;
        return Err(io::ErrorKind::TimedOut.into());
    }
    let [instruction, stack, frame, link] = [0, 1, 2, 3].map(|at: usize| REGISTERS[at].load(Ordering::Relaxed));
    let seen = look(Registers {
        instruction,
        stack,
        frame,
        link,
    });
    STATE.store(IDLE, Ordering::Release);
    Ok(seen)
}
