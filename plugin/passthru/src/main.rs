//! `passthru`: a CNI plugin that hands on the result it was given and changes nothing.
//!
//! It is the first plugin of a chain whose other plugins shall work on an interface that is there already.

use std::process::ExitCode;

use cni::{
    dispatch::{self, Manifest, Plugin},
    env::Request,
    error::Error,
    result::CniResult,
};

const MANIFEST: Manifest<'_> = Manifest {
    about: concat!("passthru ", env!("CARGO_PKG_VERSION"), ": a CNI plugin that hands on prevResult"),
    versions: &["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"],
    // It touches no namespace.
    refuse_own_netns: false,
};

struct Passthru;

impl Plugin for Passthru {
    fn add(&self, request: &Request) -> Result<CniResult, Error> {
        Ok(request.prev_result()?.unwrap_or_else(|| CniResult::empty(&request.cni_version)))
    }

    fn del(&self, _: &Request) -> Result<(), Error> {
        Ok(())
    }

    fn check(&self, _: &Request) -> Result<(), Error> {
        Ok(())
    }
}

fn main() -> ExitCode {
    dispatch::main(&MANIFEST, &Passthru)
}
