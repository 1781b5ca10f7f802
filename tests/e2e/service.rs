//! abuser as a service: what the service manager is told, how it logs, the Debian package on a real
//! systemd, and what shells and `man` know of it.

mod logs;
mod notify;
mod package;
mod reference;
