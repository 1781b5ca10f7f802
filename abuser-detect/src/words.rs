//! Texts that somebody else wrote, as they may be told.

/// `text` as it may stand in a message or a comment: with its control characters spelt out.
pub(crate) fn on_one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    line
}
