//! Shows something again each second: in place on a terminal, below one another elsewhere.

use std::{
    io::{self, IsTerminal as _, Write as _},
    time::Duration,
};

use anyhow::Result;
use tokio::time;

use super::Streams;

const INTERVAL: Duration = Duration::from_secs(1);

// Commands of terminals (ECMA-48): to the upper left corner, delete the rest of the line, delete the rest of the screen.
const HOME: &str = "\x1b[H";
const END_LINE: &str = "\x1b[K";
const END_SCREEN: &str = "\x1b[J";

/// Shows what `frame` returns each second, until it fails or nobody reads.
///
/// # Errors
///
/// The errors of `frame`, and one when it cannot be written.
pub(super) async fn each_second(
    mut frame: impl AsyncFnMut() -> Result<String>,
    streams: &mut Streams<'_>,
) -> Result<()> {
    let is_terminal = io::stdout().is_terminal();
    let mut is_first = true;
    loop {
        let text = frame().await?;
        if is_terminal {
            redraw(&text, height(), streams)?;
        } else {
            let between = if is_first { "" } else { "\n" };
            write!(streams.out, "{between}{text}")?;
        }
        streams.out.flush()?;
        is_first = false;
        time::sleep(INTERVAL).await;
    }
}

/// Draws a text over the one before, as many lines as there is room for.
fn redraw(text: &str, height: usize, streams: &mut Streams<'_>) -> io::Result<()> {
    streams.out.0.write_all(HOME.as_bytes())?;
    // The cursor needs a line, too.
    for line in text.lines().take(height.saturating_sub(1)) {
        write!(streams.out, "{line}")?;
        streams.out.0.write_all(END_LINE.as_bytes())?;
        writeln!(streams.out)?;
    }
    streams.out.0.write_all(END_SCREEN.as_bytes())
}

/// The number of lines of the terminal.
fn height() -> usize {
    rustix::termios::tcgetwinsize(io::stdout()).map_or(usize::MAX, |size| size.ws_row.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_drawn_over_the_one_before_as_far_as_there_is_room() {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        redraw("one\n\x1b[31mtwo\nthree\n", 3, &mut Streams::new(&mut out, &mut err)).expect("there is room");
        let drawn = String::from_utf8(out).expect("text");
        assert_eq!(drawn, "\x1b[Hone\x1b[K\n\\u001b[31mtwo\x1b[K\n\x1b[J");
    }
}
