use proptest::prelude::*;

use super::*;

/// What each group has found; `None` if the pattern does not match.
fn groups<'t>(pattern: &str, text: &'t str) -> Option<Vec<Option<&'t str>>> {
    let pattern = Pattern::new(pattern, false, usize::MAX)
        .unwrap_or_else(|error| panic!("{pattern}: {error}"));
    let mut scratch = Scratch::default();
    (pattern.search(text, &mut scratch) == Found::Yes).then(|| {
        let group = |group| scratch.group(group).map(|(from, to)| &text[from..to]);
        (0..=pattern.names.len()).map(group).collect()
    })
}

fn found<'t>(pattern: &str, text: &'t str) -> Option<&'t str> {
    groups(pattern, text).and_then(|groups| groups[0])
}

#[test]
fn what_python_matches_is_matched() {
    let cases = [
        // A class may begin with its end, and what is special in Rust's classes is not in Python's.
        ("[]a]+", "x]a]", Some("]a]")),
        ("[^]a]+", "]xy]", Some("xy")),
        ("[a&&b[~]+", "x&[~&b", Some("&[~&b")),
        (r"[\w.-]+", "..a-b!", Some("..a-b")),
        // Braces that count nothing are themselves.
        ("a{b}", "a{b}", Some("a{b}")),
        ("a{,2}b", "aaab", Some("aab")),
        ("x{2,3}", "xxxx", Some("xxx")),
        ("x{2,3}?", "xxxx", Some("xx")),
        (r"\<a\>", "<a>", Some("<a>")),
        // Before a newline that ends the text, and at its very end.
        ("a$", "a\n", Some("a")),
        (r"a\Z", "a\n", None),
        ("a$", "a\nb", None),
        (r"\bfoo\b", "a foo.", Some("foo")),
        (r"\Boo", "foo", Some("oo")),
        // Look-around, back-references, conditions, possessive repetition.
        ("(?<=ab)c", "abc", Some("c")),
        ("(?<!ab)c", "abc", None),
        ("(?:(?! from ).)+", "a from b", Some("a")),
        (r"(\w)\1", "abba", Some("bb")),
        ("(?P<q>['\"]).*?(?P=q)", "x'a\"b'", Some("'a\"b'")),
        ("^(<)?a(?(1)>|!)$", "<a>", Some("<a>")),
        ("^(<)?a(?(1)>|!)$", "a!", Some("a!")),
        ("^(<)?a(?(1)>|!)$", "<a!", None),
        ("^(?P<n><)?a(?(n)(?:x|y))$", "<ay", Some("<ay")),
        ("a*+a", "aaa", None),
        ("(?>a|ab)c", "abc", None),
        // Flags for all of it, for the rest of a group, for a group.
        ("(?i)AbC", "xaBc", Some("aBc")),
        ("x(?i:y)z", "xYz", Some("xYz")),
        ("((?i)a|b)c", "Bc", Some("Bc")),
        ("(?x) a b # c", "ab", Some("ab")),
        ("(?s)a.b", "a\nb", Some("a\nb")),
        ("a.b", "a\nb", None),
        // Unicode as Python has it.
        (r"\w+", "-größe-", Some("größe")),
        (r"\S+$", "x –\u{e9}", Some("–\u{e9}")),
        (r"(?i)É", "é", Some("é")),
        (r"\s", "\u{a0}", Some("\u{a0}")),
        (".{2}$", "aé€", Some("é€")),
        (r"(?<=é)x", "éx", Some("x")),
        // An empty round ends a loop.
        ("(?:a*)*b", "aab", Some("aab")),
        ("(?:|a)+?b", "aab", Some("aab")),
        (r"\x41\u0042\t", "AB\t", Some("AB\t")),
    ];
    for (pattern, text, expected) in cases {
        assert_eq!(found(pattern, text), expected, "{pattern} on {text:?}");
    }
}

#[test]
fn a_group_that_took_no_part_has_found_nothing() {
    assert_eq!(
        groups("(a)|(b)", "b"),
        Some(vec![Some("b"), None, Some("b")])
    );
    assert_eq!(
        groups("(?:(a)|b)*", "ab"),
        Some(vec![Some("ab"), Some("a")])
    );
    assert_eq!(
        groups("(?!(a)b)a(c)", "ac"),
        Some(vec![Some("ac"), None, Some("c")])
    );
    assert_eq!(groups("(?=(a))a", "a"), Some(vec![Some("a"), Some("a")]));
    // What a way had found that led nowhere is forgotten.
    assert_eq!(groups("(?:(a)x|ab)", "ab"), Some(vec![Some("ab"), None]));
}

