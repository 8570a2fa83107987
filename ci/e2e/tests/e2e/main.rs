//! A real pod on a real node, through the chart.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on panics")]

mod churn;
mod daemon_away;
mod examples;
mod networks;
mod power;

/// Ends a test: the promises that hold after every one.
#[track_caller]
fn invariants_hold(cluster: &e2e::Cluster) {
    if let Err(broken) = e2e::invariants::hold(cluster) {
        panic!("{broken:#}");
    }
}
