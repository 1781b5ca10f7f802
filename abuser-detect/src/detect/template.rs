//! From a request target to the template that it follows and the ids in it:
//! `/api/users/17/orders/9f86d081884c7d65` follows `/api/users/{}/orders/{}`.
//!
//! Whoever walks an endpoint changes the ids and nothing else, so the template is what makes his
//! requests one endpoint's. He also chooses how a target is written, and servers take many ways to
//! write the same: `/api//users/%31`, `/api/./users/1/`, `/API/users/1;x=y`. What a server may take as the same
//! is made the same here, as far as it changes no id: escapes are decoded once, letters become small,
//! empty and dot segments go, and so do parameters of segments (`;x=y`), a slash at the end,
//! fragments, and the scheme and host of an absolute target. To merge too much costs little: a server
//! which tells two such targets apart answers one of them with 404.
//!
//! The query is no part of the template, or a parameter with a random name would make each
//! request an endpoint of its own. Each parameter with an id is a place of its own instead:
//! `/api/users?id={}`, whatever stands beside it.
//!
//! # What is an id
//!
//! A target is read word by word, where a word is a run of letters and digits. An id is:
//!
//! - a UUID, or a word of 16 hexadecimal digits or more of which at least one is decimal, or a ULID: opaque, of no order;
//! - a word of decimal digits, a number. Too large for 64 bits it is opaque;
//! - the number at the end of a word, if it has two digits or more: `INV0001`. Versions (`v1` to `v999`)
//!   are none, and `s3` and `oauth2` are names.
//!
//! So `user-17`, `17.json` and `2024-05-01` have ids too, the last one three.

use std::hash::BuildHasher;

use foldhash::quality::RandomState;

/// Bytes of a target that are read: more than servers take (nginx 8 KiB, Apache 8190 bytes).
const TARGET_BYTES: usize = 16 * 1024;
/// Ids of a target that are told, those of the path first. Each costs its observer a look into a table,
/// and the client chooses how many there are.
const IDS: usize = 32;
const UUID_LENGTH: usize = 36;
const ULID_LENGTH: usize = 26;
const HEX_DIGITS: usize = 16;

/// Reads targets. It keeps its buffers, so that reading allocates nothing once they have grown.
#[derive(Debug, Default)]
pub struct Templates {
    /// The hash is keyed, because a client chooses what is hashed.
    state: RandomState,
    /// What is read, decoded.
    decoded: Vec<u8>,
    /// ASCII, as are the names.
    text: Vec<u8>,
    names: Vec<u8>,
    ids: Vec<Id>,
}

/// What a target follows. Hashes are those of one [`Templates`] and of nobody else.
#[derive(Clone, Copy, Debug)]
pub struct Template<'t> {
    /// `/api/users/{}`: printable ASCII in lower case, without the query.
    pub text: &'t str,
    /// A keyed hash of the text.
    pub hash: u64,
    /// The ids, at most 32 of them.
    pub ids: &'t [Id],
    names: &'t str,
}

/// An id in a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Id {
    /// The id itself.
    pub value: Value,
    /// The place where it stands: a keyed hash of the template and which of its ids this is.
    pub place: u64,
    at: At,
}

/// What an id is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Value {
    /// A number, which has neighbours.
    Number(u64),
    /// A keyed hash of an id that has none: a UUID, a long hexadecimal number.
    Opaque(u64),
}

/// Where an id stands in a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// The nth of the path.
    Path(usize),
    /// In the value of a parameter, whose name is that part of `names`.
    Query(usize, usize),
}

impl Templates {
    /// The template that a target follows, and its ids.
    pub fn read(&mut self, target: &str) -> Template<'_> {
        let Self {
            state,
            decoded,
            text,
            names,
            ids,
        } = self;
        text.clear();
        names.clear();
        ids.clear();

        let target = target.as_bytes();
        let target = without_host(target.get(..TARGET_BYTES).unwrap_or(target));
        let end = memchr::memchr(b'#', target).unwrap_or(target.len());
        let (target, _fragment) = target.split_at(end);
        let (path, query) = split_at_byte(target, b'?');

