//! How work runs: plain threads, one way to start them, one way to stop them, one worker pool.

pub mod memory;
pub mod pool;
pub mod service;
pub mod stop;
pub mod thread;
