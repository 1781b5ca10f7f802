//! `abuser explain`: what a packet from an address would meet, in words.

use std::path::Path;

use super::{
    CliError,
    args::ExplainArgs,
    output::{self, counted, grouped, span},
};
use crate::api::{
    client::Client,
    types::{
        AllowInfo, Evidence, ExplainedBan, Explanation, LimitLevel, OffenceRecord, PastBan,
        ThrottleInfo,
    },
};

pub(super) async fn explain(socket: &Path, args: &ExplainArgs) -> Result<(), CliError> {
    let mut client = Client::connect(socket).await?;
    let path = format!("/v1/explain/{}", args.address);
    let explanation: Explanation = client.get(&path).await?;
    if args.json {
        return Ok(output::json(&explanation)?);
    }
    for line in lines(&explanation) {
        output::line(&line)?;
    }
    Ok(())
}

/// What is told, a line each, with the words of others as they are.
pub(super) fn lines(explanation: &Explanation) -> Vec<String> {
    let Explanation {
        address,
        verdict,
        observe,
        allow,
        bans,
        throttles,
        limits,
        offences,
        history,
    } = explanation;
    let mut lines = vec![format!("{address} {}", in_words(verdict, *observe))];
    lines.extend(allow.iter().map(allowed));
    for explained in bans {
        lines.push(banned(explained));
        lines.extend(explained.evidence.iter().map(evidence));
    }
    lines.extend(throttles.iter().map(throttled));
    lines.extend(limits.iter().map(level));
    for record in offences {
        lines.push(remembered(record));
        lines.extend(record.evidence.iter().map(evidence));
    }
    lines.extend(history.iter().map(past));
    lines
}

fn in_words(verdict: &str, observe: bool) -> String {
    let words = match verdict {
        "allowed" => "passes: it is allowed",
        "banned" => "is dropped: it is banned",
        "limited" => "is dropped for now: it is over a limit",
        _ => "passes",
    };
    if observe && !matches!(verdict, "allowed" | "passes") {
        return format!("passes because abuser only observes; else it {words}");
    }
    words.to_owned()
}

fn allowed(entry: &AllowInfo) -> String {
    let details = [
        (", ", &entry.note),
        (", by ", &entry.by),
        (", since ", &entry.created),
    ];
    format!(
        "allowed: {} ({}){}",
        entry.source,
        entry.origin,
        known(&details)
    )
}

fn banned(ExplainedBan { ban, .. }: &ExplainedBan) -> String {
    let details = [
        (": ", &ban.reason),
        (", by ", &ban.by),
        (", since ", &ban.created),
        (", until ", &ban.expires),
    ];
    format!(
        "ban {} of {} ({}{}){}{}; {} met it",
        ban.id,
        ban.source,
        ban.cause,
        known(&[(" ", &ban.blocklist), (" ", &ban.node)]),
        known(&details),
        if ban.expires.is_none() {
            ", for good"
        } else {
            ""
        },
        counted(ban.hits, "packet", "packets")
    )
}

fn throttled(throttle: &ThrottleInfo) -> String {
    let ThrottleInfo {
        source,
        limit,
        created,
        expires,
        reason,
        by,
        ..
    } = throttle;
    let details = [(": ", reason), (", by ", by)];
    let until = [(", until ", expires)];
    format!(
        "throttled: {source} by limit {limit}{}, since {created}{}{}",
        known(&details),
        known(&until),
        if expires.is_none() { ", for good" } else { "" }
    )
}

/// The details that are known, each after its words.
fn known(details: &[(&str, &Option<String>)]) -> String {
    let known = details
        .iter()
        .filter_map(|(words, value)| Some([*words, value.as_deref()?]));
    known.flatten().collect()
}

fn evidence(evidence: &Evidence) -> String {
    format!("    {}  {}", evidence.time, evidence.text)
}

fn level(level: &LimitLevel) -> String {
    let LimitLevel {
        limit,
        source,
        count,
        rate,
        capacity,
        left,
        action,
    } = level;
    let observes = if action == "observe" {
        ", only observed"
    } else {
        ""
    };
    format!(
        "limit {limit} ({rate}{observes}): {} of {} {count} left for {source}",
        grouped(*left),
        grouped(*capacity)
    )
}

fn remembered(record: &OffenceRecord) -> String {
    let next = record.next_ban_seconds.map_or_else(
        || "for good".to_owned(),
        |seconds| format!("for {}", span(seconds)),
    );
    format!(
        "policy {}: {} of {} offences that ban {}, banned {} before; the next ban is {next}",
        record.policy,
        record.offences,
        record.maxretry,
        record.source,
        counted(u64::from(record.bans), "time", "times")
    )
}

fn past(past: &PastBan) -> String {
    let details = [
        (": ", &past.reason),
        (", by ", &past.by),
        (", since ", &past.created),
    ];
    format!(
        "earlier: ban {} of {} ({}){}; {} {}; {} met it",
        past.id,
        past.source,
        past.cause,
        known(&details),
        past.how,
        past.ended,
        counted(past.hits, "packet", "packets")
    )
}
