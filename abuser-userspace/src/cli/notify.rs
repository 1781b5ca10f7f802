//! `abuser notify`, and who is notified as `abuser status` shows it.

use std::path::Path;

use super::{
    CliError,
    args::{NotifyCommand, NotifyTestArgs},
    output::{self, counted, grouped},
};
use crate::api::{
    client::Client,
    types::{NotifierStatus, NotifyTest, NotifyTestRequest},
};

pub(super) async fn notify(socket: &Path, command: NotifyCommand) -> Result<(), CliError> {
    let NotifyCommand::Test(NotifyTestArgs { name, json }) = command;
    let mut client = Client::connect(socket).await?;
    let request = NotifyTestRequest { name };
    let tested: NotifyTest = client.post("/v1/notify/test", &request).await?;
    if json {
        output::json(&tested)?;
        return if tested.delivered {
            Ok(())
        } else {
            Err(CliError::Silent)
        };
    }
    let NotifyTest {
        name,
        kind,
        target,
        delivered,
        status,
        answer,
        error,
        milliseconds: _,
    } = tested;
    if !delivered {
        let why = error.unwrap_or_default();
        return Err(CliError::Other(anyhow::anyhow!(
            "{name}: {kind} {target}: {why}"
        )));
    }
    let status = match status {
        Some(status) if kind == "command" => format!("exit status {status}"),
        Some(status) => format!("it answered {status}"),
        None => "done".to_owned(),
    };
    let answer = answer.map_or_else(String::new, |answer| format!(": {answer}"));
    Ok(output::line(&format!(
        "{name}: told {kind} {target} of a sample event; {status}{answer}"
    ))?)
}

/// How it stands with somebody who is notified.
pub(super) fn line(notifier: &NotifierStatus) -> String {
    let NotifierStatus {
        name,
        kind,
        target,
        sent,
        failed,
        retried,
        dropped,
        pending,
        error,
        last_failure: _,
        last_success: _,
    } = notifier;
    let counts = [
        (*pending, " pending"),
        (*failed, " failed"),
        (*dropped, " dropped"),
    ];
    let counts = counts.into_iter().filter(|(count, _)| *count > 0);
    let retries = (*retried > 0).then(|| counted(*retried, "retry", "retries"));
    let parts: Vec<_> = [format!("{} sent", counted(*sent, "event", "events"))]
        .into_iter()
        .chain(counts.map(|(count, what)| grouped(count) + what))
        .chain(retries)
        .collect();
    let line = format!("notify {name}: {}", parts.join(", "));
    match error {
        Some(error) => format!("{line}; {kind} {target} DOES NOT WORK: {error}"),
        None => format!("{line} ({kind} {target})"),
    }
}
