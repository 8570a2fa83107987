//! Default routes in a delegate's result, of any version. Pure; whatever is not such a route stays as printed.

use cni::{
    error::{Error, code},
    raw::Object,
    result::CniResult,
    version,
};
use serde::Serialize;
use serde_json::value::RawValue;

use super::{Change, Cidr, Route};

/// The main routing table by number; 0 means it too.
const MAIN_TABLE: i64 = 254;
/// A result may be as big as the plugin's answer.
const MAX_SIZE: usize = cni::result::MAX_SIZE;

/// One route, as a result says it.
#[derive(Serialize)]
struct Line {
    dst: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    gw: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<u32>,
}

/// The result of a delegate after `change`, in the version it had: default routes of the main table go, and the
/// routes that come stand at the end.
///
/// A result up to 0.2.0 lists routes per address, so a route of a family that it has no address of cannot be
/// said in it. Metrics can be said from 1.1.0 on.
///
/// # Errors
/// Code 6 when the result's routes are no list.
pub fn edit(result: &CniResult, change: &Change) -> Result<CniResult, Error> {
    if change.keep {
        return Ok(result.clone());
    }
    let mut object = Object::parse_capped(result.raw(), MAX_SIZE)?;
    let metrics = version::at_least(result.version(), "1.1.0");
    if version::at_least(result.version(), "0.3.0") {
        edit_routes(&mut object, &mut change.add.iter(), metrics)?;
    } else {
        for (key, v6) in [("ip4", false), ("ip6", true)] {
            let Some(mut ip) = object.get_as::<Object>(key).map_err(undecodable)? else { continue };
            edit_routes(&mut ip, &mut change.add.iter().filter(|route| route.is_v6() == v6), metrics)?;
            object.set(key, &ip)?;
        }
    }
    CniResult::parse(object.to_json().as_bytes(), result.version())
}

fn edit_routes(
    holder: &mut Object,
    add: &mut dyn Iterator<Item = &Route>,
    metrics: bool,
) -> Result<(), Error> {
    let mut routes: Vec<Box<RawValue>> = holder.get_as("routes").map_err(undecodable)?.unwrap_or_default();
    let count = routes.len();
    routes.retain(|route| !is_default(route));
    let mut changed = routes.len() != count;
    for route in add {
        let dst = route.destination();
        // Several default routes are meant; another route to a place that the plugin leads to is not.
        if !dst.is_everything() && routes.iter().any(|listed| destination(listed) == Some(dst)) {
            continue;
        }
        let line = Line {
            dst: dst.to_string(),
            gw: route.gateway().map(|gateway| gateway.to_string()),
            priority: route.priority().filter(|_| metrics),
        };
        routes.push(serde_json::value::to_raw_value(&line).map_err(unwritable)?);
        changed = true;
    }
    if routes.is_empty() && changed {
        holder.remove("routes");
    } else if changed {
        holder.set("routes", &routes)?;
    }
    Ok(())
}

/// Whether a route of a result is a default route of the main table.
fn is_default(route: &RawValue) -> bool {
    let elsewhere = Object::parse_capped(route.get(), MAX_SIZE)
        .ok()
        .and_then(|route| route.get_as::<i64>("table").ok().flatten())
        .is_some_and(|table| table != 0 && table != MAIN_TABLE);
    !elsewhere && destination(route).is_some_and(|dst| dst.is_everything())
}

/// Where a route of a result leads; `None` for one that does not say so in a way we understand.
fn destination(route: &RawValue) -> Option<Cidr> {
    let route = Object::parse_capped(route.get(), MAX_SIZE).ok()?;
    route.get_as::<String>("dst").ok()??.parse().ok()
}

fn undecodable(error: Error) -> Error {
    Error { code: code::DECODE, ..error }
}

fn unwritable(error: serde_json::Error) -> Error {
    Error::new(code::INTERNAL, format!("the route cannot be written: {error}"))
}
