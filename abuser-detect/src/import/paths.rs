//! Paths of logs as the patterns that a source's `files` takes.

/// A path that is meant as it is, as nginx does.
pub(super) fn literal(path: &str) -> String {
    let mut pattern = String::new();
    for character in path.chars() {
        push_literal(&mut pattern, character);
    }
    pattern
}

/// A pattern of Python's `glob`, which fail2ban takes: several asterisks are one there, and a bracket that is never
/// closed is meant as it is.
pub(super) fn of_python(pattern: &str) -> String {
    let mut translated = String::new();
    let mut rest = pattern;
    while let Some(character) = rest.chars().next() {
        let after;
        if let Some(end) = end_of_set(rest) {
            let set;
            (set, after) = rest.split_at(end);
            translated.push_str(set);
        } else {
            after = &rest[character.len_utf8()..];
            match character {
                '*' if translated.ends_with('*') => {}
                '[' => push_literal(&mut translated, character),
                _ => translated.push(character),
            }
        }
        rest = after;
    }
    translated
}

/// Where the set of characters ends that begins here, if one does. A bracket that is its first character does not end it, and
/// none is longer than the name of a file.
fn end_of_set(pattern: &str) -> Option<usize> {
    let name = pattern.split('/').next().unwrap_or(pattern);
    let set = name.strip_prefix('[')?;
    let set = set.strip_prefix('!').unwrap_or(set);
    let first = set.chars().next()?.len_utf8();
    let end = set[first..].find(']')? + first + 1;
    Some(name.len() - set.len() + end)
}

fn push_literal(pattern: &mut String, character: char) {
    if matches!(character, '*' | '?' | '[') {
        pattern.extend(['[', character, ']']);
    } else {
        pattern.push(character);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nginx_writes_to_is_no_pattern() {
        for (path, pattern) in [
            ("/var/log/nginx/access.log", "/var/log/nginx/access.log"),
            ("/l/[a]*?.log", "/l/[[]a][*][?].log"),
        ] {
            assert_eq!(literal(path), pattern);
        }
    }

    /// As `fnmatch.translate` of Python has them, name by name.
    #[test]
    fn what_python_takes_for_a_pattern_is_one() {
        for (pattern, translated) in [
            ("/var/log/*error.log", "/var/log/*error.log"),
            ("/l/[ab]?[!c].log", "/l/[ab]?[!c].log"),
            ("/l/[]a]", "/l/[]a]"),
            ("/l/[!]a]", "/l/[!]a]"),
            ("/l/[*", "/l/[[]*"),
            ("/l/[]", "/l/[[]]"),
            ("/l/[!]", "/l/[[]!]"),
            ("/l/[", "/l/[[]"),
            ("/l/[a]*]", "/l/[a]*]"),
            ("/l/[a/b]c", "/l/[[]a/b]c"),
            ("/l/[ü]ü[", "/l/[ü]ü[[]"),
            ("/**/a***.log", "/*/a*.log"),
            ("/l/[*]*", "/l/[*]*"),
        ] {
            assert_eq!(of_python(pattern), translated, "{pattern}");
        }
    }
}
