//! What a regular expression of Python's `re` says, as a tree, and how it is read.
//!
//! Filters are written for Python, whose syntax differs from Rust's in dozens of small things: what
//! must be escaped in a class, which braces are literal, what a condition looks like. Reading
//! it for what it means is surer than rewriting its text.

use std::{collections::HashMap, fmt::Write as _};

/// How deep groups may nest, for what walks the tree does so by recursion.
const MAX_DEPTH: usize = 100;

/// One part of an expression.
#[derive(Clone, Debug)]
pub(super) enum Node {
    /// Matches the empty text.
    Empty,
    /// One character.
    Literal(char),
    /// One character of a set.
    Set(Set),
    /// A place, and no character.
    Assert(Assert),
    /// One after the other.
    Concat(Vec<Node>),
    /// The first that lets the rest match.
    Alternate(Vec<Node>),
    /// The node repeated.
    Repeat {
        node: Box<Node>,
        min: u32,
        max: Option<u32>,
        greed: Greed,
    },
    /// A group that is remembered.
    Group { index: usize, node: Box<Node> },
    /// The text of a group again.
    Backreference { group: usize, fold: bool },
    /// `(?=…)`, `(?!…)`, `(?<=…)`, `(?<!…)`.
    Look {
        ahead: bool,
        negative: bool,
        node: Box<Node>,
    },
    /// `(?(group)yes|no)`.
    Condition {
        group: usize,
        yes: Box<Node>,
        no: Box<Node>,
    },
    /// `(?>…)`: once it has matched it is not tried another way.
    Atomic(Box<Node>),
}

/// What a repetition prefers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Greed {
    Greedy,
    Lazy,
    Possessive,
}

/// A place in the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Assert {
    /// `^`, `\A`.
    Start,
    /// `^` where lines count.
    LineStart,
    /// `\Z`.
    End,
    /// `$`: the end, or before a newline that is the last character.
    LastEnd,
    /// `$` where lines count.
    LineEnd,
    /// `\b`.
    Word,
    /// `\B`.
    NotWord,
}

/// A set of characters. Those of ASCII are a bit each; the others are asked one by one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Set {
    /// Which of the first 128 characters are in it; negation and case are accounted for.
    pub(super) ascii: [u64; 2],
    items: Vec<Item>,
    negated: bool,
    fold: bool,
    /// Whether all, or none, of the characters beyond ASCII are in it.
    wide: Option<bool>,
}

/// What a set is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Item {
    Range(char, char),
    Digit(bool),
    Space(bool),
    Word(bool),
}

impl Item {
    fn has(self, c: char) -> bool {
        match self {
            Self::Range(first, last) => (first..=last).contains(&c),
            Self::Digit(yes) => yes == c.is_numeric(),
            Self::Space(yes) => yes == (c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)),
            Self::Word(yes) => yes == is_word(c),
        }
    }
}

/// Whether Python counts the character as part of a word.
pub(super) fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

impl Set {
    fn new(items: Vec<Item>, negated: bool, fold: bool) -> Self {
        let mut set = Self {
            ascii: [0; 2],
            items,
            negated,
            fold,
            wide: None,
        };
        for byte in 0..128_u8 {
            if set.ask(char::from(byte)) {
                set.ascii[usize::from(byte >> 6)] |= 1 << (byte & 63);
            }
        }
        let narrow = |item: &Item| matches!(item, Item::Range(_, last) if last.is_ascii());
        if !fold && set.items.iter().all(narrow) {
            set.wide = Some(negated);
        }
        set
    }

    /// One character; either case of it if `fold`.
    pub(super) fn one(c: char, fold: bool) -> Self {
        Self::new(vec![Item::Range(c, c)], false, fold)
    }

    /// `.`.
    fn any(newlines: bool) -> Self {
        let items = if newlines {
            vec![]
        } else {
            vec![Item::Range('\n', '\n')]
        };
        Self::new(items, true, false)
    }

    /// Whether a character beyond ASCII can be in it.
    pub(super) fn can_be_wide(&self) -> bool {
        self.wide != Some(false)
    }

    /// Whether it is all but the newline.
    pub(super) fn is_dot(&self) -> bool {
        self.is_all_wide() && self.ascii == [!(1 << b'\n'), u64::MAX]
    }

