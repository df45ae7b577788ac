//! `shaper doctor`: looks for what keeps this host from being shaped.

use std::{io::Write as _, path::PathBuf};

use anyhow::{Context as _, Result, bail};
use tokio::task::spawn_blocking;

use super::{Client, Streams, print_json, text::wrapped};
use crate::doctor::{Answer, Check, Facts, Level, Places};

/// The columns before a finding, and those for it.
const INDENT: usize = 23;
const COLUMNS: usize = 80 - INDENT;

/// The arguments of `shaper doctor`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
It needs no daemon, and looks at one that runs. As root it sees more. The exit
code is 1 if there is a problem.

Examples:
  shaper doctor
  shaper doctor --json | jq '.[] | select(.level != \"ok\")'")]
pub(super) struct Args {
    /// The directory, in bpffs, for pinned programs and maps
    #[arg(long, value_name = "PATH", default_value = "/sys/fs/bpf/shaper")]
    pin_dir: PathBuf,
    /// Print the findings as JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: Args, client: &Client, streams: &mut Streams<'_>) -> Result<()> {
    let daemon = match client.status().await {
        Ok(status) => Answer::Status(Box::new(status)),
        Err(error) => Answer::None(error.to_string()),
    };
    let places = Places { socket: client.socket().to_owned(), pin_dir: args.pin_dir };
    let look = move || Facts::look(&places, daemon).judge();
    let checks = spawn_blocking(look).await.context("look at this host")?;
    if args.json {
        print_json(&checks, streams)?;
    } else {
        write!(streams.out, "{}", checks.iter().map(lines).collect::<String>())?;
    }
    match checks.iter().filter(|check| check.level == Level::Problem).count() {
        0 => Ok(()),
        1 => bail!("1 problem was found"),
        problems => bail!("{problems} problems were found"),
    }
}

/// The finding, and below it the remedy.
fn lines(check: &Check) -> String {
    let level = match check.level {
        Level::Ok => "ok",
        Level::Warning => "warning",
        Level::Problem => "problem",
    };
    let mut begin = format!("{level:<9}{:<14}", check.check);
    let mut lines = String::new();
    let advice = check.advice.as_ref().map(|advice| format!("-> {advice}"));
    for line in [&check.finding].into_iter().chain(&advice).flat_map(|text| wrapped(text, COLUMNS)) {
        lines.push_str(format!("{begin}{line}").trim_end());
        lines.push('\n');
        begin = " ".repeat(INDENT);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_and_remedies_stand_below_one_another_in_eighty_columns() {
        let check = Check {
            check: "fq",
            level: Level::Warning,
            finding: "the kernel lacks this queue: losses can be had, but no delays and no rates".to_owned(),
            advice: Some("modprobe sch_fq, or use a kernel with CONFIG_NET_SCH_FQ".to_owned()),
        };
        let shown = lines(&check);
        assert!(shown.lines().all(|line| line.len() <= 80), "{shown}");
        insta::assert_snapshot!(shown, @"
        warning  fq            the kernel lacks this queue: losses can be had, but no
                               delays and no rates
                               -> modprobe sch_fq, or use a kernel with
                               CONFIG_NET_SCH_FQ
        ");
    }
}
