//! Reads from a pod's annotations which networks Multus has connected it to. Pure; anybody who may make pods writes them.
//!
//! A runtime keeps the annotations that the pod had when its sandbox was made. Multus writes the status afterwards, so only
//! a sandbox that took the place of an earlier one has it. Any other has the request, from which the names of interfaces
//! follow (`getIfname` in Multus' `pkg/multus`).

use std::{collections::HashMap, net::IpAddr};

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{containers::is_name, shaping::Endpoint};

/// The annotation with what Multus has done.
const STATUS: &str = "k8s.v1.cni.cncf.io/network-status";
/// The annotation with what Multus is to do.
const NETWORKS: &str = "k8s.v1.cni.cncf.io/networks";
/// The longest annotation, in bytes: Kubernetes has no longer ones (`TotalAnnotationSizeLimitB`).
const LONGEST: usize = 256 << 10;
/// The most networks of a pod, and addresses in each, that are read.
const MOST: usize = 128;
/// The longest name of an interface, in bytes (`IFNAMSIZ`).
const LONGEST_INTERFACE: usize = 15;

/// A network that a pod is connected to.
#[derive(Deserialize)]
struct Status {
    name: String,
    #[serde(default)]
    interface: String,
    #[serde(default)]
    mac: String,
    #[serde(default)]
    ips: Vec<String>,
}

/// A network that a pod is to be connected to.
#[derive(Deserialize)]
struct Wanted {
    name: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    interface: String,
}

/// The networks of a pod in `namespace`, in order; none if its annotations do not tell of any.
pub(crate) fn networks(annotations: &HashMap<String, String>, namespace: &str) -> Vec<Endpoint> {
    let read = |key, read: &dyn Fn(&str) -> Vec<Endpoint>| {
        let text = annotations.get(key).filter(|text| text.len() <= LONGEST);
        text.map(|text| read(text)).unwrap_or_default()
    };
    let mut networks = read(STATUS, &done);
    if networks.is_empty() {
        networks = read(NETWORKS, &|text| asked(text, namespace));
    }
    networks.sort();
    networks
}

fn done(text: &str) -> Vec<Endpoint> {
    let endpoint = |status: Status| {
        let interface = Some(status.interface).filter(|name| !name.is_empty());
        let addresses = status.ips.iter().take(MOST).filter_map(|address| address.parse::<IpAddr>().ok());
        let endpoint = Endpoint {
            network: status.name,
            interface,
            mac: status.mac.parse().ok(),
            addresses: addresses.collect(),
        };
        is_usable(&endpoint).then_some(endpoint)
    };
    list(text).into_iter().flatten().filter_map(endpoint).collect()
}

/// Reads a list in JSON, or as `NAMESPACE/NAME@INTERFACE, ...`.
fn asked(text: &str, namespace: &str) -> Vec<Endpoint> {
    let wanted: Vec<Option<Wanted>> = match text.contains(['[', '{', '"']) {
        true => list(text),
        false => text.split(',').take(MOST).map(|one| Some(wanted(one.trim()))).collect(),
    };
    let endpoint = |(number, wanted): (usize, Option<Wanted>)| {
        let Wanted { name, namespace: own, interface } = wanted?;
        let namespace = if own.is_empty() { namespace } else { &own };
        let interface = if interface.is_empty() { format!("net{}", number + 1) } else { interface };
        let network = format!("{namespace}/{name}");
        let endpoint = Endpoint { network, interface: Some(interface), mac: None, addresses: Vec::new() };
        (is_name(&name) && is_usable(&endpoint)).then_some(endpoint)
    };
    wanted.into_iter().enumerate().filter_map(endpoint).collect()
}

fn wanted(text: &str) -> Wanted {
    let (network, interface) = text.split_once('@').unwrap_or((text, ""));
    let (namespace, name) = network.split_once('/').unwrap_or(("", network));
    Wanted { name: name.to_owned(), namespace: namespace.to_owned(), interface: interface.to_owned() }
}

