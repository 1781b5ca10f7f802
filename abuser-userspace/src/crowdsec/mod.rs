//! `[crowdsec]`: the daemon as a bouncer of a local API of `CrowdSec` and, with the credentials of a machine,
//! as one that tells it of bans.
//!
//! Enforcement waits for none of it: what the local API had decided stays in force when it does not
//! answer, and all is compared anew when it is back.
//!
//! | module | what it holds |
//! | --- | --- |
//! | `client`, `machine` | requests: as a bouncer, as a machine |
//! | `wire`, `element` | decisions as they are streamed, and each of them |
//! | `filter` | of which decisions note is taken |
//! | `decisions` | whom all decisions together ban |
//! | `follow` | asking again and again, and telling the engine |
//! | `ledger` | own bans, there and here |
//! | `push`, `alert` | telling of own bans, and what is told of one; `doubts`: what a failure may have left |
//! | `usage` | what a local API shows of its bouncers |
//! | `backoff`, `status` | when it does not answer; how it stands |

mod alert;
mod backoff;
mod client;
pub mod decisions;
pub mod element;
pub mod filter;
mod follow;
mod ledger;
mod machine;
mod push;
mod status;
mod usage;
pub mod wire;

pub use follow::{Surroundings, follow};
pub use status::Monitor;

use crate::{config::CrowdsecConfig, files};

/// What is wrong with the files that the configuration names.
pub fn problems(config: &CrowdsecConfig) -> Vec<String> {
    let lapi = client::Lapi::new(config)
        .err()
        .map(|error| error.to_string());
    let password = config
        .push
        .as_ref()
        .map(|push| files::read_line(&push.password_file));
    let password = password
        .and_then(Result::err)
        .map(|error| error.to_string());
    lapi.into_iter().chain(password).collect()
}
