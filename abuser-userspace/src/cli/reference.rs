//! `abuser completions` and `abuser man`: what shells and `man` know of the command line, made from
//! its definition, and of the configuration.

mod config_page;
mod synopsis;

use std::{
    env, fs,
    io::{self, Write as _},
    path::Path,
    time::{Duration, SystemTime},
};

use anyhow::anyhow;
use clap::Command;
use clap_mangen::Man;

use super::{
    CliError,
    args::{Args, CompletionsArgs, ManArgs, Shell},
};

pub(super) fn completions(args: &CompletionsArgs) -> Result<(), CliError> {
    let shell = match args.shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
    };
    // Generated first: the generator panics where it cannot write.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::definition(), "abuser", &mut script);
    let mut stdout = io::stdout().lock();
    stdout.write_all(&script)?;
    Ok(stdout.flush()?)
}

pub(super) fn man(args: &ManArgs) -> Result<(), CliError> {
    let folder = &args.folder;
    let mut command = Args::definition().disable_help_subcommand(true);
    // Gives each command the name that its page has.
    command.build();
    let write = || {
        fs::create_dir_all(folder)?;
        let date = date();
        fs::write(folder.join("abuser.toml.5"), config_page::page(&date))?;
        pages(&command, &date, folder)
    };
    let written = write();
    Ok(written.map_err(|error| anyhow!("cannot write to {}: {error}", folder.display()))?)
}

/// The page of a command, and those of its commands.
fn pages(command: &Command, date: &str, folder: &Path) -> io::Result<()> {
    for command in command.get_subcommands() {
        pages(command, date, folder)?;
    }
    let name = command.get_display_name().unwrap_or(command.get_name());
    let page = Man::new(command.clone())
        .title(name.to_uppercase())
        .date(date)
        .source(concat!("abuser ", env!("CARGO_PKG_VERSION")))
        .manual("abuser");
    fs::write(folder.join(format!("{name}.1")), rendered(&page, command)?)
}

/// The page with our own synopsis, without what `mandoc -Tlint` has something against: spaces at the ends of
/// lines, and breaks beside gaps.
fn rendered(page: &Man, command: &Command) -> io::Result<String> {
    let mut text = Vec::new();
    page.render(&mut text)?;
    let mut theirs = Vec::new();
    page.render_synopsis_section(&mut theirs)?;
    let [text, theirs] = [&text, &theirs].map(|text| String::from_utf8_lossy(text));
    let ours = synopsis::section(command);
    let text = text.replacen(without_preamble(&theirs), without_preamble(&ours), 1);
    let lines: Vec<_> = text.lines().map(str::trim_end).collect();
    let is_gap = |line: Option<&&str>| line.is_some_and(|line| [".sp", ""].contains(line));
    let mut kept = String::with_capacity(text.len());
    let mut is_example = false;
    for (number, line) in lines.iter().enumerate() {
        // Examples are what the help ends with, and lines of their own.
        match *line {
            ".SH EXTRA" => {
                is_example = true;
                kept.push_str(".SH EXAMPLES\n.nf\n");
                continue;
            }
            "Examples:" if is_example => continue,
            // Words stay as far apart as they are: who copies them copies commands.
            line if line.starts_with(".TH ") => {
                kept.push_str(line);
                kept.push_str("\n.ad l\n.nh\n");
                continue;
            }
            line if is_example && line.starts_with(".SH") => {
                is_example = false;
                kept.push_str(".fi\n");
            }
            _ => {}
        }
        let before = number.checked_sub(1).and_then(|before| lines.get(before));
        if *line == ".br" && (is_gap(before) || is_gap(lines.get(number + 1))) {
            continue;
        }
        kept.push_str(line);
        kept.push('\n');
    }
    Ok(kept)
}

/// A section of a page, without what each rendering begins with.
fn without_preamble(section: &str) -> &str {
    section
        .find(".SH ")
        .and_then(|start| section.get(start..))
        .unwrap_or(section)
}

/// Today, or the day that `SOURCE_DATE_EPOCH` says, so that a package can be made twice.
fn date() -> String {
    let epoch = env::var("SOURCE_DATE_EPOCH").ok();
    let epoch = epoch.and_then(|seconds| seconds.parse().ok());
    let time = epoch
        .and_then(|seconds| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds)))
        .unwrap_or_else(SystemTime::now);
    let mut text = humantime::format_rfc3339_seconds(time).to_string();
    text.truncate("2026-01-01".len());
    text
}
