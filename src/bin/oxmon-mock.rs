//! oxmon-mock.

fn main() {}