    /// Whether a character of ASCII is in it.
    #[inline]
    pub(super) fn has_ascii(&self, byte: u8) -> bool {
        self.ascii[usize::from(byte >> 6 & 1)] >> (byte & 63) & 1 == 1
    }

    /// Whether every character beyond ASCII is in it.
    pub(super) fn is_all_wide(&self) -> bool {
        self.wide == Some(true)
    }

    /// Whether the character, which is not of ASCII, is in it.
    pub(super) fn has_wide(&self, c: char) -> bool {
        self.wide.unwrap_or_else(|| self.ask(c))
    }

    fn ask(&self, c: char) -> bool {
        let mut found = self.items.iter().any(|item| item.has(c));
        if self.fold && !found {
            let cases = c.to_lowercase().chain(c.to_uppercase());
            found = cases
                .into_iter()
                .any(|c| self.items.iter().any(|item| item.has(c)));
        }
        found != self.negated
    }

    /// As a class of Rust's syntax.
    fn emit(&self, out: &mut String) {
        if self.items.is_empty() {
            out.push_str(if self.negated { "(?s:.)" } else { r"[^\s\S]" });
            return;
        }
        out.push_str(if self.fold { "(?i:[" } else { "[" });
        if self.negated {
            out.push('^');
        }
        for item in &self.items {
            let class = match *item {
                Item::Range(first, last) => {
                    let (first, last) = (u32::from(first), u32::from(last));
                    // Writing to a String cannot fail.
                    let _ = write!(out, r"\x{{{first:x}}}-\x{{{last:x}}}");
                    continue;
                }
                Item::Digit(true) => r"\d",
                Item::Digit(false) => r"\D",
                Item::Space(true) => r"\s",
                Item::Space(false) => r"\S",
                Item::Word(true) => r"\w",
                Item::Word(false) => r"\W",
            };
            out.push_str(class);
        }
        out.push_str(if self.fold { "])" } else { "]" });
    }
}

impl Node {
    /// In Rust's syntax, if it has nothing that takes more than linear time. `$` is the end:
    /// give it text without the newline that ends it.
    pub(super) fn linear(&self, out: &mut String) -> bool {
        match self {
            Self::Empty => out.push_str("(?:)"),
            Self::Literal(c) => {
                // Writing to a String cannot fail.
                let _ = write!(out, r"\x{{{:x}}}", u32::from(*c));
            }
            Self::Set(set) => set.emit(out),
            Self::Assert(assert) => out.push_str(match assert {
                Assert::Start => r"\A",
                Assert::LineStart => "(?m:^)",
                Assert::End | Assert::LastEnd => r"\z",
                Assert::LineEnd => "(?m:$)",
                Assert::Word => r"\b",
                Assert::NotWord => r"\B",
            }),
            Self::Concat(nodes) => return nodes.iter().all(|node| node.linear(out)),
            Self::Alternate(nodes) => {
                out.push_str("(?:");
                for (at, node) in nodes.iter().enumerate() {
                    if at > 0 {
                        out.push('|');
                    }
                    if !node.linear(out) {
                        return false;
                    }
                }
                out.push(')');
            }
            Self::Repeat {
                greed: Greed::Possessive,
                ..
            }
            | Self::Backreference { .. }
            | Self::Look { .. }
            | Self::Condition { .. }
            | Self::Atomic(_) => return false,
            Self::Repeat {
                node,
                min,
                max,
                greed,
            } => {
                out.push_str("(?:");
                if !node.linear(out) {
                    return false;
                }
                // Writing to a String cannot fail.
                let _ = match max {
                    Some(max) => write!(out, "){{{min},{max}}}"),
                    None => write!(out, "){{{min},}}"),
                };
                if *greed == Greed::Lazy {
                    out.push('?');
                }
            }
            Self::Group { node, .. } => {
                out.push('(');
                if !node.linear(out) {
                    return false;
                }
                out.push(')');
            }
        }
        true
    }

