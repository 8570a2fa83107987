//! One route, in the kernel's own form (`struct rtmsg` and its attributes).
//!
//! It stays the attributes that the kernel gave: taking a route away, or leading another destination the same
//! way, needs no understanding of every attribute there is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nix::libc;

use super::Cidr;

/// Length of `struct rtmsg`.
const HEADER: usize = 12;
const RTA_VIA: u16 = 18;
const RTA_ENCAP_TYPE: u16 = 21;
const RTA_ENCAP: u16 = 22;
const RTA_NH_ID: u16 = 30;
/// `RTNH_F_ONLINK`: the gateway counts as reachable though no address says so.
const ON_LINK: u32 = 4;
/// What the kernel gives an IPv6 route that names no metric.
const DEFAULT_METRIC_V6: u32 = 1024;

type Attributes = Vec<(u16, Vec<u8>)>;

/// One route, as the kernel writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    header: [u8; HEADER],
    attributes: Attributes,
}

impl Route {
    /// The payload of a request for all routes.
    pub(super) const ANY: [u8; HEADER] = [0; HEADER];

    /// The default route of a family: through `gateway`, on the interface with this index; `order` 0 is the
    /// first choice.
    pub fn default_via(gateway: IpAddr, interface: u32, order: u32) -> Self {
        let mut route = Self { header: header(gateway.is_ipv6()), attributes: Vec::new() };
        route.set(libc::RTA_GATEWAY, octets(gateway));
        route.set(libc::RTA_OIF, interface.to_ne_bytes().to_vec());
        let metric = if gateway.is_ipv6() { DEFAULT_METRIC_V6 } else { 0 } + order;
        if metric != 0 {
            route.set(libc::RTA_PRIORITY, metric.to_ne_bytes().to_vec());
        }
        route
    }

    /// A route to `destination` over the same next hop.
    #[must_use]
    pub fn to(&self, destination: Cidr) -> Self {
        const NEXT_HOP: [u16; 9] = [
            libc::RTA_GATEWAY,
            libc::RTA_OIF,
            libc::RTA_PREFSRC,
            libc::RTA_METRICS,
            libc::RTA_MULTIPATH,
            RTA_VIA,
            RTA_ENCAP_TYPE,
            RTA_ENCAP,
            RTA_NH_ID,
        ];
        let mut route = Self { header: header(self.is_v6()), attributes: self.attributes.clone() };
        route.attributes.retain(|(kind, _)| NEXT_HOP.contains(kind));
        route.header[1] = destination.prefix();
        // A scope that is narrower than its gateway's is refused, so it is the default's own.
        route.header[6] = self.header[6];
        route.set_flags(self.flags() & ON_LINK);
        route.set(libc::RTA_DST, octets(destination.address()));
        route
    }

    /// Whether this leads everything that nothing else leads: a unicast route of the main table without
    /// destination, source or type of service.
    pub fn is_default(&self) -> bool {
        let [_, destination, source, service, _, _, _, kind, ..] = self.header;
        (destination, source, service, kind) == (0, 0, 0, libc::RTN_UNICAST)
            && self.table() == u32::from(libc::RT_TABLE_MAIN)
    }

    /// Where it leads.
    pub fn destination(&self) -> Cidr {
        let named = self.get(libc::RTA_DST).and_then(address);
        named.map_or_else(|| Cidr::everything(self.is_v6()), |first| Cidr::new(first, self.header[1]))
    }

    /// IPv6, else IPv4.
    pub fn is_v6(&self) -> bool {
        i32::from(self.header[0]) == libc::AF_INET6
    }

    /// The lower, the sooner it is used.
    pub fn metric(&self) -> u32 {
        self.number(libc::RTA_PRIORITY).unwrap_or(0)
    }

    /// The next router, of the first next hop where there are several; `None` on a link that reaches
    /// everything itself.
    pub fn gateway(&self) -> Option<IpAddr> {
        let hop = self.get(libc::RTA_MULTIPATH).and_then(|hops| next_hops(hops).into_iter().next());
        let attributes = hop.map_or_else(|| self.attributes.clone(), |hop| hop.attributes);
        attributes.iter().find_map(|(kind, value)| match *kind {
            libc::RTA_GATEWAY => address(value),
            RTA_VIA => address(value.get(2..)?),
            _ => None,
        })
    }

    /// The indexes of the interfaces that it uses; none for a route over no interface.
    pub fn interfaces(&self) -> Vec<u32> {
        match self.get(libc::RTA_MULTIPATH) {
            Some(hops) => next_hops(hops).into_iter().map(|hop| hop.interface).collect(),
            None => self.number(libc::RTA_OIF).into_iter().collect(),
        }
    }

    /// Whether both lead the same destination the same way with the same metric.
    pub fn same_as(&self, other: &Self) -> bool {
        let key = |route: &Self| {
            (route.destination(), route.effective_metric(), route.gateway(), route.interfaces())
        };
        key(self) == key(other)
    }

