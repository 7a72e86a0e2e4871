//! The stack of another thread of this process, in words, without its help: for the log, where a worker is stuck.
//!
//! The thread stands still only while its registers and the top of its stack are copied (`driver::interrupt`); frames are
//! found in the copy, by the call frame information of the files that are mapped, and named by their debug information
//! where there is some. Slow, and hungry for memory: not for healthy times.

use super::driver::interrupt::{Registers, interrupt};
use crate::limits::drain::{FRAMES_MAX, STACK_BYTES_MAX};
use framehop::{ExplicitModuleSectionInfo, Module, Unwinder};
use object::read::ReadCache;
use object::{Object, ObjectSection, ObjectSegment, SegmentFlags};
use std::fmt::{self, Write as _};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Characters of a name, at most: generic code has names without end.
const NAME_CHARS_MAX: usize = 160;

/// elf(5): the segment is code.
const PF_X: u32 = 1;

/// What a thread is doing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Doing {
    /// The kernel's letter (proc_pid_stat(5)): R runs, S sleeps, D sleeps and cannot be interrupted.
    pub state: String,
    /// Where it waits in the kernel, or 0.
    pub wchan: String,
    /// Its system call and the arguments, or `running`.
    pub syscall: String,
    /// Its stack in the kernel; who may see that is root.
    pub kernel_stack: String,
    /// Its own stack, innermost first, a frame a line.
    pub stack: String,
}

/// What thread `tid` of this process is doing. What cannot be found out is said in its place.
pub fn doing(tid: i32) -> Doing {
    let read = |name: &str| {
        let text = std::fs::read_to_string(format!("/proc/self/task/{tid}/{name}"));
        text.map_or_else(|error| format!("({error})"), |text| text.trim().to_owned())
    };
    let stat = read("stat");
    // Behind the name, which stands in parentheses and may hold any.
    let state = stat.rsplit_once(") ").map_or(&*stat, |(_, rest)| rest);
    Doing {
        state: state.chars().take(1).collect(),
        wchan: read("wchan"),
        syscall: read("syscall"),
        kernel_stack: read("stack"),
        stack: match frames(tid) {
            Ok(frames) => frames,
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                "(the thread does not answer to a signal: it is in the kernel)".to_owned()
            }
            Err(error) => format!("({error})"),
        },
    }
}

/// The frames of thread `tid`, innermost first, a line each.
fn frames(tid: i32) -> io::Result<String> {
    let memory = File::open("/proc/self/mem")?;
    // Room is made before the thread stands still: it may have a lock of the allocator.
    let mut copy = vec![0; STACK_BYTES_MAX];
    let mapped = Mapped::read()?;
    let (registers, bytes) = interrupt(tid, |registers| {
        (registers, copy_stack(&memory, registers.stack, &mut copy))
    })?;
    copy.truncate(bytes);
    let addresses = mapped.unwind(registers, &copy);
    let mut text = String::new();
    for address in addresses {
        if !text.is_empty() {
            text.push('\n');
        }
        name(address, &mut text);
    }
    Ok(text)
}

/// Copies from `from` up to the end of what is mapped; gives how many bytes.
fn copy_stack(memory: &File, from: u64, copy: &mut [u8]) -> usize {
    let mut have = 0;
    while let Some(rest) = copy.get_mut(have..).filter(|rest| !rest.is_empty()) {
        match memory.read_at(rest, from.saturating_add(have as u64)) {
            Ok(0) | Err(_) => break,
            Ok(bytes) => have += bytes,
        }
    }
    have
}

/// Writes what stands at an address: inlined functions have a line each.
fn name(address: u64, text: &mut String) {
    let mut known = false;
    backtrace::resolve(address as usize as *mut _, |symbol| {
        let Some(name) = symbol.name() else { return };
        if std::mem::replace(&mut known, true) {
            text.push('\n');
        }
        let name = Cut(format_args!("{name:#}")).to_string();
        text.push_str(&name);
        let file = symbol.filename().and_then(|path| path.file_name());
        if let (Some(file), Some(line)) = (file, symbol.lineno()) {
            let _ = write!(text, " ({}:{line})", file.to_string_lossy());
        }
    });
    if !known {
        let _ = write!(text, "{address:#x}");
    }
}

/// The begin of a long text.
struct Cut<'a>(fmt::Arguments<'a>);

impl fmt::Display for Cut<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.0.to_string();
        match all.char_indices().nth(NAME_CHARS_MAX) {
            Some((at, _)) => write!(f, "{}...", all.get(..at).unwrap_or_default()),
            None => f.write_str(&all),
        }
    }
}

/// The files whose code is mapped into this process.
struct Mapped(framehop::UnwinderNative<Vec<u8>, framehop::MayAllocateDuringUnwind>);

impl Mapped {
    fn read() -> io::Result<Mapped> {
        let mut unwinder = framehop::UnwinderNative::new();
        for line in std::fs::read_to_string("/proc/self/maps")?.lines() {
            // A file that cannot be read leaves a gap: frame pointers may lead over it.
            if let Some(module) = module(line) {
                unwinder.add_module(module);
            }
        }
        Ok(Mapped(unwinder))
    }

    fn unwind(&self, registers: Registers, copy: &[u8]) -> Vec<u64> {
        let read = |at: u64| {
            let offset = usize::try_from(at.checked_sub(registers.stack).ok_or(())?).map_err(|_| ())?;
            let word = copy.get(offset..).and_then(<[u8]>::first_chunk).ok_or(())?;
            Ok(u64::from_ne_bytes(*word))
        };
        let mut read = read;
        let mut cache = framehop::CacheNative::new();
        let mut frames = self
            .0
            .iter_frames(registers.instruction, native(registers), &mut cache, &mut read);
        let mut addresses = Vec::new();
        while addresses.len() < FRAMES_MAX
            && let Ok(Some(frame)) = frames.next()
        {
            // Behind a call stands the next line: its own instruction is before that.
            addresses.push(frame.address_for_lookup());
        }
        addresses
    }
}

