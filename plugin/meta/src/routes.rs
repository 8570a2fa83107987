//! Which network of a pod leads everywhere else: `default-route` of the multi-network standard 1.3
//! (section 4.1.2.1.9), in the pod's namespace and in what the delegates answered.
//!
//! Where no network of the pod asks, nothing is touched. Where one does:
//!
//! | its `default-route` | its own default routes | instead |
//! |---|---|---|
//! | absent | go, of both families | |
//! | `[]` | stay as its plugin made them | |
//! | gateways | go, of both families | one through each gateway, the first preferred |
//!
//! An interface's routes are found by its index, in the main table alone, and include those that a router
//! advertised. The interfaces of an attachment are its own and those that its result puts into a sandbox.
//! Destinations of the cluster can stay on the way that the primary's default route took: see [`plan`].
//!
//! [`settle`] does all of it. [`plan`] is the decision, from data to data.

mod answer;
mod apply;
mod cidr;
mod kernel;
mod route;

use std::{io, net::IpAddr, path::Path};

use cni::{
    error::{Error, code},
    result::CniResult,
};
use nix::net::if_::if_nameindex;

pub use self::{
    answer::edit,
    apply::apply,
    cidr::{Cidr, NotCidr},
    kernel::Kernel,
    route::Route,
};
use crate::{
    error::{Fault, Result},
    netns,
};

const SLUG: &str = "DEFAULT_ROUTE_FAILED";

/// One attachment of the pod, done.
#[derive(Debug, Clone, Copy)]
pub struct Attached<'a> {
    /// Its interface in the pod.
    pub ifname: &'a str,
    /// Its `default-route`; `None` where the selection has no such key.
    pub request: Option<&'a [IpAddr]>,
    /// The cluster's default network.
    pub primary: bool,
    /// What its delegate answered.
    pub result: &'a CniResult,
}

/// What a namespace has: its interfaces by name and its routes.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Name and index of each interface.
    pub interfaces: Vec<(String, u32)>,
    /// Routes of every table.
    pub routes: Vec<Route>,
}

/// What is to be done for one attachment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// Its interface.
    pub ifname: String,
    /// Whether the default routes that its plugin made stay; nothing else is to be done then.
    pub keep: bool,
    /// Its interfaces: no router's advertisement gives them a default route any more.
    pub interfaces: Vec<String>,
    /// Routes that go.
    pub remove: Vec<Route>,
    /// Routes that are to be there, after all that go are gone.
    pub add: Vec<Route>,
}

