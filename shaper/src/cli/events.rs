//! `shaper events`: what has happened to the shaping of containers, and through whom.

use std::{io::Write as _, time::UNIX_EPOCH};

use anyhow::Result;
use http_body_util::BodyExt as _;

use super::{Client, Streams, print_json};
use crate::shaping::{Action, Entry, InForce};

/// The arguments of `shaper events`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The daemon remembers the last 10,000 since it was started; shaper serve --audit-log keeps all in a file.

Examples:
  shaper events
  shaper events --last 20 --json
  shaper events --follow")]
pub(super) struct Args {
    /// Go on with what happens from now on, until interrupted
    #[arg(long, short)]
    follow: bool,
    /// The number of events to show; with --follow, of those before now [default: 100, or 0 with --follow]
    #[arg(long, value_name = "NUMBER")]
    last: Option<usize>,
    /// Print JSON; with --follow an object in each line
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: Args, client: &Client, streams: &mut Streams<'_>) -> Result<()> {
    let last = args.last.unwrap_or(if args.follow { 0 } else { 100 });
    let entries = client.events(last.max(1)).await?;
    let newest = entries.last().map_or(0, |entry| entry.id);
    let shown = &entries[entries.len().saturating_sub(last)..];
    if args.json && !args.follow {
        return print_json(&shown, streams);
    }
    let print = |entry: &Entry, streams: &mut Streams<'_>| -> Result<()> {
        if args.json {
            return Ok(writeln!(streams.out, "{}", serde_json::to_string(entry)?)?);
        }
        Ok(writeln!(streams.out, "{}", line(entry))?)
    };
    for entry in shown {
        print(entry, streams)?;
    }
    if !args.follow {
        return Ok(());
    }
    let mut body = client.follow_events(newest).await?;
    let mut received = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        received.extend_from_slice(&data);
        while let Some(end) = received.iter().position(|byte| *byte == b'\n') {
            let rest = received.split_off(end + 1);
            if let Some(json) = received.strip_prefix(b"data: ") {
                print(&serde_json::from_slice(json)?, streams)?;
                streams.out.flush()?;
            }
            received = rest;
        }
    }
    Ok(())
}

/// `2026-11-30T18:00:00Z web began by uid 0, pid 42: eth0 egress: delay 100ms`.
fn line(entry: &Entry) -> String {
    let Entry { time, action, container, interface, direction, by, reason, before, after, .. } = entry;
    let time = humantime::format_rfc3339_seconds((*time).max(UNIX_EPOCH));
    let interface = interface.as_ref().map(|interface| format!(" {interface}")).unwrap_or_default();
    let direction = direction.map(|direction| format!(" {direction}")).unwrap_or_default();
    let mut text = format!("{time} {container}{interface}{direction} {action} by {by}");
    if let Some(reason) = reason {
        text = format!("{text}: {reason}");
    }
    match action {
        Action::Began => format!("{text}: {}", in_force(after)),
        Action::Changed => format!("{text}: {}; before: {}", in_force(after), in_force(before)),
        Action::Ended if !before.is_empty() => format!("{text}; before: {}", in_force(before)),
        _ => text,
    }
}

fn in_force(lines: &[InForce]) -> String {
    let shown = |line: &InForce| {
        let targets = match line.targets {
            0 => String::new(),
            1 => " and 1 target".to_owned(),
            number => format!(" and {number} targets"),
        };
        let netem = if line.netem.is_empty() { "nothing" } else { &line.netem };
        format!("{} {}: {netem}{targets}", line.interface, line.direction)
    };
    lines.iter().map(shown).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::shaping::{Author, Direction, Journal, fake};

    fn in_a_line(entry: Entry) -> String {
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
        line(&Journal::default().add(entry, at).expect("it is no renewal"))
    }

    #[test]
    fn an_event_is_a_line() {
        let netem = |netem: &str| InForce {
            interface: "eth0".to_owned(),
            direction: Direction::Egress,
            netem: netem.to_owned(),
            targets: 0,
            remaining_ms: None,
        };
        let by = Author::Process { uid: 0, pid: Some(42) };
        let changed = Entry::of_change(
            &fake::web().container,
            by,
            vec![netem("loss 1%")],
            vec![InForce { targets: 2, ..netem("") }],
        );
        assert_eq!(
            in_a_line(changed.expect("a change")),
            "1970-01-01T00:00:01Z web changed by uid 0, pid 42: eth0 egress: nothing and 2 targets; before: \
             eth0 egress: loss 1%"
        );
        let ended = Entry {
            interface: Some("eth0".to_owned()),
            direction: Some(Direction::Ingress),
            ..Entry::new(Action::Ended, "web", Author::Shaper).because("its time is over")
        };
        assert_eq!(in_a_line(ended), "1970-01-01T00:00:01Z web eth0 ingress ended by -: its time is over");
    }
}
