//! The cluster behind the plugin: the files that were given.

use std::cell::RefCell;

use cni::error::code;
use meta::cluster::{
    Cluster, ClusterError, EventRequest, Network, NetworkRef, Pending, PublishRequest, ResolveRequest,
    ResolveResponse,
};

/// A cluster that has these definitions and nothing else.
#[derive(Debug)]
pub struct Files<'a> {
    networks: &'a [Network],
    status: RefCell<Option<String>>,
}

impl<'a> Files<'a> {
    /// The cluster of these definitions.
    pub fn new(networks: &'a [Network]) -> Self {
        Self { networks, status: RefCell::new(None) }
    }

    /// The network status that was published, if any was.
    pub fn status(&self) -> Option<String> {
        self.status.borrow().clone()
    }

    fn find(&self, wanted: &NetworkRef) -> Result<Network, ClusterError> {
        self.networks.iter().find(|network| network.is(wanted)).cloned().ok_or_else(|| ClusterError {
            code: code::INVALID_CONFIG,
            reason: "NAD_NOT_FOUND".to_owned(),
            message: format!("network {wanted} is in none of the files; give the file that defines it too"),
        })
    }
}

impl Cluster for Files<'_> {
    fn resolve(&self, request: &ResolveRequest) -> Result<ResolveResponse, ClusterError> {
        let networks = request.selections.iter().map(|wanted| self.find(wanted)).collect::<Result<_, _>>()?;
        Ok(ResolveResponse { networks, ..ResolveResponse::default() })
    }

    fn publish<'a>(&'a self, request: &'a PublishRequest) -> Pending<'a> {
        self.status.replace(Some(request.status.clone()));
        Box::new(|| Ok(()))
    }

    fn event(&self, _: &EventRequest) -> Result<(), ClusterError> {
        Ok(())
    }
}