    /// Whether both are of the same family, table, destination and metric, so that only one of them can be.
    pub fn collides_with(&self, other: &Self) -> bool {
        let key = |route: &Self| (route.table(), route.destination(), route.effective_metric());
        key(self) == key(other)
    }

    fn effective_metric(&self) -> u32 {
        match self.metric() {
            0 if self.is_v6() => DEFAULT_METRIC_V6,
            metric => metric,
        }
    }

    fn table(&self) -> u32 {
        self.number(libc::RTA_TABLE).unwrap_or_else(|| u32::from(self.header[4]))
    }

    fn get(&self, kind: u16) -> Option<&[u8]> {
        self.attributes.iter().find(|(own, _)| *own == kind).map(|(_, value)| value.as_slice())
    }

    fn number(&self, kind: u16) -> Option<u32> {
        Some(u32::from_ne_bytes(self.get(kind)?.try_into().ok()?))
    }

    fn set(&mut self, kind: u16, value: Vec<u8>) {
        self.attributes.push((kind, value));
    }

    /// The kernel dumps a nexthop object with its content, and takes one or the other.
    fn one_next_hop_form(&mut self) {
        if self.get(RTA_NH_ID).is_some() {
            self.attributes.retain(|(kind, _)| {
                ![libc::RTA_GATEWAY, libc::RTA_OIF, libc::RTA_MULTIPATH, RTA_VIA].contains(kind)
            });
        }
    }

    /// The routes that the kernel folded into one. IPv6 routes of one destination and metric are dumped as next
    /// hops of one route whoever made each, and come and go one by one.
    fn unfolded(self) -> Vec<Self> {
        let hops = match self.get(libc::RTA_MULTIPATH) {
            Some(hops) if self.is_v6() && self.get(RTA_NH_ID).is_none() => next_hops(hops),
            _ => return vec![self],
        };
        let alone = |hop: NextHop| {
            let mut route = self.clone();
            route.attributes.retain(|(kind, _)| *kind != libc::RTA_MULTIPATH);
            route.attributes.extend(hop.attributes);
            route.set(libc::RTA_OIF, hop.interface.to_ne_bytes().to_vec());
            route.set_flags(u32::from(hop.flags));
            route
        };
        hops.into_iter().map(alone).collect()
    }

    fn flags(&self) -> u32 {
        u32_at(&self.header, 8).unwrap_or(0)
    }

    fn set_flags(&mut self, flags: u32) {
        self.header[8..].copy_from_slice(&flags.to_ne_bytes());
    }

    /// What the kernel tells of: one route, or several that it folded into one; none for what is no route.
    pub(super) fn parse(payload: &[u8]) -> Vec<Self> {
        let header = payload.get(..HEADER).and_then(|header| header.try_into().ok());
        let rest = payload.get(HEADER..).unwrap_or_default();
        header.map_or_else(Vec::new, |header| Self { header, attributes: attributes(rest) }.unfolded())
    }

    /// The form that names this route to the kernel.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut payload = self.header.to_vec();
        let mut named = self.clone();
        named.one_next_hop_form();
        for (kind, value) in &named.attributes {
            // No attribute that the kernel gave us, or that we made, comes near 64 KiB.
            let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
            payload.extend(length.to_ne_bytes());
            payload.extend(kind.to_ne_bytes());
            payload.extend(value);
            payload.resize(payload.len().next_multiple_of(4), 0);
        }
        payload
    }
}

/// `struct rtmsg` of a route of ours: main table, static, everywhere, unicast.
fn header(v6: bool) -> [u8; HEADER] {
    let family = if v6 { libc::AF_INET6 } else { libc::AF_INET };
    let mut header = [0; HEADER];
    header[0] = u8::try_from(family).unwrap_or_default();
    header[4] = libc::RT_TABLE_MAIN;
    header[5] = libc::RTPROT_STATIC;
    header[7] = libc::RTN_UNICAST;
    header
}

/// Reads `struct rtattr` after `struct rtattr`, as far as they are whole.
fn attributes(mut rest: &[u8]) -> Attributes {
    const FLAGS: u16 = 0xc000;
    let mut found = Vec::new();
    while let (Some(length), Some(kind)) = (u16_at(rest, 0), u16_at(rest, 2)) {
        let length = usize::from(length);
        let Some(value) = rest.get(4..length) else { break };
        found.push((kind & !FLAGS, value.to_vec()));
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

/// One way of a route that has several.
struct NextHop {
    flags: u8,
    interface: u32,
    attributes: Attributes,
}

/// Reads `struct rtnexthop` after `struct rtnexthop`, as far as they are whole.
fn next_hops(mut rest: &[u8]) -> Vec<NextHop> {
    let mut found = Vec::new();
    while let (Some(length), Some(flags), Some(interface)) = (u16_at(rest, 0), rest.get(2), u32_at(rest, 4)) {
        let length = usize::from(length);
        let Some(inner) = rest.get(8..length) else { break };
        found.push(NextHop { flags: *flags, interface, attributes: attributes(inner) });
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = || Some(IpAddr::from(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?)));
    v4().or_else(|| Some(IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?))))
}
