//! oxmon-agent.

fn main() {}