#[cfg(target_arch = "x86_64")]
fn native(registers: Registers) -> framehop::UnwindRegsNative {
    framehop::UnwindRegsNative::new(registers.instruction, registers.stack, registers.frame)
}

#[cfg(target_arch = "aarch64")]
fn native(registers: Registers) -> framehop::UnwindRegsNative {
    framehop::UnwindRegsNative::new(registers.link, registers.stack, registers.frame)
}

/// What a line of /proc/self/maps (proc_pid_maps(5)) tells of, if that is code of a file.
fn module(line: &str) -> Option<Module<Vec<u8>>> {
    let mut words = line.splitn(6, ' ').map(str::trim);
    let (range, rights, offset) = (words.next()?, words.next()?, words.next()?);
    let path = words.nth(2).filter(|path| path.starts_with('/'))?;
    if !rights.contains('x') {
        return None;
    }
    let (begin, end) = range.split_once('-')?;
    let hex = |text: &str| u64::from_str_radix(text, 16).ok();
    let (begin, end, offset) = (hex(begin)?, hex(end)?, hex(offset)?);
    let file = ReadCache::new(File::open(path).ok()?);
    let file = object::File::parse(&file).ok()?;
    // Where the file lies, against where it says that it would.
    let segment = file.segments().find(|segment| {
        let is_code = matches!(segment.flags(), SegmentFlags::Elf { p_flags } if p_flags & PF_X != 0);
        let (at, bytes) = segment.file_range();
        // What is mapped begins at a page, the segment somewhere in it.
        is_code && (at & !0xfff..at.saturating_add(bytes)).contains(&offset)
    })?;
    let bias = begin.wrapping_sub(
        segment
            .address()
            .wrapping_sub(segment.file_range().0)
            .wrapping_add(offset),
    );
    let section = |name: &str| {
        let section = file.section_by_name(name)?;
        let data = section.data().ok()?.to_vec();
        Some((section.address()..section.address() + section.size(), data))
    };
    let text = file.section_by_name(".text");
    let (frame_range, frame) = section(".eh_frame").unzip();
    let (index_range, index) = section(".eh_frame_hdr").unzip();
    let info = ExplicitModuleSectionInfo {
        base_svma: 0,
        text_svma: text.map(|text| text.address()..text.address() + text.size()),
        eh_frame_svma: frame_range,
        eh_frame: frame,
        eh_frame_hdr_svma: index_range,
        eh_frame_hdr: index,
        ..Default::default()
    };
    Some(Module::new(path.to_owned(), begin..end, bias, info))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
    use std::time::{Duration, Instant};

    static GO_ON: AtomicBool = AtomicBool::new(false);

    #[inline(never)]
    fn a_function_that_spins(level: u32) -> u32 {
        if level > 0 {
            return std::hint::black_box(a_function_that_spins(level - 1)) + 1;
        }
        while !GO_ON.load(Ordering::Relaxed) {
            std::hint::spin_loop();
        }
        0
    }

    #[inline(never)]
    fn a_function_that_sleeps() {
        while !GO_ON.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_secs(1));
        }
    }

    fn tid_of(cell: &AtomicI32) -> i32 {
        let patience = Instant::now() + Duration::from_secs(30);
        while cell.load(Ordering::Relaxed) == 0 {
            assert!(Instant::now() < patience);
            std::thread::sleep(Duration::from_millis(5));
        }
        // It has set the number just before its call.
        std::thread::sleep(Duration::from_millis(200));
        cell.load(Ordering::Relaxed)
    }

    #[test]
    fn a_thread_that_runs_and_one_that_waits_are_found_where_they_are() {
        let tids: [AtomicI32; 2] = Default::default();
        let own = || rustix::thread::gettid().as_raw_nonzero().get();
        std::thread::scope(|scope| {
            let spinning = scope.spawn(|| {
                tids[0].store(own(), Ordering::Relaxed);
                std::hint::black_box(a_function_that_spins(3))
            });
            scope.spawn(|| {
                tids[1].store(own(), Ordering::Relaxed);
                a_function_that_sleeps();
            });
            let spins = doing(tid_of(&tids[0]));
            let sleeps = doing(tid_of(&tids[1]));
            // Again, and of the same thread: it goes on in between.
            let again = doing(tid_of(&tids[0]));
            GO_ON.store(true, Ordering::Relaxed);
            assert_eq!(spinning.join().unwrap(), 3, "it was disturbed");
            for doing in [&spins, &again] {
                assert_eq!(doing.stack.matches("a_function_that_spins").count(), 4, "{doing:?}");
                assert_eq!((&*doing.state, &*doing.syscall), ("R", "running"), "{doing:?}");
            }
            assert!(sleeps.stack.contains("a_function_that_sleeps"), "{sleeps:?}");
            assert_eq!(sleeps.state, "S", "{sleeps:?}");
            // Down to the thread's begin.
            assert!(sleeps.stack.contains("__rust_begin_short_backtrace"), "{sleeps:?}");
        });
    }

    #[test]
    fn a_thread_that_is_not_there_is_said_to_be_so() {
        let gone = doing(i32::MAX - 1);
        assert!(gone.stack.contains("No such process"), "{gone:?}");
    }
}
