//! The tags that stand for parts of expressions: `<HOST>`, `<F-USER>`, `<SKIPLINES>` and so on.

use std::fmt::Write as _;

const IPV4: &str = r"(?:::f{4,6}:)?(?P<ip4>(?:\d{1,3}\.){3}\d{1,3})";
const IPV6: &str = r"(?P<ip6>(?:[\da-fA-F]{1,4}:{1,2}|:){1,7}(?:[\da-fA-F]{1,4}|:(?<=::)))";
const NAME: &str = r"(?P<dns>[\w.^-]*\w)";
const BITS: &str = r"(?P<cidr>\d+)";

/// Puts in what the tags of an expression stand for. Names of hosts are hosts only if `names`.
///
/// # Errors
/// Which tag is not closed, or closes nothing.
pub(super) fn expand(regex: &str, names: bool) -> Result<String, String> {
    let mut out = String::with_capacity(regex.len() * 2);
    let mut open: Vec<&str> = Vec::new();
    let mut opened: Vec<&str> = Vec::new();
    let mut skips = 0;
    let mut rest = regex;
    while let Some(at) = rest.find('<') {
        out.push_str(rest.get(..at).unwrap_or_default());
        rest = rest.get(at..).unwrap_or_default();
        let word = |c: char| c.is_alphanumeric() || "_-/".contains(c);
        let tag = rest
            .get(1..)
            .and_then(|rest| rest.find(|c| !word(c)).and_then(|end| rest.get(..=end)));
        let Some(tag) = tag.and_then(|tag| tag.strip_suffix('>')) else {
            out.push('<');
            rest = rest.get(1..).unwrap_or_default();
            continue;
        };
        rest = rest.get(tag.len() + 2..).unwrap_or_default();
        let known = match tag {
            "HOST" if names => Some(format!(r"(?:\[?(?:{IPV4}|{IPV6})\]?|{NAME})")),
            "HOST" | "ADDR" | "F-ADDR/" => Some(format!(r"\[?(?:{IPV4}|{IPV6})\]?")),
            "IP4" | "F-IP4/" => Some(IPV4.to_owned()),
            "IP6" | "F-IP6/" => Some(IPV6.to_owned()),
            "CIDR" | "F-CIDR/" => Some(BITS.to_owned()),
            "SUBNET" | "F-SUBNET/" => Some(format!(r"\[?(?:{IPV4}|{IPV6})(?:/{BITS})?\]?")),
            "DNS" | "F-DNS/" => Some(NAME.to_owned()),
            "F-ID/" => Some(r"(?P<fid>\S+)".to_owned()),
            "F-PORT/" => Some(r"(?P<fport>\w+)".to_owned()),
            "SKIPLINES" => {
                skips += 1;
                Some(format!(r"\n(?P<skiplines{}>(?:(?:.*\n)*?))", skips - 1))
            }
            _ => None,
        };
        if let Some(known) = known {
            out.push_str(&known);
            continue;
        }
        let custom = |tag: &str| {
            tag.chars()
                .all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || "_-".contains(c))
        };
        if let Some(name) = tag.strip_prefix("/F-").filter(|name| custom(name)) {
            if !opened.contains(&name) {
                return Err(format!("`</F-{name}>` closes nothing"));
            }
            if let Some(at) = open.iter().rposition(|other| *other == name) {
                open.remove(at);
            }
            out.push(')');
        } else if let Some(name) = tag.strip_prefix("F-").filter(|name| custom(name)) {
            open.push(name);
            opened.push(name);
            let group = name.to_lowercase();
            let group = group_name(&group);
            // Writing to a String cannot fail.
            let _ = write!(out, "(?P<{group}>");
        } else {
            let _ = write!(out, "<{tag}>");
        }
    }
    out.push_str(rest);
    match open.first() {
        Some(name) => Err(format!("`<F-{name}>` is not closed")),
        None => Ok(out),
    }
}

/// The group that a tag `<F-NAME>` is, by its name in lower case.
pub(super) fn group_name(name: &str) -> &str {
    match name {
        "id" => "fid",
        "port" => "fport",
        name => name,
    }
}

/// A reference to another section that nothing stands for: `<lt_nonsense/__prefix_line>`. No log has
/// such text.
pub(super) fn unknown(regex: &str) -> Option<&str> {
    let mut rest = regex;
    while let Some(at) = rest.find('<') {
        rest = rest.get(at + 1..).unwrap_or_default();
        let end = rest
            .find(|c: char| !(c.is_alphanumeric() || "_-/".contains(c)))
            .unwrap_or(rest.len());
        let tag = rest.get(..end).unwrap_or_default();
        let closed = rest.get(end..).is_some_and(|rest| rest.starts_with('>'));
        if closed
            && let Some((section, option)) = tag.split_once('/')
            && !section.is_empty()
            && !option.is_empty()
        {
            return Some(tag);
        }
    }
    None
}

/// The tag that an expression is nothing but.
pub(super) fn lone(regex: &str) -> Option<&str> {
    let tag = regex.trim().strip_prefix('<')?.strip_suffix('>')?;
    let word = |c: char| c.is_alphanumeric() || "_-/".contains(c);
    tag.chars().all(word).then_some(tag)
}
