//! shim.
fn main() {}
