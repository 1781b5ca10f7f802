//! Values of jails that are lists with a grammar of their own.

use crate::dns_name::is_dns_name;

/// `_SYSTEMD_UNIT=sshd.service + _COMM=sshd`, as `journalctl` takes it; `None` if there is none.
/// Lines are alternatives.
pub(super) fn journal_matches(text: &str) -> Result<Option<Vec<String>>, String> {
    let mut matches: Vec<String> = Vec::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        if !matches.is_empty() {
            matches.push("+".to_owned());
        }
        let mut word = String::new();
        let mut quote = None;
        for c in line.trim().chars().chain([' ']) {
            match quote {
                Some(open) if c == open => quote = None,
                None if matches!(c, '"' | '\'') => quote = Some(c),
                None if c.is_whitespace() => {
                    if !word.is_empty() {
                        matches.push(std::mem::take(&mut word));
                    }
                }
                _ => word.push(c),
            }
        }
        if quote.is_some() {
            return Err(format!("a quote in the journalmatch {line} is not closed"));
        }
    }
    let strange = matches
        .iter()
        .find(|word| *word != "+" && !word.contains('='));
    match strange {
        Some(word) => Err(format!("{word:?} in its journalmatch is not FIELD=VALUE")),
        None => Ok((!matches.is_empty()).then_some(matches)),
    }
}

/// The names of actions: `mail[name=x]` on lines of their own, or with commas.
pub(super) fn action_names(actions: &str) -> impl Iterator<Item = &str> {
    let starts_line = |line: &&str| !line.starts_with(char::is_whitespace);
    actions.lines().filter(starts_line).filter_map(|line| {
        let name = line.split('[').next().unwrap_or_default().trim();
        let is_name = |c: char| c.is_alphanumeric() || "_-.".contains(c);
        (!name.is_empty() && name.chars().all(is_name)).then_some(name)
    })
}

/// An entry of [allow]; host bits are cleared, as fail2ban does.
pub(super) fn allowed(word: &str) -> Option<String> {
    if let Ok(address) = word.parse::<std::net::IpAddr>() {
        return Some(address.to_string());
    }
    if let Ok(prefix) = word.parse::<ipnet::IpNet>() {
        return Some(prefix.trunc().to_string());
    }
    is_dns_name(word).then(|| word.to_owned())
}

/// What comes from there passes no network card.
pub(super) fn is_loopback(entry: &str) -> bool {
    entry == "localhost" || entry == "::1" || entry == "::1/128" || entry.starts_with("127.")
}
