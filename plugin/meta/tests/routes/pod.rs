//! A pod's namespace with interfaces as delegates leave them.

use std::net::IpAddr;

use cni::result::CniResult;
use meta::{
    error::Fault,
    routes::{self, Attached, Cidr},
};
use serde_json::{Value, json};
use testkit::netns::Netns;

pub(crate) struct Pod {
    pub(crate) netns: Netns,
    /// Where the other ends of the wires are.
    pub(crate) outside: Netns,
}

/// One network of the pod: interface, `default-route`, what its delegate answered.
pub(crate) struct Network {
    ifname: String,
    request: Option<Vec<IpAddr>>,
    pub(crate) result: CniResult,
}

pub(crate) fn network(ifname: &str, request: Option<&[&str]>, result: &Value) -> Network {
    Network {
        ifname: ifname.to_owned(),
        request: request.map(|list| list.iter().map(|text| text.parse().unwrap()).collect()),
        result: CniResult::parse(result.to_string().as_bytes(), "1.0.0").unwrap(),
    }
}

/// What a delegate answers that made no route.
pub(crate) fn silent() -> Value {
    json!({ "cniVersion": "1.0.0" })
}

impl Pod {
    /// `eth0` with 10.1.0.5/24 and fd01::5/64, `net1` with 10.2.0.5/24 and fd02::5/64; no default route yet.
    pub(crate) fn or_skip() -> Option<Self> {
        let netns = Netns::or_skip().unwrap()?;
        let pod = Self { netns, outside: Netns::new().unwrap() };
        pod.interface("eth0", 1);
        pod.interface("net1", 2);
        Some(pod)
    }

    /// An interface with the addresses of subnet `number`.
    pub(crate) fn interface(&self, ifname: &str, number: u8) {
        self.netns.wire(ifname, &self.outside, &format!("far-{ifname}")).unwrap();
        self.ip(&format!("address add 10.{number}.0.5/24 dev {ifname}"));
        self.ip(&format!("address add fd{number:02}::5/64 dev {ifname} nodad"));
    }

    pub(crate) fn ip(&self, arguments: &str) -> String {
        self.netns.ip(arguments).unwrap()
    }

    /// The default routes of both families, without what `ip` adds about their state.
    pub(crate) fn defaults(&self) -> Vec<String> {
        let both = self.ip("route show default") + &self.ip("-6 route show default");
        let line = |line: &str| -> String {
            let words: Vec<&str> = line.split_whitespace().collect();
            let words = words.iter().enumerate().filter(|(place, word)| {
                let value = place.checked_sub(1).and_then(|before| words.get(before)).unwrap_or(&"");
                !["proto", "pref", "linkdown"].contains(word) && !["proto", "pref"].contains(value)
            });
            words.map(|(_, word)| *word).collect::<Vec<&str>>().join(" ")
        };
        both.lines().map(line).collect()
    }

    /// Routes of the main table to one destination.
    pub(crate) fn to(&self, destination: &str) -> String {
        let family = if destination.contains(':') { "-6" } else { "-4" };
        self.ip(&format!("{family} route show {destination}")).trim().to_owned()
    }

    /// The way that a packet to `address` takes.
    pub(crate) fn way_to(&self, address: &str) -> String {
        self.ip(&format!("route get {address}"))
    }

    pub(crate) fn settle(&self, networks: &[Network], cluster: &[&str]) -> Result<Vec<Value>, Fault> {
        let attached: Vec<Attached<'_>> = networks
            .iter()
            .map(|one| Attached {
                ifname: &one.ifname,
                request: one.request.as_deref(),
                primary: one.ifname == "eth0",
                result: &one.result,
            })
            .collect();
        let cluster: Vec<Cidr> = cluster.iter().map(|text| text.parse().unwrap()).collect();
        let results = routes::settle(&self.netns.path(), &attached, &cluster)?;
        Ok(results.iter().map(|result| serde_json::from_str(result.raw()).unwrap()).collect())
    }
}