        decode_path(path, decoded);
        read_words(decoded, Some(text), state, |value, nth| {
            ids.push(Id {
                value,
                place: 0,
                at: At::Path(nth),
            });
            ids.len() < IDS
        });
        let hash = state.hash_one(text.as_slice());
        for (nth, id) in ids.iter_mut().enumerate() {
            id.place = state.hash_one((hash, nth));
        }

        let mut rest = query.unwrap_or_default();
        while !rest.is_empty() && ids.len() < IDS {
            let (parameter, others) = split_at_byte(rest, b'&');
            rest = others.unwrap_or_default();
            let (name, Some(value)) = split_at_byte(parameter, b'=') else {
                continue;
            };
            let before = ids.len();
            decoded.clear();
            decode(value, decoded);
            read_words(decoded, None, state, |value, _| {
                ids.push(Id {
                    value,
                    place: 0,
                    at: At::Path(0),
                });
                ids.len() < IDS
            });
            if ids.len() == before {
                continue;
            }
            decoded.clear();
            decode(name, decoded);
            let start = names.len();
            push_printable(decoded, names);
            let name = names.get(start..).unwrap_or_default();
            let place = state.hash_one((hash, name));
            let at = At::Query(start, names.len());
            for id in ids.iter_mut().skip(before) {
                *id = Id {
                    value: id.value,
                    place,
                    at,
                };
            }
        }
        Template {
            text: std::str::from_utf8(text).unwrap_or_default(),
            hash,
            ids,
            names: std::str::from_utf8(names).unwrap_or_default(),
        }
    }
}

impl Template<'_> {
    /// The place of an id for people: `/api/users/{}`, `/api/users?id={}`; where there are more, the
    /// others are stars: `/api/users/*/orders/{}`.
    pub fn describe(&self, id: &Id) -> String {
        let (place, name) = match id.at {
            At::Path(nth) => (Some(nth), None),
            At::Query(start, end) => (None, self.names.get(start..end)),
        };
        let mut described = String::with_capacity(self.text.len() + 16);
        for (nth, part) in self.text.split("{}").enumerate() {
            if let Some(before) = nth.checked_sub(1) {
                described.push_str(if place == Some(before) { "{}" } else { "*" });
            }
            described.push_str(part);
        }
        if let Some(name) = name {
            described.push('?');
            described.push_str(name);
            described.push_str("={}");
        }
        described
    }
}

/// The target without `http://host`, which a client may send to any server (RFC 9112, 3.2.2).
fn without_host(target: &[u8]) -> &[u8] {
    if target.first() == Some(&b'/') {
        return target;
    }
    let Some(scheme) = memchr::memmem::find(target, b"://") else {
        return target;
    };
    if !target.iter().take(scheme).all(u8::is_ascii_alphabetic) {
        return target;
    }
    let rest = target.get(scheme + 3..).unwrap_or_default();
    let path = rest
        .iter()
        .position(|byte| matches!(byte, b'/' | b'?'))
        .unwrap_or(rest.len());
    rest.get(path..).unwrap_or_default()
}

/// What stands before the first such byte, and what after it if there is one.
fn split_at_byte(bytes: &[u8], byte: u8) -> (&[u8], Option<&[u8]>) {
    match memchr::memchr(byte, bytes) {
        Some(at) => (bytes.get(..at).unwrap_or_default(), bytes.get(at + 1..)),
        None => (bytes, None),
    }
}

/// Appends what the bytes say without their escapes, in lower case.
fn decode(bytes: &[u8], decoded: &mut Vec<u8>) {
    let start = decoded.len();
    let mut rest = bytes;
    while let Some(escape) = memchr::memchr(b'%', rest) {
        let (plain, escaped) = rest.split_at(escape);
        decoded.extend_from_slice(plain);
        let digits = match escaped {
            [_, high, low, ..] => hex(*high).zip(hex(*low)),
            _ => None,
        };
        let (byte, length) = digits.map_or((b'%', 1), |(high, low)| (high << 4 | low, 3));
        decoded.push(byte);
        rest = escaped.get(length..).unwrap_or_default();
    }
    decoded.extend_from_slice(rest);
    if let Some(new) = decoded.get_mut(start..) {
        new.make_ascii_lowercase();
    }
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|digit| u8::try_from(digit).ok())
}

