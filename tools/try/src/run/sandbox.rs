//! The primary network of throw-away pods: a veth pair, addresses by number, default routes to a bridge of the host.
//!
//! It is a CNI plugin of its own, so that networks can be tried whatever plugins the machine has.

use std::path::Path;

use cni::{
    dispatch::{self, Manifest, Plugin},
    env::Request,
    error::{Error, code},
    result::CniResult,
};
use std::process::ExitCode;

use super::ip::{ip, ip_in};

/// Its `type`.
pub const TYPE: &str = "multus-try-sandbox";
/// Set to [`TYPE`], it makes this binary that plugin.
pub const ROLE: &str = "MULTUS_TRY_ROLE";
/// Addresses of the bridge that pods hang on, of nets that nobody uses for anything else.
pub const GATEWAYS: [&str; 2] = ["198.18.0.1/15", "fd98:18::1/64"];

/// The bridge of a run.
pub fn bridge(run_id: &str) -> String {
    format!("try{run_id}")
}

/// Its config, as the primary of a node.
pub fn config(run_id: &str) -> String {
    let bridge = bridge(run_id);
    format!(
        r#"{{"cniVersion":"1.0.0","name":"multus-try","plugins":[{{"type":"{TYPE}","bridge":"{bridge}"}}]}}"#
    )
}

/// Serves one call.
pub fn serve() -> ExitCode {
    let about = "multus-try-sandbox: eth0 of throw-away pods";
    let manifest = Manifest { about, versions: &["0.4.0", "1.0.0", "1.1.0"], refuse_own_netns: true };
    dispatch::main(&manifest, &Sandbox)
}

struct Sandbox;

/// The number that every throw-away sandbox has at the end of its id.
fn number(request: &Request) -> Result<u32, Error> {
    let number = request.container_id.rsplit('-').next().and_then(|number| number.parse::<u32>().ok());
    number.filter(|number| (1..60_000).contains(number)).ok_or_else(|| {
        Error::new(code::INVALID_CONFIG, format!("sandbox {} has no number", request.container_id))
    })
}

/// The bridge of the run, and the host's end of the pod's wire.
fn links(request: &Request) -> Result<(String, String), Error> {
    let bridge: String = request.config.get_as("bridge")?.unwrap_or_default();
    let wire = format!("{bridge}p{}", number(request)?);
    Ok((bridge, wire))
}

fn failed(error: anyhow::Error) -> Error {
    Error::new(code::INTERNAL, format!("{error:#}"))
}

impl Plugin for Sandbox {
    fn add(&self, request: &Request) -> Result<CniResult, Error> {
        let number = number(request)?;
        let netns = request.netns.as_deref().unwrap_or_default();
        let ifname = &request.ifname;
        let host = number + 1;
        let addresses = [format!("198.18.{}.{}/15", host >> 8, host & 0xff), format!("fd98:18::{host:x}/64")];
        let (bridge, link) = links(request)?;
        ip(&format!("link add name {link} type veth peer name {ifname} netns {netns}")).map_err(failed)?;
        ip(&format!("link set {link} master {bridge} up")).map_err(failed)?;
        let inside = |command: String| ip_in(Path::new(netns), &command).map_err(failed);
        inside(format!("link set {ifname} up"))?;
        let mut ips = Vec::new();
        let mut routes = Vec::new();
        for (address, gateway) in addresses.iter().zip(GATEWAYS) {
            let gateway = gateway.split('/').next().unwrap_or_default();
            // A machine may have no IPv6 at all.
            if address.contains(':') && !Path::new("/proc/sys/net/ipv6").exists() {
                continue;
            }
            inside(format!("address add {address} dev {ifname} nodad"))?;
            inside(format!("route add default via {gateway} dev {ifname}"))?;
            ips.push(serde_json::json!({ "address": address, "gateway": gateway, "interface": 0 }));
            let all = if address.contains(':') { "::/0" } else { "0.0.0.0/0" };
            routes.push(serde_json::json!({ "dst": all, "gw": gateway }));
        }
        let result = serde_json::json!({
            "cniVersion": "1.0.0",
            "interfaces": [{ "name": ifname, "sandbox": netns }],
            "ips": ips,
            "routes": routes,
        });
        CniResult::parse(result.to_string().as_bytes(), "1.0.0")?.convert(&request.cni_version)
    }

    fn del(&self, request: &Request) -> Result<(), Error> {
        let (_, link) = links(request)?;
        if nix::net::if_::if_nametoindex(link.as_str()).is_ok() {
            ip(&format!("link delete {link}")).map_err(failed)?;
        }
        Ok(())
    }

    fn check(&self, request: &Request) -> Result<(), Error> {
        let netns = request.netns.as_deref().unwrap_or_default();
        match meta::netns::has_interface(Path::new(netns), &request.ifname) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Error::new(code::INTERNAL, format!("{} is gone", request.ifname))),
            Err(error) => Err(Error::new(code::INTERNAL, format!("entering {netns}: {error}"))),
        }
    }
}
