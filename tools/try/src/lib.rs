//! What a network definition does, before any pod needs it.
//!
//! Two halves. [`lint`] reads NetworkAttachmentDefinitions and pods and tells mistakes, with their place, reason and
//! remedy; it needs no root and runs nothing. The binary `multus-try` adds the other half: a throw-away host in which
//! the very code of the plugin attaches the networks to throw-away pods.
//!
//! [`files`] reads what the user names. [`yaml`] and [`json`] read files into [`node::Node`]s that know their place, also inside of the JSON that a YAML
//! string holds. What plugins do with a config is theirs; what Multus does with it is `meta`'s.

pub mod files;
pub mod json;
pub mod lint;
pub mod node;
pub mod run;
pub mod show;
pub mod source;
pub mod yaml;
