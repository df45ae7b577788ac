//! Passes connections on from one socket to another, as a runtime would answer that is slow or breaks off.
//!
//! Run inside an engine's namespaces, as the daemon asks the kernel who listens. Arguments: the socket to listen on, and
//! the one behind it. As long as there is a file with the first one's name and `.held` behind it, nothing is passed on;
//! with `.cut`, an answer ends after [`MOST`] bytes.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    net::Shutdown,
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

/// The bytes of an answer that is cut: its headers, and not all that is behind them.
const MOST: usize = 400;

fn main() -> io::Result<()> {
    let mut paths = std::env::args_os().skip(1).map(PathBuf::from);
    let [Some(front), Some(back)] = [paths.next(), paths.next()] else {
        return Err(io::Error::other("expected two sockets"));
    };
    let listener = UnixListener::bind(&front)?;
    for client in listener.incoming() {
        let (client, front, back) = (client?, front.clone(), back.clone());
        // One that ends has nothing to say.
        thread::spawn(move || serve(&client, &front, &back));
    }
    Ok(())
}

fn serve(client: &UnixStream, front: &Path, back: &Path) -> io::Result<()> {
    let (held, cut) = (front.with_extension("held"), front.with_extension("cut"));
    while held.exists() {
        thread::sleep(Duration::from_millis(10));
    }
    let engine = UnixStream::connect(back)?;
    let (mut from_client, mut to_engine) = (client.try_clone()?, engine.try_clone()?);
    thread::spawn(move || io::copy(&mut from_client, &mut to_engine));
    let answered = answer(&engine, client, &cut);
    client.shutdown(Shutdown::Both)?;
    engine.shutdown(Shutdown::Both)?;
    answered
}

fn answer(mut engine: &UnixStream, mut client: &UnixStream, cut: &Path) -> io::Result<()> {
    let mut buffer = [0; 1 << 16];
    loop {
        let length = match engine.read(&mut buffer)? {
            0 => return Ok(()),
            length => length,
        };
        // The answer to `/_ping` and the like is shorter.
        if fs::exists(cut)? && length > MOST {
            return client.write_all(&buffer[..MOST]);
        }
        client.write_all(&buffer[..length])?;
    }
}
