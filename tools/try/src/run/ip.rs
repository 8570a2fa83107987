//! Links, addresses and routes through `ip` of iproute2, which every Linux with networks to try has.

use std::{path::Path, process::Command};

use anyhow::{Context, Result, anyhow, bail};
use serde::Deserialize;

use super::report::Interface;

/// Runs `ip` with these arguments, split at blanks, in the namespace that this process is in.
///
/// # Errors
/// What `ip` said.
pub fn ip(arguments: &str) -> Result<String> {
    let output = Command::new("ip")
        .args(arguments.split_whitespace())
        .output()
        .context("`ip` does not start: install iproute2")?;
    if !output.status.success() {
        bail!("ip {arguments}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Like [`ip`], in another network namespace.
///
/// # Errors
/// What `ip` said, or why the namespace cannot be entered.
pub fn ip_in(netns: &Path, arguments: &str) -> Result<String> {
    meta::netns::inside(netns, || ip(arguments)).with_context(|| format!("entering {}", netns.display()))?
}

#[derive(Deserialize)]
struct Link {
    ifname: String,
    #[serde(default)]
    address: String,
    #[serde(default)]
    mtu: u64,
    #[serde(default)]
    flags: Vec<String>,
    linkinfo: Option<LinkInfo>,
    #[serde(default)]
    addr_info: Vec<Address>,
}

#[derive(Deserialize)]
struct LinkInfo {
    info_kind: Option<String>,
}

#[derive(Deserialize)]
struct Address {
    #[serde(default)]
    local: String,
    #[serde(default)]
    prefixlen: u32,
    #[serde(default)]
    scope: String,
}

#[derive(Deserialize)]
struct Route {
    dst: String,
    gateway: Option<String>,
    #[serde(default)]
    dev: String,
    metric: Option<u64>,
    #[serde(default)]
    flags: Vec<String>,
}

fn json<T: for<'a> Deserialize<'a>>(text: &str) -> Result<Vec<T>> {
    // Without anything to list, older versions print nothing.
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    serde_json::from_str(text).map_err(|error| anyhow!("ip -json said what cannot be read: {error}"))
}

/// Interfaces of a namespace, without `lo`.
///
/// # Errors
/// Those of `ip`.
pub fn interfaces(netns: &Path) -> Result<Vec<Interface>> {
    let links: Vec<Link> = json(&ip_in(netns, "-json -details address show")?)?;
    let global = |address: &&Address| address.scope != "link";
    let interface = |link: Link| Interface {
        name: link.ifname,
        kind: link.linkinfo.and_then(|info| info.info_kind).unwrap_or_default(),
        mac: link.address,
        mtu: link.mtu,
        addresses: link
            .addr_info
            .iter()
            .filter(global)
            .map(|address| format!("{}/{}", address.local, address.prefixlen))
            .collect(),
        up: link.flags.iter().any(|flag| flag == "UP"),
    };
    Ok(links.into_iter().filter(|link| link.ifname != "lo").map(interface).collect())
}

/// Routes of a namespace's main table, as `ip route` prints them, without those of link-local and multicast addresses.
///
/// # Errors
/// Those of `ip`.
pub fn routes(netns: &Path) -> Result<Vec<String>> {
    let mut shown = Vec::new();
    for family in ["-4", "-6"] {
        let routes: Vec<Route> = json(&ip_in(netns, &format!("-json {family} route show"))?)?;
        for route in
            routes.iter().filter(|route| !route.dst.starts_with("fe80:") && !route.dst.starts_with("ff00:"))
        {
            let mut line = route.dst.clone();
            if let Some(gateway) = &route.gateway {
                line.push_str(&format!(" via {gateway}"));
            }
            line.push_str(&format!(" dev {}", route.dev));
            if let Some(metric) =
                route.metric.filter(|metric| family == "-4" || *metric != 1024 && *metric != 256)
            {
                line.push_str(&format!(" metric {metric}"));
            }
            if route.flags.iter().any(|flag| flag == "linkdown") {
                line.push_str(" (link down)");
            }
            shown.push(line);
        }
    }
    Ok(shown)
}

/// Names of the links of the namespace that this process is in.
///
/// # Errors
/// When they cannot be listed.
pub fn links() -> Result<Vec<String>> {
    let list = nix::net::if_::if_nameindex().context("listing interfaces")?;
    Ok(list.iter().map(|interface| interface.name().to_string_lossy().into_owned()).collect())
}
