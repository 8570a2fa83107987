//! Runs one network by hand, as libcni's cnitool does: `cnitool add|del|check NETWORK NETNS`,
//! `cnitool gc|status NETWORK`.
//!
//! Environment: `NETCONFPATH` (/etc/cni/net.d), `CNI_PATH` (/opt/cni/bin), `CNI_CACHE` (/var/lib/cni),
//! `CNI_CONTAINERID` (cnitool), `CNI_IFNAME` (eth0), `CNI_ARGS`, `CAP_ARGS` (a JSON object for runtimeConfig).

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use cni::{
    cache::{self, Cache},
    chain::{Attachment, Runner, Unwatched},
    config::find_network,
    error::{Error, code},
    process::TERM_GRACE,
    raw::Object,
    runtime::Runtime,
};

fn main() -> ExitCode {
    match run(&std::env::args().skip(1).collect::<Vec<_>>()) {
        Ok(answer) => {
            print!("{answer}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("cnitool: {error} (code {})", error.code);
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<String, Error> {
    let var = |name: &str, default: &str| std::env::var(name).unwrap_or_else(|_| default.to_owned());
    let (verb, name, netns) = match arguments {
        [verb, name] => (verb.as_str(), name, None),
        [verb, name, netns] => (verb.as_str(), name, Some(netns.as_str())),
        _ => return Err(Error::new(code::BAD_ENVIRONMENT, "usage: cnitool VERB NETWORK [NETNS]")),
    };
    let network = find_network(Path::new(&var("NETCONFPATH", "/etc/cni/net.d")), name)?;
    let path: Vec<PathBuf> = var("CNI_PATH", "/opt/cni/bin").split(':').map(PathBuf::from).collect();
    let deadline = Instant::now() + Duration::from_secs(120);
    let cache = Cache::new(var("CNI_CACHE", cache::DEFAULT_DIR));
    let runner = Runner { path: &path, deadline, grace: TERM_GRACE, watcher: &Unwatched };
    let runtime = Runtime { runner, cache: &cache };
    let attachment = Attachment {
        container_id: &var("CNI_CONTAINERID", "cnitool"),
        netns,
        ifname: &var("CNI_IFNAME", "eth0"),
        args: &var("CNI_ARGS", ""),
        capability_args: &Object::parse(&var("CAP_ARGS", "{}"))?,
    };
    let done = |()| String::new();
    match verb {
        "add" => match runtime.add(&network, &attachment) {
            Ok(result) => Ok(format!("{}\n", result.raw())),
            Err(failed) => {
                // What the ADD began must be undone; its own error is the one that tells.
                if let Err(error) = runtime.del(&network, &attachment) {
                    eprintln!("cnitool: undoing the ADD: {error}");
                }
                Err(failed)
            }
        },
        "del" => runtime.del(&network, &attachment).map(done),
        "check" => runtime.check(&network, &attachment).map(done),
        "status" => runtime.status(&network).map(done),
        // Nothing that this tool attached is still valid.
        "gc" => runtime.gc(&network, &[]).map(done),
        other => Err(Error::new(code::BAD_ENVIRONMENT, format!("unknown verb {other:?}"))),
    }
}
