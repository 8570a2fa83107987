//! What a selection asks of its attachment (standard 1.3, sections 4.1.2.1.3 to 4.1.2.1.11), checked.

use std::net::IpAddr;

use cni::{error::one_line, raw};
use serde::Serialize;

use crate::{
    routes::Cidr,
    selection::{addresses, field},
};

type Checked<T> = Result<T, String>;

/// The requests of one selection.
#[derive(Debug, Clone, Default)]
pub struct Requests {
    /// Addresses, with or without prefix length.
    pub ips: Vec<String>,
    /// Hardware address, as written.
    pub mac: Option<String>,
    /// InfiniBand GUID, as written.
    pub infiniband_guid: Option<String>,
    /// Ports of the host that lead to the pod.
    pub port_mappings: Vec<PortMapping>,
    /// Limits of the traffic.
    pub bandwidth: Option<Bandwidth>,
    /// Gateways of the pod's default routes through this attachment; an empty list leaves them to its plugin.
    pub default_route: Option<Vec<IpAddr>>,
    /// A device that the kubelet gave the pod.
    pub device_id: Option<String>,
    /// Keys for `args.cni` of the config.
    pub cni_args: Option<raw::Object>,
    /// Name of an IPAMClaim.
    pub ipam_claim: Option<String>,
}

/// One port; numbers are checked when it is read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PortMapping {
    /// Port of the host.
    pub host_port: i64,
    /// Port of the pod.
    pub container_port: i64,
    /// tcp, udp or sctp, in any case.
    pub protocol: String,
    /// Address of the host that the port is bound to.
    #[serde(rename = "hostIP", skip_serializing_if = "Option::is_none")]
    pub host_ip: Option<String>,
}

/// Limits in bits per second and bits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Bandwidth {
    #[serde(skip_serializing_if = "Option::is_none")]
    ingress_rate: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ingress_burst: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    egress_rate: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    egress_burst: Option<i64>,
}

impl Requests {
    /// Reads the requests of an element. What Go Multus lets pass and the standard forbids is refused when `strict`.
    pub(crate) fn read(fields: &raw::Object, strict: bool) -> Checked<Self> {
        let ips: Option<Vec<String>> = field(fields, "ips")?;
        let routes: Option<Vec<String>> = field(fields, "default-route")?;
        let ports: Option<Vec<raw::Object>> = field(fields, "portMappings")?;
        let bandwidth: Option<raw::Object> = field(fields, "bandwidth")?;
        let text = |key| -> Checked<Option<String>> {
            Ok(field::<String>(fields, key)?.filter(|text| !text.is_empty()))
        };
        let requests = Self {
            mac: text("mac")?,
            infiniband_guid: text("infiniband-guid")?,
            bandwidth: bandwidth.as_ref().map(Bandwidth::read).transpose()?,
            default_route: routes.as_deref().map(addresses).transpose()?,
            device_id: text("deviceID")?,
            cni_args: field(fields, "cni-args")?,
            ipam_claim: text("ipam-claim-reference")?,
            ips: ips.clone().unwrap_or_default(),
            port_mappings: ports.iter().flatten().map(PortMapping::read).collect::<Checked<_>>()?,
        };
        if strict && (ips.is_some_and(|list| list.is_empty()) || ports.is_some_and(|list| list.is_empty())) {
            return Err("ips and portMappings must have at least one element".to_owned());
        }
        requests.check(strict)?;
        Ok(requests)
    }

    fn check(&self, strict: bool) -> Checked<()> {
        for ip in &self.ips {
            ip.parse::<Cidr>().map_err(|_| format!("ips: {:?} is no IP address", one_line(ip, 60)))?;
        }
        if let Some(mac) = &self.mac {
            check_hardware("mac", mac, if strict { &[6] } else { &[6, 8, 20] })?;
        }
        if let Some(guid) = &self.infiniband_guid {
            check_hardware("infiniband-guid", guid, if strict { &[8] } else { &[6, 8, 20] })?;
        }
        self.port_mappings.iter().try_for_each(|port| port.check(strict))?;
        if let Some(bandwidth) = &self.bandwidth {
            bandwidth.check(strict)?;
        }
        if self.ipam_claim.is_some() && !self.ips.is_empty() {
            return Err("ips and ipam-claim-reference exclude each other; remove one".to_owned());
        }
        Ok(())
    }
}

