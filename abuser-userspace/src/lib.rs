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
//! | [`exchange`] | block lists in the formats of other programs |
//! | [`host`] | what this host must not lock out |
//! | [`locks`] | who holds a lock on a file |
//! | [`outbound`] | HTTP that the daemon asks for |
//! | [`policy`] | when to ban and for how long |
//! | [`secret`] | files that nobody else can read |
//! | [`sources`] | lines from where applications write them |
//! | [`replay`] | what a configuration would have done, by captures |
//! | [`store`] | what outlives the daemon |
//! | `words` | numbers as people read them |
//! | [`api`] | how the command line talks to the daemon |

pub mod api;
pub mod cli;
pub mod config;
pub mod crowdsec;
pub mod daemon;
pub mod dataplane;
pub mod detection;
pub mod exchange;
pub mod host;
pub mod locks;
pub mod outbound;
pub mod policy;
pub mod replay;
pub mod secret;
pub mod sources;
pub mod store;
mod words;
