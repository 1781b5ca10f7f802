//! What must hold for any body and any query of a request, and for any line of the stream of events.

use abuser::api::types::{
    AllowRequest, BanRequest, BansQuery, DetachRequest, EventFilter, EventRecord, ExportQuery,
    FleetLoginRequest, FleetRevokeRequest, ImportRequest, LatestQuery, NotifyTestRequest,
    ObserveRequest, OffencesRequest, RemoveRequest, Status, ThrottleRequest, Top, TopQuery,
    UnthrottleRequest,
};
use serde::{Serialize, de::DeserializeOwned};

use crate::shown;

/// Reads bytes as what the first of them says.
///
/// # Panics
///
/// If what was read is not what it is when it is written and read again, or an event's line is none
/// that can be shown.
pub fn api(bytes: &[u8]) {
    let [what, bytes @ ..] = bytes else {
        return;
    };
    match what % 20 {
        0 => body::<BanRequest>(bytes),
        1 => body::<RemoveRequest>(bytes),
        2 => body::<AllowRequest>(bytes),
        3 => body::<ImportRequest>(bytes),
        4 => body::<OffencesRequest>(bytes),
        5 => body::<ThrottleRequest>(bytes),
        6 => body::<UnthrottleRequest>(bytes),
        7 => body::<DetachRequest>(bytes),
        8 => body::<NotifyTestRequest>(bytes),
        9 => body::<FleetLoginRequest>(bytes),
        10 => body::<FleetRevokeRequest>(bytes),
        11 => query::<BansQuery>(bytes),
        12 => query::<LatestQuery>(bytes),
        13 => query::<ExportQuery>(bytes),
        14 => query::<EventFilter>(bytes),
        15 => query::<TopQuery>(bytes),
        16 => query::<ObserveRequest>(bytes),
        // What the command line reads of a daemon that may be another version.
        17 => body::<Status>(bytes),
        18 => body::<Top>(bytes),
        _ => event(bytes),
    }
}

/// A body of JSON, through the reader that requests go through.
fn body<T: Serialize + DeserializeOwned>(bytes: &[u8]) {
    let Ok(read) = serde_json::from_slice::<T>(bytes) else {
        return;
    };
    let written = serde_json::to_value(&read).expect("what was read can be written");
    let again: T = serde_json::from_value(written.clone()).expect("what was written can be read");
    let again = serde_json::to_value(&again).expect("as before");
    assert_eq!(again, written);
}

/// A query.
fn query<T: Serialize + DeserializeOwned>(bytes: &[u8]) {
    let Ok(read) = serde_urlencoded::from_bytes::<T>(bytes) else {
        return;
    };
    let written = serde_urlencoded::to_string(&read).expect("what was read can be written");
    let again: T = serde_urlencoded::from_str(&written).expect("what was written can be read");
    let again = serde_urlencoded::to_string(&again).expect("as before");
    assert_eq!(again, written);
}

/// Lines of the stream of events.
fn event(bytes: &[u8]) {
    for line in bytes.split(|byte| *byte == b'\n') {
        let Ok(event) = serde_json::from_slice::<EventRecord>(line) else {
            continue;
        };
        shown::is_one_plain_line(&event.line());
        let written = serde_json::to_vec(&event).expect("what was read can be written");
        let again: EventRecord = serde_json::from_slice(&written).expect("as it was written");
        assert_eq!(again, event);
    }
}
