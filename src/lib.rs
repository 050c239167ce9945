//! oxmon: an agent that reads a host's metrics, and a server that stores, evaluates and notifies.
//!
//! `ARCHITECTURE.md` has the picture. Two daemons share `base`, `rt`, `model` and `wire`.

#[cfg(feature = "agent")]
pub mod agent;
pub mod base;
#[cfg(all(test, feature = "agent", feature = "server"))]
mod fuzz;
#[cfg(feature = "server")]
pub mod mock;
pub mod model;
pub mod rt;
#[cfg(feature = "server")]
pub mod server;
pub mod wire;
