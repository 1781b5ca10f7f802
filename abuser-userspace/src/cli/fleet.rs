//! `abuser fleet`.

use std::path::Path;

use anyhow::anyhow;

use super::{
    CliError,
    args::{FleetCommand, FleetLoginArgs},
    output::{self, counted, grouped},
};
use crate::{
    api::{
        client::Client,
        types::{FleetLoginRequest, FleetNode, FleetRevokeRequest, FleetRevoked, FleetStatus},
    },
    files::read_private,
};

/// The longest secret, in bytes.
const MAX_SECRET: u64 = 16 << 10;

pub(super) async fn fleet(socket: &Path, command: FleetCommand) -> Result<(), CliError> {
    let mut client = Client::connect(socket).await?;
    match command {
        FleetCommand::Status(args) => {
            let status: FleetStatus = client.get("/v1/fleet").await?;
            if args.json {
                return Ok(output::json(&status)?);
            }
            show(&status)
        }
        FleetCommand::Revoke(args) => {
            let request = FleetRevokeRequest {
                node: args.node,
                login: login(args.login)?,
            };
            let revoked: FleetRevoked = client.post("/v1/fleet/revoke", &request).await?;
            if args.json {
                return Ok(output::json(&revoked)?);
            }
            let FleetRevoked { node, bans, allow } = revoked;
            Ok(output::line(&format!(
                "revoked {node}: {}, {}; it says them again if its credentials still let it",
                counted(bans as u64, "ban", "bans"),
                counted(allow as u64, "allow entry", "allow entries"),
            ))?)
        }
        FleetCommand::Init(args) => {
            let login = login(args.login)?;
            let () = client.post("/v1/fleet/init", &login).await?;
            Ok(output::line("the bucket is there")?)
        }
    }
}

/// The fleet on one line, for `abuser status`.
pub(super) fn summary(status: &FleetStatus) -> String {
    let FleetStatus {
        node,
        bucket,
        server,
        error,
        ..
    } = status;
    let mut parts = vec![match server {
        Some(server) => format!("fleet: {node}, bucket {bucket} by {server}"),
        None => format!("fleet: {node} is NOT CONNECTED to any server"),
    }];
    let gone = match others(status).filter(|node| node.gone).count() {
        0 => String::new(),
        gone => format!(" ({gone} of them gone)"),
    };
    parts.push(format!(
        "{}{gone}, who ban {} and allow {}",
        counted(others(status).count() as u64, "other node", "other nodes"),
        counted(status.bans as u64, "source", "sources"),
        status.allow,
    ));
    if status.pending > 0 {
        let changes = counted(status.pending as u64, "change", "changes");
        parts.push(format!("{changes} not told yet"));
    }
    parts.extend(error.clone());
    parts.join("; ")
}

fn others(status: &FleetStatus) -> impl Iterator<Item = &FleetNode> {
    status.nodes.iter().filter(|node| !node.this)
}

fn show(status: &FleetStatus) -> Result<(), CliError> {
    output::line(&summary(status))?;
    output::line(&format!(
        "shared: {}, {}; {} published",
        counted(status.shared_bans as u64, "ban", "bans"),
        counted(status.shared_allow as u64, "allow entry", "allow entries"),
        grouped(status.published),
    ))?;
    let refused = status.refused.iter().filter(|(_, count)| **count > 0);
    let refused: Vec<_> = refused
        .map(|(why, count)| format!("{} {}", grouped(*count), why.replace('_', " ")))
        .collect();
    let mut heard = vec![format!("heard: {} messages", grouped(status.received))];
    if let Some(latency) = status.latency {
        heard.push(format!(
            "half of them within {} ms, 99 of 100 within {} ms",
            latency.median_ms, latency.p99_ms
        ));
    }
    if !refused.is_empty() {
        heard.push(format!("refused: {}", refused.join(", ")));
    }
    output::line(&heard.join("; "))?;
    output::line("")?;
    let rows = status.nodes.iter().map(|node| {
        vec![
            node.name.clone(),
            node.version.clone().unwrap_or_default(),
            node.seen.clone().unwrap_or_default(),
            grouped(node.bans as u64),
            grouped(node.allow as u64),
            note(node),
        ]
    });
    Ok(output::table(
        &["NODE", "VERSION", "SEEN", "BANS", "ALLOWED", "NOTE"],
        rows.collect(),
        &[3, 4],
    )?)
}

fn note(node: &FleetNode) -> String {
    match node {
        FleetNode { this: true, .. } => "this node".to_owned(),
        FleetNode { ignored: true, .. } => "ignored".to_owned(),
        FleetNode { gone: true, .. } => "gone".to_owned(),
        FleetNode {
            ahead_ms: Some(ahead),
            ..
        } if ahead.unsigned_abs() > 5000 => format!("its clock is off by {} s", ahead / 1000),
        _ => String::new(),
    }
}

/// Reads the secrets that are named, with the rights of whoever runs this.
fn login(args: FleetLoginArgs) -> Result<FleetLoginRequest, CliError> {
    let FleetLoginArgs {
        credentials_file,
        nkey_file,
        user,
        password_file,
    } = args;
    let read = |path: Option<&Path>| -> Result<Option<String>, anyhow::Error> {
        let Some(path) = path else { return Ok(None) };
        let name = path.display();
        let bytes = read_private(path, MAX_SECRET).map_err(anyhow::Error::from)?;
        let text = String::from_utf8(bytes).map_err(|_| anyhow!("{name} is not text"))?;
        Ok(Some(text))
    };
    Ok(FleetLoginRequest {
        credentials: read(credentials_file.as_deref())?,
        nkey: read(nkey_file.as_deref())?,
        user,
        password: read(password_file.as_deref())?,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nodes_that_are_gone_are_told_as_such() {
        let node = |name: &str, this: bool, gone: bool| {
            json!({
                "name": name, "this": this, "version": null, "seen": null, "bans": 0, "allow": 0,
                "ignored": false, "gone": gone, "ahead_ms": null,
            })
        };
        let mut status = json!({
            "node": "a", "bucket": "abuser", "connected": true, "server": "n0", "since": null,
            "reconnects": 0, "complete": true, "error": null, "shared_bans": 0, "shared_allow": 0,
            "pending": 0, "published": 0, "unshared": 0, "bans": 1, "allow": 0, "received": 0,
            "refused": {}, "latency": null,
        });
        status["nodes"] = json!([
            node("a", true, false),
            node("b", false, true),
            node("c", false, false)
        ]);
        let status: FleetStatus = serde_json::from_value(status).unwrap();
        let told = "fleet: a, bucket abuser by n0; 2 other nodes (1 of them gone), who ban 1 source and \
                    allow 0";
        assert_eq!(summary(&status), told);
        let notes: Vec<_> = status.nodes.iter().map(note).collect();
        assert_eq!(notes, ["this node", "gone", ""]);
    }
}
