//! Conversion of results between 0.1.0 and 1.1.0, as libcni does it.
//!
//! Three shapes exist: up to 0.2.0 (`ip4`, `ip6`), up to 0.4.0 (`ips` with `version`), and from 1.0.0.

use std::net::IpAddr;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use crate::{
    error::{Error, code, one_line},
    raw::{Keyed, Object},
    result::{Dns, Ip, MAX_SIZE, Route, Typed, object, objects, or_default, or_none},
    version,
};

#[derive(Clone, Copy, PartialEq)]
enum Shape {
    Oldest,
    Middle,
    Current,
}

fn shape(version: &str) -> Shape {
    if version::at_least(version, "1.0.0") {
        Shape::Current
    } else if version::at_least(version, "0.3.0") {
        Shape::Middle
    } else {
        Shape::Oldest
    }
}

#[derive(Default, Serialize, Deserialize)]
struct Oldest {
    #[serde(rename = "cniVersion", default, deserialize_with = "or_default")]
    cni_version: String,
    #[serde(default, deserialize_with = "maybe_object", skip_serializing_if = "Option::is_none")]
    ip4: Option<OldestIp>,
    #[serde(default, deserialize_with = "maybe_object", skip_serializing_if = "Option::is_none")]
    ip6: Option<OldestIp>,
    #[serde(default, deserialize_with = "object", skip_serializing_if = "Dns::is_empty")]
    dns: Dns,
}

#[derive(Default, Serialize, Deserialize)]
struct OldestIp {
    #[serde(default, deserialize_with = "or_default")]
    ip: String,
    #[serde(default, deserialize_with = "or_none", skip_serializing_if = "Option::is_none")]
    gateway: Option<String>,
    #[serde(default, deserialize_with = "objects", skip_serializing_if = "Vec::is_empty")]
    routes: Vec<Route>,
}

/// What an address of the middle shape has beside those of today; looked at, so that a runtime can read it.
#[derive(Deserialize)]
struct MiddleIps {
    #[serde(default, deserialize_with = "objects", rename = "ips")]
    _ips: Vec<MiddleIp>,
}

#[derive(Deserialize)]
struct MiddleIp {
    #[serde(default, rename = "version")]
    _version: Option<String>,
}

fn maybe_object<'de, D: Deserializer<'de>>(d: D) -> Result<Option<OldestIp>, D::Error> {
    or_default(d).map(|object: Option<Keyed<OldestIp>>| object.map(|object| object.0))
}

/// Decodes a result of any version into the shape of 1.1.0.
pub(crate) fn decode(text: &str, from: &str) -> Result<Typed, Error> {
    version::require(from)?;
    let typed = if shape(from) == Shape::Oldest {
        let old: Oldest = serde_json::from_str(text).map_err(undecodable)?;
        let mut typed = Typed { cni_version: old.cni_version, dns: old.dns, ..Typed::default() };
        for ip in [old.ip4, old.ip6].into_iter().flatten() {
            typed.ips.push(Ip { address: ip.ip, gateway: ip.gateway, interface: None });
            typed.routes.extend(ip.routes);
        }
        typed
    } else {
        if shape(from) == Shape::Middle {
            serde_json::from_str::<MiddleIps>(text).map_err(undecodable)?;
        }
        serde_json::from_str(text).map_err(undecodable)?
    };
    check_addresses(&typed)?;
    Ok(typed)
}

/// A runtime would refuse the whole result for one of these, after everything was attached.
fn check_addresses(typed: &Typed) -> Result<(), Error> {
    let bad = |what: &str, text: &str| {
        let msg = format!("the plugin's answer is no CNI result: {what} {:?} is none", one_line(text, 60));
        Err(Error::new(code::DECODE, msg))
    };
    let subnets = typed.ips.iter().map(|ip| ("address", &ip.address));
    for (what, text) in subnets.chain(typed.routes.iter().map(|route| ("destination", &route.dst))) {
        if parse_subnet(text).is_none() {
            return bad(what, text);
        }
    }
    let gateways = typed.ips.iter().filter_map(|ip| ip.gateway.as_ref());
    for text in gateways.chain(typed.routes.iter().filter_map(|route| route.gw.as_ref())) {
        if text.parse::<IpAddr>().is_err() {
            return bad("gateway", text);
        }
    }
    Ok(())
}

