//! A runtime with a memory: runs networks as [`chain`](crate::chain) does and remembers each attachment in a
//! [`Cache`], so that DEL, CHECK and GC know the answer of the ADD. This is what libcni does.
//!
//! Operations of one container must not overlap, and GC must not overlap with any: that lock is the caller's.

use crate::{
    cache::{Cache, Entry, Key},
    chain::{Attachment, Runner},
    config::NetworkConfig,
    error::Error,
    result::CniResult,
};

/// A [`Runner`] and its memory.
#[derive(Clone, Copy)]
pub struct Runtime<'a> {
    /// Runs the plugins.
    pub runner: Runner<'a>,
    /// Remembers what they did.
    pub cache: &'a Cache,
}

impl Runtime<'_> {
    /// ADD. After a failure, this one's too, the caller owes a DEL.
    ///
    /// # Errors
    /// The failing plugin's, or code 5 when the attachment cannot be remembered.
    pub fn add(&self, network: &NetworkConfig, attachment: &Attachment<'_>) -> Result<CniResult, Error> {
        let result = self.runner.add(network, attachment)?;
        self.cache.write(&Entry {
            network: network.name.clone(),
            container_id: attachment.container_id.to_owned(),
            ifname: attachment.ifname.to_owned(),
            netns: attachment.netns.unwrap_or_default().to_owned(),
            args: pairs(attachment.args),
            capability_args: attachment.capability_args.clone(),
            config: network.to_json(),
            result: Some(result.clone()),
        })?;
        Ok(result)
    }

    /// DEL, with the remembered answer of the ADD. What cannot be read does not keep a network from being torn
    /// down. When all went well, the attachment is forgotten.
    ///
    /// # Errors
    /// The failing plugin's, or code 5 when the attachment cannot be forgotten.
    pub fn del(&self, network: &NetworkConfig, attachment: &Attachment<'_>) -> Result<(), Error> {
        let key = key(network, attachment);
        let prev = self.cache.read(key).unwrap_or_else(|e| {
            log::warn!("DEL without the answer of the ADD: {e}");
            None
        });
        self.runner.del(network, attachment, prev.and_then(|entry| entry.result).as_ref())?;
        self.cache.remove(key)
    }

    /// CHECK, with the remembered answer of the ADD.
    ///
    /// # Errors
    /// The first plugin's, code 1 before 0.4.0, or the cache's.
    pub fn check(&self, network: &NetworkConfig, attachment: &Attachment<'_>) -> Result<(), Error> {
        let prev = self.cache.read(key(network, attachment))?.and_then(|entry| entry.result);
        self.runner.check(network, attachment, prev.as_ref())
    }

    /// STATUS.
    ///
    /// # Errors
    /// The first plugin's that is not ready.
    pub fn status(&self, network: &NetworkConfig) -> Result<(), Error> {
        self.runner.status(network)
    }

    /// GC: a DEL for every remembered attachment of this network that is not among the `valid` ones (container
    /// id, interface), with the configuration of its ADD, and then GC of the plugins. Goes on after a failure.
    ///
    /// # Errors
    /// All failures in one, with the code of the first.
    pub fn gc(&self, network: &NetworkConfig, valid: &[(String, String)]) -> Result<(), Error> {
        if network.disable_gc {
            return Ok(());
        }
        let mut errors: Vec<Error> = Vec::new();
        let remembered = self.cache.list().unwrap_or_else(|e| {
            errors.push(e);
            Vec::new()
        });
        let is_valid = |entry: &Entry| {
            valid.iter().any(|(id, ifname)| *id == entry.container_id && *ifname == entry.ifname)
        };
        for entry in remembered.iter().filter(|entry| entry.network == network.name && !is_valid(entry)) {
            errors.extend(self.del_stale(network, entry).err());
        }
        errors.extend(self.runner.gc(network, valid).err());
        Error::join(errors)
    }

    fn del_stale(&self, network: &NetworkConfig, entry: &Entry) -> Result<(), Error> {
        let stored = NetworkConfig::restore(&entry.config).inspect_err(|e| {
            log::warn!(
                "GC of {} {}: the configuration of now stands in: {e}",
                entry.container_id,
                entry.ifname
            );
        });
        let args: Vec<String> = entry.args.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let attachment = Attachment {
            container_id: &entry.container_id,
            netns: Some(entry.netns.as_str()).filter(|netns| !netns.is_empty()),
            ifname: &entry.ifname,
            args: &args.join(";"),
            capability_args: &entry.capability_args,
        };
        let stale =
            |e: Error| Error { msg: format!("stale attachment {}: {}", entry.container_id, e.msg), ..e };
        self.del(stored.as_ref().unwrap_or(network), &attachment).map_err(stale)
    }
}

fn key<'a>(network: &'a NetworkConfig, attachment: &Attachment<'a>) -> Key<'a> {
    Key { network: &network.name, container_id: attachment.container_id, ifname: attachment.ifname }
}

fn pairs(args: &str) -> Vec<(String, String)> {
    let items = args.split(';').filter_map(|item| item.split_once('='));
    items.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}