/// Sets the default routes of a pod as its networks ask, in the namespace and in the results.
///
/// Returns the results in the order of `attached`; each is written in the version it had. They are what CHECK
/// and DEL are to be given from now on, because a delegate's CHECK looks for the routes that it reads there.
/// `cluster` is what stays reachable through the primary; empty for nothing.
///
/// # Errors
/// `DEFAULT_ROUTE_FAILED`, with code 7 where the request can never work, and then the pod's routes are partly
/// changed: the caller detaches everything. `NETNS_UNREADABLE` when the namespace cannot be entered.
pub fn settle(netns: &Path, attached: &[Attached<'_>], cluster: &[Cidr]) -> Result<Vec<CniResult>> {
    if attached.iter().all(|one| one.request.is_none()) {
        return Ok(attached.iter().map(|one| one.result.clone()).collect());
    }
    netns::inside(netns, || settle_here(attached, cluster)).map_err(|error| {
        Fault::retry("NETNS_UNREADABLE", format!("default routes: entering {}: {error}", netns.display()))
    })?
}

/// [`settle`] in the namespace of the calling thread.
fn settle_here(attached: &[Attached<'_>], cluster: &[Cidr]) -> Result<Vec<CniResult>> {
    let seen = Seen::here().map_err(|error| failed(format!("reading the routes of the pod: {error}")))?;
    let changes = plan(attached, cluster, &seen)?;
    let mut results = Vec::with_capacity(attached.len());
    for (one, change) in attached.iter().zip(&changes) {
        results.push(edit(one.result, change).map_err(|error| unusable(one.ifname, &error))?);
    }
    apply(&changes)?;
    Ok(results)
}

impl Seen {
    /// Looks at the namespace of the calling thread.
    ///
    /// # Errors
    /// The kernel's.
    pub fn here() -> io::Result<Self> {
        let interfaces = if_nameindex()?;
        let interfaces =
            interfaces.iter().map(|one| (one.name().to_string_lossy().into_owned(), one.index())).collect();
        Ok(Self { interfaces, routes: Kernel::connect()?.routes()? })
    }

    fn index(&self, ifname: &str) -> Option<u32> {
        self.interfaces.iter().find(|(name, _)| name == ifname).map(|(_, index)| *index)
    }
}

/// Decides what changes, one [`Change`] for each of `attached`.
///
/// Each of `cluster` whose family loses the primary's default route gets a route of its own, over the next hop
/// that this default route had.
///
/// # Errors
/// `DEFAULT_ROUTE_FAILED` for a gateway that is none, or an interface that is to get a default route and does
/// not exist. One that only loses its default routes may be missing: a user-space network has no interface.
pub fn plan(attached: &[Attached<'_>], cluster: &[Cidr], seen: &Seen) -> Result<Vec<Change>> {
    let nobody_asks = attached.iter().all(|one| one.request.is_none());
    let mut changes = Vec::with_capacity(attached.len());
    for one in attached {
        let mut change = Change { ifname: one.ifname.to_owned(), ..Change::default() };
        change.keep = nobody_asks || one.request.is_some_and(<[IpAddr]>::is_empty);
        if !change.keep {
            change.add = wanted(one, seen)?;
            change.interfaces = interfaces(one, attached, seen)?;
            change.remove = present(&change, seen)?;
            change.remove.retain(|route| !change.add.iter().any(|want| want.same_as(route)));
            let cluster = cluster.iter().filter(|_| one.primary);
            let cluster = cluster.filter_map(|destination| instead(*destination, &change.remove));
            change.add.extend(cluster.filter(|route| !led_otherwise(route, seen)));
        }
        changes.push(change);
    }
    Ok(changes)
}

/// The default routes that an attachment asks for; each family has its own order.
fn wanted(one: &Attached<'_>, seen: &Seen) -> Result<Vec<Route>> {
    let gateways = one.request.unwrap_or_default();
    let mut routes = Vec::with_capacity(gateways.len());
    let mut count = [0; 2];
    for gateway in gateways {
        let asked = || format!("default-route {gateway} for {}", one.ifname);
        let Some(index) = seen.index(one.ifname) else {
            let why = format!("{}: the pod has no such interface; its network has to make one", asked());
            return Err(Fault::invalid(SLUG, why));
        };
        if gateway.is_unspecified() {
            let why =
                format!("{}: this is no gateway; name a router, or write [] for the network's own", asked());
            return Err(Fault::invalid(SLUG, why));
        }
        let order = &mut count[usize::from(gateway.is_ipv6())];
        routes.push(Route::default_via(*gateway, index, *order));
        *order += 1;
    }
    Ok(routes)
}

/// The interfaces of one attachment that the pod has: its own, and those that its result puts into a sandbox.
fn interfaces(one: &Attached<'_>, attached: &[Attached<'_>], seen: &Seen) -> Result<Vec<String>> {
    let mut names = vec![one.ifname.to_owned()];
    for interface in one.result.typed().map_err(|error| unusable(one.ifname, &error))?.interfaces {
        let of_another = attached.iter().any(|other| other.ifname == interface.name);
        if !interface.sandbox.is_empty() && !of_another {
            names.push(interface.name);
        }
    }
    names.retain(|name| seen.index(name).is_some());
    Ok(names)
}

/// The default routes over the interfaces of a change.
fn present(change: &Change, seen: &Seen) -> Result<Vec<Route>> {
    let indexes: Vec<u32> = change.interfaces.iter().filter_map(|name| seen.index(name)).collect();
    let mut routes = Vec::new();
    for route in seen.routes.iter().filter(|route| route.is_default()) {
        let used = route.interfaces();
        let ours = used.iter().filter(|index| indexes.contains(index)).count();
        if ours > 0 && ours < used.len() {
            return Err(failed(format!(
                "{} shares one default route with another network's interface; their plugins have to make two",
                change.ifname
            )));
        }
        if ours > 0 {
            routes.push(route.clone());
        }
    }
    Ok(routes)
}

/// A route to `destination` the way that the default route of its family went.
fn instead(destination: Cidr, taken: &[Route]) -> Option<Route> {
    let of_family = taken.iter().filter(|route| route.is_v6() == destination.is_v6());
    of_family.min_by_key(|route| route.metric()).map(|route| route.to(destination))
}

/// Whether a network of the pod leads this very destination by a route of its own, which then is its author's wish.
fn led_otherwise(route: &Route, seen: &Seen) -> bool {
    let other = seen.routes.iter().any(|other| other.collides_with(route) && !other.same_as(route));
    if other {
        log::warn!("{}: a network of the pod has a route there; it stays", route.destination());
    }
    other
}

/// Reads a list of destinations for `cluster` of [`plan`], as the configuration's `key` has it.
///
/// # Errors
/// `NETCONF_INVALID` names the key and what is no destination in it.
pub fn destinations(key: &str, list: &[String]) -> Result<Vec<Cidr>> {
    let wrong = |why: String| Fault::invalid("NETCONF_INVALID", format!("{key}: {why}"));
    list.iter()
        .map(|text| {
            let destination: Cidr = text.parse().map_err(|error: NotCidr| wrong(error.to_string()))?;
            if destination.is_everything() {
                return Err(wrong(format!(
                    "{text} is the default route itself; list what is in the cluster"
                )));
            }
            Ok(destination)
        })
        .collect()
}

fn failed(why: String) -> Fault {
    Fault::new(code::INTERNAL, SLUG, why)
}

fn unusable(ifname: &str, error: &Error) -> Fault {
    Fault::new(error.code, "RESULT_UNUSABLE", format!("the result of {ifname}: {}", error.msg))
}
