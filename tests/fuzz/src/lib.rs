//! What must hold for any input from outside: packets, logs, lists, what others say, and what people
//! write.
//!
//! Each function panics if something does not hold. `cargo xtask fuzz` looks for inputs that make
//! it (`fuzz_targets/`); the tests here replay those in `corpus/`, which earlier runs found
//! to lead elsewhere, on a stable compiler and without instrumentation. `docs/FUZZING.md` says what
//! each of them holds, and what came of it.
//!
//! Where an input is several things, its first byte says which, or how it is read; texts that are
//! several files have a line `----` between them.

mod api;
mod capture;
mod condition;
mod config;
mod crowdsec;
mod decide;
mod event;
mod exchange;
mod filter;
mod fleet;
mod import;
mod line;
mod packet;
mod shown;
mod stream;
mod target;
#[cfg(test)]
mod tests;
mod webhook;

pub use api::api;
pub use capture::capture;
pub use condition::condition;
pub use config::config;
pub use crowdsec::crowdsec;
pub use decide::decide;
pub use event::event;
pub use exchange::exchange;
pub use filter::filter;
pub use fleet::fleet;
pub use import::import;
pub use line::line;
pub use packet::packet;
pub use stream::stream;
pub use target::target;
pub use webhook::webhook;
