//! `abuser throttle`.

use std::{io::IsTerminal as _, path::Path};

use super::{
    CliError,
    args::{ThrottleAddArgs, ThrottleCommand},
    bans::{array, duration},
    control::{allow_list, note_unwritten},
    output::{self, span},
};
use crate::api::{
    client::{Client, Lines},
    types::{ThrottleInfo, ThrottleRequest, UnthrottleRequest},
};

pub(super) async fn throttle(socket: &Path, command: ThrottleCommand) -> Result<(), CliError> {
    let mut client = Client::connect(socket).await?;
    match command {
        ThrottleCommand::Add(args) => {
            let ThrottleAddArgs {
                sources,
                limit,
                time,
                reason,
                force,
                json,
            } = args;
            let request = ThrottleRequest {
                sources,
                limit,
                duration: duration(time),
                reason,
                force,
            };
            let throttles: Vec<ThrottleInfo> = client.post("/v1/throttles", &request).await?;
            note_allowed(&mut client, &throttles).await;
            note_unwritten(&mut client).await;
            if json {
                return Ok(output::json(&throttles)?);
            }
            for throttle in throttles {
                output::line(&format!(
                    "throttled {} by limit {} {}",
                    throttle.source,
                    throttle.limit,
                    until(&throttle)
                ))?;
            }
            Ok(())
        }
        ThrottleCommand::Remove(args) => {
            let request = UnthrottleRequest {
                sources: args.sources,
                limit: args.limit,
            };
            let throttles: Vec<ThrottleInfo> = client.delete("/v1/throttles", &request).await?;
            note_unwritten(&mut client).await;
            if args.json {
                return Ok(output::json(&throttles)?);
            }
            for ThrottleInfo { source, limit, .. } in throttles {
                output::line(&format!("no longer throttled: {source} by limit {limit}"))?;
            }
            Ok(())
        }
        ThrottleCommand::List(args) => {
            let throttles = client.read("/v1/throttles").await?;
            if args.json {
                return array(throttles).await;
            }
            list(throttles).await
        }
    }
}

/// Says which throttles have no effect, because the allow list beats them.
async fn note_allowed(client: &mut Client, throttles: &[ThrottleInfo]) {
    let allowed = allow_list(client).await;
    for ThrottleInfo { source, .. } in throttles {
        if let Some(entry) = allowed.iter().find(|entry| entry.source.contains(source)) {
            output::error(&format!(
                "{source} is throttled and passes all the same, as long as {} is allowed ({})",
                entry.source, entry.origin
            ));
        }
    }
}

/// Prints throttles as they come; for a terminal, whose columns are as wide as their widest cell,
/// when all have come.
async fn list(mut throttles: Lines) -> Result<(), CliError> {
    let mut rows = Vec::new();
    while let Some(throttle) = throttles.next_element::<ThrottleInfo>().await? {
        rows.push(row(throttle));
        if !std::io::stdout().is_terminal() {
            table(std::mem::take(&mut rows))?;
        }
    }
    table(rows)
}

fn table(rows: Vec<Vec<String>>) -> Result<(), CliError> {
    Ok(output::table(
        &["SOURCE", "LIMIT", "TIME LEFT", "REASON"],
        rows,
        &[],
    )?)
}

fn row(throttle: ThrottleInfo) -> Vec<String> {
    vec![
        throttle.source.to_string(),
        throttle.limit,
        throttle
            .remaining_seconds
            .map_or_else(|| "permanent".to_owned(), span),
        throttle.reason.unwrap_or_default(),
    ]
}

fn until(throttle: &ThrottleInfo) -> String {
    match (&throttle.expires, throttle.remaining_seconds) {
        // What is left was rounded down a moment after it was whole.
        (Some(expires), Some(seconds)) => format!("until {expires} ({})", span(seconds + 1)),
        _ => "for good".to_owned(),
    }
}