    /// How many characters it takes, if that is always the same: what Python asks of `(?<=…)`.
    pub(super) fn width(&self) -> Option<usize> {
        match self {
            Self::Empty | Self::Assert(_) | Self::Look { .. } => Some(0),
            Self::Literal(_) | Self::Set(_) => Some(1),
            Self::Concat(nodes) => nodes.iter().map(Self::width).sum(),
            Self::Alternate(nodes) => {
                let mut widths = nodes.iter().map(Self::width);
                let first = widths.next()??;
                widths.all(|width| width == Some(first)).then_some(first)
            }
            Self::Repeat { node, min, max, .. } => {
                let times = usize::try_from(*min).ok()?;
                (*max == Some(*min)).then_some(node.width()?.checked_mul(times)?)
            }
            Self::Group { node, .. } | Self::Atomic(node) => node.width(),
            Self::Backreference { .. } => None,
            Self::Condition { yes, no, .. } => {
                let width = yes.width()?;
                (no.width() == Some(width)).then_some(width)
            }
        }
    }

    /// Whether it can match the empty text.
    pub(super) fn nullable(&self) -> bool {
        match self {
            Self::Literal(_) | Self::Set(_) => false,
            Self::Empty | Self::Assert(_) | Self::Look { .. } | Self::Backreference { .. } => true,
            Self::Concat(nodes) => nodes.iter().all(Self::nullable),
            Self::Alternate(nodes) => nodes.iter().any(Self::nullable),
            Self::Repeat { node, min, .. } => *min == 0 || node.nullable(),
            Self::Group { node, .. } | Self::Atomic(node) => node.nullable(),
            Self::Condition { yes, no, .. } => yes.nullable() || no.nullable(),
        }
    }
}

/// An expression that was read.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) node: Node,
    /// Names of groups, by their number; the first is number 1.
    pub(super) names: Vec<Option<String>>,
    /// Which groups conditions and back-references ask about.
    pub(super) asked: Vec<usize>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "they are Python's flags, each by itself"
)]
struct Flags {
    fold: bool,
    lines: bool,
    dot_all: bool,
    verbose: bool,
}

/// Reads an expression; `lines` is Python's `MULTILINE`.
///
/// # Errors
/// What is wrong, and at which character.
pub(super) fn parse(pattern: &str, lines: bool) -> Result<Parsed, String> {
    let mut flags = Flags {
        lines,
        ..Flags::default()
    };
    // Flags in the middle of the outermost level count for all of it, so it is read once more.
    loop {
        let mut parser = Parser {
            chars: pattern.chars().collect(),
            at: 0,
            names: Vec::new(),
            by_name: HashMap::new(),
            asked: Vec::new(),
            global: flags,
        };
        let node = parser.alternate(flags, 0)?;
        if parser.global != flags {
            flags = parser.global;
            continue;
        }
        if parser.at < parser.chars.len() {
            return Err(parser.error("a `)` that closes nothing"));
        }
        if parser.asked.iter().any(|&group| group > parser.names.len()) {
            return Err("it asks about a group that it does not have".to_owned());
        }
        return Ok(Parsed {
            node,
            names: parser.names,
            asked: parser.asked,
        });
    }
}

struct Parser {
    chars: Vec<char>,
    at: usize,
    names: Vec<Option<String>>,
    by_name: HashMap<String, usize>,
    asked: Vec<usize>,
    global: Flags,
}

