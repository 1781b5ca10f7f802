//! Names that can be asked of the DNS.

/// The longest name, in bytes, and the longest part of one between dots.
const LONGEST: usize = 253;
const LONGEST_LABEL: usize = 63;

/// Whether `name` can be asked of the DNS (RFC 1035, with the underscores of practice). One that ends in a number cannot.
pub fn is_dns_name(name: &str) -> bool {
    let of_a_label = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    name.len() <= LONGEST
        && !ends_in_a_number(name)
        && name.split('.').all(|label| {
            (1..=LONGEST_LABEL).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(of_a_label)
        })
}

/// Whether what follows the last dot is a number: no top-level domain is one, so an address is meant.
pub fn ends_in_a_number(text: &str) -> bool {
    let last = text.rsplit('.').next().unwrap_or(text);
    !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_from_what_cannot_be_asked_and_from_addresses() {
        let label = "x".repeat(63);
        let long = format!("{label}.{label}.{label}.{}", "x".repeat(61));
        for name in [
            "example.com",
            "localhost",
            "a_b.c-d",
            "1.example",
            "1x",
            &long,
        ] {
            assert!(is_dns_name(name), "{name}");
        }
        let longer = format!("{long}x");
        let one = format!("{label}x");
        for other in [
            "",
            ".",
            "a.",
            ".a",
            "a..b",
            "-a",
            "a-.b",
            "a b",
            "a:b",
            "ä.example",
            "a.1",
            "192.0.2.7",
            "7",
            &one,
            &longer,
        ] {
            assert!(!is_dns_name(other), "{other}");
        }
    }
}
