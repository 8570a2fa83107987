//! install.
fn main() {}
