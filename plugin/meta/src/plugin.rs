//! The whole of a Multus binary that a runtime executes, but for how it reaches the cluster.
//!
//! stdout is the protocol (CNI 1.1.0): one result or one error object. Everything else goes to stderr.

use std::process::ExitCode;

use cni::{
    dispatch::{self, Manifest, Plugin},
    env::Request,
    error::Error,
    result::CniResult,
    version,
};

use crate::{cluster::Cluster, error::Fault, gc, logging, netconf::NetConf, verbs};

/// Answers one call of the runtime: environment and stdin in, stdout and the exit code out.
///
/// `connect` is called for an ADD alone, before it is known whether the cluster is needed; it should be cheap.
pub fn serve(
    program: &str,
    release: &str,
    connect: impl Fn(&NetConf) -> Result<Box<dyn Cluster>, Fault>,
) -> ExitCode {
    let about =
        format!("{program} {release}: a CNI plugin, run by a container runtime with a config on stdin");
    if std::env::args().nth(1).is_some_and(|arg| matches!(arg.as_str(), "--version" | "-version" | "-v")) {
        println!("{program} {release}");
        return ExitCode::SUCCESS;
    }
    let manifest = Manifest { about: &about, versions: &version::SUPPORTED, refuse_own_netns: true };
    dispatch::main(&manifest, &Multus { connect })
}

struct Multus<F> {
    connect: F,
}

impl<F: Fn(&NetConf) -> Result<Box<dyn Cluster>, Fault>> Plugin for Multus<F> {
    fn add(&self, request: &Request) -> Result<CniResult, Error> {
        logged(request, |conf| {
            let cluster = (self.connect)(conf)?;
            verbs::add(request, conf, &*cluster)
        })
    }

    fn del(&self, request: &Request) -> Result<(), Error> {
        logged(request, |conf| verbs::del(request, conf))
    }

    fn check(&self, request: &Request) -> Result<(), Error> {
        logged(request, |conf| verbs::check(request, conf))
    }

    fn status(&self, request: &Request) -> Result<(), Error> {
        logged(request, |conf| verbs::status(request, conf))
    }

    fn gc(&self, request: &Request) -> Result<(), Error> {
        logged(request, |conf| gc::gc(request, conf))
    }
}

/// Runs a verb with our config; a failure is in the log as well as in the answer.
fn logged<T>(request: &Request, verb: impl FnOnce(&NetConf) -> Result<T, Fault>) -> Result<T, Error> {
    logging::start(&request.config);
    let done = NetConf::parse(&request.config).and_then(|conf| verb(&conf));
    done.map_err(|fault| {
        let error = Error::from(fault);
        log::error!("{} of sandbox {}: {error}", request.command.as_str(), request.container_id);
        error
    })
}
