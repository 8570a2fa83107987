//! A destination: an address and how much of it counts.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

/// An IPv4 or IPv6 destination in CIDR form, without host bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cidr {
    address: IpAddr,
    prefix: u8,
}

/// Why a text is no CIDR.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no CIDR: write an address and a prefix length, as in 10.96.0.0/12 or fd00:10::/108")]
pub struct NotCidr(String);

impl Cidr {
    /// The addresses that share the first `prefix` bits with this one; bits past the address's length count as all.
    pub fn new(address: IpAddr, prefix: u8) -> Self {
        let prefix = prefix.min(if address.is_ipv6() { 128 } else { 32 });
        let address = match address {
            IpAddr::V4(v4) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
                Ipv4Addr::from_bits(v4.to_bits() & mask).into()
            }
            IpAddr::V6(v6) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
                Ipv6Addr::from_bits(v6.to_bits() & mask).into()
            }
        };
        Self { address, prefix }
    }

    /// Every address of a family.
    pub fn everything(v6: bool) -> Self {
        let address = if v6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
        Self { address, prefix: 0 }
    }

    /// The first address.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// How many leading bits count: 0 to 32 or 128.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// IPv6, else IPv4.
    pub fn is_v6(&self) -> bool {
        self.address.is_ipv6()
    }

    /// True for the destination of a default route.
    pub fn is_everything(&self) -> bool {
        self.prefix == 0
    }
}

impl FromStr for Cidr {
    type Err = NotCidr;

    /// Reads `10.96.0.0/12`, or an address alone for that address. Host bits are dropped.
    fn from_str(text: &str) -> Result<Self, NotCidr> {
        let wrong = || NotCidr(text.chars().take(60).collect());
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let most: u8 = if address.is_ipv6() { 128 } else { 32 };
        let prefix = match prefix {
            Some(digits) if digits.bytes().all(|c| c.is_ascii_digit()) => {
                digits.parse().ok().filter(|prefix| *prefix <= most).ok_or_else(wrong)?
            }
            Some(_) => return Err(wrong()),
            None => most,
        };
        Ok(Self::new(address, prefix))
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}
