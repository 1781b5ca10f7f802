//! Detectors over labelled traffic: what they find, after how many requests, and that they find nobody else.
//!
//! With `--nocapture` the numbers are printed; in release the honest clients send ten times as much.

#[path = "../../../tests/src/api_traffic.rs"]
pub mod api_traffic;

mod botnets;
mod cost;
mod walks;

use abuser_detect::record::Record;
use api_traffic::Request;

/// The record that a parser makes of a request.
fn record(request: &Request) -> Record<'_> {
    Record {
        source: Some(request.source.into()),
        path: Some(request.path.as_str().into()),
        key: request.key.as_deref().map(Into::into),
        status: Some(request.status),
        ..Record::default()
    }
}
