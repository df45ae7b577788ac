//! One run of QEMU. Plain emulation always: it needs no rights and works wherever there is a processor.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::guest::{GuestCommand, write_initramfs};
use super::stream::{Event, Stream};
use crate::process::{find_program, last_lines};
use crate::setup::kernel::{Kernel, Series};
use crate::workspace::Workspace;

/// A virtual machine to run.
pub(crate) struct Machine {
    /// The kernel to boot.
    pub(crate) kernel: Series,
    /// In MiB.
    pub(crate) memory: u32,
    /// One processor whose instructions take one nanosecond of guest time each, whatever else the host does.
    pub(crate) icount: bool,
    /// The processor's model and features, as QEMU takes them.
    pub(crate) cpu: &'static str,
    /// When to give up on the commands.
    pub(crate) timeout: Duration,
}

/// All features that QEMU emulates.
pub(crate) const ALL_FEATURES: &str = "max";

impl Machine {
    /// Boots, runs the commands one after the other, and tells `sink` what they print and how they end.
    ///
    /// Whatever happens to this process, QEMU ends with it.
    pub(crate) fn run(
        &self,
        workspace: &Workspace,
        commands: &[GuestCommand],
        mut sink: impl FnMut(Event) -> Result<()>,
    ) -> Result<()> {
        let kernel = Kernel::find(&workspace.vm_dir(), self.kernel)
            .context("no kernel: type `cargo xtask setup vm`")?;
        let files = RunDirectory::create(&workspace.vm_dir())?;
        let initramfs = files.0.join("initramfs.cpio");
        write_initramfs(&kernel, commands, &files.0.join("tree"), &initramfs)?;
        let console = files.0.join("console.log");

        let mut qemu = Qemu::start(self.command(&kernel, &initramfs, &console)?)?;
        let pieces = qemu.output()?;
        let deadline = Instant::now() + self.timeout;
        let mut stream = Stream::default();
        let mut left = commands.len();
        while left > 0 {
            match pieces.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(piece) => {
                    for event in stream.feed(&piece) {
                        left -= usize::from(matches!(event, Event::Exit(_)));
                        sink(event)?;
                    }
                }
                Err(end) => bail!(self.complaint(end, left, &console)),
            }
        }
        Ok(())
    }

    fn complaint(&self, end: RecvTimeoutError, left: usize, console: &Path) -> String {
        let what = match end {
            RecvTimeoutError::Timeout => {
                format!("took longer than {} s (see --timeout)", self.timeout.as_secs())
            }
            RecvTimeoutError::Disconnected => "ended by itself".to_owned(),
        };
        let tail = last_lines(console, 0, 25);
        format!(
            "the virtual machine {what} with {left} command(s) not finished; its console ends with\n{tail}"
        )
    }

    fn command(&self, kernel: &Kernel, initramfs: &Path, console: &Path) -> Result<Command> {
        let qemu =
            find_program("qemu-system-x86_64").context("find QEMU in PATH: type `cargo xtask setup vm`")?;
        // The signal of parent death is for when this process has no time to end QEMU, such as on a signal of its own.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(qemu);
        if self.icount {
            command.args(["-accel", "tcg,thread=single", "-icount", "shift=0,sleep=off", "-smp", "1"]);
        } else {
            command.args(["-accel", "tcg,thread=multi", "-smp", "2"]);
        }
        command.args(["-cpu", self.cpu, "-m", &self.memory.to_string()]);
        command.arg("-kernel").arg(kernel.image()).arg("-initrd").arg(initramfs);
        command.args(["-append", "console=ttyS0 quiet panic=-1 mitigations=off"]);
        command.args(["-nodefaults", "-no-reboot", "-display", "none"]);
        command.arg("-serial").arg(format!("file:{}", console.display()));
        // Two roots of file systems have the same inode number: without remap, the guest takes /proc for /sys.
        command.args(["-fsdev", "local,id=host,path=/,security_model=none,readonly=on,multidevs=remap"]);
        command.args(["-device", "virtio-9p-pci,fsdev=host,mount_tag=hostfs"]);
        // A port that is no terminal: no kernel messages in it, and newlines stay as they are.
        command.args(["-chardev", "stdio,id=output,signal=off", "-device", "virtio-serial-pci"]);
        command.args(["-device", "virtserialport,chardev=output,name=output"]);
        // A network card for tests to move about. Nothing is at its other end.
        command.args(["-netdev", "hubport,id=spare,hubid=0", "-device", "virtio-net-pci,netdev=spare"]);
        Ok(command)
    }
}

/// The files of one run, removed at its end.
struct RunDirectory(PathBuf);

impl RunDirectory {
    fn create(vm_dir: &Path) -> Result<Self> {
        remove_abandoned(vm_dir);
        static RUNS: AtomicUsize = AtomicUsize::new(0);
        let number = RUNS.fetch_add(1, Ordering::Relaxed);
        let directory = vm_dir.join(format!("run-{}-{number}", std::process::id()));
        fs::create_dir_all(&directory).with_context(|| format!("create {}", directory.display()))?;
        Ok(Self(directory))
    }
}

/// Removes the files of runs that had no time to do it themselves: their processes are gone.
fn remove_abandoned(vm_dir: &Path) {
    for entry in fs::read_dir(vm_dir).into_iter().flatten().filter_map(Result::ok) {
        let name = entry.file_name();
        let Some(run) = name.to_str().and_then(|name| name.strip_prefix("run-")) else { continue };
        let process = run.split('-').next().unwrap_or_default();
        let runs = Path::new("/proc").join(process).exists();
        // Another process may be removing it too; what stays is only space.
        if !runs && let Err(error) = fs::remove_dir_all(entry.path()) {
            eprintln!("warning: remove {}: {error}", entry.path().display());
        }
    }
}

impl Drop for RunDirectory {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("warning: remove {}: {error}", self.0.display());
        }
    }
}

/// A running QEMU, killed when dropped: all that it could lose is to be thrown away.
struct Qemu(Child);

impl Qemu {
    fn start(mut command: Command) -> Result<Self> {
        // An end of file on its standard input would make QEMU close the port.
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        Ok(Self(child.context("start setpriv and QEMU: type `cargo xtask setup vm`")?))
    }

    /// Returns what the guest writes, piece by piece; it ends when QEMU does.
    fn output(&mut self) -> Result<Receiver<Vec<u8>>> {
        let mut stdout = self.0.stdout.take().context("QEMU's output is taken already")?;
        let (sender, receiver) = sync_channel(16);
        std::thread::spawn(move || {
            let mut buffer = [0; 1 << 16];
            while let Ok(length @ 1..) = stdout.read(&mut buffer) {
                if sender.send(buffer[..length].to_vec()).is_err() {
                    break;
                }
            }
        });
        Ok(receiver)
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        let ended = self.0.kill().and_then(|()| self.0.wait());
        if let Err(error) = ended {
            eprintln!("warning: end QEMU (process {}): {error}", self.0.id());
        }
    }
}
