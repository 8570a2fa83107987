//! Default routes in a delegate's result, of any version. Pure; whatever is not such a route stays as printed.

use std::net::IpAddr;

use cni::{
    error::{Error, code},
    raw::Object,
    result::CniResult,
    version,
};
use serde::Serialize;
use serde_json::value::RawValue;

use super::Cidr;

/// The main routing table by number; 0 means it too.
const MAIN_TABLE: i64 = 254;
/// A result may be as big as the plugin's answer.
const MAX_SIZE: usize = cni::result::MAX_SIZE;

/// What changes in one result.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Edit {
    /// Default routes of the main table go.
    pub forget_defaults: bool,
    /// Routes that come, at the end.
    pub add: Vec<Line>,
}

/// One route of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Where it leads.
    pub dst: Cidr,
    /// Through which router; `None` is on the link.
    pub gw: Option<IpAddr>,
    /// Metric, where it is not the kernel's own choice.
    pub priority: Option<u32>,
}

impl Edit {
    /// The result with the change, in the same version.
    ///
    /// A result up to 0.2.0 lists routes per address, so a route of a family that it has no address of cannot be
    /// said in it. Metrics can be said from 1.1.0 on.
    ///
    /// # Errors
    /// Code 6 when the result's routes are no list.
    pub fn apply(&self, result: &CniResult) -> Result<CniResult, Error> {
        if *self == Self::default() {
            return Ok(result.clone());
        }
        let mut object = Object::parse_capped(result.raw(), MAX_SIZE)?;
        let metrics = version::at_least(result.version(), "1.1.0");
        if version::at_least(result.version(), "0.3.0") {
            self.routes_of(&mut object, metrics, |_| true)?;
        } else {
            for (key, v6) in [("ip4", false), ("ip6", true)] {
                let Some(mut ip) = object.get_as::<Object>(key).map_err(undecodable)? else { continue };
                self.routes_of(&mut ip, metrics, |line| line.dst.is_v6() == v6)?;
                object.set(key, &ip)?;
            }
        }
        CniResult::parse(object.to_json().as_bytes(), result.version())
    }

    fn routes_of(
        &self,
        holder: &mut Object,
        metrics: bool,
        mine: impl Fn(&Line) -> bool,
    ) -> Result<(), Error> {
        let before: Vec<Box<RawValue>> = holder.get_as("routes").map_err(undecodable)?.unwrap_or_default();
        let count = before.len();
        let mut after: Vec<Box<RawValue>> =
            before.into_iter().filter(|route| !(self.forget_defaults && is_default(route))).collect();
        let mut changed = after.len() != count;
        for line in self.add.iter().filter(|line| mine(line)) {
            let listed = after.iter().any(|route| destination(route) == Some(line.dst));
            // Several default routes are meant; another route to a place that the plugin leads to is not.
            if line.dst.is_everything() || !listed {
                after.push(line.to_json(metrics)?);
                changed = true;
            }
        }
        if after.is_empty() && changed {
            holder.remove("routes");
        } else if changed {
            holder.set("routes", &after)?;
        }
        Ok(())
    }
}

impl Line {
    fn to_json(&self, metrics: bool) -> Result<Box<RawValue>, Error> {
        #[derive(Serialize)]
        struct Wire {
            dst: String,
            #[serde(skip_serializing_if = "Option::is_none")]
            gw: Option<IpAddr>,
            #[serde(skip_serializing_if = "Option::is_none")]
            priority: Option<u32>,
        }
        let wire =
            Wire { dst: self.dst.to_string(), gw: self.gw, priority: self.priority.filter(|_| metrics) };
        serde_json::value::to_raw_value(&wire)
            .map_err(|error| Error::new(code::INTERNAL, format!("the route cannot be written: {error}")))
    }
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
