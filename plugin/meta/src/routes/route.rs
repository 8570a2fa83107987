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

/// The attributes that make up a next hop, whatever it is the next hop of.
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
/// What a nexthop object stands for: the kernel dumps it beside the object and takes one or the other.
const OF_NH_ID: [u16; 4] = [libc::RTA_GATEWAY, libc::RTA_OIF, libc::RTA_MULTIPATH, RTA_VIA];

/// One route, as the kernel writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    header: [u8; HEADER],
    /// `struct rtattr` after `struct rtattr`.
    attributes: Vec<u8>,
}

impl Route {
    /// The payload of a request for all routes.
    pub(super) const ANY: [u8; HEADER] = [0; HEADER];

    /// A route of ours without attributes: main table, static, everywhere, unicast.
    fn new(v6: bool) -> Self {
        let family = if v6 { libc::AF_INET6 } else { libc::AF_INET };
        let mut header = [0; HEADER];
        header[0] = u8::try_from(family).unwrap_or_default();
        header[4] = libc::RT_TABLE_MAIN;
        header[5] = libc::RTPROT_STATIC;
        header[7] = libc::RTN_UNICAST;
        Self { header, attributes: Vec::new() }
    }

    /// The default route of a family: through `gateway`, on the interface with this index; `order` 0 is the
    /// first choice.
    pub fn default_via(gateway: IpAddr, interface: u32, order: u32) -> Self {
        let mut route = Self::new(gateway.is_ipv6());
        route.push_address(libc::RTA_GATEWAY, gateway);
        route.push(libc::RTA_OIF, &interface.to_ne_bytes());
        let metric = if gateway.is_ipv6() { DEFAULT_METRIC_V6 } else { 0 } + order;
        if metric != 0 {
            route.push(libc::RTA_PRIORITY, &metric.to_ne_bytes());
        }
        route
    }

