//! The bridge on the machine, and the network namespaces that hang on it.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::layout::{BRIDGE, BRIDGE_ADDRESS, MAX_NODES, Node, netns};
use crate::command::run;

fn ip(arguments: &[&str]) -> Result<()> {
    run(Command::new("ip").args(arguments)).map(drop).with_context(|| format!("ip {}", arguments.join(" ")))
}

fn link_exists(name: &str) -> bool {
    Path::new("/sys/class/net").join(name).exists()
}

fn netns_exists(group: &str) -> bool {
    Path::new("/run/netns").join(netns(group)).exists()
}

fn veth(group: &str) -> String {
    format!("mrs-{group}")
}

/// Makes the bridge unless it is there.
pub(super) fn create_bridge() -> Result<()> {
    if !link_exists(BRIDGE) {
        ip(&["link", "add", BRIDGE, "type", "bridge"])?;
        ip(&["address", "add", &format!("{BRIDGE_ADDRESS}/24"), "dev", BRIDGE])?;
    }
    ip(&["link", "set", BRIDGE, "up"])
}

/// Removes the bridge.
pub(super) fn remove_bridge() -> Result<()> {
    if link_exists(BRIDGE) { ip(&["link", "delete", BRIDGE]) } else { Ok(()) }
}

/// Locally administered, and told from the IPv4 address.
fn hardware_address(address: Ipv4Addr) -> String {
    let [a, b, c, d] = address.octets();
    format!("02:d5:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
}

/// A network namespace of that address on the bridge, which reaches the pods of every node.
pub(super) fn create(group: &str, address: Ipv4Addr) -> Result<()> {
    let (netns, veth) = (netns(group), veth(group));
    ip(&["netns", "add", &netns])?;
    ip(&["link", "add", &veth, "type", "veth", "peer", "name", "eth0", "netns", &netns])?;
    ip(&["link", "set", &veth, "master", BRIDGE, "up"])?;
    let inside = |arguments: &[&str]| ip(&[&["-n", netns.as_str()], arguments].concat());
    inside(&["link", "set", "lo", "up"])?;
    // A machine keeps its hardware address over a reboot; with a new one its neighbours would talk to the old.
    inside(&["link", "set", "eth0", "address", &hardware_address(address)])?;
    inside(&["address", "add", &format!("{address}/24"), "dev", "eth0"])?;
    inside(&["link", "set", "eth0", "up"])?;
    // Nothing is forwarded there, but without it a service address has no route before it is translated.
    inside(&["route", "add", "default", "via", BRIDGE_ADDRESS])?;
    for node in (1..=MAX_NODES).map(Node::new).filter(|node| node.name != group) {
        inside(&["route", "add", &node.pod_cidr(), "via", &node.address().to_string()])?;
    }
    Ok(())
}

/// Removes the namespace and with it all its links.
pub(super) fn remove(group: &str) -> Result<()> {
    // The link first: a namespace lives on while anything holds it, and would keep the link's name.
    if link_exists(&veth(group)) {
        ip(&["link", "delete", &veth(group)])?;
    }
    if netns_exists(group) { ip(&["netns", "delete", &netns(group)]) } else { Ok(()) }
}

/// Groups whose network namespace or link exists, whatever the state folder says.
pub(super) fn leftovers() -> Vec<String> {
    let groups =
        std::iter::once(super::layout::CONTROL.to_owned()).chain((1..=MAX_NODES).map(|i| Node::new(i).name));
    groups.filter(|group| netns_exists(group) || link_exists(&veth(group))).collect()
}
