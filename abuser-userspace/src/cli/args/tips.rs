//! What to write instead of what people write who come from fail2ban, or from memory.

use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::values::prefix;

/// Words that are no commands, and the commands that are meant; those that end in a space are about sources.
const MEANT: [(&[&str], &str); 7] = [
    (&["bans", "banned", "list"], "ban list"),
    (&["unban", "unbanip", "unblock"], "ban remove "),
    (&["banip", "block"], "ban add "),
    (&["allowed"], "allow list"),
    (&["ignoreip", "addignoreip", "whitelist"], "allow add "),
    (&["delignoreip", "disallow"], "allow remove "),
    (&["start"], "run"),
];

/// Groups of commands that people take for the command that adds to them.
const ADDS: [&str; 2] = ["ban", "allow"];

/// Adds a tip to an error about a command that there is not; `words` are those of the whole command line.
pub(super) fn add(error: &mut clap::Error, words: &[String]) {
    if error.kind() != ErrorKind::InvalidSubcommand {
        return;
    }
    let Some(ContextValue::String(wrong)) = error.get(ContextKind::InvalidSubcommand) else {
        return;
    };
    let Some(meant) = meant(wrong, words) else {
        return;
    };
    let tip = format!("write '{meant}'").into();
    error.remove(ContextKind::SuggestedSubcommand);
    error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip]));
}

/// The command that is meant by one with this word in it.
fn meant(wrong: &str, words: &[String]) -> Option<String> {
    let place = words.iter().position(|word| word == wrong)?;
    let (before, after) = (words.get(..place)?, words.get(place + 1..)?);
    if let Some(group) = before.last().filter(|word| ADDS.contains(&word.as_str())) {
        return prefix(wrong)
            .is_ok()
            .then(|| format!("abuser {group} add {wrong}"));
    }
    let (_, command) = MEANT.iter().find(|(words, _)| words.contains(&wrong))?;
    let sources: Vec<_> = after
        .iter()
        .filter(|word| prefix(word).is_ok())
        .map(String::as_str)
        .collect();
    Some(match (command.strip_suffix(' '), sources.as_slice()) {
        (None, _) => format!("abuser {command}"),
        (Some(command), []) => format!("abuser {command} ADDR"),
        (Some(command), sources) => format!("abuser {command} {}", sources.join(" ")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tip(line: &str) -> Option<String> {
        let words: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
        let error = super::super::Args::definition()
            .try_get_matches_from(&words)
            .err();
        let mut error = error?;
        add(&mut error, &words);
        let text = error.to_string();
        let (_, tip) = text.split_once("tip: write '")?;
        Some(tip.split('\'').next()?.to_owned())
    }

    #[test]
    fn who_comes_from_fail2ban_is_told_what_to_write() {
        for (line, meant) in [
            ("abuser bans", "abuser ban list"),
            ("abuser --socket x list", "abuser ban list"),
            ("abuser unban 203.0.113.7", "abuser ban remove 203.0.113.7"),
            ("abuser unban", "abuser ban remove ADDR"),
            ("abuser banip ::1 ::2", "abuser ban add ::1 ::2"),
            ("abuser ban 203.0.113.7", "abuser ban add 203.0.113.7"),
            ("abuser allow 192.0.2.0/24", "abuser allow add 192.0.2.0/24"),
        ] {
            assert_eq!(tip(line).as_deref(), Some(meant), "{line}");
        }
        for line in [
            "abuser bann add ::1",
            "abuser ban ad ::1",
            "abuser ban x",
            "abuser fleet ::1",
        ] {
            assert_eq!(tip(line), None, "{line}");
        }
    }

    #[test]
    fn what_is_meant_is_a_command_and_what_is_written_is_none() {
        let definition = super::super::Args::definition();
        for (words, command) in MEANT {
            let meant = command.split_whitespace();
            meant.fold(&definition, |all, name| all.find_subcommand(name).unwrap());
            for word in words {
                assert!(definition.find_subcommand(word).is_none(), "{word}");
            }
        }
    }
}