    /// A route to `destination` over the same next hop.
    #[must_use]
    pub fn to(&self, destination: Cidr) -> Self {
        let mut route = Self::new(self.is_v6());
        route.header[1] = destination.prefix();
        // Without a gateway it is on the link, which the scope says.
        route.header[6] = self.header[6];
        route.set_flags(self.flags() & ON_LINK);
        route.push_address(libc::RTA_DST, destination.address());
        for (kind, value) in attributes(&self.attributes).filter(|(kind, _)| NEXT_HOP.contains(kind)) {
            route.push(kind, value);
        }
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

    /// The lower, the sooner it is used; the kernel's own choice where the route names none.
    pub fn metric(&self) -> u32 {
        match self.number(libc::RTA_PRIORITY) {
            None | Some(0) if self.is_v6() => DEFAULT_METRIC_V6,
            metric => metric.unwrap_or(0),
        }
    }

    /// The metric, where it is not the one that the kernel chooses by itself.
    pub fn priority(&self) -> Option<u32> {
        let own = if self.is_v6() { DEFAULT_METRIC_V6 } else { 0 };
        Some(self.metric()).filter(|metric| *metric != own)
    }

    /// The next router, of the first next hop where there are several; `None` on a link that reaches
    /// everything itself.
    pub fn gateway(&self) -> Option<IpAddr> {
        let first = self.get(libc::RTA_MULTIPATH).and_then(|hops| next_hops(hops).next());
        let mut of_hop = attributes(first.map_or(&self.attributes, |hop| hop.attributes));
        of_hop.find_map(|(kind, value)| match kind {
            libc::RTA_GATEWAY => address(value),
            RTA_VIA => address(value.get(2..)?),
            _ => None,
        })
    }

    /// The indexes of the interfaces that it uses; none for a route over no interface.
    pub fn interfaces(&self) -> Vec<u32> {
        match self.get(libc::RTA_MULTIPATH) {
            Some(hops) => next_hops(hops).map(|hop| hop.interface).collect(),
            None => self.number(libc::RTA_OIF).into_iter().collect(),
        }
    }

    /// Whether both lead the same destination the same way with the same metric.
    pub fn same_as(&self, other: &Self) -> bool {
        self.collides_with(other)
            && self.gateway() == other.gateway()
            && self.interfaces() == other.interfaces()
    }

    /// Whether both are of the same family, table, destination and metric, so that only one of them can be.
    pub fn collides_with(&self, other: &Self) -> bool {
        self.table() == other.table()
            && self.destination() == other.destination()
            && self.metric() == other.metric()
    }

    fn table(&self) -> u32 {
        self.number(libc::RTA_TABLE).unwrap_or_else(|| u32::from(self.header[4]))
    }

    fn get(&self, kind: u16) -> Option<&[u8]> {
        attributes(&self.attributes).find(|(own, _)| *own == kind).map(|(_, value)| value)
    }

    fn number(&self, kind: u16) -> Option<u32> {
        u32_at(self.get(kind)?, 0)
    }

    /// Appends an attribute; none that the kernel gave us, or that we make, comes near its limit of 64 KiB.
    fn push(&mut self, kind: u16, value: &[u8]) {
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        self.attributes.extend_from_slice(&length.to_ne_bytes());
        self.attributes.extend_from_slice(&kind.to_ne_bytes());
        self.attributes.extend_from_slice(value);
        self.attributes.resize(self.attributes.len().next_multiple_of(4), 0);
    }

    fn push_address(&mut self, kind: u16, address: IpAddr) {
        match address {
            IpAddr::V4(address) => self.push(kind, &address.octets()),
            IpAddr::V6(address) => self.push(kind, &address.octets()),
        }
    }

    /// The same route without these attributes.
    fn without(&self, unwanted: &[u16]) -> Self {
        let mut route = Self { header: self.header, attributes: Vec::new() };
        for (kind, value) in attributes(&self.attributes).filter(|(kind, _)| !unwanted.contains(kind)) {
            route.push(kind, value);
        }
        route
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
        let attributes = payload.get(HEADER..).unwrap_or_default().to_vec();
        header.map_or_else(Vec::new, |header| Self { header, attributes }.unfolded())
    }

    /// The routes that the kernel folded into one. IPv6 routes of one destination and metric are dumped as next
    /// hops of one route whoever made each, and come and go one by one.
    fn unfolded(self) -> Vec<Self> {
        let Some(hops) = self.get(libc::RTA_MULTIPATH) else { return vec![self] };
        if !self.is_v6() || self.get(RTA_NH_ID).is_some() {
            return vec![self];
        }
        let shared = self.without(&[libc::RTA_MULTIPATH]);
        let alone = |hop: NextHop<'_>| {
            let mut route = shared.clone();
            route.attributes.extend_from_slice(hop.attributes);
            route.push(libc::RTA_OIF, &hop.interface.to_ne_bytes());
            route.set_flags(u32::from(hop.flags));
            route
        };
        next_hops(hops).map(alone).collect()
    }

    /// The form that names this route to the kernel.
    pub(super) fn encode(&self) -> Vec<u8> {
        let unwanted = if self.get(RTA_NH_ID).is_some() { OF_NH_ID.as_slice() } else { &[] };
        let route = self.without(unwanted);
        [route.header.as_slice(), &route.attributes].concat()
    }
}

/// Reads `struct rtattr` after `struct rtattr`, as far as they are whole: kind and value of each.
fn attributes(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    const FLAGS: u16 = 0xc000;
    std::iter::from_fn(move || {
        let (length, kind) = (usize::from(u16_at(rest, 0)?), u16_at(rest, 2)?);
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind & !FLAGS, value))
    })
}

/// One way of a route that has several.
struct NextHop<'a> {
    flags: u8,
    interface: u32,
    attributes: &'a [u8],
}

/// Reads `struct rtnexthop` after `struct rtnexthop`, as far as they are whole.
fn next_hops(mut rest: &[u8]) -> impl Iterator<Item = NextHop<'_>> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(rest, 0)?);
        let (flags, interface) = (*rest.get(2)?, u32_at(rest, 4)?);
        let attributes = rest.get(8..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(NextHop { flags, interface, attributes })
    })
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = || Some(IpAddr::from(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?)));
    v4().or_else(|| Some(IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?))))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_are_routes_or_none_and_never_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            for route in Route::parse(&bytes) {
                drop((route.gateway(), route.interfaces(), route.destination(), route.same_as(&route)));
                prop_assert_eq!(Route::parse(&route.encode()).first().map(Route::metric), Some(route.metric()));
            }
        }
    }
}
