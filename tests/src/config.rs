//! Small edits of a configuration's text, so that a test writes only what it is about.

/// Makes sure that `[table]` has `key`; returns the text and the value it has now, without
/// quotes. A `value` is written as given.
///
/// The text stays as it is where the key is there already. This reads the simple TOML that
/// tests write (`key = "value"`, one a line), which keeps a parser out of the library.
pub(crate) fn with_default(text: &str, table: &str, key: &str, value: &str) -> (String, String) {
    let header = format!("[{table}]");
    let mut inside = false;
    let mut header_line = None;
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.starts_with('[') {
            inside = line == header;
            if inside {
                header_line = Some(number);
            }
        } else if inside
            && let Some((found, rest)) = line.split_once('=')
            && found.trim() == key
        {
            let present = rest.trim().trim_matches('"').to_owned();
            return (text.to_owned(), present);
        }
    }
    let setting = format!("{key} = {value}");
    let mut lines: Vec<&str> = text.lines().collect();
    match header_line {
        Some(number) => lines.insert(number + 1, &setting),
        None => lines.extend(["", &header, &setting]),
    }
    (lines.join("\n") + "\n", value.trim_matches('"').to_owned())
}

#[cfg(test)]
mod tests {
    use super::with_default;

    #[test]
    fn a_missing_table_is_appended() {
        let (text, value) = with_default("interfaces = [\"a\"]\n", "api", "socket", "\"/run/x\"");
        assert_eq!(text, "interfaces = [\"a\"]\n\n[api]\nsocket = \"/run/x\"\n");
        assert_eq!(value, "/run/x");
    }

    #[test]
    fn a_key_joins_the_table_that_is_there() {
        let (text, _) = with_default(
            "[xdp]\nmode = \"auto\"\n[ban]\n",
            "xdp",
            "pin_dir",
            "\"/p\"",
        );
        assert_eq!(text, "[xdp]\npin_dir = \"/p\"\nmode = \"auto\"\n[ban]\n");
    }

    #[test]
    fn a_key_that_is_there_is_kept_and_read() {
        let given = "[xdp]\nmode = \"auto\"\npin_dir = \"/q\"\n";
        assert_eq!(
            with_default(given, "xdp", "pin_dir", "\"/p\""),
            (given.to_owned(), "/q".to_owned())
        );
    }
}
