//! `abuser detectors`.

use std::path::Path;

use super::{
    CliError,
    args::JsonArgs,
    output::{self, grouped},
};
use crate::api::{
    client::Client,
    types::{Detection, DetectorStatus, SourceStatus},
};

pub(super) async fn detectors(socket: &Path, args: &JsonArgs) -> Result<(), CliError> {
    let detection: Detection = Client::connect(socket).await?.get("/v1/detection").await?;
    if args.json {
        return Ok(output::json(&detection)?);
    }
    let Detection {
        error,
        sources,
        detectors,
    } = detection;
    if sources.is_empty() {
        return Ok(output::line(
            "no [[source]] is configured; docs/DETECTION.md says how to have logs read",
        )?);
    }
    let error = error.map(|error| format!("NO LOG IS READ: {error}"));
    let troubles: Vec<_> = error
        .into_iter()
        .chain(sources.iter().flat_map(troubles))
        .collect();
    let rows = sources.into_iter().map(source_row).collect();
    output::table(
        &[
            "SOURCE",
            "PARSER",
            "FILES",
            "LINES",
            "UNPARSED",
            "LAG",
            "LAST LINE",
        ],
        rows,
        &[2, 3, 4, 5],
    )?;
    output::line("")?;
    let rows = detectors.into_iter().map(detector_row).collect();
    output::table(
        &[
            "DETECTOR", "KIND", "ACTION", "SOURCES", "MATCHED", "FOUND", "TRACKED",
        ],
        rows,
        &[4, 5, 6],
    )?;
    for trouble in troubles {
        output::line(&trouble)?;
    }
    Ok(())
}

fn source_row(source: SourceStatus) -> Vec<String> {
    vec![
        source.name,
        source.parser.unwrap_or_else(|| "none".to_owned()),
        grouped(source.files),
        grouped(source.lines),
        grouped(source.unparsed),
        format!("{} B", grouped(source.lag_bytes)),
        source.last.unwrap_or_else(|| "never".to_owned()),
    ]
}

fn detector_row(detector: DetectorStatus) -> Vec<String> {
    vec![
        detector.name,
        detector.kind,
        detector.action,
        detector.sources.join(", "),
        grouped(detector.matched),
        grouped(detector.found),
        grouped(detector.tracked),
    ]
}

/// What keeps a source from being seen as a whole.
fn troubles(source: &SourceStatus) -> Vec<String> {
    let name = &source.name;
    let mut troubles = Vec::new();
    if let Some(error) = &source.error {
        troubles.push(format!("{name} IS NOT READ: {error}"));
    }
    for (count, what) in [
        (
            source.lost,
            "were lost: they came faster than they are read",
        ),
        (source.cut, "were longer than 64 KiB, and read to there"),
        (source.stale, "were older than an hour, and had no effect"),
        (
            source.ahead,
            "claimed to be from the future, and counted as of now",
        ),
    ] {
        if count > 0 {
            let lines = output::counted(count, "line", "lines");
            troubles.push(format!("{name}: {lines} {what}"));
        }
    }
    if let (Some(line), Some(error)) = (&source.unparsed_sample, &source.unparsed_error) {
        troubles.push(format!("{name}: no record: {error}: {line}"));
    }
    troubles
}
