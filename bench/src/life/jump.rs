//! A jump of the wall clock that one live process sees, and nobody else.
//!
//! The machine's clock is everybody's, and a time namespace shifts the monotonic clocks alone. A preloaded library
//! (libfaketime) does not reach a program that calls the vDSO by itself, as this server's system calls do. So the function in
//! the process's own copy of the vDSO is written over, through `/proc/PID/mem`, as a debugger sets a breakpoint (the pages
//! are private once written): from then on it makes the real system call, and adds a number of seconds where CLOCK_REALTIME
//! was asked for. Every thread is stopped meanwhile, none within that function.
//!
//! x86-64 only, and only for who may trace the process.

use super::stage::signal;
use rustix::process::Signal;
use std::fs;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

/// The name of the function in the vDSO (vdso(7)).
const NAME: &[u8] = b"__vdso_clock_gettime";
/// Type of the section that holds the dynamic symbols (elf(5): SHT_DYNSYM).
const DYNSYM: u32 = 11;

/// `clock_gettime` with `seconds` added to CLOCK_REALTIME.
fn code(seconds: i32) -> Vec<u8> {
    let mut code = vec![0xb8];
    // mov eax, SYS_clock_gettime; syscall; test edi, edi; jnz to the ret; add qword [rsi], seconds; ret
    code.extend(228_u32.to_le_bytes());
    code.extend([0x0f, 0x05, 0x85, 0xff, 0x75, 0x07, 0x48, 0x81, 0x06]);
    code.extend(seconds.to_le_bytes());
    code.push(0xc3);
    code
}

/// Where the process has its vDSO: begin and end.
fn region(pid: u32) -> Result<(u64, u64), String> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).map_err(|e| format!("maps of {pid}: {e}"))?;
    let line = maps
        .lines()
        .find(|line| line.ends_with("[vdso]"))
        .ok_or("the process has no vDSO")?;
    let parse = |text: &str| u64::from_str_radix(text, 16).ok();
    line.split_once(' ')
        .and_then(|(range, _)| range.split_once('-'))
        .and_then(|(begin, end)| Some((parse(begin)?, parse(end)?)))
        .ok_or_else(|| "the maps cannot be read".to_owned())
}

fn number<const N: usize>(image: &[u8], at: usize) -> Option<[u8; N]> {
    image.get(at..at.checked_add(N)?)?.try_into().ok()
}

/// The function's place in the image, and its length.
fn find(image: &[u8]) -> Option<(u64, u64)> {
    let word = |at| number::<2>(image, at).map(|bytes| usize::from(u16::from_le_bytes(bytes)));
    let int = |at| number::<4>(image, at).map(u32::from_le_bytes);
    let long = |at| number::<8>(image, at).map(u64::from_le_bytes);
    let size = |at| usize::try_from(long(at)?).ok();
    // elf(5): Elf64_Ehdr, Elf64_Shdr, Elf64_Sym.
    let (sections, entry, count) = (size(40)?, word(58)?, word(60)?);
    let section = |index: usize| sections.checked_add(index.checked_mul(entry)?);
    let symbols = (0..count).filter_map(section).find(|at| int(at + 4) == Some(DYNSYM))?;
    let (offset, bytes) = (size(symbols + 24)?, size(symbols + 32)?);
    let strings = size(section(usize::try_from(int(symbols + 40)?).ok()?)? + 24)?;
    (0..bytes / 24).map(|index| offset + index * 24).find_map(|symbol| {
        let name = strings.checked_add(usize::try_from(int(symbol)?).ok()?)?;
        let text = image.get(name..name.checked_add(NAME.len() + 1)?)?;
        (text.strip_prefix(NAME) == Some(&[0])).then_some(())?;
        Some((long(symbol + 8)?, long(symbol + 16)?))
    })
}

/// Whether a thread that is stopped stands within the function: `/proc/PID/task/TID/syscall` ends with the program counter.
fn is_within(pid: u32, range: &std::ops::Range<u64>) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten();
    threads.into_iter().any(|thread| {
        let text = fs::read_to_string(thread.path().join("syscall")).unwrap_or_default();
        let counter = text
            .split_ascii_whitespace()
            .last()
            .and_then(|word| word.strip_prefix("0x"));
        // "running": it has not stopped yet.
        counter
            .and_then(|digits| u64::from_str_radix(digits, 16).ok())
            .is_none_or(|counter| range.contains(&counter))
    })
}

/// The process's wall clock stands `seconds` ahead of the machine's from now on. It is stopped for some milliseconds.
///
/// # Errors
/// Not this architecture, or not allowed.
pub(super) fn jump(pid: u32, seconds: i32) -> Result<(), String> {
    if !cfg!(target_arch = "x86_64") {
        return Err("only the x86-64 code is written".to_owned());
    }
    let (begin, end) = region(pid)?;
    let memory = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(format!("/proc/{pid}/mem"));
    let memory = memory.map_err(|e| format!("the memory of {pid}: {e}"))?;
    let mut image = vec![0; usize::try_from(end - begin).map_err(|_| "a vDSO without end")?];
    memory
        .read_exact_at(&mut image, begin)
        .map_err(|e| format!("the vDSO of {pid}: {e}"))?;
    let (offset, length) = find(&image).ok_or("the vDSO has no clock_gettime")?;
    let (code, at) = (code(seconds), begin + offset);
    if length != 0 && length < code.len() as u64 {
        return Err(format!("the vDSO's function has {length} bytes only"));
    }
    let begun = Instant::now();
    loop {
        signal(pid, Signal::STOP);
        std::thread::sleep(Duration::from_millis(2));
        let is_free = !is_within(pid, &(at..at + length.max(code.len() as u64)));
        let written = is_free.then(|| memory.write_all_at(&code, at));
        signal(pid, Signal::CONT);
        match written {
            Some(Ok(())) => return Ok(()),
            Some(Err(error)) => return Err(format!("the vDSO of {pid} cannot be written: {error}")),
            None if begun.elapsed() > Duration::from_secs(5) => return Err("a thread stays in the vDSO".to_owned()),
            None => std::thread::sleep(Duration::from_millis(1)),
        }
    }
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn another_process_s_wall_clock_jumps_and_ours_does_not() {
        // `date` would have to be started after the jump: this one asks again and again. Python asks by clock_gettime, as the
        // server does; a shell may ask by gettimeofday, another function of the vDSO, which stays as it is.
        let script = "import time\nwhile True: print(int(time.time()), flush=True); time.sleep(0.05)";
        let mut child = Command::new("python3")
            .args(["-c", script])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
        let mut next = || lines.next().unwrap().unwrap().parse::<i64>().unwrap();
        let before = next();
        let jumped = jump(child.id(), 86_400).map(|()| (0..100).map(|_| next()).find(|now| *now > before + 80_000));
        let _ = child.kill();
        let _ = child.wait();
        match jumped {
            Ok(seen) => assert!(seen.is_some_and(|now| now < before + 90_000), "{seen:?}"),
            Err(why) => eprintln!("skipped: {why}"),
        }
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap();
        assert!(i64::try_from(now.as_secs()).unwrap() < before + 3600);
    }
}
