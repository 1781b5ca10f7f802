//! What must hold for any input from outside: packets, and the configuration file.
//!
//! Each function panics if something does not hold. `cargo fuzz` looks for inputs that make
//! it (`fuzz_targets/`); the tests here replay those in `corpus/`, which earlier runs found
//! to lead elsewhere, on a stable compiler and without instrumentation.

mod config;
mod packet;
#[cfg(test)]
mod tests;

pub use config::config;
pub use packet::packet;
