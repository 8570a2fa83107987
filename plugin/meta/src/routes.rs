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

use std::{collections::BTreeMap, io, net::IpAddr, path::Path};

use cni::{
    error::{Error, code},
    result::CniResult,
};
use nix::net::if_::if_nameindex;

pub use self::{
    answer::{Edit, Line},
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
    /// Index of each interface.
    pub interfaces: BTreeMap<String, u32>,
    /// Routes of every table.
    pub routes: Vec<Route>,
}

/// What is to be done for one attachment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// Its interface.
    pub ifname: String,
    /// Interfaces that take no default route from a router's advertisement any more.
    pub deaf: Vec<String>,
    /// Routes that go.
    pub remove: Vec<Route>,
    /// Routes that come, in this order, after all that go are gone.
    pub add: Vec<Route>,
    /// The same in the delegate's result.
    pub edit: Edit,
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
    let unreadable = |error: io::Error| {
        Fault::retry("NETNS_UNREADABLE", format!("reading the routes in {}: {error}", netns.display()))
    };
    let seen = netns::inside(netns, Seen::here).map_err(unreadable)?;
    let changes = plan(attached, cluster, &seen)?;
    let edited = attached
        .iter()
        .zip(&changes)
        .map(|(one, change)| change.edit.apply(one.result).map_err(|error| unusable(one.ifname, &error)));
    let edited = edited.collect::<Result<Vec<CniResult>>>()?;
    netns::inside(netns, || Ok(apply(&changes))).map_err(unreadable)??;
    Ok(edited)
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
    if attached.iter().all(|one| one.request.is_none()) {
        return Ok(attached.iter().map(|one| untouched(one)).collect());
    }
    attached
        .iter()
        .map(|one| match one.request {
            Some([]) => Ok(untouched(one)),
            gateways => change(one, gateways.unwrap_or_default(), names(one, attached)?, cluster, seen),
        })
        .collect()
}

fn untouched(one: &Attached<'_>) -> Change {
    Change { ifname: one.ifname.to_owned(), ..Change::default() }
}

/// The interfaces of one attachment, its own first.
fn names(one: &Attached<'_>, attached: &[Attached<'_>]) -> Result<Vec<String>> {
    let typed = one.result.typed().map_err(|error| unusable(one.ifname, &error))?;
    let others = typed
        .interfaces
        .into_iter()
        .filter(|interface| !interface.sandbox.is_empty())
        .map(|interface| interface.name)
        .filter(|name| attached.iter().all(|other| other.ifname != name));
    Ok([one.ifname.to_owned()].into_iter().chain(others).collect())
}

fn change(
    one: &Attached<'_>,
    gateways: &[IpAddr],
    mut names: Vec<String>,
    cluster: &[Cidr],
    seen: &Seen,
) -> Result<Change> {
    let wanted = wanted(one, gateways, seen)?;
    names.retain(|name| seen.interfaces.contains_key(name));
    let indexes: Vec<u32> = names.iter().filter_map(|name| seen.interfaces.get(name).copied()).collect();
    let uses = |route: &Route| route.interfaces().iter().any(|index| indexes.contains(index));
    let present: Vec<&Route> = seen.routes.iter().filter(|route| route.is_default() && uses(route)).collect();
    if present.iter().any(|route| !route.interfaces().iter().all(|index| indexes.contains(index))) {
        let why = format!(
            "{} shares one default route with an interface of another network; its plugin has to make them two",
            one.ifname
        );
        return Err(failed(why));
    }
    let remove: Vec<Route> = present
        .iter()
        .filter(|route| !wanted.iter().any(|want| want.same_as(route)))
        .map(|route| (*route).clone())
        .collect();
    let mut add: Vec<Route> =
        wanted.iter().filter(|want| !present.iter().any(|route| route.same_as(want))).cloned().collect();
    let mut edit = Edit { forget_defaults: true, add: lines(gateways) };
    for destination in cluster.iter().filter(|_| one.primary) {
        let taken = remove.iter().filter(|route| route.is_v6() == destination.is_v6());
        if let Some(former) = taken.min_by_key(|route| route.metric()) {
            add.push(former.to(*destination));
            edit.add.push(Line { dst: *destination, gw: former.gateway(), priority: None });
        }
    }
    Ok(Change { ifname: one.ifname.to_owned(), deaf: names, remove, add, edit })
}

/// The default routes that an attachment asks for, each family counted by itself.
fn wanted(one: &Attached<'_>, gateways: &[IpAddr], seen: &Seen) -> Result<Vec<Route>> {
    if gateways.is_empty() {
        return Ok(Vec::new());
    }
    let index = seen.interfaces.get(one.ifname).ok_or_else(|| {
        let why = format!(
            "default-route for {0}: the pod has no interface {0}; its network has to make one",
            one.ifname
        );
        Fault::invalid(SLUG, why)
    })?;
    ordered(gateways)
        .map(|(gateway, order)| {
            if gateway.is_unspecified() {
                let why = format!("default-route {gateway} for {}: this is no gateway; name a router's address, or use [] for the network's own", one.ifname);
                return Err(Fault::invalid(SLUG, why));
            }
            Ok(Route::default_via(gateway, *index, order))
        })
        .collect()
}

fn lines(gateways: &[IpAddr]) -> Vec<Line> {
    ordered(gateways)
        .map(|(gateway, order)| {
            let route = Route::default_via(gateway, 0, order);
            Line {
                dst: Cidr::everything(gateway.is_ipv6()),
                gw: Some(gateway),
                priority: Some(route.metric()).filter(|_| order > 0),
            }
        })
        .collect()
}

/// Each gateway with its position among those of its family.
fn ordered(gateways: &[IpAddr]) -> impl Iterator<Item = (IpAddr, u32)> {
    let mut seen = [0; 2];
    gateways.iter().map(move |gateway| {
        let count = &mut seen[usize::from(gateway.is_ipv6())];
        *count += 1;
        (*gateway, *count - 1)
    })
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