/// The path decoded, without what makes no difference: `/api//./users/x/../%31/` is `/api/users/1`.
fn decode_path(path: &[u8], decoded: &mut Vec<u8>) {
    decoded.clear();
    decode(path, decoded);
    if is_plain(decoded) {
        return;
    }
    // In place: what is kept is never longer than what was read.
    let mut kept = 0;
    let mut read = 0;
    while read < decoded.len() {
        let segment = decoded.get(read..).unwrap_or_default();
        let length = memchr::memchr(b'/', segment).unwrap_or(segment.len());
        let segment = segment.get(..length).unwrap_or_default();
        let name = split_at_byte(segment, b';').0;
        match name {
            b"" | b"." => {}
            b".." => {
                let so_far = decoded.get(..kept).unwrap_or_default();
                kept = memchr::memrchr(b'/', so_far).unwrap_or(0);
            }
            name => {
                let length = name.len();
                if kept > 0 || decoded.first() == Some(&b'/') {
                    if let Some(slash) = decoded.get_mut(kept) {
                        *slash = b'/';
                    }
                    kept += 1;
                }
                decoded.copy_within(read..read + length, kept);
                kept += length;
            }
        }
        read += length + 1;
    }
    decoded.truncate(kept);
    if decoded.is_empty() {
        decoded.push(b'/');
    }
}

/// Whether a path has nothing that makes no difference: most have not.
fn is_plain(path: &[u8]) -> bool {
    let odd = |pair: &[u8]| matches!(pair, [b'/', b'/' | b'.'] | [b';', _]);
    path.first() == Some(&b'/')
        && !matches!(path.last(), Some(b'/' | b';'))
        && !path.windows(2).any(odd)
}

/// Reads words, tells `found` the ids among them until that has enough, and writes the text in
/// which `{}` stands for each.
fn read_words(
    bytes: &[u8],
    mut text: Option<&mut Vec<u8>>,
    state: &RandomState,
    mut found: impl FnMut(Value, usize) -> bool,
) {
    let mut nth = 0;
    let mut wanted = true;
    let mut rest = bytes;
    while let [byte, others @ ..] = rest {
        if !byte.is_ascii_alphanumeric() {
            if let Some(text) = text.as_deref_mut() {
                push_printable(&[*byte], text);
            }
            rest = others;
            continue;
        }
        let length = rest.iter().position(|byte| !byte.is_ascii_alphanumeric());
        let mut length = length.unwrap_or(rest.len());
        if is_uuid(rest) {
            length = UUID_LENGTH;
        }
        let (word, others) = rest.split_at(length);
        rest = others;
        let Some((value, before)) = id_of(word, state) else {
            if let Some(text) = text.as_deref_mut() {
                text.extend_from_slice(word);
            }
            continue;
        };
        if let Some(text) = text.as_deref_mut() {
            text.extend_from_slice(word.get(..before).unwrap_or_default());
            // Those beyond the last that is told are still no part of the text.
            text.extend_from_slice(b"{}");
        }
        if wanted {
            wanted = found(value, nth);
        }
        nth += 1;
        if !wanted && text.is_none() {
            return;
        }
    }
}

/// The id that a word is or ends with, and the length of what stands before it.
fn id_of(word: &[u8], state: &RandomState) -> Option<(Value, usize)> {
    let digits = word
        .iter()
        .rev()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    let before = word.len() - digits;
    if before == 0 {
        let value = number(word).map_or_else(
            || Value::Opaque(state.hash_one(without_zeros(word))),
            Value::Number,
        );
        return Some((value, 0));
    }
    if word.len() == UUID_LENGTH && is_uuid(word) || is_hex_id(word) || is_ulid(word) {
        return Some((Value::Opaque(state.hash_one(word)), 0));
    }
    let (name, digits) = word.split_at(before);
    let is_version = name == b"v" && digits.len() <= 3;
    if digits.len() < 2 || is_version || !name.iter().all(u8::is_ascii_alphabetic) {
        return None;
    }
    number(digits).map(|number| (Value::Number(number), before))
}

fn without_zeros(digits: &[u8]) -> &[u8] {
    let zeros = digits.iter().take_while(|&&digit| digit == b'0').count();
    digits.get(zeros..).unwrap_or_default()
}

