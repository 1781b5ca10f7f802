//! The manual page of the configuration, `abuser.toml(5)`: what README.md says of it, which is its one home.

use clap_mangen::roff::{Inline, Roff, bold, roman};

const README: &str = include_str!("../../../../README.md");

/// The section that is the page.
const SECTION: &str = "## Configure it\n";

/// What its code is indented by.
const CODE: &str = "    ";

/// The page, of this day.
pub(super) fn page(date: &str) -> String {
    let mut page = Roff::new();
    let version = concat!("abuser ", env!("CARGO_PKG_VERSION"));
    page.control("TH", ["ABUSER.TOML", "5", date, version, "abuser"]);
    page.control("ad", ["l"]);
    page.control("nh", []);
    page.control("SH", ["NAME"]);
    page.text([roman("abuser.toml - the configuration of abuser")]);
    page.control("SH", ["DESCRIPTION"]);
    for (number, block) in blocks(section()).into_iter().enumerate() {
        match block {
            Block::Text(text) => {
                if number > 0 {
                    page.control("PP", []);
                }
                page.text(inlines(&text));
            }
            Block::Code(lines) => {
                page.control("PP", []);
                page.control("nf", []);
                for line in lines {
                    page.text([roman(line)]);
                }
                page.control("fi", []);
            }
        }
    }
    page.control("SH", ["SEE ALSO"]);
    let pages = [
        bold("abuser"),
        roman("(1), "),
        bold("abuser-check"),
        roman("(1), "),
    ];
    let rest = [bold("abuser-run"), roman("(1), /usr/share/doc/abuser")];
    page.text(pages.into_iter().chain(rest).collect::<Vec<_>>());
    page.to_roff()
}

fn section() -> &'static str {
    let (_, rest) = README.split_once(SECTION).unwrap_or_default();
    rest.split_once("\n## ")
        .map_or(rest, |(section, _)| section)
}

enum Block<'a> {
    Text(String),
    Code(Vec<&'a str>),
}

/// Paragraphs and blocks of code; comments are for nobody who reads.
fn blocks(section: &str) -> Vec<Block<'_>> {
    let mut blocks: Vec<Block<'_>> = Vec::new();
    let mut ended = true;
    for line in section.lines() {
        let code = line.strip_prefix(CODE);
        match (blocks.last_mut(), code) {
            // An empty line may be one of the code's.
            (Some(Block::Code(lines)), _) if line.is_empty() => lines.push(""),
            (Some(Block::Code(lines)), Some(code)) => lines.push(code),
            (_, Some(code)) => blocks.push(Block::Code(vec![code])),
            (Some(Block::Text(text)), None) if !ended && !line.is_empty() => {
                text.push(' ');
                text.push_str(line);
            }
            (_, None) if line.is_empty() || line.starts_with("<!--") => {}
            (_, None) => blocks.push(Block::Text(line.to_owned())),
        }
        ended = line.is_empty();
    }
    for block in &mut blocks {
        if let Block::Code(lines) = block {
            while lines.last().is_some_and(|line| line.is_empty()) {
                lines.pop();
            }
        }
    }
    blocks
}

/// A text with its code in bold, and its links as what they are called.
fn inlines(text: &str) -> Vec<Inline> {
    let is_code = |number: usize| number % 2 == 1;
    let parts = text.split('`').enumerate();
    parts
        .map(|(number, part)| {
            if is_code(number) {
                bold(part)
            } else {
                roman(without_links(part))
            }
        })
        .collect()
}

fn without_links(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, link)) = rest.split_once('[') {
        plain.push_str(before);
        let parts = link
            .split_once("](")
            .and_then(|(name, link)| Some((name, link.split_once(')')?.1)));
        let Some((name, after)) = parts else {
            plain.push('[');
            rest = link;
            continue;
        };
        plain.push_str(name);
        rest = after;
    }
    plain + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_what_the_readme_says_of_the_configuration() {
        let page = page("2026-01-01");
        for part in [
            ".TH ABUSER.TOML 5 2026-01-01",
            "\n.nf\n",
            "\n[xdp]\n",
            "\n[[limit]]",
            "\\fBconf.d/*.toml\\fR",
            "docs/COEXISTENCE.md)",
        ] {
            assert!(page.contains(part), "no {part:?} in {page}");
        }
        for part in ["](", "<!--", "## "] {
            assert!(!page.contains(part), "{part:?} in {page}");
        }
    }

    #[test]
    fn what_is_no_link_stays() {
        assert_eq!(
            without_links("a [b](c) d [ban] [[limit]] e"),
            "a b d [ban] [[limit]] e"
        );
        assert_eq!(without_links("[a](b"), "[a](b");
    }
}
