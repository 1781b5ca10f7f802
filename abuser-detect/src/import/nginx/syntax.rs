//! nginx's configuration as a tree of directives, with what is included put in its place.
//!
//! The words are told apart as `ngx_conf_read_token` in nginx's `ngx_conf_file.c` does it.
//! The crates that parse such files are either old and know only some directives, or change their
//! interface with each of their many releases; the grammar is this file.

use std::{
    iter::Peekable,
    path::{Path, PathBuf},
    str::CharIndices,
    sync::Arc,
};

use super::super::{ImportError, Place, Reader};

/// The deepest that blocks lie in each other, includes counted.
const MAX_DEPTH: usize = 64;

/// A directive.
#[derive(Debug)]
pub(super) struct Directive {
    pub(super) name: String,
    pub(super) arguments: Vec<String>,
    /// What is between its braces.
    pub(super) block: Option<Vec<Directive>>,
    pub(super) place: Place,
}

impl Directive {
    /// The argument of that number.
    pub(super) fn argument(&self, number: usize) -> Option<&str> {
        self.arguments.get(number).map(String::as_str)
    }

    /// What is between its braces, or nothing.
    pub(super) fn children(&self) -> &[Self] {
        self.block.as_deref().unwrap_or_default()
    }

    /// The value of an argument that is written `name=value`.
    pub(super) fn option(&self, name: &str) -> Option<&str> {
        self.arguments
            .iter()
            .find_map(|argument| argument.strip_prefix(name)?.strip_prefix('='))
    }

    /// As it is written, on one line.
    pub(super) fn written(&self) -> String {
        let mut text = self.name.clone();
        for argument in &self.arguments {
            text.push(' ');
            text.push_str(argument);
        }
        text
    }
}

/// Reads a file and all that it includes. Names that are not absolute are relative to its folder.
pub(super) fn read(reader: &mut Reader<'_>, path: &Path) -> Result<Vec<Directive>, ImportError> {
    let mut parser = Parser {
        reader,
        folder: path.parent().unwrap_or(Path::new("")).to_owned(),
        open: Vec::new(),
        depth: 0,
    };
    parser.file(path)
}

struct Parser<'r, 'f> {
    reader: &'r mut Reader<'f>,
    folder: PathBuf,
    /// The files that include what is read now.
    open: Vec<PathBuf>,
    depth: usize,
}

impl Parser<'_, '_> {
    fn file(&mut self, path: &Path) -> Result<Vec<Directive>, ImportError> {
        let text = self.reader.text(path)?;
        self.open.push(path.to_owned());
        let mut tokens = Tokens::new(&text, path);
        let directives = self.directives(&mut tokens, None)?;
        self.open.pop();
        Ok(directives)
    }

    /// The directives up to the end of the block that `opened`, or of the file.
    fn directives(
        &mut self,
        tokens: &mut Tokens<'_>,
        opened: Option<&Place>,
    ) -> Result<Vec<Directive>, ImportError> {
        let mut directives = Vec::new();
        let mut words: Vec<String> = Vec::new();
        let mut begin = tokens.place();
        loop {
            let (token, place) = tokens.next()?;
            match token {
                Token::Word(word) => {
                    if words.is_empty() {
                        begin = place;
                    }
                    words.push(word);
                }
                Token::Semicolon | Token::Open if words.is_empty() => {
                    return Err(place.error(format!(
                        "there is no directive before this {}",
                        token.written()
                    )));
                }
                Token::Semicolon => {
                    let directive = directive(&mut words, begin.clone());
                    if directive.name == "include" {
                        self.include(&directive, &mut directives)?;
                    } else {
                        directives.push(directive);
                    }
                }
                Token::Open => {
                    let mut directive = directive(&mut words, begin.clone());
                    directive.block = Some(if directive.name.ends_with("_by_lua_block") {
                        tokens.skip_lua(&directive.place)?;
                        Vec::new()
                    } else {
                        self.deeper(&directive.place)?;
                        let block = self.directives(tokens, Some(&directive.place))?;
                        self.depth -= 1;
                        block
                    });
                    directives.push(directive);
                }
                Token::Close | Token::End if !words.is_empty() => {
                    return Err(begin.error(format!(
                        "`{}` does not end with ; or {{",
                        words.first().map_or("", String::as_str)
                    )));
                }
                Token::Close if opened.is_some() => return Ok(directives),
                Token::Close => return Err(place.error("this } closes nothing")),
                Token::End => {
                    return match opened {
                        Some(opened) => Err(opened.error("the block that begins here has no }")),
                        None => Ok(directives),
                    };
                }
            }
        }
    }

    fn include(
        &mut self,
        directive: &Directive,
        into: &mut Vec<Directive>,
    ) -> Result<(), ImportError> {
        let [pattern] = directive.arguments.as_slice() else {
            return Err(directive.place.error("`include` takes one name of a file"));
        };
        let pattern = self.folder.join(pattern);
        let has_wildcard = pattern.to_string_lossy().contains(['*', '?', '[']);
        let paths = if has_wildcard {
            self.reader.matching(&pattern)?
        } else {
            vec![pattern]
        };
        for path in paths {
            if self.open.contains(&path) {
                return Err(directive
                    .place
                    .error(format!("{} includes itself", path.display())));
            }
            self.deeper(&directive.place)?;
            into.append(&mut self.file(&path)?);
            self.depth -= 1;
        }
        Ok(())
    }

