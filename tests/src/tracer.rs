//! Processes that are killed when they enter a chosen system call, by ptrace(2).

use std::{
    fs,
    path::Path,
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use crate::daemon::eventually;
use anyhow::{Context as _, Result};
use nix::{
    errno::Errno,
    libc,
    sys::{
        ptrace,
        signal::{Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};

/// Pause between two looks at threads that had nothing to report.
const PAUSE: Duration = Duration::from_micros(200);

/// Selects the system calls at which a process may be killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Calls {
    /// The calls that change something which outlives the process: pins, map entries, devices, files.
    ///
    /// What lies between two of them leaves the same traces as being killed at the second.
    Lasting,
    /// All of them.
    All,
}

impl Calls {
    fn include(self, number: u64, first_argument: u64) -> bool {
        let Ok(number) = libc::c_long::try_from(number) else { return false };
        match self {
            Self::All => true,
            Self::Lasting => match number {
                libc::SYS_bpf => LASTING_BPF.contains(&first_argument),
                _ => LASTING.contains(&number),
            },
        }
    }
}

/// System calls with which the daemon changes devices (netlink messages), pins and files.
#[cfg(target_arch = "x86_64")]
const LASTING: [libc::c_long; 13] = [
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_mkdir,
    libc::SYS_mkdirat,
    libc::SYS_rename,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_unlink,
    libc::SYS_unlinkat,
    libc::SYS_rmdir,
    libc::SYS_linkat,
    libc::SYS_symlinkat,
    libc::SYS_fchmod,
];
#[cfg(not(target_arch = "x86_64"))]
const LASTING: [libc::c_long; 8] = [
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_mkdirat,
    libc::SYS_renameat2,
    libc::SYS_unlinkat,
    libc::SYS_linkat,
    libc::SYS_symlinkat,
    libc::SYS_fchmod,
];

/// Commands of bpf(2) with a lasting effect, as `enum bpf_cmd` numbers them: updates and deletions of map entries, pins,
/// attachments, and their batches.
const LASTING_BPF: [u64; 9] = [2, 3, 6, 8, 9, 26, 27, 28, 29];

/// End of a traced change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traced {
    /// The process was killed.
    Killed,
    /// The change ended before, after so many calls.
    Passed(usize),
}

/// Traces a process while `work` runs, and kills it when it enters the `nth` of `calls`, counted from 0. If `work` ends
/// before that call, the process runs on untraced.
///
/// # Errors
///
/// When the process cannot be traced.
///
/// # Panics
///
/// When `work` does.
pub fn kill_at(pid: u32, calls: Calls, nth: usize, work: impl FnOnce()) -> Result<Traced> {
    trace(pid, calls, nth, || {}, |_| work())
}

/// Kills as [`kill_at`] does, for a process that has stopped itself before it began, and that `work` waits for: it is
/// given a function that tells whether the process has ended.
///
/// # Errors
///
/// When the process cannot be traced.
///
/// # Panics
///
/// When `work` does.
pub fn kill_at_from_start(
    pid: u32,
    calls: Calls,
    nth: usize,
    work: impl FnOnce(&dyn Fn() -> bool),
) -> Result<Traced> {
    let process = Pid::from_raw(pid.try_into()?);
    eventually("the process has stopped itself", || {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        status.contains("State:\tT").then_some(())
    });
    let begin = || {
        // Should it have ended, the tracer says so.
        let _ = kill(process, Signal::SIGCONT);
    };
    trace(pid, calls, nth, begin, work)
}

fn trace(
    pid: u32,
    calls: Calls,
    nth: usize,
    begin: impl FnOnce(),
    work: impl FnOnce(&dyn Fn() -> bool),
) -> Result<Traced> {
    let (done, ended) = (AtomicBool::new(false), AtomicBool::new(false));
    let (attached, is_attached) = mpsc::channel::<()>();
    thread::scope(|scope| {
        let (done, ended) = (&done, &ended);
        // The kernel detaches what a thread traces when that thread ends.
        let tracer = scope.spawn(move || {
            let _ended = SetWhenDropped(ended);
            let process = Pid::from_raw(pid.try_into()?);
            let mut tracer = Tracer { process, calls, seen: 0, fatal: nth };
            let seized = tracer.seize();
            drop(attached);
            seized.and_then(|()| tracer.follow(done))
        });
        // Nothing is ever sent: the channel closes.
        let _ = is_attached.recv();
        begin();
        {
            let _done = SetWhenDropped(done);
            work(&|| ended.load(Ordering::Acquire));
        }
        tracer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Sets a flag when it goes out of scope, however that happens.
struct SetWhenDropped<'a>(&'a AtomicBool);

impl Drop for SetWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

struct Tracer {
    process: Pid,
    calls: Calls,
    /// Calls that were entered.
    seen: usize,
    /// Number of the call at which it is killed.
    fatal: usize,
}

impl Tracer {
    /// Attaches to all threads of the process; those that it starts later are attached by the kernel.
    fn seize(&self) -> Result<()> {
        let options = ptrace::Options::PTRACE_O_TRACESYSGOOD | ptrace::Options::PTRACE_O_TRACECLONE;
        for thread in threads(self.process)? {
            match ptrace::seize(thread, options) {
                // It has ended, or its creator was attached before it began.
                Ok(()) | Err(Errno::ESRCH | Errno::EPERM) => {}
                Err(error) => return Err(error).context("trace the daemon"),
            }
            // A thread that runs is followed from its next stop on.
            let _ = ptrace::interrupt(thread);
        }
        Ok(())
    }

    /// Lets the process run from one system call to the next.
    fn follow(&mut self, done: &AtomicBool) -> Result<Traced> {
        // Only threads that this one traces, and its children: several tracers may run side by side.
        let flags = WaitPidFlag::WNOHANG | WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
        loop {
            let status = match waitpid(None, Some(flags)) {
                Ok(status) => status,
                Err(Errno::ECHILD) => return Ok(Traced::Killed),
                Err(error) => return Err(error).context("wait for the daemon"),
            };
            match status {
                WaitStatus::StillAlive if done.load(Ordering::Acquire) => {
                    return Ok(Traced::Passed(self.seen));
                }
                WaitStatus::StillAlive => thread::sleep(PAUSE),
                WaitStatus::PtraceSyscall(thread) if self.is_fatal(thread) => {
                    self.kill()?;
                    return Ok(Traced::Killed);
                }
                status => resume(status),
            }
        }
    }

    /// Counts a thread's stop, if it enters one of the calls; returns whether it is the fatal one.
    fn is_fatal(&mut self, thread: Pid) -> bool {
        let Ok(info) = ptrace::syscall_info(thread) else { return false };
        if info.op != libc::PTRACE_SYSCALL_INFO_ENTRY {
            return false;
        }
        #[expect(unsafe_code, reason = "the kernel answers with a union")]
        // SAFETY: `op` says that the union holds an entry.
        let entry = unsafe { info.u.entry };
        if !self.calls.include(entry.nr, entry.args[0]) {
            return false;
        }
        self.seen += 1;
        self.seen > self.fatal
    }

    /// Kills the process, and waits until it has gone.
    fn kill(&self) -> Result<()> {
        kill(self.process, Signal::SIGKILL).context("kill the daemon")?;
        let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
        loop {
            match waitpid(None, Some(flags)) {
                Ok(WaitStatus::Signaled(pid, ..) | WaitStatus::Exited(pid, _)) if pid == self.process => {
                    return Ok(());
                }
                Ok(status) => resume(status),
                Err(Errno::ECHILD) => return Ok(()),
                Err(error) => return Err(error).context("wait for the end of the daemon"),
            }
        }
    }
}

/// Lets a stopped thread run to its next system call, with the signal that it is about to get.
fn resume(status: WaitStatus) {
    let (thread, signal) = match status {
        WaitStatus::PtraceSyscall(thread) | WaitStatus::PtraceEvent(thread, ..) => (thread, None),
        WaitStatus::Stopped(thread, signal) => (thread, Some(signal)),
        _ => return,
    };
    // It may have been killed meanwhile.
    let _ = ptrace::syscall(thread, signal);
}

fn threads(process: Pid) -> Result<Vec<Pid>> {
    let directory = Path::new("/proc").join(process.to_string()).join("task");
    let entries = fs::read_dir(&directory).with_context(|| format!("list {}", directory.display()))?;
    let number = |entry: fs::DirEntry| entry.file_name().to_str()?.parse().ok().map(Pid::from_raw);
    Ok(entries.flatten().filter_map(number).collect())
}
