//! `abuser events`.

use std::path::Path;

use super::{CliError, args::EventsArgs, output};
use crate::api::{
    client::Client,
    types::{EventFilter, LimitStatus},
};

pub(super) async fn events(socket: &Path, args: &EventsArgs) -> Result<(), CliError> {
    let EventsArgs {
        json,
        source,
        kind,
        limit,
        count,
    } = args;
    let filter = EventFilter {
        source: *source,
        kind: *kind,
        limit: limit.clone(),
    };
    let mut client = Client::connect(socket).await?;
    if let Some(wanted) = limit {
        check_limit(&mut client, wanted).await?;
    }
    let mut events = client.events(&filter).await?;
    let mut left = *count;
    while left != Some(0) {
        let Some((event, line)) = events.next_event().await? else {
            return Err(CliError::Other(anyhow::anyhow!("the daemon stopped")));
        };
        if *json {
            output::json_line(&line)?;
        } else {
            output::line(&event.line())?;
        }
        left = left.map(|left| left - 1);
    }
    Ok(())
}

/// A limit that does not exist would be waited for in silence.
async fn check_limit(client: &mut Client, wanted: &str) -> Result<(), CliError> {
    let limits: Vec<LimitStatus> = client.get("/v1/limits").await?;
    let names: Vec<_> = limits.iter().map(|limit| limit.name.as_str()).collect();
    if names.contains(&wanted) {
        return Ok(());
    }
    Err(CliError::Other(anyhow::anyhow!(
        "there is no limit {wanted:?}; there are: {}",
        if names.is_empty() {
            "none".to_owned()
        } else {
            names.join(", ")
        }
    )))
}
