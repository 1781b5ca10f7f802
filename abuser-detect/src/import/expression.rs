//! Conditions as `where` takes them.

/// `text` as a string of a condition.
fn string(text: &str) -> String {
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

/// That a field is this text.
pub(super) fn is(field: &str, text: &str) -> String {
    format!("{field} == {}", string(text))
}

/// That a field has any text.
pub(super) fn is_there(field: &str) -> String {
    format!("{field} != \"\"")
}

/// That a field begins with this text.
pub(super) fn starts_with(field: &str, text: &str) -> String {
    format!("{field} starts_with {}", string(text))
}

/// That a field has this text in it.
pub(super) fn contains(field: &str, text: &str) -> String {
    format!("{field} contains {}", string(text))
}

/// That a regular expression matches in a field.
pub(super) fn matches(field: &str, pattern: &str) -> String {
    format!("{field} ~ {}", string(pattern))
}

/// That not all of these hold.
pub(super) fn not_all(conditions: &[String]) -> String {
    format!("not ({})", all(conditions))
}

/// That all of these hold.
pub(super) fn all(conditions: &[String]) -> String {
    conditions.join(" and ")
}

/// Whether `where` can have this regular expression; the error says why not.
pub(super) fn check_regex(pattern: &str) -> Result<(), String> {
    match regex::Regex::new(pattern) {
        Ok(_) => Ok(()),
        Err(regex::Error::CompiledTooBig(_)) => {
            Err("the expression would be too large when compiled".to_owned())
        }
        Err(_) => Err("the expression has look-around, back-references or an error".to_owned()),
    }
}
