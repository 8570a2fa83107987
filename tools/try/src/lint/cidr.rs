//! Addresses and subnets, read as Go reads them.

use std::{fmt, net::IpAddr};

/// A subnet, with the address as it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    /// The address, host bits included.
    pub address: IpAddr,
    /// How many bits of it are the network's.
    pub prefix: u32,
}

impl Cidr {
    /// Reads `ADDRESS/PREFIX`.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/')?;
        let address: IpAddr = address.parse().ok()?;
        let plain = !prefix.is_empty() && prefix.bytes().all(|b| b.is_ascii_digit());
        let prefix: u32 = prefix.parse().ok().filter(|_| plain && prefix.len() <= 3)?;
        (prefix <= bits(address)).then_some(Self { address, prefix })
    }

    /// The first address: the network's own.
    pub fn first(self) -> IpAddr {
        like(self.address, number(self.address) & !self.host_mask())
    }

    /// The last address: of IPv4 the broadcast address.
    pub fn last(self) -> IpAddr {
        like(self.address, number(self.address) | self.host_mask())
    }

    /// The same subnet without host bits.
    pub fn network(self) -> Self {
        Self { address: self.first(), ..self }
    }

    /// The first address that a pod may have.
    pub fn first_host(self) -> IpAddr {
        if self.host_mask() < 3 { self.first() } else { next(self.first()) }
    }

    /// The last address that a pod may have.
    pub fn last_host(self) -> IpAddr {
        match self.last() {
            last @ IpAddr::V4(_) if self.host_mask() >= 3 => like(last, number(last) - 1),
            last => last,
        }
    }

    /// Whether the address is one of this subnet.
    pub fn contains(self, address: IpAddr) -> bool {
        same_family(self.address, address) && (self.first()..=self.last()).contains(&address)
    }

    fn host_mask(self) -> u128 {
        match bits(self.address) - self.prefix {
            128 => u128::MAX,
            host => (1 << host) - 1,
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// Both IPv4, or both IPv6.
pub fn same_family(a: IpAddr, b: IpAddr) -> bool {
    a.is_ipv4() == b.is_ipv4()
}

/// The bits of an address of this family.
pub fn bits(address: IpAddr) -> u32 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// The address behind this one; the last one stays.
pub fn next(address: IpAddr) -> IpAddr {
    like(address, number(address).saturating_add(1))
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

fn like(family: IpAddr, number: u128) -> IpAddr {
    match family {
        IpAddr::V4(_) => IpAddr::V4(u32::try_from(number).unwrap_or(u32::MAX).into()),
        IpAddr::V6(_) => IpAddr::V6(number.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn subnets_know_their_edges() {
        let subnet = Cidr::parse("10.1.2.77/24").unwrap();
        assert_eq!((subnet.first(), subnet.last()), (ip("10.1.2.0"), ip("10.1.2.255")));
        assert_eq!((subnet.first_host(), subnet.last_host()), (ip("10.1.2.1"), ip("10.1.2.254")));
        assert_eq!(subnet.network().to_string(), "10.1.2.0/24");
        assert!(subnet.contains(ip("10.1.2.255")) && !subnet.contains(ip("10.1.3.0")));
        let six = Cidr::parse("fd00::/64").unwrap();
        assert!(six.contains(ip("fd00::ffff:ffff:ffff:ffff")) && !six.contains(ip("fd00:0:0:1::")));
        assert_eq!(six.last_host(), ip("fd00::ffff:ffff:ffff:ffff"));
        assert!(!six.contains(ip("10.0.0.1")));
        let all = Cidr::parse("::/0").unwrap();
        assert!(all.contains(ip("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")));
        assert_eq!(Cidr::parse("0.0.0.0/0").unwrap().last(), ip("255.255.255.255"));
    }

    #[test]
    fn what_go_refuses_is_refused() {
        for bad in [
            "10.0.0.0",
            "10.0.0.0/33",
            "10.0.0/24",
            "10.0.00.0/24",
            "10.0.0.0/+8",
            "10.0.0.0/",
            "/24",
            "a/8",
            "fd00::/129",
        ] {
            assert_eq!(Cidr::parse(bad), None, "{bad}");
        }
    }
}