fn number(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0_u64, |number, digit| {
        number
            .checked_mul(10)?
            .checked_add(u64::from(digit.wrapping_sub(b'0')))
    })
}

/// Whether these bytes begin with a UUID in lower case and nothing that would make it longer.
fn is_uuid(bytes: &[u8]) -> bool {
    let Some(uuid) = bytes.get(..UUID_LENGTH) else {
        return false;
    };
    let dashes = [8, 13, 18, 23];
    // The dash first: nearly no word has it there.
    bytes.get(8) == Some(&b'-')
        && !bytes
            .get(UUID_LENGTH)
            .is_some_and(u8::is_ascii_alphanumeric)
        && uuid.iter().enumerate().all(|(at, byte)| {
            if dashes.contains(&at) {
                *byte == b'-'
            } else {
                byte.is_ascii_hexdigit()
            }
        })
}

fn is_hex_id(word: &[u8]) -> bool {
    word.len() >= HEX_DIGITS
        && word.iter().all(u8::is_ascii_hexdigit)
        && word.iter().any(u8::is_ascii_digit)
}

/// Crockford's base 32 of 128 bits: the first digit is no greater than 7, and i, l, o and u are
/// no digits.
fn is_ulid(word: &[u8]) -> bool {
    word.len() == ULID_LENGTH
        && matches!(word.first(), Some(b'0'..=b'7'))
        && !word
            .iter()
            .any(|byte| matches!(byte, b'i' | b'l' | b'o' | b'u'))
}

