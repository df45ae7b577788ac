//! The signals that a terminal or a person sends to end a command.

use std::{fs::File, io};

use futures_util::FutureExt as _;
use nix::{
    sys::signal::{Signal as Name, kill},
    unistd::{Pid, getpgrp},
};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// These signals, which do not end this process any more.
pub(super) struct Signals {
    hangup: Signal,
    interrupt: Signal,
    quit: Signal,
    terminate: Signal,
}

impl Signals {
    /// Begins to listen.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Returns the next signal, when it comes.
    pub(super) async fn next(&mut self) -> Name {
        tokio::select! {
            _ = self.hangup.recv() => Name::SIGHUP,
            _ = self.interrupt.recv() => Name::SIGINT,
            _ = self.quit.recv() => Name::SIGQUIT,
            _ = self.terminate.recv() => Name::SIGTERM,
        }
    }

    /// Returns a signal that has come already.
    pub(super) fn pending(&mut self) -> Option<Name> {
        self.next().now_or_never()
    }

    /// Passes a signal on to a child of the same process group, unless it comes from the terminal, which sends it to both.
    pub(super) fn pass_on(&self, signal: Name, child: u32) {
        if signal != Name::SIGTERM && is_in_foreground() {
            return;
        }
        // It may have ended by itself.
        let _ = kill(Pid::from_raw(child.cast_signed()), signal);
    }
}

/// Tells whether the signals of a terminal's keys reach this process group.
fn is_in_foreground() -> bool {
    let Ok(terminal) = File::open("/dev/tty") else { return false };
    rustix::termios::tcgetpgrp(&terminal)
        .is_ok_and(|group| group.as_raw_nonzero().get() == getpgrp().as_raw())
}
