//! How a command is written, as its manual page shows it: the generator of pages leaves out what options take,
//! and what can be said more than once.

use clap::{Arg, Command};
use clap_mangen::roff::{Inline, Roff, bold, italic, roman};

/// The section of a page.
pub(super) fn section(command: &Command) -> String {
    let mut page = Roff::new();
    page.control("SH", ["SYNOPSIS"]);
    page.text(line(command));
    page.to_roff()
}

fn line(command: &Command) -> Vec<Inline> {
    let mut line = vec![bold(
        command.get_bin_name().unwrap_or_else(|| command.get_name()),
    )];
    let groups: Vec<_> = command
        .get_groups()
        .filter(|group| group.is_required_set())
        .map(|group| {
            let members = group.get_args();
            let members = members.filter_map(|id| argument(command, id.as_str()));
            members.collect::<Vec<_>>()
        })
        .collect();
    let is_grouped = |argument: &Arg| {
        let mut members = groups.iter().flatten();
        members.any(|member| member.get_id() == argument.get_id())
    };
    let shown = command.get_arguments();
    let shown = shown.filter(|argument| !argument.is_hide_set() && !is_grouped(argument));
    let (positional, options): (Vec<_>, Vec<_>) =
        shown.partition(|argument| argument.is_positional());
    for option in options {
        add(&mut line, option);
    }
    for group in &groups {
        line.push(roman(" {"));
        for (number, member) in group.iter().enumerate() {
            if number > 0 {
                line.push(roman(" | "));
            }
            line.extend(written(member));
        }
        line.push(roman("}"));
    }
    for argument in positional {
        add(&mut line, argument);
    }
    if command.has_subcommands() {
        line.extend([roman(" "), italic("COMMAND")]);
    }
    line
}

fn argument<'a>(command: &'a Command, id: &str) -> Option<&'a Arg> {
    let mut arguments = command.get_arguments();
    arguments.find(|argument| argument.get_id() == id)
}

/// Adds one, in brackets if it can be left out.
fn add(line: &mut Vec<Inline>, argument: &Arg) {
    let (before, after) = if argument.is_required_set() {
        (" ", "")
    } else {
        (" [", "]")
    };
    line.push(roman(before));
    line.extend(written(argument));
    line.push(roman(after));
}

/// One with what it takes.
fn written(argument: &Arg) -> Vec<Inline> {
    let short = argument.get_short().map(|short| format!("-{short}"));
    let long = argument.get_long().map(|long| format!("--{long}"));
    let names: Vec<_> = short.into_iter().chain(long).collect();
    let mut written = Vec::new();
    for (number, name) in names.iter().enumerate() {
        if number > 0 {
            written.push(roman("|"));
        }
        written.push(bold(name.as_str()));
    }
    if argument.get_action().takes_values() {
        if !names.is_empty() {
            written.push(roman(" "));
        }
        let values = argument.get_value_names().unwrap_or_default();
        written.push(italic(values.join(" ")));
    }
    if matches!(argument.get_action(), clap::ArgAction::Append) {
        written.push(roman(" ..."));
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::Args;

    /// What is shown of a command of `abuser`.
    fn shown(path: &[&str]) -> String {
        let mut command = Args::definition();
        command.build();
        let command = path.iter().fold(&command, |command, name| {
            command.find_subcommand(name).unwrap()
        });
        let section = section(command);
        let (_, mut text) = section.split_once(".SH SYNOPSIS\n").unwrap();
        let mut shown = String::new();
        // Without the escapes of fonts, and of hyphens that are to stay what they are.
        while let Some((before, escape)) = text.split_once('\\') {
            shown.push_str(before);
            text = escape.strip_prefix('-').map_or_else(
                || escape.get(2..).unwrap(),
                |rest| {
                    shown.push('-');
                    rest
                },
            );
        }
        shown.push_str(text.trim_end());
        shown
    }

    #[test]
    fn it_has_what_options_take_and_what_can_be_repeated() {
        assert_eq!(
            shown(&["ban", "add"]),
            "abuser ban add [--for TIME] [--permanent] [--reason TEXT] [--force] [--json] \
             [--socket PATH] [-h|--help] [-V|--version] ADDR|PREFIX ..."
        );
        let detach = shown(&["detach"]);
        assert!(detach.contains(" [-i|--interface IFACE ...] "), "{detach}");
        let export = shown(&["ban", "export"]);
        assert!(export.contains(" [--format FORMAT] "), "{export}");
    }

    #[test]
    fn it_has_choices_and_commands() {
        let remove = shown(&["ban", "remove"]);
        assert!(remove.ends_with(" {ADDR|PREFIX ... | --all}"), "{remove}");
        assert!(shown(&["fleet"]).ends_with(" COMMAND"));
        let check = shown(&["check"]);
        assert!(!check.contains("--socket"), "{check}");
    }
}
