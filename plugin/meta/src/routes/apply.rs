//! Doing what was decided, and saying what stands in the way.

use std::{fs, io, net::IpAddr, path::Path};

use nix::{
    errno::Errno,
    ifaddrs::{InterfaceAddress, getifaddrs},
    net::if_::if_indextoname,
    sys::socket::SockaddrStorage,
};

use super::{Change, Kernel, Route, SLUG, failed};
use crate::error::{Fault, Result};

/// Does what was decided, in the namespace of the calling thread. Everything that goes is gone before anything
/// comes, because two default routes of one metric cannot be.
///
/// # Errors
/// `DEFAULT_ROUTE_FAILED`, naming the route and its interface.
pub fn apply(changes: &[Change]) -> Result<()> {
    let mut kernel = Kernel::connect().map_err(|error| failed(format!("a netlink socket: {error}")))?;
    for change in changes {
        change.interfaces.iter().for_each(|name| ignore_advertised(name));
        for route in &change.remove {
            kernel.remove(route).map_err(|error| {
                failed(format!("{} keeps its default route {}: {error}", change.ifname, way(route)))
            })?;
        }
    }
    for change in changes {
        change.add.iter().try_for_each(|route| add(&mut kernel, &change.ifname, route))?;
    }
    Ok(())
}

/// A router's next advertisement would bring back the default route that was taken away. The setting ends with
/// the interface; a kernel without IPv6 has none.
fn ignore_advertised(ifname: &str) {
    let setting = Path::new("/proc/sys/net/ipv6/conf").join(ifname).join("accept_ra_defrtr");
    match fs::write(&setting, "0") {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            log::warn!("{}: {error}; a router may give {ifname} a default route again", setting.display())
        }
        _ => {}
    }
}

fn add(kernel: &mut Kernel, ifname: &str, route: &Route) -> Result<()> {
    let Err(error) = kernel.add(route) else { return Ok(()) };
    let shown = format!("{} {} on {ifname}", route.destination(), way(route));
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EEXIST) => settled(kernel, route, &shown),
        Some(Errno::ENETUNREACH | Errno::EHOSTUNREACH | Errno::EINVAL) if route.gateway().is_some() => {
            let addresses =
                addresses(ifname).map_err(|error| failed(format!("addresses of {ifname}: {error}")))?;
            let has = if addresses.is_empty() { "no address".to_owned() } else { addresses.join(", ") };
            let why = format!(
                "default-route {shown}: the gateway is not reachable there, {ifname} has {has}; name a gateway inside its subnet"
            );
            Err(Fault::invalid(SLUG, why))
        }
        Some(Errno::ENETDOWN) => {
            Err(failed(format!("{shown}: the interface is down; its network has to set it up")))
        }
        _ => Err(failed(format!("{shown}: {error}"))),
    }
}

/// A default route with this metric is there already: this very route, or another.
fn settled(kernel: &mut Kernel, route: &Route, shown: &str) -> Result<()> {
    let routes = kernel.routes().map_err(|error| failed(format!("reading the routes: {error}")))?;
    let standing: Vec<&Route> = routes.iter().filter(|other| other.collides_with(route)).collect();
    if standing.iter().any(|other| other.same_as(route)) {
        return Ok(());
    }
    let other = standing.iter().map(|other| format!("{} on {}", way(other), interfaces_of(other)));
    let other = other.collect::<Vec<String>>().join(", ");
    let why = format!(
        "default-route {shown}: another default route of the pod stays, {other}; let one network alone give it"
    );
    Err(Fault::invalid(SLUG, why))
}

fn interfaces_of(route: &Route) -> String {
    let name = |index: &u32| {
        if_indextoname(*index).map_or_else(|_| index.to_string(), |name| name.to_string_lossy().into_owned())
    };
    route.interfaces().iter().map(name).collect::<Vec<String>>().join(" and ")
}

/// Addresses with prefix length of an interface.
fn addresses(ifname: &str) -> nix::Result<Vec<String>> {
    let address = |storage: SockaddrStorage| -> Option<(IpAddr, u32)> {
        let v4 = storage.as_sockaddr_in().map(|v4| (v4.ip().into(), v4.ip().to_bits().count_ones()));
        v4.or_else(|| storage.as_sockaddr_in6().map(|v6| (v6.ip().into(), v6.ip().to_bits().count_ones())))
    };
    let one = |entry: InterfaceAddress| {
        let (ip, _) = address(entry.address?)?;
        let (_, prefix) = address(entry.netmask?)?;
        Some(format!("{ip}/{prefix}"))
    };
    Ok(getifaddrs()?.filter(|entry| entry.interface_name == ifname).filter_map(one).collect())
}

fn way(route: &Route) -> String {
    route.gateway().map_or_else(|| "without gateway".to_owned(), |gateway| format!("via {gateway}"))
}
