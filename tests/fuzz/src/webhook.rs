//! What must hold for any template of a webhook, and any event that it is given.

use std::sync::Arc;

use abuser::{
    api::types::{EventKind, EventRecord},
    notify::{
        message::{Message, sample},
        template::{MAX_BODY, Template},
    },
};
use serde::de::IgnoredAny;

use crate::shown;

/// A line between a template and what somebody else wrote, which events quote.
const NEXT: &str = "\n----\n";
/// The longest template here: larger ones take long, and say nothing new.
const MAX_TEMPLATE: usize = 2048;

/// Tries a template as the configuration does, and has it make bodies. The first byte names the kind.
///
/// # Panics
///
/// If an error is none that can be shown, or what an accepted template makes is no JSON or too large.
pub fn webhook(bytes: &[u8]) {
    let [kind, bytes @ ..] = bytes else {
        return;
    };
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    let (text, said) = text.split_once(NEXT).unwrap_or((text, "a reason"));
    if text.len() > MAX_TEMPLATE {
        return;
    }
    let kind = EventKind::TOLD[usize::from(*kind) % EventKind::TOLD.len()];
    let template = match Template::tried(text, &[kind]) {
        Ok(template) => template,
        Err(error) => return shown::is_one_plain_line(&error),
    };
    let event = Arc::new(EventRecord {
        reason: Some(said.to_owned()),
        limit: Some(said.to_owned()),
        ..sample(kind)
    });
    for events in [vec![Arc::clone(&event)], vec![event; 3]] {
        match template.render(&Message::new("name", &events, 3)) {
            Ok(body) => {
                assert!(body.len() <= MAX_BODY);
                let read: Result<IgnoredAny, _> = serde_json::from_slice(&body);
                assert!(read.is_ok(), "{}", body.escape_ascii());
            }
            Err(error) => shown::is_one_plain_line(&error),
        }
    }
}
