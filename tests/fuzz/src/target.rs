//! What must hold for any target of a request, as detectors generalise it.

use abuser_detect::detect::template::Templates;

/// Ids of a target at most, as the type promises.
const MOST_IDS: usize = 32;

/// Reads lines as targets.
///
/// # Panics
///
/// If a template is no printable text in lower case, is not the same the next time, or its ids are
/// somewhere else than it says.
pub fn target(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut templates = Templates::default();
    for target in text.split('\n') {
        let first = templates.read(target);
        let printable = |text: &str| text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        assert!(printable(first.text), "{:?}", first.text);
        // What is no printable ASCII is spelt out, with the digits of RFC 3986.
        let mut parts = first.text.split('%');
        let plain = parts.next().into_iter();
        let plain = plain.chain(parts.filter_map(|part| part.get(2..)));
        for part in plain {
            let has_capitals = part.contains(|c: char| c.is_ascii_uppercase());
            assert!(!has_capitals, "{:?}", first.text);
        }
        assert!(
            !first.text.contains('?') || target.contains('%'),
            "{:?}",
            first.text
        );
        assert!(first.ids.len() <= MOST_IDS);
        for id in first.ids {
            let described = first.describe(id);
            assert!(printable(&described), "{described:?}");
            assert!(described.contains("{}"), "{described:?}");
        }
        let (text, hash, ids) = (first.text.to_owned(), first.hash, first.ids.to_vec());
        let again = templates.read(target);
        assert_eq!(
            (again.text, again.hash, again.ids),
            (&*text, hash, &*ids),
            "read twice"
        );
        // No fragment is part of it.
        if !target.contains('#') && target.len() < 8192 {
            let with_fragment = templates.read(&format!("{target}#7")).text.to_owned();
            assert_eq!(with_fragment, text);
        }
    }
}
