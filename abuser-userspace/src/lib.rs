//! abuser: the daemon and the command line.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`cli`] | the command line: arguments, tables, exit codes |
//! | [`config`] | the configuration file |
//! | [`crowdsec`] | the decisions of a local API of `CrowdSec`, and bans that are pushed to it |
//! | [`daemon`] | `abuser run`: the engine that owns bans |
//! | [`dataplane`] | the kernel half: program, maps, interfaces |
//! | [`detection`] | from the configuration to parsers and detectors |
//! | [`fleet`] | bans and allow entries shared with other nodes, over NATS |
//! | [`exchange`] | block lists in the formats of other programs |
//! | [`files`] | small files that a configuration names, secrets among them |
//! | [`host`] | what this host must not lock out |
//! | [`logging`] | what the daemon says of itself |
//! | [`locks`] | who holds a lock on a file |
//! | [`metrics`] | what the daemon knows, for Prometheus |
//! | `lookup` | who looks up names in a static binary |
//! | [`notify`] | events for other programs: webhooks and commands |
//! | [`outbound`] | requests that the daemon makes itself |
//! | [`policy`] | when to ban and for how long |
//! | [`sources`] | lines from where applications write them |
//! | [`replay`] | what a configuration would have done, by captures |
//! | [`store`] | what outlives the daemon |
//! | `words` | numbers as people read them |
//! | [`api`] | how the command line talks to the daemon |

#![deny(unsafe_code)]

pub mod api;
pub mod cli;
pub mod config;
pub mod crowdsec;
pub mod daemon;
pub mod dataplane;
pub mod detection;
pub mod exchange;
pub mod files;
pub mod fleet;
pub mod host;
pub mod locks;
pub mod logging;
mod lookup;
pub mod metrics;
pub mod notify;
pub mod outbound;
pub mod policy;
pub mod replay;
pub mod sandbox;
pub mod sources;
pub mod store;
mod words;
