//! Writes log lines to standard error without ever holding up, or ending, whoever logs.
//!
//! Standard error may be closed, a full disk, or a pipe that nobody reads. So a thread of its own writes; lines that it
//! cannot write are dropped, and those that it has no room to keep are counted. A writer that panics loses the lines that
//! it had taken.

use std::{
    collections::VecDeque,
    io::{self, Write},
    panic::{self, AssertUnwindSafe},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use tracing_subscriber::fmt::MakeWriter;

/// The most bytes that may wait to be written: some seconds of a log at its busiest.
const ROOM: usize = 1 << 20;
/// The longest time that the end of the daemon waits for lines to be written.
const PATIENCE: Duration = Duration::from_secs(1);

/// The lines that wait to be written.
#[derive(Clone, Default)]
pub(super) struct Log(Arc<Shared>);

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    /// Rung when a line has been added, and when all have been written.
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    dropped: u64,
    writing: bool,
}

impl Log {
    /// A log that `out` gets, in a thread that lives as long as the process.
    ///
    /// # Errors
    ///
    /// When there can be no more threads.
    pub(super) fn to(mut out: impl Write + Send + 'static) -> io::Result<Self> {
        let log = Self::default();
        let writer = log.clone();
        let write = move || {
            loop {
                // The panic has a line of its own.
                let _ = panic::catch_unwind(AssertUnwindSafe(|| writer.write_for_ever(&mut out)));
            }
        };
        thread::Builder::new().name("log".to_owned()).spawn(write)?;
        Ok(log)
    }

    /// Has a line written, or counts it as dropped.
    pub(super) fn line(&self, line: &[u8]) {
        let mut queue = self.queue();
        if queue.bytes + line.len() > ROOM {
            queue.dropped += 1;
            return;
        }
        queue.bytes += line.len();
        queue.lines.push_back(line.to_owned());
        self.0.changed.notify_all();
    }

    /// Waits until all lines have been written, but not for ever.
    pub(super) fn flush(&self) {
        let waits = |queue: &mut Queue| queue.writing || !queue.lines.is_empty();
        let _ = self.0.changed.wait_timeout_while(self.queue(), PATIENCE, waits);
    }

    fn write_for_ever(&self, out: &mut impl Write) {
        loop {
            let idle = |queue: &mut Queue| queue.lines.is_empty();
            let mut queue =
                self.0.changed.wait_while(self.queue(), idle).unwrap_or_else(PoisonError::into_inner);
            let mut lines = std::mem::take(&mut queue.lines);
            let dropped = std::mem::take(&mut queue.dropped);
            (queue.bytes, queue.writing) = (0, true);
            drop(queue);
            if dropped > 0 {
                let said = format!("{dropped} log lines were dropped: standard error is too slow\n");
                lines.push_back(said.into_bytes());
            }
            for line in lines {
                // There is nowhere to say that it failed; the next line may do.
                let _ = out.write_all(&line);
            }
            self.queue().writing = false;
            self.0.changed.notify_all();
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// Takes one line at a time, as the subscriber writes them.
impl Write for Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.line(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Hands on what is written, when it is asked for.
    struct Slow(mpsc::SyncSender<Vec<u8>>);

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(bytes.to_owned()).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_writer_that_hangs_holds_nobody_up_and_what_is_dropped_is_counted() {
        let (sender, written) = mpsc::sync_channel(0);
        let log = Log::to(Slow(sender)).expect("a thread");
        let line = vec![b'x'; ROOM / 4];
        log.line(b"first");
        // The writer has taken the first one, or will take it with those after it; either way most have no room.
        (0..100).for_each(|_| log.line(&line));
        log.flush();
        let mut last = Vec::new();
        while !last.ends_with(b"log lines were dropped: standard error is too slow\n") {
            last = written.recv().expect("it goes on");
        }
        log.line(b"last");
        while last != b"last" {
            last = written.recv().expect("it goes on");
        }
    }

    /// Panics at the first line.
    struct Panics {
        lines: usize,
        written: mpsc::Sender<Vec<u8>>,
    }

    impl Write for Panics {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.lines += 1;
            assert!(self.lines > 1, "on purpose");
            self.written.send(bytes.to_owned()).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_writer_that_panics_writes_the_next_line() {
        let (sender, written) = mpsc::channel();
        let log = Log::to(Panics { lines: 0, written: sender }).expect("a thread");
        log.line(b"lost");
        log.flush();
        log.line(b"written");
        assert_eq!(written.recv().expect("it goes on"), b"written");
    }
}
