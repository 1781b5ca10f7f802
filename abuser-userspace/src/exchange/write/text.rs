//! Reasons that fit into formats which have no escapes for what may be in one.

use std::borrow::Cow;

use crate::words::beginning;

/// `text` in one line, no longer than `longest` bytes; `None` if nothing is left.
pub(super) fn cleaned(text: &str, longest: usize) -> Option<String> {
    let line = text.replace(char::is_control, " ");
    let line = line.trim();
    let cut = beginning(line, longest).trim_end();
    (!cut.is_empty()).then(|| cut.to_owned())
}

/// `text` with apostrophes for quotation marks: ipset and nft end a comment at one.
pub(super) fn unquoted(text: &str) -> Cow<'_, str> {
    if text.contains('"') {
        Cow::Owned(text.replace('"', "'"))
    } else {
        Cow::Borrowed(text)
    }
}
