//! The binary `abuser` as people and scripts meet it: what it prints, where, and how it
//! exits: 0 done, 1 it failed, 2 wrong usage or configuration.
//!
//! | module | what it is about |
//! | --- | --- |
//! | `usage` | wrong arguments, `--help`, `--version` |
//! | `check` | configurations, good and bad |
//! | `no_daemon` | commands that find nobody to talk to |
//! | `start` | starts that are refused, and change nothing |
//! | `bans`, `allow` | lists that are changed by hand |
//! | `import` | lists from and for other programs |
//! | `imports` | configurations of other programs |
//! | `peers` | those lists, and the real programs |
//! | `blocklists` | files that are followed |
//! | `crowdsec` | decisions of CrowdSec, and bans that are told to it |
//! | `fleet` | nodes that share bans |
//! | `pipes` | readers that stop reading, and disks that are full |
//! | `listing` | `status`, `limits` and tables, for people and for programs |
//! | `events` | the stream |
//! | `explain` | what a packet would meet, and why |
//! | `detach` | taking the program off |
//! | `replay` | what a configuration would have done, by captures and logs |
//! | `store` | what outlives the daemon |
//! | `faults` | the daemon is killed at any moment |
//! | `interrupted` | ... and amid what takes a while |
//! | `disks` | a disk that is full, read-only, or breaks at work |
//! | `damage` | a database that was damaged, or is another program's |
//! | `resources` | too few descriptors, too little memory |
//! | `reconcile` | maps and rows that somebody else changed |
//! | `api` | hostile requests, straight to the socket |
//! | `access` | who may do what, over the socket and over TCP |
//! | `bounds` | how long, and how many at once |
//! | `metrics` | what Prometheus scrapes |
//! | `detection` | logs, detectors and what follows |
//! | `notify` | what happens, told to other programs |
//! | `offences` | what applications tell of |
//! | `page` | the page, in a real browser |
//! | `scan` | counting the lines of logs |
//! | `trial` | `abuser test`: a detector or a filter on a log |
//! | `sources` | lines that other people's programs write, through their rotation |
//! | `top` | who is busiest, and the view of it |
//! | `soak` | everything at once, for a few seconds |
//! | `security` | what the daemon gives up, and whom each route answers |
//! | `service` | the service manager, logs, the Debian package, completions and manual pages |
//! | `guide` | what the documentation shows |

mod access;
mod allow;
mod api;
mod bans;
mod blocklists;
mod bounds;
mod check;
mod crowdsec;
mod damage;
mod detach;
mod detection;
mod disks;
mod events;
mod explain;
mod faults;
mod fleet;
mod guide;
mod http;
mod import;
mod imports;
mod interrupted;
mod listing;
mod metrics;
mod no_daemon;
mod notify;
mod offences;
mod page;
mod peers;
mod pipes;
mod reconcile;
mod replay;
mod resources;
mod scan;
mod security;
mod service;
mod soak;
mod sources;
mod start;
mod store;
mod support;
mod throttle;
mod top;
mod trial;
mod usage;