/// Appends bytes as printable ASCII.
fn push_printable(bytes: &[u8], text: &mut Vec<u8>) {
    const DIGITS: [u8; 16] = *b"0123456789ABCDEF";
    for &byte in bytes {
        // A brace would look like an id, and the rest like what it was escaped not to be.
        if byte.is_ascii_graphic() && !matches!(byte, b'{' | b'}' | b'?' | b'#' | b'%') {
            text.push(byte);
            continue;
        }
        text.push(b'%');
        for digit in [byte >> 4, byte & 15] {
            text.extend(DIGITS.get(usize::from(digit)));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The template's text and the places of its ids with their values; `~` is an opaque one.
    fn read(target: &str) -> (String, Vec<String>) {
        let mut templates = Templates::default();
        let template = templates.read(target);
        let ids = template.ids.iter().map(|id| match id.value {
            Value::Number(number) => format!("{} = {number}", template.describe(id)),
            Value::Opaque(_) => format!("{} ~", template.describe(id)),
        });
        (template.text.to_owned(), ids.collect())
    }

    fn text(target: &str) -> String {
        read(target).0
    }

    #[test]
    fn numbers_uuids_and_long_hexadecimal_words_are_ids() {
        let (text, ids) = read("/api/users/17/orders/9f86d081884c7d65");
        assert_eq!(text, "/api/users/{}/orders/{}");
        assert_eq!(
            ids,
            ["/api/users/{}/orders/* = 17", "/api/users/*/orders/{} ~"]
        );
        assert_eq!(
            text_of_ids("/f/0f8fad5b-d9cb-469f-a165-70867728950e.json"),
            ("/f/{}.json".into(), 1)
        );
        assert_eq!(
            text_of_ids("/o/01ARZ3NDEKTSV4RRFFQ69G5FAV"),
            ("/o/{}".into(), 1)
        );
        assert_eq!(
            text_of_ids("/big/123456789012345678901234567890"),
            ("/big/{}".into(), 1)
        );
    }

    fn text_of_ids(target: &str) -> (String, usize) {
        let (text, ids) = read(target);
        (text, ids.len())
    }

    #[test]
    fn a_number_may_have_a_name_before_it_and_an_ending_behind() {
        assert_eq!(read("/u/user-17").1, ["/u/user-{} = 17"]);
        assert_eq!(read("/u/17.json").1, ["/u/{}.json = 17"]);
        assert_eq!(read("/u/INV0001").1, ["/u/inv{} = 1"]);
        assert_eq!(text("/days/2024-05-01"), "/days/{}-{}-{}");
    }

    #[test]
    fn versions_names_and_words_are_no_ids() {
        for target in [
            "/api/v1/users",
            "/api/v12/users",
            "/oauth2/token",
            "/s3/mp4",
            "/deadbeefdeadbeef",
            "/ab3x9k/q",
        ] {
            assert_eq!(text_of_ids(target), (target.to_owned(), 0));
        }
        assert_eq!(text("/v2024/x"), "/v{}/x");
    }

    #[test]
    fn a_target_written_in_another_way_is_the_same_target() {
        let plain = read("/api/users/1");
        for other in [
            "/api//users/1",
            "/api/users/%31",
            "/api/./users/1",
            "/api/x/../users/1/",
            "/API/Users/1",
            "/api/users;s=1/1;x=y",
            "/api/users/1#top",
            "https://example.org/api/users/1",
            "/api%2Fusers%2f1",
            "/api/%2e%2e/api/users/01",
            "/../api/users/1?",
            "/api/users/1?name=value",
        ] {
            assert_eq!(read(other), plain, "{other}");
        }
    }

    #[test]
    fn an_escape_is_decoded_once_and_what_cannot_be_printed_stays_one() {
        assert_eq!(text("/a/%2531"), "/a/%25{}");
        assert_eq!(text("/a/%00%0a%c3%a4ä"), "/a/%00%0A%C3%A4%C3%A4");
        assert_eq!(text("/a/%zz/%"), "/a/%25zz/%25");
        assert_eq!(text("/a/{}"), "/a/%7B%7D");
    }

    #[test]
    fn each_parameter_is_a_place_whatever_stands_beside_it() {
        assert_eq!(read("/api/users?id=17").1, ["/api/users?id={} = 17"]);
        let mut templates = Templates::default();
        let alone = templates.read("/api/users?id=17").ids[0];
        let among = templates.read("/api//users?x9=abc&r=5&ID=%318").ids[1];
        assert_eq!(alone.place, among.place);
        assert_eq!(among.value, Value::Number(18));
        assert_eq!(read("/s?ids=1,2&ids=3").1.len(), 3);
    }

    #[test]
    fn places_and_values_of_different_ids_differ() {
        let mut templates = Templates::default();
        let ids = templates.read("/a/1/b/1?c=1&d=1").ids.to_vec();
        let places: std::collections::HashSet<u64> = ids.iter().map(|id| id.place).collect();
        assert_eq!(places.len(), 4);
        let opaque = |templates: &mut Templates, target: &str| templates.read(target).ids[0];
        let first = opaque(&mut templates, "/x/0f8fad5b-d9cb-469f-a165-70867728950e");
        let again = opaque(&mut templates, "/x/0F8FAD5B-D9CB-469F-A165-70867728950E");
        let other = opaque(&mut templates, "/x/0f8fad5b-d9cb-469f-a165-70867728950f");
        assert_eq!(first, again);
        assert_eq!(first.place, other.place);
        assert_ne!(first.value, other.value);
    }

    #[test]
    fn no_more_ids_are_told_than_are_bounded() {
        let path = "/1".repeat(100);
        assert_eq!(text_of_ids(&path), ("/{}".repeat(100), IDS));
        assert_eq!(text_of_ids(&format!("/a?{}", "x=1&".repeat(100))).1, IDS);
        assert!(text(&"/a".repeat(100_000)).len() <= TARGET_BYTES);
    }

    #[test]
    fn targets_that_are_no_paths_are_read_too() {
        assert_eq!(text(""), "/");
        assert_eq!(text("*"), "*");
        assert_eq!(text("?id=1"), "/");
        assert_eq!(text("http://host"), "/");
        assert_eq!(text("host:443"), "host:{}");
        assert_eq!(text("/../../.."), "/");
    }

    proptest! {
        #[test]
        fn any_target_is_read_and_the_text_reads_as_itself(target in r"(/|%2e|%2F|\.|;|\?|&|=|[0-9a-f-]{1,40}|\PC){0,30}") {
            let mut templates = Templates::default();
            let template = templates.read(&target);
            prop_assert!(template.text.bytes().all(|byte| byte.is_ascii_graphic()));
            for id in template.ids {
                let described = template.describe(id);
                    prop_assert!(described.contains("{}"), "{}", described);
            }
        }
    }
}
