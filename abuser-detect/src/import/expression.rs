//! Conditions as `where` takes them.

/// `text` as a string of a condition.
pub(super) fn string(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted.push('"');
    quoted
}

/// That the answer had this status.
pub(super) fn status(status: u16) -> String {
    format!("status == {status}")
}

/// That a field has this text in it.
pub(super) fn contains(field: &str, text: &str) -> String {
    format!("{field} contains {}", string(text))
}
