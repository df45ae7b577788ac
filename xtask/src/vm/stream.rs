//! The contract with the guest: after each command it prints one line, `\x1eshaper-vm: exit CODE`. Everything else is
//! the command's output.

const MARK: &[u8] = b"\x1eshaper-vm: exit ";

/// A message of the guest.
#[derive(Debug, PartialEq)]
pub(crate) enum Event {
    /// A piece of the current command's output.
    Output(Vec<u8>),
    /// The current command ended, with this exit code.
    Exit(u8),
}

/// Takes the guest's bytes as they come, and tells output from contract lines.
#[derive(Default)]
pub(super) struct Stream {
    pending: Vec<u8>,
}

impl Stream {
    /// Takes some bytes; returns what is certain by now. A possible beginning of a contract line is kept back.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Vec<Event> {
        self.pending.extend_from_slice(bytes);
        let mut events = Vec::new();
        let mut output = Vec::new();
        while let Some(mark) = self.pending.iter().position(|byte| *byte == MARK[0]) {
            output.extend(self.pending.drain(..mark));
            match parse(&self.pending) {
                Parsed::Exit { code, length } => {
                    self.pending.drain(..length);
                    push_output(&mut events, &mut output);
                    events.push(Event::Exit(code));
                }
                Parsed::Incomplete => {
                    push_output(&mut events, &mut output);
                    return events;
                }
                Parsed::Other => output.extend(self.pending.drain(..1)),
            }
        }
        output.append(&mut self.pending);
        push_output(&mut events, &mut output);
        events
    }
}

fn push_output(events: &mut Vec<Event>, output: &mut Vec<u8>) {
    if !output.is_empty() {
        events.push(Event::Output(std::mem::take(output)));
    }
}

enum Parsed {
    Exit { code: u8, length: usize },
    Incomplete,
    Other,
}

/// Parses the beginning of `bytes`.
fn parse(bytes: &[u8]) -> Parsed {
    let Some(rest) = bytes.strip_prefix(MARK) else {
        return if MARK.starts_with(bytes) { Parsed::Incomplete } else { Parsed::Other };
    };
    let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
        return if rest.len() <= 3 { Parsed::Incomplete } else { Parsed::Other };
    };
    match std::str::from_utf8(&rest[..end]).ok().and_then(|code| code.parse().ok()) {
        Some(code) => Parsed::Exit { code, length: MARK.len() + end + 1 },
        None => Parsed::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `input` in pieces of `size` bytes; returns the output of each command and its exit code.
    fn check(input: &[u8], size: usize) -> (Vec<(String, u8)>, String) {
        let mut stream = Stream::default();
        let mut commands = Vec::new();
        let mut output = Vec::new();
        for event in input.chunks(size).flat_map(|piece| stream.feed(piece)) {
            match event {
                Event::Output(bytes) => output.extend(bytes),
                Event::Exit(code) => {
                    commands.push((String::from_utf8_lossy(&std::mem::take(&mut output)).into_owned(), code));
                }
            }
        }
        (commands, String::from_utf8_lossy(&output).into_owned())
    }

    #[test]
    fn contract_lines_are_found_however_the_bytes_are_cut() {
        let input = b"one\n\x1eshaper-vm: exit 0\nno newline\x1eshaper-vm: exit 101\nrest";
        for size in 1..=input.len() {
            let expected = vec![("one\n".to_owned(), 0), ("no newline".to_owned(), 101)];
            assert_eq!(check(input, size), (expected, "rest".to_owned()), "in pieces of {size}");
        }
    }

    #[test]
    fn what_only_resembles_a_contract_line_is_output() {
        let input = b"\x1e\x1eshaper-vm: exit 999\n\x1eshaper-vm: exit x\n\x1eother";
        for size in 1..=input.len() {
            let (commands, rest) = check(input, size);
            assert!(commands.is_empty());
            assert_eq!(rest.as_bytes(), input, "in pieces of {size}");
        }
    }
}
