//! Where an instance can be seen with the kernel's own tools. Nobody needs the container's lock for that.

use super::{
    error::{cannot_enter, gone},
    instance::Instance,
    whereabouts::on_device,
};
use crate::{
    network::{Side, Socket, root},
    shaping::{Hook, InterfaceInspection},
};

/// Where an instance can be seen.
pub(super) fn inspect(instance: &Instance) -> InterfaceInspection {
    let device = instance.device();
    let read = || root(&Socket::open()?, device.ifindex);
    let netns = on_device(instance).and_then(|netns| netns.ok_or_else(gone));
    let found = netns.and_then(|netns| netns.enter(read).map_err(cannot_enter));
    let root_qdisc = match found {
        Ok(Ok(root)) => root.map_or_else(
            || "none".to_owned(),
            |root| match root.handle.major {
                0 => root.kind,
                major => format!("{} {major:x}:", root.kind),
            },
        ),
        _ => "unknown".to_owned(),
    };
    let netns_path = (!device.site.is_on_host()).then(|| instance.netns().path);
    let enter =
        netns_path.as_ref().map(|path| format!("nsenter --net={} ", path.display())).unwrap_or_default();
    let side = match device.site.side() {
        Side::Egress => "egress",
        Side::Ingress => "ingress",
    };
    let pins = instance.pins().display();
    InterfaceInspection {
        interface: instance.interface().to_owned(),
        direction: instance.key().direction(),
        device: device.name.clone(),
        ifindex: device.ifindex,
        netns_path,
        pin_path: instance.pins().to_owned(),
        hook: instance.hook(),
        program_id: instance.program_id(),
        root_qdisc,
        commands: vec![
            format!("bpftool map dump pinned {pins}/{}", shaper_common::SHAPING_MAP),
            format!("bpftool map dump pinned {pins}/{}", shaper_common::COUNTERS_MAP),
            format!("bpftool prog show id {}", instance.program_id()),
            format!("{enter}tc -s qdisc show dev {}", device.name),
            match instance.hook() {
                Hook::Tcx => format!("{enter}bpftool net show dev {}", device.name),
                Hook::Clsact => format!("{enter}tc filter show dev {} {side}", device.name),
            },
        ],
    }
}
