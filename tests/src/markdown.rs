//! What in a Markdown file is meant for machines, too: code, and comments that readers do not
//! see.
//!
//! Far from all of Markdown: fenced blocks, blocks indented by four, and comments that begin a
//! line.

/// A part of a Markdown file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// `<!-- … -->`, trimmed.
    Comment {
        /// The number of its first line; the first of a file is 1.
        line: usize,
        /// What is between the marks.
        text: String,
    },
    /// A block of code.
    Code(Code),
}

/// A block of code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Code {
    /// The number of the first line within it.
    pub line: usize,
    /// What stands after the opening fence, such as `toml`; nothing if it is indented.
    pub language: String,
    /// What each line begins with that is not the code's.
    pub indent: String,
    /// Its lines.
    pub lines: Vec<String>,
}

impl Code {
    /// Its lines as the text of a file.
    pub fn text(&self) -> String {
        self.lines.iter().fold(String::new(), |mut text, line| {
            text.push_str(line);
            text.push('\n');
            text
        })
    }
}

/// The comments and blocks of code, in order.
pub fn pieces(text: &str) -> Vec<Piece> {
    let lines: Vec<_> = text.lines().collect();
    let mut pieces = Vec::new();
    let mut at = 0;
    // A paragraph may go on with any indent.
    let mut in_paragraph = false;
    while let Some(line) = lines.get(at) {
        let start = at;
        let trimmed = line.trim_start();
        if trimmed.starts_with("```") {
            pieces.push(Piece::Code(fenced(&lines, &mut at)));
        } else if trimmed.starts_with("<!--") {
            let text = comment(&lines, &mut at);
            pieces.push(Piece::Comment {
                line: start + 1,
                text,
            });
        } else if line.starts_with(INDENT) && !in_paragraph {
            pieces.push(Piece::Code(indented(&lines, &mut at)));
        } else {
            in_paragraph = !trimmed.is_empty();
            at += 1;
            continue;
        }
        in_paragraph = false;
    }
    pieces
}

const INDENT: &str = "    ";

fn fenced(lines: &[&str], at: &mut usize) -> Code {
    let opening = lines[*at];
    let indent = &opening[..opening.len() - opening.trim_start().len()];
    let inside = lines[*at + 1..]
        .iter()
        .take_while(|line| line.trim() != "```");
    let code = Code {
        line: *at + 2,
        language: opening.trim().trim_start_matches('`').to_owned(),
        indent: indent.to_owned(),
        lines: inside
            .map(|line| line.strip_prefix(indent).unwrap_or(line).to_owned())
            .collect(),
    };
    *at += code.lines.len() + 2;
    code
}

fn indented(lines: &[&str], at: &mut usize) -> Code {
    let mut inside: Vec<_> = lines[*at..]
        .iter()
        .take_while(|line| line.trim().is_empty() || line.starts_with(INDENT))
        .map(|line| line.strip_prefix(INDENT).unwrap_or_default().to_owned())
        .collect();
    while inside.pop_if(|line| line.is_empty()).is_some() {}
    let code = Code {
        line: *at + 1,
        language: String::new(),
        indent: INDENT.to_owned(),
        lines: inside,
    };
    *at += code.lines.len();
    code
}

fn comment(lines: &[&str], at: &mut usize) -> String {
    let mut text = String::new();
    while let Some(line) = lines.get(*at) {
        *at += 1;
        text.push_str(line);
        text.push('\n');
        if line.contains("-->") {
            break;
        }
    }
    let text = text.trim().trim_start_matches("<!--");
    text.trim_end_matches("-->").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_and_comments_are_found_where_they_stand() {
        let text = "# Title\n\n<!-- one -->\n\n```console\n$ a\n\nb\n```\ntext\n    goes on\n\n    \
                    code\n\n      more\n\nend\n<!-- two\nlines -->\n";
        let code = |line, language: &str, indent: &str, lines: &[&str]| {
            Piece::Code(Code {
                line,
                language: language.to_owned(),
                indent: indent.to_owned(),
                lines: lines.iter().map(ToString::to_string).collect(),
            })
        };
        let comment = |line, text: &str| Piece::Comment {
            line,
            text: text.to_owned(),
        };
        assert_eq!(
            pieces(text),
            [
                comment(3, "one"),
                code(6, "console", "", &["$ a", "", "b"]),
                code(13, "", "    ", &["code", "", "  more"]),
                comment(18, "two\nlines"),
            ]
        );
    }

    #[test]
    fn what_is_not_ended_ends_with_the_file() {
        for text in ["```\ncode", "<!-- comment", "    code\n\n"] {
            assert_eq!(pieces(text).len(), 1, "{text:?}");
        }
    }
}