#[test]
fn what_is_no_expression_is_refused_with_the_place() {
    let cases = [
        ("a(b", "not closed"),
        ("a)b", "closes nothing"),
        ("*a", "nothing to repeat"),
        ("a**", "repetition of a repetition"),
        ("[a", "not closed"),
        ("[z-a]", "backwards"),
        (r"\q", "means nothing"),
        ("(?P<a>x)(?P<a>y)", "a second group `a`"),
        ("(?P=a)", "no group `a`"),
        (r"\2(a)", "does not have"),
        ("(?<=a+)b", "not fixed"),
        ("a{2000}", "over 1000"),
        ("a{3,2}", "over its greatest"),
        ("(?z)", "means nothing"),
        ("a\\", "backslash at the end"),
        ("(?:(?:(?:a{1000}){1000}){1000})", "too big"),
    ];
    for (pattern, part) in cases {
        let error = Pattern::new(pattern, false, 0).expect_err(pattern);
        assert!(error.contains(part), "{pattern}: {error}");
    }
    let deep = "(".repeat(5000);
    let error = Pattern::new(&deep, false, 0).expect_err("too deep");
    assert!(error.contains("too deep"), "{error}");
}

#[test]
fn an_expression_that_never_ends_is_given_up_or_left_to_linear_time() {
    let mut scratch = Scratch::default();
    let line = "a".repeat(60);
    // With a back-reference there is no other way to match it.
    let bomb = Pattern::new(r"^(a+)+\1b$", false, 0).expect("a pattern");
    assert_eq!(bomb.search(&line, &mut scratch), Found::Unknown);
    // Without one there is.
    let bomb = Pattern::new("^(?:(?:a|a)+)+b$", false, 0).expect("a pattern");
    assert_eq!(bomb.search(&line, &mut scratch), Found::No);
    let bomb =
        Pattern::new("^(?:(?:a|a)+)+(?P<end>c|d)?(?P<rest>.*)x$", false, 0).expect("a pattern");
    let line = format!("{line}dyx\n");
    assert_eq!(bomb.search(&line, &mut scratch), Found::Yes);
}

#[test]
fn what_linear_time_finds_is_where_python_finds_it() {
    // Quadratic for the matcher: it gives up, and the other engine says where the groups are.
    let pattern =
        Pattern::new("(?:x|x)*(?:x|x)*(?:x|x)*y(?P<n>[0-9]+)$", false, 0).expect("a pattern");
    let line = format!("{}z y42\n", "x".repeat(2000));
    let mut scratch = Scratch::default();
    assert_eq!(pattern.search(&line, &mut scratch), Found::Yes);
    let (from, to) = scratch
        .group(pattern.group("n").expect("n"))
        .expect("a number");
    assert_eq!(&line[from..to], "42");
}

/// Expressions that both engines know, over few characters so that they match often.
fn expression() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("a".to_owned()),
        Just("b".to_owned()),
        Just("ab".to_owned()),
        Just("é".to_owned()),
        Just(".".to_owned()),
        Just("[ab]".to_owned()),
        Just("[^a]".to_owned()),
        Just(r"\b".to_owned()),
        Just(r"\s".to_owned()),
        Just(r"\S".to_owned()),
        Just(r"\w".to_owned()),
        Just("^".to_owned()),
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        let repeated = prop_oneof![
            Just("*"),
            Just("+"),
            Just("?"),
            Just("*?"),
            Just("+?"),
            Just("??"),
            Just("{1,2}")
        ];
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a}{b}")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("(?:{a}|{b})")),
            inner.clone().prop_map(|a| format!("({a})")),
            (inner, repeated).prop_map(|(a, repeat)| format!("(?:x?{a}y?){repeat}")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, rng_seed: proptest::test_runner::RngSeed::Fixed(5), ..ProptestConfig::default() })]

    #[test]
    fn it_matches_where_the_linear_engine_does(pattern in expression(), text in "[abxyé .-]{0,12}") {
        let regex = Regex::new(&pattern).expect("a pattern");
        let theirs = regex.captures(&text).map(|captures| captures.get(0).map(|group| group.as_str()));
        prop_assert_eq!(found(&pattern, &text), theirs.flatten());
    }

    #[test]
    fn no_text_is_an_expression_that_panics(pattern in r"[ab(){}\[\]|*+?.^$\\<>=!:P1-]{0,20}", text in "[ab<>]{0,8}") {
        if let Ok(pattern) = Pattern::new(&pattern, false, 9) {
            let _ = pattern.search(&text, &mut Scratch::default());
        }
    }
}
