//! The address ranges of host-local and whereabouts, in one shape.

use std::net::IpAddr;

use crate::{
    lint::{
        cidr::{Cidr, same_family},
        world::{Network, Plugin, World},
    },
    node::Node,
};

/// One range, as written.
#[derive(Debug, Clone, Copy)]
pub struct Range<'a> {
    /// The network that has it.
    pub network: &'a Network,
    /// The plugin that has it.
    pub plugin: &'a Plugin,
    /// The type of the IPAM: `host-local` or `whereabouts`.
    pub ipam: &'static str,
    /// Which set of ranges it belongs to: a pod gets one address of each set.
    pub set: usize,
    /// The object whose keys it is.
    pub object: &'a Node,
    /// The subnet.
    pub subnet: Option<&'a Node>,
    /// The first address.
    pub start: Option<&'a Node>,
    /// The last address.
    pub end: Option<&'a Node>,
    /// The gateway.
    pub gateway: Option<&'a Node>,
}

impl<'a> Range<'a> {
    /// The subnet, if it is one. whereabouts also knows `FIRST-LAST/PREFIX`.
    pub fn cidr(&self) -> Option<Cidr> {
        let text = self.subnet?.text()?;
        match text.split_once('-').filter(|_| self.ipam == "whereabouts") {
            Some((first, last)) => Cidr::parse(&format!("{}/{}", first.trim(), last.split_once('/')?.1)),
            None => Cidr::parse(text),
        }
    }

    /// The first and the last address that it gives out, if all that is written can be read.
    pub fn bounds(&self) -> Option<(IpAddr, IpAddr)> {
        let subnet = self.cidr()?;
        let text = self.subnet?.text()?;
        let (mut first, mut last) = (subnet.first_host(), subnet.last_host());
        if let Some((from, to)) = text.split_once('-').filter(|_| self.ipam == "whereabouts") {
            (first, last) = (address(from.trim())?, address(to.split('/').next()?.trim())?);
        }
        if let Some(start) = self.start {
            first = address(start.text()?)?;
        }
        if let Some(end) = self.end {
            last = address(end.text()?)?;
        }
        let sound =
            same_family(first, last) && first <= last && subnet.contains(first) && subnet.contains(last);
        sound.then_some((first, last))
    }

    /// Whether two ranges give out the same address.
    pub fn overlaps(&self, other: &Range<'_>) -> bool {
        match (self.bounds(), other.bounds()) {
            (Some((a, b)), Some((c, d))) => same_family(a, c) && a <= d && c <= b,
            _ => false,
        }
    }

    /// `10.0.0.1 to 10.0.0.9`, for people.
    pub fn shown(&self) -> String {
        match self.bounds() {
            Some((first, last)) => format!("{first} to {last}"),
            None => self.subnet.map(Node::shown).unwrap_or_default(),
        }
    }
}

fn address(text: &str) -> Option<IpAddr> {
    text.parse().ok()
}

/// Every range of every network.
pub fn all(world: &World) -> impl Iterator<Item = Range<'_>> {
    world.plugins().flat_map(|(network, plugin)| of(network, plugin))
}

/// The ranges of one plugin.
pub fn of<'a>(network: &'a Network, plugin: &'a Plugin) -> Vec<Range<'a>> {
    let mut ranges = Vec::new();
    let mut push = |ipam, set, object: &'a Node, keys: [&str; 3]| {
        let [subnet, start, end] = keys.map(|key| object.get_as_go(key));
        let gateway = object.get_as_go("gateway");
        ranges.push(Range { network, plugin, ipam, set, object, subnet, start, end, gateway });
    };
    if let Some(ipam) = plugin.ipam_of("host-local") {
        let keys = ["subnet", "rangeStart", "rangeEnd"];
        if ipam.get_as_go("subnet").is_some() {
            push("host-local", 0, ipam, keys);
        }
        for (set, node) in ipam.get_as_go("ranges").into_iter().flat_map(Node::items).enumerate() {
            let objects = if node.entries().is_empty() { node.items() } else { std::slice::from_ref(node) };
            objects.iter().for_each(|object| push("host-local", set + 1, object, keys));
        }
    }
    if let Some(ipam) = plugin.ipam_of("whereabouts") {
        let keys = ["range", "range_start", "range_end"];
        if ipam.get_as_go("range").is_some() {
            push("whereabouts", 0, ipam, keys);
        }
        for (set, object) in ipam.get_as_go("ipRanges").into_iter().flat_map(Node::items).enumerate() {
            push("whereabouts", set + 1, object, keys);
        }
    }
    ranges
}

/// Every subnet that a pod of this plugin gets an address of.
pub fn subnets(network: &Network, plugin: &Plugin) -> Vec<Cidr> {
    let addresses = plugin.ipam_of("static").and_then(|ipam| ipam.get_as_go("addresses"));
    let fixed = addresses
        .into_iter()
        .flat_map(Node::items)
        .filter_map(|address| Cidr::parse(address.get_as_go("address")?.text()?));
    of(network, plugin).iter().filter_map(Range::cidr).chain(fixed).collect()
}
