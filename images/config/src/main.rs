//! config.
fn main() {}