    fn deeper(&mut self, place: &Place) -> Result<(), ImportError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(place.error(format!("blocks lie more than {MAX_DEPTH} deep here")));
        }
        Ok(())
    }
}

fn directive(words: &mut Vec<String>, place: Place) -> Directive {
    let mut words = words.drain(..);
    Directive {
        name: words.next().unwrap_or_default(),
        arguments: words.collect(),
        block: None,
        place,
    }
}

#[derive(Debug)]
enum Token {
    Word(String),
    Semicolon,
    Open,
    Close,
    End,
}

impl Token {
    fn written(&self) -> &'static str {
        match self {
            Self::Word(_) => "word",
            Self::Semicolon => ";",
            Self::Open => "{",
            Self::Close => "}",
            Self::End => "end",
        }
    }
}

struct Tokens<'t> {
    chars: Peekable<CharIndices<'t>>,
    file: Arc<Path>,
    line: usize,
}

impl<'t> Tokens<'t> {
    fn new(text: &'t str, path: &Path) -> Self {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        Self {
            chars: text.char_indices().peekable(),
            file: path.into(),
            line: 1,
        }
    }

    fn place(&self) -> Place {
        Place {
            file: Arc::clone(&self.file),
            line: self.line,
        }
    }

    fn bump(&mut self) -> Option<char> {
        let (_, c) = self.chars.next()?;
        if c == '\n' {
            self.line += 1;
        }
        Some(c)
    }

    fn peek(&mut self) -> Option<char> {
        self.chars.peek().map(|(_, c)| *c)
    }

    fn next(&mut self) -> Result<(Token, Place), ImportError> {
        loop {
            let place = self.place();
            let token = match self.bump() {
                None => Token::End,
                Some(c) if is_space(c) => continue,
                Some('#') => {
                    while self.bump().is_some_and(|c| c != '\n') {}
                    continue;
                }
                Some(';') => Token::Semicolon,
                Some('{') => Token::Open,
                Some('}') => Token::Close,
                Some(quote @ ('"' | '\'')) => Token::Word(self.quoted(quote, &place)?),
                Some(first) => Token::Word(self.bare(first, &place)?),
            };
            return Ok((token, place));
        }
    }

    fn quoted(&mut self, quote: char, begin: &Place) -> Result<String, ImportError> {
        let mut word = String::new();
        loop {
            match self.bump() {
                None => return Err(begin.error(format!("the {quote} here is not closed"))),
                Some('\\') => self.escaped(&mut word),
                Some(c) if c == quote => break,
                Some(c) => word.push(c),
            }
        }
        match self.peek() {
            Some(c) if !is_space(c) && !matches!(c, ';' | '{' | ')') => {
                let place = self.place();
                Err(place.error(format!("there is no space between {quote} and {c:?}")))
            }
            // nginx takes `)` behind a quote as the begin of the next word.
            _ => Ok(word),
        }
    }

    fn bare(&mut self, first: char, begin: &Place) -> Result<String, ImportError> {
        let mut word = String::new();
        let mut previous = first;
        if first == '\\' {
            self.escaped(&mut word);
        } else {
            word.push(first);
        }
        while let Some(c) = self.peek() {
            match c {
                // `${name}` is a variable and begins no block.
                '{' if previous == '$' => {
                    while let Some(c) = self.bump() {
                        word.push(c);
                        if c == '}' {
                            break;
                        }
                        if is_space(c) {
                            return Err(begin.error("the ${ here is not closed"));
                        }
                    }
                    previous = '}';
                    continue;
                }
                ';' | '{' => break,
                c if is_space(c) => break,
                _ => {}
            }
            self.bump();
            if c == '\\' {
                self.escaped(&mut word);
                previous = ' ';
            } else {
                word.push(c);
                previous = c;
            }
        }
        Ok(word)
    }

    /// What follows a backslash. One that means nothing stays: regular expressions need it.
    fn escaped(&mut self, word: &mut String) {
        match self.bump() {
            Some(c @ ('"' | '\'' | '\\')) => word.push(c),
            Some('t') => word.push('\t'),
            Some('r') => word.push('\r'),
            Some('n') => word.push('\n'),
            Some(c) => word.extend(['\\', c]),
            None => word.push('\\'),
        }
    }

    /// Skips code in another language, up to the brace that ends it.
    fn skip_lua(&mut self, opened: &Place) -> Result<(), ImportError> {
        let mut depth = 1_usize;
        loop {
            match self.bump() {
                None => return Err(opened.error("the block that begins here has no }")),
                Some('{') => depth += 1,
                Some('}') if depth == 1 => return Ok(()),
                Some('}') => depth -= 1,
                Some('-') if self.peek() == Some('-') => {
                    while self.bump().is_some_and(|c| c != '\n') {}
                }
                Some(quote @ ('"' | '\'')) => loop {
                    match self.bump() {
                        Some('\\') => {
                            self.bump();
                        }
                        Some(c) if c != quote && c != '\n' => {}
                        _ => break,
                    }
                },
                Some(_) => {}
            }
        }
    }
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}
