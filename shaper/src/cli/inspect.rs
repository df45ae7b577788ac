//! `shaper inspect`: where a container's shaping is, and how to see it there.

use std::{fmt::Write as _, io::Write as _, time::Duration};

use anyhow::Result;

use super::{Client, Streams, print_json, select::Selected, text};
use crate::shaping::{Inspection, InterfaceInspection, InterfaceView};

/// The arguments of `shaper inspect`.
#[derive(Debug, clap::Args)]
#[command(
    mut_arg("selector", |selector| selector.required(true)),
    after_help = "\
Examples:
  shaper inspect web
  shaper inspect 'shop-*'
  shaper inspect web --json | jq -r '.details[].commands[]'"
)]
pub(super) struct Args {
    #[command(flatten)]
    selected: Selected,
    /// Print the daemon's answer as JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: Args, client: &Client, streams: &mut Streams<'_>) -> Result<()> {
    let Some(name) = args.selected.as_name() else { return inspect_many(&args, client, streams).await };
    let inspection = client.inspect(&name).await?;
    if args.json {
        return print_json(&inspection, streams);
    }
    let shown = show(&inspection)?;
    Ok(write!(streams.out, "{shown}")?)
}

/// Shows those that are selected, an empty line between them.
async fn inspect_many(args: &Args, client: &Client, streams: &mut Streams<'_>) -> Result<()> {
    let mut inspections = Vec::new();
    for view in client.select(&args.selected.query()).await? {
        inspections.push(client.inspect(view.container.id.as_str()).await?);
    }
    if args.json {
        return print_json(&inspections, streams);
    }
    let shown: Vec<_> = inspections.iter().map(show).collect::<Result<_, _>>()?;
    Ok(write!(streams.out, "{}", shown.join("\n"))?)
}

fn show(inspection: &Inspection) -> Result<String, std::fmt::Error> {
    let container = &inspection.view.container;
    let mut out = String::new();
    writeln!(out, "{}, {}, {}", text::title(&inspection.view), container.runtime, container.state)?;
    writeln!(out, "  id       {}", container.id)?;
    if let Some(netns) = &container.netns {
        writeln!(out, "  netns    net:[{}], {}", netns.id.inode, netns.path.display())?;
    }
    let networks: Vec<_> = container.networks.iter().map(|endpoint| &*endpoint.network).collect();
    if !networks.is_empty() {
        writeln!(out, "  networks {}", networks.join(", "))?;
    }
    if inspection.view.interfaces.is_empty() {
        writeln!(out, "  not shaped")?;
    }
    for view in &inspection.view.interfaces {
        writeln!(out, "\n{} {}", view.interface, view.direction)?;
        writeln!(out, "  policy   {}", text::state(view))?;
        if !view.networks.is_empty() {
            writeln!(out, "  network  {}", view.networks.join(", "))?;
        }
        if let Some(chosen) = &view.shaping.policy.interfaces {
            writeln!(out, "  chosen   {chosen}")?;
        }
        show_names(&mut out, view)?;
        show_counts(&mut out, view)?;
        let found = inspection
            .details
            .iter()
            .find(|detail| detail.interface == view.interface && detail.direction == view.direction);
        if let Some(detail) = found {
            show_detail(&mut out, detail)?;
        }
    }
    Ok(out)
}

fn show_names(out: &mut String, view: &InterfaceView) -> std::fmt::Result {
    for named in &view.names {
        write!(out, "  target   {}", named.name)?;
        match named.addresses.len() {
            0 => write!(out, ", without addresses: it matches no packet")?,
            1 => write!(out, ", {}", named.addresses[0])?,
            many => write!(out, ", {} and {} more", named.addresses[0], many - 1)?,
        }
        if let Some(problem) = &named.problem {
            write!(out, " ({problem}")?;
            if let Some(age_ms) = named.age_ms.filter(|_| !named.addresses.is_empty()) {
                write!(out, "; found {} ago", text::duration(Duration::from_secs(age_ms / 1000)))?;
            }
            write!(out, ")")?;
        }
        writeln!(out)?;
    }
    Ok(())
}

fn show_counts(out: &mut String, view: &InterfaceView) -> std::fmt::Result {
    let shown = view.outcomes.iter().filter(|(outcome, counts)| !outcome.is_rare || counts.packets > 0);
    for (outcome, counts) in shown {
        writeln!(out, "  {:<8} {} packets, {} bytes", outcome.label, counts.packets, counts.bytes)?;
    }
    writeln!(out, "  queue    {} packets wait, {} dropped", view.queue.waiting, view.queue.dropped)?;
    if view.invalid_policy > 0 {
        writeln!(
            out,
            "  invalid  {} packets passed unshaped: the policy map is invalid",
            view.invalid_policy
        )?;
    }
    if view.orphan_failed > 0 {
        writeln!(out, "  slowed   {} packets delayed within their socket's limits", view.orphan_failed)?;
    }
    Ok(())
}

fn show_detail(out: &mut String, detail: &InterfaceInspection) -> std::fmt::Result {
    let InterfaceInspection { device, ifindex, netns_path, .. } = detail;
    let place =
        netns_path.as_ref().map_or_else(|| "on the host".to_owned(), |path| format!("in {}", path.display()));
    writeln!(out, "  device   {device}, ifindex {ifindex}, {place}")?;
    writeln!(out, "  qdisc    {}", detail.root_qdisc)?;
    writeln!(out, "  program  {} on {}", detail.program_id, detail.hook)?;
    writeln!(out, "  pinned   {}", detail.pin_path.display())?;
    for (index, command) in detail.commands.iter().enumerate() {
        writeln!(out, "  {:<8} {command}", if index == 0 { "see" } else { "" })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shaping::{Direction, NamedPeer, Shaping, fake};

    #[test]
    fn networks_are_shown_by_name_those_of_the_container_and_those_of_an_interface() {
        let endpoint = |network: &str| serde_json::from_value(serde_json::json!({ "network": network }));
        let mut view = fake::shaped_web();
        view.container.networks = ["back", "front"].map(|name| endpoint(name).expect("an endpoint")).into();
        view.interfaces[0].networks = vec!["front".to_owned()];
        let shown = show(&Inspection { view, details: Vec::new() }).expect("text");
        assert!(shown.contains("\n  networks back, front\n"), "{shown}");
        assert_eq!(shown.matches("\n  network  front\n").count(), 1, "{shown}");
    }

    #[test]
    fn names_are_shown_with_their_addresses_and_with_what_is_wrong_with_them() {
        let named = |name: &str, addresses: &[&str], problem: Option<&str>| NamedPeer {
            name: name.to_owned(),
            addresses: addresses.iter().map(|address| address.parse().expect("an address")).collect(),
            age_ms: Some(61_200),
            problem: problem.map(str::to_owned),
        };
        let mut view = fake::interface(Direction::Egress, Shaping::default());
        view.names = vec![
            named("container:db", &["10.0.0.1"], None),
            named("container:gone", &[], Some("there is no such container")),
            named("host:old.test", &["10.0.0.1", "10.0.0.2"], Some("no name server answered")),
        ];
        let mut shown = String::new();
        show_names(&mut shown, &view).expect("strings take all");
        insta::assert_snapshot!(shown, @r"
          target   container:db, 10.0.0.1
          target   container:gone, without addresses: it matches no packet (there is no such container)
          target   host:old.test, 10.0.0.1 and 1 more (no name server answered; found 1m 1s ago)
        ");
    }
}
