//! The whole of `abuser` on real interfaces: the daemon on one end of a veth pair, real
//! sockets on both.
//!
//! What is counted is what arrived at a receiving socket, so a test sees what a client sees
//! and not what the program says of itself. Each test has namespaces of its own.

mod allow;
mod attach;
mod bans;
mod clock;
mod connections;
mod counters;
mod dispatcher;
mod interfaces;
mod ipv6;
mod layouts;
mod lifecycle;
mod limits;
mod mtu;
mod observe;
mod offenders;
mod pins;
mod policies;
mod process;
mod reload;
mod restart;
mod ring;
mod safety;
mod several;
mod support;
mod throttle;
mod vanish;
mod verified;
