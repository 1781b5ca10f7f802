//! The corpora replayed, and random packets built on purpose.

use std::{fs, path::Path};

use proptest::prelude::*;

/// Calls `target` with every file of a corpus.
fn replay(corpus: &str, target: fn(&[u8])) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(corpus);
    let entries =
        fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut count = 0;
    for entry in entries {
        let path = entry.expect("an entry").path();
        let bytes = fs::read(&path).expect("a readable file");
        // The name is printed only if the test fails.
        println!("replaying {}", path.display());
        target(&bytes);
        count += 1;
    }
    assert!(count >= 20, "only {count} files in {}", directory.display());
}

#[test]
fn the_packets_that_fuzzing_found_are_parsed_without_guessing() {
    replay("packet", crate::packet);
}

#[test]
fn the_configurations_that_fuzzing_found_are_read_or_refused_with_a_place() {
    replay("config", crate::config);
}

/// Bytes that begin like IP in Ethernet, so that more than the first look is passed.
fn frame() -> impl Strategy<Value = Vec<u8>> {
    let beginning = prop_oneof![
        Just(vec![0x08, 0x00, 0x45]),
        Just(vec![0x08, 0x00, 0x4f]),
        Just(vec![0x86, 0xdd, 0x60]),
        Just(vec![0x81, 0x00, 0x00, 0x07, 0x08, 0x00, 0x45]),
        Just(vec![
            0x88, 0xa8, 0x00, 0x08, 0x81, 0x00, 0x00, 0x07, 0x86, 0xdd, 0x60
        ]),
        Just(vec![]),
    ];
    (beginning, prop::collection::vec(any::<u8>(), 0..200))
        .prop_map(|(beginning, rest)| [&[2; 12], beginning.as_slice(), &rest].concat())
}

proptest! {
    #[test]
    fn random_frames_are_parsed_without_guessing(frame in frame()) {
        crate::packet(&frame);
    }

    #[test]
    fn random_bytes_are_parsed_without_guessing(frame in prop::collection::vec(any::<u8>(), 0..64)) {
        crate::packet(&frame);
    }
}