impl Parser {
    fn error(&self, what: &str) -> String {
        format!("{what}, at character {}", self.at + 1)
    }

    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += 1;
        Some(c)
    }

    fn eat(&mut self, text: &str) -> bool {
        let rest = self.chars.get(self.at..).unwrap_or_default();
        let mut count = 0;
        for (at, c) in text.chars().enumerate() {
            if rest.get(at) != Some(&c) {
                return false;
            }
            count += 1;
        }
        self.at += count;
        true
    }

    fn alternate(&mut self, mut flags: Flags, depth: usize) -> Result<Node, String> {
        if depth > MAX_DEPTH {
            return Err(self.error("groups nest too deep"));
        }
        let mut branches = vec![self.concat(&mut flags, depth)?];
        while self.eat("|") {
            branches.push(self.concat(&mut flags, depth)?);
        }
        Ok(match (branches.pop(), branches.is_empty()) {
            (Some(only), true) => only,
            (Some(last), false) => {
                branches.push(last);
                Node::Alternate(branches)
            }
            (None, _) => Node::Empty,
        })
    }

    fn concat(&mut self, flags: &mut Flags, depth: usize) -> Result<Node, String> {
        let mut nodes = Vec::new();
        while let Some(c) = self.peek() {
            if matches!(c, '|' | ')') {
                break;
            }
            if flags.verbose {
                if c.is_ascii_whitespace() {
                    self.at += 1;
                    continue;
                }
                if c == '#' {
                    while self.next().is_some_and(|c| c != '\n') {}
                    continue;
                }
            }
            let Some(atom) = self.atom(flags, depth)? else {
                continue;
            };
            nodes.push(self.repeat(atom, *flags)?);
        }
        Ok(if nodes.len() == 1 {
            nodes.pop().unwrap_or(Node::Empty)
        } else if nodes.is_empty() {
            Node::Empty
        } else {
            Node::Concat(nodes)
        })
    }

    fn repeat(&mut self, atom: Node, flags: Flags) -> Result<Node, String> {
        while flags.verbose && self.peek().is_some_and(|c| c.is_ascii_whitespace()) {
            self.at += 1;
        }
        let Some((min, max)) = self.quantifier()? else {
            return Ok(atom);
        };
        if matches!(atom, Node::Assert(_)) {
            return Err(self.error("nothing to repeat"));
        }
        if max.is_some_and(|max| max < min) {
            return Err(self.error("the least count of a repetition is over its greatest"));
        }
        let greed = if self.eat("?") {
            Greed::Lazy
        } else if self.eat("+") {
            Greed::Possessive
        } else {
            Greed::Greedy
        };
        if self.quantifier()?.is_some() {
            return Err(self.error("a repetition of a repetition"));
        }
        Ok(Node::Repeat {
            node: Box::new(atom),
            min,
            max,
            greed,
        })
    }

    /// A quantifier, if one is next. A brace that is none is an ordinary character.
    fn quantifier(&mut self) -> Result<Option<(u32, Option<u32>)>, String> {
        let found = match self.peek() {
            Some('*') => (0, None),
            Some('+') => (1, None),
            Some('?') => (0, Some(1)),
            Some('{') => {
                let rest = self.chars.get(self.at + 1..).unwrap_or_default();
                let Some(end) = rest.iter().position(|&c| c == '}') else {
                    return Ok(None);
                };
                let inner: String = rest.get(..end).unwrap_or_default().iter().collect();
                let number = |text: &str| -> Option<Option<u32>> {
                    if text.is_empty() {
                        return Some(None);
                    }
                    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
                    digits.then(|| text.parse().ok())
                };
                let bounds = match inner.split_once(',') {
                    Some((min, max)) => number(min)
                        .zip(number(max))
                        .map(|(min, max)| (min.unwrap_or(0), max)),
                    None => number(&inner).flatten().map(|count| (count, Some(count))),
                };
                let Some(bounds) = bounds else {
                    return Ok(None);
                };
                if bounds.0 > 1000 || bounds.1.is_some_and(|max| max > 1000) {
                    return Err(self.error("a repetition of over 1000"));
                }
                self.at += end + 2;
                return Ok(Some(bounds));
            }
            _ => return Ok(None),
        };
        self.at += 1;
        Ok(Some(found))
    }

    /// The next thing that can be repeated; `None` if it was a comment or flags.
    fn atom(&mut self, flags: &mut Flags, depth: usize) -> Result<Option<Node>, String> {
        let Some(c) = self.next() else {
            return Ok(None);
        };
        Ok(Some(match c {
            '.' => Node::Set(Set::any(flags.dot_all)),
            '^' if flags.lines => Node::Assert(Assert::LineStart),
            '^' => Node::Assert(Assert::Start),
            '$' if flags.lines => Node::Assert(Assert::LineEnd),
            '$' => Node::Assert(Assert::LastEnd),
            '[' => Node::Set(self.class(*flags)?),
            '(' => return self.group(flags, depth),
            '*' | '+' | '?' => return Err(self.error("nothing to repeat")),
            '\\' => self.escape(*flags)?,
            c => literal(c, *flags),
        }))
    }

    fn escape(&mut self, flags: Flags) -> Result<Node, String> {
        let Some(c) = self.next() else {
            return Err(self.error("a backslash at the end"));
        };
        let set = |item| Node::Set(Set::new(vec![item], false, false));
        Ok(match c {
            'd' => set(Item::Digit(true)),
            'D' => set(Item::Digit(false)),
            's' => set(Item::Space(true)),
            'S' => set(Item::Space(false)),
            'w' => set(Item::Word(true)),
            'W' => set(Item::Word(false)),
            'A' => Node::Assert(Assert::Start),
            'Z' => Node::Assert(Assert::End),
            'b' => Node::Assert(Assert::Word),
            'B' => Node::Assert(Assert::NotWord),
            '1'..='9' => {
                let mut group = c.to_digit(10).unwrap_or_default() as usize;
                if let Some(digit) = self.peek().and_then(|c| c.to_digit(10)) {
                    self.at += 1;
                    group = group * 10 + digit as usize;
                }
                self.asked.push(group);
                Node::Backreference {
                    group,
                    fold: flags.fold,
                }
            }
            c => literal(self.char_escape(c)?, flags),
        })
    }

    /// An escape that stands for one character; its first was read.
    fn char_escape(&mut self, c: char) -> Result<char, String> {
        let code = match c {
            'n' => return Ok('\n'),
            't' => return Ok('\t'),
            'r' => return Ok('\r'),
            'f' => return Ok('\x0c'),
            'v' => return Ok('\x0b'),
            'a' => return Ok('\x07'),
            'x' => self.hex(2)?,
            'u' => self.hex(4)?,
            'U' => self.hex(8)?,
            '0' => {
                let mut code = 0;
                for _ in 0..2 {
                    let Some(digit) = self.peek().and_then(|c| c.to_digit(8)) else {
                        break;
                    };
                    self.at += 1;
                    code = code * 8 + digit;
                }
                code
            }
            c if c.is_ascii_alphanumeric() => {
                return Err(self.error(&format!("`\\{c}` means nothing")));
            }
            c => return Ok(c),
        };
        char::from_u32(code).ok_or_else(|| self.error("an escape that is no character"))
    }

    fn hex(&mut self, digits: usize) -> Result<u32, String> {
        let mut code = 0;
        for _ in 0..digits {
            let Some(digit) = self.next().and_then(|c| c.to_digit(16)) else {
                return Err(self.error("too few digits in an escape"));
            };
            code = code * 16 + digit;
        }
        Ok(code)
    }

    fn class(&mut self, flags: Flags) -> Result<Set, String> {
        let negated = self.eat("^");
        let mut items = Vec::new();
        let mut first = true;
        loop {
            let Some(c) = self.next() else {
                return Err(self.error("a `[` that is not closed"));
            };
            if c == ']' && !first {
                break;
            }
            first = false;
            let low = match self.class_member(c)? {
                Ok(item) => {
                    items.push(item);
                    continue;
                }
                Err(c) => c,
            };
            let range =
                self.peek() == Some('-') && self.chars.get(self.at + 1).is_some_and(|&c| c != ']');
            if !range {
                items.push(Item::Range(low, low));
                continue;
            }
            self.at += 1;
            let Some(c) = self.next() else {
                return Err(self.error("a `[` that is not closed"));
            };
            match self.class_member(c)? {
                Err(high) if low <= high => items.push(Item::Range(low, high)),
                _ => return Err(self.error("a range that has no end or runs backwards")),
            }
        }
        Ok(Set::new(items, negated, flags.fold))
    }

    /// A class, or else a character, that `c` begins within brackets.
    fn class_member(&mut self, c: char) -> Result<Result<Item, char>, String> {
        if c != '\\' {
            return Ok(Err(c));
        }
        let Some(c) = self.next() else {
            return Err(self.error("a backslash at the end"));
        };
        Ok(match c {
            'd' => Ok(Item::Digit(true)),
            'D' => Ok(Item::Digit(false)),
            's' => Ok(Item::Space(true)),
            'S' => Ok(Item::Space(false)),
            'w' => Ok(Item::Word(true)),
            'W' => Ok(Item::Word(false)),
            'b' => Err('\x08'),
            c => Err(self.char_escape(c)?),
        })
    }

    fn group(&mut self, flags: &mut Flags, depth: usize) -> Result<Option<Node>, String> {
        if !self.eat("?") {
            return self.capture(None, *flags, depth).map(Some);
        }
        let look = |ahead, negative| Some((ahead, negative));
        let kind = if self.eat("=") {
            look(true, false)
        } else if self.eat("!") {
            look(true, true)
        } else if self.eat("<=") {
            look(false, false)
        } else if self.eat("<!") {
            look(false, true)
        } else {
            None
        };
        if let Some((ahead, negative)) = kind {
            let node = Box::new(self.inner(*flags, depth)?);
            if !ahead && node.width().is_none() {
                return Err(self.error("a look-behind whose width is not fixed"));
            }
            return Ok(Some(Node::Look {
                ahead,
                negative,
                node,
            }));
        }
        if self.eat(":") {
            return self.inner(*flags, depth).map(Some);
        }
        if self.eat(">") {
            return Ok(Some(Node::Atomic(Box::new(self.inner(*flags, depth)?))));
        }
        if self.eat("#") {
            while self.next().is_some_and(|c| c != ')') {}
            return Ok(None);
        }
        if self.eat("P<") {
            let name = self.until('>')?;
            return self.capture(Some(name), *flags, depth).map(Some);
        }
        if self.eat("P=") {
            let name = self.until(')')?;
            let group = self.named(&name)?;
            return Ok(Some(Node::Backreference {
                group,
                fold: flags.fold,
            }));
        }
        if self.eat("(") {
            return self.condition(*flags, depth).map(Some);
        }
        self.flags(flags, depth)
    }

    fn condition(&mut self, flags: Flags, depth: usize) -> Result<Node, String> {
        let name = self.until(')')?;
        let group = match name.parse() {
            Ok(number) => {
                self.asked.push(number);
                number
            }
            Err(_) => self.named(&name)?,
        };
        let mut flags = flags;
        if depth > MAX_DEPTH {
            return Err(self.error("groups nest too deep"));
        }
        let yes = self.concat(&mut flags, depth + 1)?;
        let no = if self.eat("|") {
            self.concat(&mut flags, depth + 1)?
        } else {
            Node::Empty
        };
        if !self.eat(")") {
            return Err(self.error("a condition that is not closed, or has more than two branches"));
        }
        Ok(Node::Condition {
            group,
            yes: Box::new(yes),
            no: Box::new(no),
        })
    }

    /// `(?i)`, which counts for the rest of the group, or `(?i:…)`.
    fn flags(&mut self, flags: &mut Flags, depth: usize) -> Result<Option<Node>, String> {
        let mut changed = *flags;
        let mut on = true;
        loop {
            match self.next() {
                Some('-') if on => on = false,
                Some('i') => changed.fold = on,
                Some('m') => changed.lines = on,
                Some('s') => changed.dot_all = on,
                Some('x') => changed.verbose = on,
                Some('a' | 'u' | 'L') => {}
                Some(')') => {
                    if depth == 0 {
                        self.global = changed;
                    }
                    *flags = changed;
                    return Ok(None);
                }
                Some(':') => return self.inner(changed, depth).map(Some),
                _ => return Err(self.error("a `(?` that means nothing")),
            }
        }
    }

    fn capture(
        &mut self,
        name: Option<String>,
        flags: Flags,
        depth: usize,
    ) -> Result<Node, String> {
        self.names.push(name.clone());
        let index = self.names.len();
        if let Some(name) = name {
            let word = !name.is_empty() && name.chars().all(is_word);
            if !word || name.starts_with(|c: char| c.is_ascii_digit()) {
                return Err(self.error(&format!("`{name}` is no name for a group")));
            }
            if self.by_name.insert(name.clone(), index).is_some() {
                return Err(self.error(&format!("a second group `{name}`")));
            }
        }
        Ok(Node::Group {
            index,
            node: Box::new(self.inner(flags, depth)?),
        })
    }

    /// What is in a group, and its end.
    fn inner(&mut self, flags: Flags, depth: usize) -> Result<Node, String> {
        let node = self.alternate(flags, depth + 1)?;
        if self.eat(")") {
            Ok(node)
        } else {
            Err(self.error("a `(` that is not closed"))
        }
    }

    fn named(&mut self, name: &str) -> Result<usize, String> {
        let Some(&group) = self.by_name.get(name) else {
            return Err(self.error(&format!("no group `{name}` before it is asked about")));
        };
        self.asked.push(group);
        Ok(group)
    }

    fn until(&mut self, end: char) -> Result<String, String> {
        let mut text = String::new();
        loop {
            match self.next() {
                Some(c) if c == end => return Ok(text),
                Some(c) => text.push(c),
                None => return Err(self.error(&format!("no `{end}`"))),
            }
        }
    }
}

fn literal(c: char, flags: Flags) -> Node {
    if flags.fold && c.is_alphabetic() {
        Node::Set(Set::one(c, true))
    } else {
        Node::Literal(c)
    }
}
