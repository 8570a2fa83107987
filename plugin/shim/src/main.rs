//! `multus-shim`: the plugin a runtime executes for every pod. What it does is in `meta`; here is its way to the
//! cluster, the daemon's socket.

mod client;

use std::process::ExitCode;

/// The C library gives each page back at once and then asks for it again: a third of the time before the first delegate.
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() -> ExitCode {
    meta::plugin::serve("multus-shim", env!("CARGO_PKG_VERSION"), |conf| {
        Ok(Box::new(client::Daemon::new(conf.socket(), conf.daemon_wait)))
    })
}
