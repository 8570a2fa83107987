//! `multus-shim`: the plugin a runtime executes for every pod. What it does is in `meta`; here is its way to the
//! cluster, the daemon's socket.

mod client;

use std::process::ExitCode;

fn main() -> ExitCode {
    meta::plugin::serve("multus-shim", env!("CARGO_PKG_VERSION"), |conf| {
        Ok(Box::new(client::Daemon::new(conf.socket(), conf.daemon_wait)))
    })
}