/// An address with the length of its prefix.
fn parse_subnet(text: &str) -> Option<(IpAddr, u8)> {
    let (address, length) = text.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    let length: u8 = length.parse().ok().filter(|_| !length.starts_with('+'))?;
    let bits = if address.is_ipv4() { 32 } else { 128 };
    (length <= bits).then_some((address, length))
}

/// The text of a result in another version.
pub(crate) fn convert(text: &str, from: &str, to: &str) -> Result<String, Error> {
    version::require(from)?;
    version::require(to)?;
    // Versions of one shape differ in the version alone, and everything else stays as printed.
    if shape(from) == shape(to) {
        let mut object = Object::parse_capped(text, MAX_SIZE)?;
        object.set("cniVersion", &to)?;
        return Ok(object.to_json());
    }
    let mut typed = decode(text, from)?;
    to.clone_into(&mut typed.cni_version);
    match shape(to) {
        Shape::Current => serde_json::to_string(&typed).map_err(unwritable),
        Shape::Middle => encode_middle(typed),
        Shape::Oldest => encode_oldest(typed),
    }
}

fn encode_middle(mut typed: Typed) -> Result<String, Error> {
    for interface in &mut typed.interfaces {
        interface.mtu = 0;
        interface.socket_path.clear();
        interface.pci_id.clear();
    }
    let mut ips = Vec::with_capacity(typed.ips.len());
    for ip in &typed.ips {
        let text = serde_json::to_string(ip).map_err(unwritable)?;
        let mut object = Object::default();
        object.set("version", &if is_v6(&ip.address) { "6" } else { "4" })?;
        for (key, value) in Object::parse(&text)?.iter() {
            object.set_raw(key, value.to_owned());
        }
        ips.push(object);
    }
    let text = serde_json::to_string(&typed).map_err(unwritable)?;
    let mut object = Object::parse_capped(&text, MAX_SIZE)?;
    if !ips.is_empty() {
        let ips: Box<RawValue> = serde_json::value::to_raw_value(&ips).map_err(unwritable)?;
        object.set_raw("ips", ips);
    }
    Ok(object.to_json())
}

/// One address of each family is all that the oldest shape can say, and it needs at least one.
fn encode_oldest(typed: Typed) -> Result<String, Error> {
    let first = |v6: bool| {
        let ip = typed.ips.iter().find(|ip| is_v6(&ip.address) == v6)?;
        let routes = typed.routes.iter().filter(|route| is_v6(&route.dst) == v6);
        // A destination and a gateway is all that a route has there.
        let routes = routes
            .map(|route| Route { dst: route.dst.clone(), gw: route.gw.clone(), ..Route::default() })
            .collect();
        Some(OldestIp { ip: ip.address.clone(), gateway: ip.gateway.clone(), routes })
    };
    let old = Oldest { ip4: first(false), ip6: first(true), cni_version: typed.cni_version, dns: typed.dns };
    if old.ip4.is_none() && old.ip6.is_none() {
        let msg = format!("a result without address cannot be said in cniVersion {}", old.cni_version);
        return Err(Error::new(code::INCOMPATIBLE_VERSION, msg));
    }
    serde_json::to_string(&old).map_err(unwritable)
}

/// An IPv4 address that is written as an IPv6 one counts as IPv4, as in Go.
fn is_v6(subnet: &str) -> bool {
    parse_subnet(subnet).is_some_and(|(address, _)| address.to_canonical().is_ipv6())
}

fn undecodable(e: serde_json::Error) -> Error {
    Error::new(code::DECODE, format!("the plugin's answer is no CNI result: {e}"))
}

fn unwritable(e: serde_json::Error) -> Error {
    Error::new(code::INTERNAL, format!("the result cannot be written: {e}"))
}
