//! Detection: what a line of a log costs, what detectors remember, and how soon a ban follows.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`logs`] | the logs that are read, made up from a seed |
//! | [`reading`] | what reads them here, and how long it kept the CPU busy |
//! | [`peer`] | `fail2ban-regex` on the same file |
//! | [`site`] | the real daemon on a log |
//! | [`access`] | an access log through a threshold, alone and beside fail2ban |
//! | [`sshd`] | sshd's log through fail2ban's own filter, in both |
//! | [`mod@latency`] | from a line to the ban in the kernel |
//! | [`mod@memory`] | a million sources in the daemon |
//! | [`walk`] | walkers and readers: how soon the ones are found, and whether the others are |

mod access;
mod latency;
mod logs;
mod memory;
mod peer;
mod reading;
mod site;
mod sshd;
mod walk;

pub(crate) use self::{
    access::{beside_fail2ban as nginx_ratio, measure as nginx},
    latency::{alone as latency, busy as latency_busy},
    logs::now_ms,
    memory::measure as memory,
    sshd::measure as sshd_ratio,
    walk::{readers, walkers},
};