/// The elements of a list in JSON, each in its place; none for those of another shape.
fn list<T: DeserializeOwned>(text: &str) -> Vec<Option<T>> {
    let all: Vec<Value> = serde_json::from_str(text).unwrap_or_default();
    all.into_iter().take(MOST).map(|one| serde_json::from_value(one).ok()).collect()
}

fn is_usable(endpoint: &Endpoint) -> bool {
    let is_interface =
        |name: &String| is_name(name) && !name.contains('/') && name.len() <= LONGEST_INTERFACE;
    is_name(&endpoint.network) && endpoint.interface.as_ref().is_none_or(is_interface)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(annotations: &[(&str, &str)]) -> Vec<String> {
        let annotations =
            annotations.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned())).collect();
        let shown = |one: Endpoint| {
            let interface = one.interface.unwrap_or_else(|| "?".to_owned());
            let mac = one.mac.map(|mac| format!(" {mac}")).unwrap_or_default();
            let addresses: String = one.addresses.iter().map(|address| format!(" {address}")).collect();
            format!("{} {interface}{mac}{addresses}", one.network)
        };
        networks(&annotations, "shop").into_iter().map(shown).collect()
    }

    #[test]
    fn what_multus_has_done_is_read_the_default_network_included() {
        let status = r#"[
            { "name": "shop/lan", "interface": "net1", "ips": ["192.0.2.7", "fd00::7"], "mac": "86:1d:96:ff:55:0d", "dns": {} },
            { "name": "cbr0", "interface": "eth0", "ips": ["10.244.1.73"], "default": true, "dns": {} },
            { "name": "shop/dpdk" }
        ]"#;
        let expected =
            ["cbr0 eth0 10.244.1.73", "shop/dpdk ?", "shop/lan net1 86:1d:96:ff:55:0d 192.0.2.7 fd00::7"];
        assert_eq!(read(&[(STATUS, status), (NETWORKS, "other")]), expected);
    }

    #[test]
    fn what_was_asked_of_multus_is_read_where_its_answer_is_not_there() {
        let expected = ["infra/sriov fast0", "shop/lan net1", "shop/wan net3"];
        assert_eq!(read(&[(NETWORKS, "lan, infra/sriov@fast0 ,wan")]), expected);
        let json = r#"[
            { "name": "lan" },
            { "name": "sriov", "namespace": "infra", "interface": "fast0", "mac": "02:00:00:00:00:01" },
            { "name": "wan", "cni-args": { "a": 1 } }
        ]"#;
        assert_eq!(read(&[(NETWORKS, json), (STATUS, "[]")]), expected);
        assert_eq!(read(&[(NETWORKS, "")]), [""; 0]);
        assert_eq!(read(&[]), [""; 0]);
    }

    #[test]
    fn what_makes_no_sense_is_left_out() {
        let odd = r#"[
            7, null, [], { "name": 7 }, { "interface": "net1" },
            { "name": "a b", "interface": "net1" }, { "name": "\u001b[31m" }, { "name": "" },
            { "name": "shop/a", "interface": "../../x" }, { "name": "shop/b", "interface": "a-name-of-16-byte" },
            { "name": "shop/c", "ips": 7 },
            { "name": "shop/d", "interface": "net9", "mac": "here", "ips": ["there", "192.0.2.9"] }
        ]"#;
        assert_eq!(read(&[(STATUS, odd)]), ["shop/d net9 192.0.2.9"]);
        for odd in [
            "{",
            "[",
            "[[",
            r#"{"name": "a"}"#,
            &"[".repeat(100_000),
            "[1e999]",
            "\"lan\"",
            "\u{0}",
            "@",
            "/",
            "a/@b",
        ] {
            assert_eq!(read(&[(STATUS, odd), (NETWORKS, odd)]), [""; 0], "{odd:.20}");
        }
        let many = "lan,".repeat(10_000);
        assert_eq!(read(&[(NETWORKS, &many)]).len(), MOST);
        let many = format!("[{}0]", r#"{"name": "lan"},"#.repeat(10_000));
        assert_eq!(read(&[(STATUS, &many)]).len(), MOST);
    }
}
