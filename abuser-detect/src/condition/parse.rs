//! From text to a condition, or to what is wrong with it and where.

use ipnet::IpNet;
use memchr::memmem::Finder;
use regex::RegexBuilder;

use super::{Comparison, ConditionError, Items, Node, Test, Wanted};
use crate::{field::Field, time::Time, words::on_one_line};

/// The most parentheses and `not`s within each other.
const MAX_DEPTH: usize = 64;

/// The most memory that a compiled regular expression may take, in bytes.
const MAX_REGEX: usize = 1 << 20;

const TESTS: &str = "==, !=, <, <=, >, >=, ~, !~, in, not in, contains or starts_with";

type Result<T> = std::result::Result<T, ConditionError>;

/// Reads a whole condition.
pub(super) fn parse(text: &str) -> Result<Node> {
    let mut parser = Parser {
        tokens: tokens(text)?,
        next: 0,
        depth: 0,
    };
    let node = parser.any()?;
    match parser.peek() {
        Token::End => Ok(node),
        other => Err(parser.expected("and, or, or the end", other)),
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Token<'t> {
    /// A name, a number, a prefix or a word of the language.
    Word(&'t str),
    /// A text with the quote that it is in, which is not part of it.
    Text(&'t str, char),
    Symbol(&'static str),
    End,
}

/// What is not a word. Longer ones come before those that they begin with.
const SYMBOLS: [&str; 16] = [
    "==", "!=", "!~", "<=", ">=", "&&", "||", "<", ">", "~", "!", "(", ")", "[", "]", ",",
];

fn is_of_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '.' | ':' | '/' | '-' | '@' | '$')
}

/// The tokens of a text with their columns; the last one is its end.
fn tokens(text: &str) -> Result<Vec<(usize, Token<'_>)>> {
    let mut tokens = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start();
        let column = text.get(..text.len() - rest.len()).unwrap_or(text);
        let column = column.chars().count() + 1;
        let error = |problem: &str| ConditionError {
            column,
            problem: problem.to_owned(),
        };
        let Some(first) = rest.chars().next() else {
            tokens.push((column, Token::End));
            return Ok(tokens);
        };
        let (token, length) = if let '"' | '\'' = first {
            let inner = rest.get(1..).unwrap_or_default();
            let end = closing(inner, first).ok_or_else(|| {
                error(&format!(
                    "the text that begins here has no {first} at its end"
                ))
            })?;
            (
                Token::Text(inner.get(..end).unwrap_or(inner), first),
                end + 2,
            )
        } else if is_of_word(first) {
            let end = rest.find(|c| !is_of_word(c)).unwrap_or(rest.len());
            (Token::Word(rest.get(..end).unwrap_or(rest)), end)
        } else if let Some(symbol) = SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol)) {
            (Token::Symbol(symbol), symbol.len())
        } else if first == '=' {
            return Err(error("= compares nothing; write =="));
        } else {
            return Err(error(&format!(
                "{first:?} means nothing here; texts are in quotes"
            )));
        };
        tokens.push((column, token));
        rest = rest.get(length..).unwrap_or_default();
    }
}

/// Where a text ends: at the first such quote that has no backslash before it.
fn closing(text: &str, quote: char) -> Option<usize> {
    let mut quotes = text.match_indices(quote);
    let end = quotes.find(|(place, _)| {
        let before = text.get(..*place).unwrap_or_default();
        !before.ends_with('\\')
    });
    end.map(|(place, _)| place)
}

struct Parser<'t> {
    tokens: Vec<(usize, Token<'t>)>,
    next: usize,
    depth: usize,
}