impl PortMapping {
    fn read(fields: &raw::Object) -> Checked<Self> {
        let text = |key| -> Checked<Option<String>> {
            Ok(field::<String>(fields, key)?.filter(|text| !text.is_empty()))
        };
        Ok(Self {
            host_port: field(fields, "hostPort")?.unwrap_or_default(),
            container_port: field(fields, "containerPort")?.unwrap_or_default(),
            protocol: text("protocol")?.unwrap_or_else(|| "tcp".to_owned()),
            host_ip: text("hostIP")?,
        })
    }

    fn check(&self, strict: bool) -> Checked<()> {
        let lowest = i64::from(strict);
        for (key, port) in [("hostPort", self.host_port), ("containerPort", self.container_port)] {
            if !(lowest..=65535).contains(&port) {
                return Err(format!("portMappings: {key} {port} is no port, 1 to 65535"));
            }
        }
        let known = ["tcp", "udp", "sctp"];
        if !known.iter().any(|protocol| self.protocol.eq_ignore_ascii_case(protocol)) {
            let shown = one_line(&self.protocol, 20);
            return Err(format!("portMappings: protocol {shown:?} is none of tcp, udp, sctp"));
        }
        match &self.host_ip {
            Some(ip) if ip.parse::<IpAddr>().is_err() => {
                Err(format!("portMappings: hostIP {:?} is no IP address", one_line(ip, 60)))
            }
            _ => Ok(()),
        }
    }
}

impl Bandwidth {
    fn read(fields: &raw::Object) -> Checked<Self> {
        Ok(Self {
            ingress_rate: field(fields, "ingressRate")?,
            ingress_burst: field(fields, "ingressBurst")?,
            egress_rate: field(fields, "egressRate")?,
            egress_burst: field(fields, "egressBurst")?,
        })
    }

    fn check(&self, strict: bool) -> Checked<()> {
        let pairs = [
            ("ingress", self.ingress_rate, self.ingress_burst),
            ("egress", self.egress_rate, self.egress_burst),
        ];
        for (way, rate, burst) in pairs {
            if rate.is_some_and(|rate| rate < 0) || burst.is_some_and(|burst| burst < 0) {
                return Err(format!("bandwidth: {way} must not be negative"));
            }
            if strict && burst.unwrap_or(0) > 0 && rate.unwrap_or(0) == 0 {
                return Err(format!("bandwidth: {way}Burst needs {way}Rate"));
            }
        }
        if strict && pairs.iter().all(|(_, rate, _)| rate.unwrap_or(0) == 0) {
            return Err("bandwidth: it needs ingressRate or egressRate above zero".to_owned());
        }
        Ok(())
    }
}

/// The standard lets one selection have the default route. Go Multus lets one per family have it.
///
/// # Errors
/// One line: more than one selection wants it.
pub(crate) fn check_default_routes<'a>(all: impl Iterator<Item = &'a Requests>, strict: bool) -> Checked<()> {
    let lists: Vec<&Vec<IpAddr>> = all.filter_map(|requests| requests.default_route.as_ref()).collect();
    let of_family = |v4: bool| lists.iter().filter(|list| list.iter().any(|ip| ip.is_ipv4() == v4)).count();
    let silent = lists.iter().filter(|list| list.is_empty()).count();
    let too_many = of_family(true) > 1 || of_family(false) > 1 || (silent > 0 && lists.len() > 1);
    if too_many || (strict && lists.len() > 1) {
        return Err("more than one network has default-route; keep it on one".to_owned());
    }
    Ok(())
}

/// Bytes in hexadecimal as Go reads hardware addresses: `:` or `-` between bytes, or `.` between pairs of them.
fn check_hardware(key: &str, text: &str, lengths: &[usize]) -> Checked<()> {
    let hex = |part: &&str, digits: usize| {
        part.len() == digits && part.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    let bytes = [(':', 2), ('-', 2), ('.', 4)].into_iter().find_map(|(separator, digits)| {
        let parts: Vec<&str> = text.split(separator).collect();
        (parts.len() > 1 && parts.iter().all(|part| hex(part, digits))).then_some(parts.len() * digits / 2)
    });
    match bytes {
        Some(bytes) if lengths.contains(&bytes) => Ok(()),
        Some(bytes) => {
            Err(format!("{key}: {:?} has {bytes} bytes, expected {}", one_line(text, 60), lengths[0]))
        }
        None => Err(format!("{key}: {:?} is no hardware address", one_line(text, 60))),
    }
}
