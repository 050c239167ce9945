//! oxmon-server.

fn main() {}