impl<'t> Parser<'t> {
    fn peek(&self) -> Token<'t> {
        self.tokens
            .get(self.next)
            .map_or(Token::End, |(_, token)| *token)
    }

    fn column(&self) -> usize {
        let token = self.tokens.get(self.next).or(self.tokens.last());
        token.map_or(1, |(column, _)| *column)
    }

    /// Goes past the next token if it is that word or symbol.
    fn eat(&mut self, wanted: &str) -> bool {
        let is_it =
            matches!(self.peek(), Token::Word(text) | Token::Symbol(text) if text == wanted);
        self.next += usize::from(is_it);
        is_it
    }

    fn error(&self, problem: impl Into<String>) -> ConditionError {
        ConditionError {
            column: self.column(),
            problem: problem.into(),
        }
    }

    fn expected(&self, what: &str, found: Token<'_>) -> ConditionError {
        let found = match found {
            Token::Word(text) | Token::Symbol(text) => text.to_owned(),
            Token::Text(text, quote) => format!("{quote}{}{quote}", on_one_line(text)),
            Token::End => "the end".to_owned(),
        };
        self.error(format!("expected {what}, found {found}"))
    }

    fn demand(&mut self, symbol: &'static str) -> Result<()> {
        if self.eat(symbol) {
            return Ok(());
        }
        Err(self.expected(symbol, self.peek()))
    }

    fn any(&mut self) -> Result<Node> {
        let mut nodes = vec![self.all()?];
        while self.eat("or") || self.eat("||") {
            nodes.push(self.all()?);
        }
        Ok(one_or(nodes, Node::Any))
    }

    fn all(&mut self) -> Result<Node> {
        let mut nodes = vec![self.not()?];
        while self.eat("and") || self.eat("&&") {
            nodes.push(self.not()?);
        }
        Ok(one_or(nodes, Node::All))
    }

    fn not(&mut self) -> Result<Node> {
        if self.depth == MAX_DEPTH {
            return Err(self.error(format!(
                "more than {MAX_DEPTH} parentheses and nots within each other"
            )));
        }
        self.depth += 1;
        let node = if self.eat("not") || self.eat("!") {
            Node::Not(Box::new(self.not()?))
        } else if self.eat("(") {
            let node = self.any()?;
            self.demand(")")?;
            node
        } else {
            self.test()?
        };
        self.depth -= 1;
        Ok(node)
    }

    fn test(&mut self) -> Result<Node> {
        const FIELD: &str = "a field, has(FIELD), not or (";
        let Token::Word(name) = self.peek() else {
            return Err(self.expected(FIELD, self.peek()));
        };
        if name == "has" {
            self.next += 1;
            self.demand("(")?;
            let field = self.field()?;
            self.demand(")")?;
            return Ok(Node::Has(field));
        }
        let field = self.field()?;
        let test = self.test_of(&field)?;
        Ok(Node::Test(field, test))
    }

    fn field(&mut self) -> Result<Field> {
        let Token::Word(name) = self.peek() else {
            return Err(self.expected("a field", self.peek()));
        };
        let field = name
            .parse()
            .map_err(|error| self.error(format!("{error}")))?;
        self.next += 1;
        Ok(field)
    }

    fn test_of(&mut self, field: &Field) -> Result<Test> {
        let comparisons = [
            ("==", Comparison::Equal),
            ("!=", Comparison::NotEqual),
            ("<=", Comparison::LessOrEqual),
            (">=", Comparison::GreaterOrEqual),
            ("<", Comparison::Less),
            (">", Comparison::Greater),
        ];
        for (symbol, comparison) in comparisons {
            if self.eat(symbol) {
                return self.comparison(field, comparison);
            }
        }
        for (symbol, wanted) in [("~", true), ("!~", false)] {
            if self.eat(symbol) {
                return self.matches(wanted);
            }
        }
        if self.eat("in") {
            return self.one_of(field, true);
        }
        if self.eat("not") {
            self.demand("in")?;
            return self.one_of(field, false);
        }
        if self.eat("contains") {
            let text = self.text("a text in quotes")?;
            return Ok(Test::Contains(Box::new(Finder::new(&text).into_owned())));
        }
        if self.eat("starts_with") {
            return Ok(Test::StartsWith(self.text("a text in quotes")?.into()));
        }
        Err(self.expected(TESTS, self.peek()))
    }

    fn comparison(&mut self, field: &Field, comparison: Comparison) -> Result<Test> {
        if *field == Field::Time {
            return Ok(Test::Time(comparison, self.time()?));
        }
        let mut items = Items::default();
        self.item(field, &mut items)?;
        let is_equality = matches!(comparison, Comparison::Equal | Comparison::NotEqual);
        if let [number] = *items.numbers {
            return Ok(Test::Number(comparison, number));
        }
        if let Some(text) = items.texts.pop() {
            return Ok(Test::Text(comparison, text));
        }
        if !is_equality {
            self.next -= 1;
            return Err(self.error("addresses are compared with ==, != and in only"));
        }
        Ok(Test::In(items, comparison == Comparison::Equal))
    }

    fn one_of(&mut self, field: &Field, wanted: Wanted) -> Result<Test> {
        let mut items = Items::default();
        if *field == Field::Time {
            return Err(self.error("time is compared with <, <=, > and >="));
        }
        if self.eat("[") {
            loop {
                self.item(field, &mut items)?;
                if self.eat("]") {
                    break;
                }
                if !self.eat(",") {
                    return Err(self.expected(", or ]", self.peek()));
                }
            }
        } else if let Token::Text(..) | Token::Word(_) = self.peek() {
            self.item(field, &mut items)?;
        } else {
            return Err(self.expected("a list in [ ] or a prefix", self.peek()));
        }
        Ok(Test::In(items, wanted))
    }

    /// A number, a text or a prefix, whichever the field can be.
    fn item(&mut self, field: &Field, items: &mut Items) -> Result<()> {
        let (text, is_quoted) = match self.peek() {
            Token::Word(word) => (word.to_owned(), false),
            Token::Text(text, quote) => (unescape(text, quote), true),
            other => {
                return Err(
                    self.expected("a number, a text in quotes, an address or a prefix", other)
                );
            }
        };
        let number = || text.parse().ok().filter(|number: &f64| number.is_finite());
        match field {
            Field::Source => match prefix(&text) {
                Some(prefix) => items.prefixes.push(prefix),
                None => return Err(self.expected("an address or a prefix", self.peek())),
            },
            Field::Status | Field::Bytes => match number() {
                Some(number) => items.numbers.push(number),
                None => return Err(self.expected("a number", self.peek())),
            },
            _ if is_quoted => items.texts.push(text.into()),
            _ => match (number(), prefix(&text)) {
                (Some(number), _) => items.numbers.push(number),
                (None, Some(prefix)) => items.prefixes.push(prefix),
                (None, None) => {
                    let problem = format!(
                        "{text} is no number and no address; a text is in quotes: \"{text}\""
                    );
                    return Err(self.error(problem));
                }
            },
        }
        self.next += 1;
        Ok(())
    }

    fn matches(&mut self, wanted: Wanted) -> Result<Test> {
        let text = self.text("a regular expression in quotes")?;
        let regex = RegexBuilder::new(&text).size_limit(MAX_REGEX).build();
        let regex = regex.map_err(|error| {
            self.next -= 1;
            let error = error.to_string();
            let last = error.lines().last().unwrap_or_default();
            let last = last.strip_prefix("error: ").unwrap_or(last);
            self.error(format!(
                "{text:?} is no regular expression that can be used: {last}"
            ))
        })?;
        Ok(Test::Matches(regex, wanted))
    }

    fn time(&mut self) -> Result<Time> {
        const TIME: &str = "a time such as \"2024-01-15T10:00:00Z\"";
        let text = self.text(TIME)?;
        let time = text.parse::<jiff::Timestamp>().ok();
        let millis = time.and_then(|time| u64::try_from(time.as_millisecond()).ok());
        millis.map(Time).ok_or_else(|| {
            self.next -= 1;
            self.expected(TIME, self.peek())
        })
    }

    fn text(&mut self, what: &str) -> Result<String> {
        let Token::Text(text, quote) = self.peek() else {
            return Err(self.expected(what, self.peek()));
        };
        self.next += 1;
        Ok(unescape(text, quote))
    }
}

fn one_or(mut nodes: Vec<Node>, many: fn(Vec<Node>) -> Node) -> Node {
    match (nodes.len(), nodes.pop()) {
        (1, Some(node)) => node,
        (_, last) => {
            nodes.extend(last);
            many(nodes)
        }
    }
}

fn unescape(text: &str, quote: char) -> String {
    text.replace(&format!("\\{quote}"), &quote.to_string())
}

/// An address or a prefix; bits behind the prefix are no matter.
fn prefix(text: &str) -> Option<IpNet> {
    let address = || text.parse::<std::net::IpAddr>().ok();
    text.parse::<IpNet>()
        .ok()
        .or_else(|| address().map(|address| address.to_canonical().into()))
        .map(|prefix| prefix.trunc())
}
