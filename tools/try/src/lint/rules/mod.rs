//! The rules, by what they look at.

mod annotations;
mod capabilities;
mod chains;
mod configs;
mod ipam;
mod keys;
mod manifests;
mod ranges;
mod requests;
mod routes;
mod selections;
mod texts;
mod values;

use super::Rule;

/// Every rule, in the order of the documentation.
pub fn all() -> impl Iterator<Item = &'static Rule> {
    [
        texts::RULES,
        manifests::RULES,
        configs::RULES,
        keys::RULES,
        values::RULES,
        chains::RULES,
        ipam::RULES,
        ranges::RULES,
        routes::RULES,
        capabilities::RULES,
        annotations::RULES,
        selections::RULES,
        requests::RULES,
    ]
    .into_iter()
    .flatten()
}
