//! The plugin as a runtime sees it: environment, stdin, stdout, and what it leaves on the host.

mod faults;
mod flow;
mod host;
mod lies;
