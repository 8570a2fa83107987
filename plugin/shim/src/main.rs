//! `multus-shim`: the plugin a runtime executes for every pod.
//!
//! stdout is the protocol (CNI 1.1.0): one result or one error object. Everything else goes to stderr.

mod client;
mod output;

use std::{collections::BTreeMap, io::Read, process::ExitCode};

use cni::{
    env::{Command, Request},
    error::Error,
    version,
};
use meta::{error::Fault, netconf::NetConf, verbs};

/// Largest config a runtime may hand over, in bytes; results of long chains come with it.
const MAX_STDIN: u64 = 4 << 20;

fn main() -> ExitCode {
    let level = std::env::var("MULTUS_LOG").unwrap_or_else(|_| "warn".to_owned());
    env_logger::Builder::new().parse_filters(&level).init();
    if std::env::args().nth(1).is_some_and(|arg| arg == "--version") {
        return output::line(&format!("multus-shim {}", env!("CARGO_PKG_VERSION")));
    }
    let env: BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    if !env.contains_key("CNI_COMMAND") {
        return output::line(
            "multus-shim is a CNI plugin: a container runtime runs it with CNI_COMMAND and a config on stdin",
        );
    }
    let mut spoken = version::SUPPORTED[version::SUPPORTED.len() - 1].to_owned();
    match run(&env, &mut spoken) {
        Ok(answer) => output::line(&answer),
        Err(error) => output::failure(&error, &spoken),
    }
}

/// Answers one call; `spoken` becomes the config's as soon as that is known, since errors carry it too.
fn run(env: &BTreeMap<String, String>, spoken: &mut String) -> Result<String, Error> {
    let mut stdin = Vec::new();
    std::io::stdin().take(MAX_STDIN).read_to_end(&mut stdin).map_err(|error| {
        Error::new(cni::error::code::IO, format!("reading the config from stdin: {error}"))
    })?;
    if env.get("CNI_COMMAND").is_some_and(|command| command == "VERSION") {
        return Ok(supported());
    }
    let request = Request::from_env(env, &stdin)?;
    request.cni_version.clone_into(spoken);
    answer(&request).map_err(Error::from)
}

fn answer(request: &Request) -> Result<String, Fault> {
    match request.command {
        Command::Add => {
            let conf = NetConf::parse(&request.config)?;
            let daemon = client::Daemon::new(conf.socket(), conf.daemon_wait);
            verbs::add(request, &daemon).map(|result| result.raw().to_owned())
        }
        Command::Del => verbs::del(request).map(|()| String::new()),
        Command::Check => verbs::check(request).map(|()| String::new()),
        Command::Status => verbs::status(request).map(|()| String::new()),
        Command::Gc => verbs::gc(request).map(|()| String::new()),
        Command::Version => Ok(supported()),
    }
}

/// The answer to VERSION, which needs no config.
fn supported() -> String {
    let newest = version::SUPPORTED[version::SUPPORTED.len() - 1];
    serde_json::json!({ "cniVersion": newest, "supportedVersions": version::SUPPORTED }).to_string()
}
