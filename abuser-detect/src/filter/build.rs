//! From a filter's options to a filter that runs.

use super::{
    Counters, Error, Filter, Options, Step,
    dates::{self, Detector},
    expression::Expression,
    groups::Interner,
    lines::Lines,
    options::Definition,
    pattern::Scratch,
    session::Sessions,
    tags,
};

/// How many failregexes a filter may have.
const MAX_REGEXES: usize = 10_000;

/// Compiles all that a filter has.
///
/// # Errors
/// What is wrong with it.
pub(super) fn build(definition: &Definition, options: &Options) -> Result<Filter, Error> {
    let max_lines = match definition.get("maxlines").filter(|text| !text.is_empty()) {
        Some(text) => match text.parse() {
            Ok(lines @ 1..) => lines,
            _ => {
                return Err(definition.value(
                    "maxlines",
                    format!("`{text}` is no number of lines, 1 or more"),
                ));
            }
        },
        None => 1,
    };
    let mut interner = Interner::default();
    let mut compile = |option: &str, text: &str, lines: bool| {
        let names = definition.get("usedns").is_none_or(|usedns| usedns != "no");
        let expression = Expression::new(text, names, lines, &mut interner);
        expression.map_err(|what| definition.regex(option, text, what))
    };
    let prefix = definition.get("prefregex").filter(|text| !text.is_empty());
    let prefix = prefix
        .map(|text| compile("prefregex", text, false))
        .transpose()?;
    let prefix_says = prefix.as_ref().is_some_and(Expression::says_whom);
    let mut failures = Vec::new();
    for text in definition.lines("failregex") {
        let expression = compile("failregex", text, max_lines > 1)?;
        if !prefix_says && !expression.says_whom() {
            let what = match tags::lone(text) {
                Some(tag) => format!("nothing is known as `<{tag}>`"),
                None => {
                    "nothing says whom it is about (<HOST>, <ADDR>, <F-ID> or the like)".to_owned()
                }
            };
            return Err(definition.regex("failregex", text, what));
        }
        failures.push(expression);
    }
    if failures.len() > MAX_REGEXES {
        return Err(definition.value("failregex", format!("there are over {MAX_REGEXES} of them")));
    }
    let ignores = definition
        .lines("ignoreregex")
        .map(|text| compile("ignoreregex", text, false));
    let ignores = ignores.collect::<Result<_, _>>()?;
    let patterns = definition.get("datepattern").unwrap_or_default();
    let dates = Detector::new(patterns)
        .map_err(|(pattern, what)| definition.regex("datepattern", &pattern, what))?;
    let offset = options.log_zone.as_ref().map(|zone| {
        let what = || format!("`{zone}` is no zone; give UTC, CET, UTC+0200 or the like");
        dates::zone_offset(zone).ok_or_else(|| definition.value("logtimezone", what()))
    });
    Ok(Filter {
        content: prefix
            .as_ref()
            .and_then(|prefix| prefix.pattern().group("content")),
        by_first: by_first(&failures, max_lines > 1),
        prefix,
        names: interner.names(),
        failures,
        ignores,
        journal_matches: definition
            .lines("journalmatch")
            .map(str::to_owned)
            .collect(),
        dates,
        zone: options.zone.clone(),
        offset: offset.transpose()?,
        every: options.every,
        lines: Lines::new(max_lines),
        sessions: Sessions::default(),
        last_time: None,
        scratch: Scratch::default(),
        prefix_scratch: Scratch::default(),
        text: String::new(),
        inner: String::new(),
        step: Step::NoMatch,
        dated: false,
        counters: Counters::default(),
    })
}

/// For each byte, and last for no byte, the expressions that can match what begins with it.
fn by_first(failures: &[Expression], several_lines: bool) -> Vec<Vec<u16>> {
    let first = |byte| {
        let may = failures.iter().zip(0_u16..);
        let may = may.filter(|(failure, _)| several_lines || failure.pattern().may_begin(byte));
        may.map(|(_, at)| at).collect()
    };
    (0..=u8::MAX).map(Some).chain([None]).map(first).collect()
}
