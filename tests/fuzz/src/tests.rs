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
    assert!(count >= 40, "only {count} files in {}", directory.display());
}

/// A target without a test here would be replayed by nobody.
#[test]
fn each_target_has_a_corpus_of_its_own() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let names = |folder: &str| {
        let entries = fs::read_dir(package.join(folder)).expect("a folder");
        let mut names: Vec<_> = entries
            .map(|entry| entry.expect("an entry").path())
            .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
            .filter(|name| !name.starts_with('.'))
            .collect();
        names.sort();
        names
    };
    let targets = names("fuzz_targets");
    assert_eq!(names("corpus"), targets);
    let tests = include_str!("tests.rs");
    for target in targets {
        let call = format!("replay(\"{target}\", crate::{target});");
        assert!(tests.contains(&call), "nobody replays {target}");
    }
}

#[test]
fn the_packets_that_fuzzing_found_are_parsed_without_guessing() {
    replay("packet", crate::packet);
}

#[test]
fn the_configurations_that_fuzzing_found_are_read_or_refused_with_a_place() {
    replay("config", crate::config);
}

#[test]
fn the_traffic_that_fuzzing_found_fares_as_plain_code_says() {
    replay("decide", crate::decide);
}

#[test]
fn the_logs_that_fuzzing_found_are_read_as_what_they_say() {
    replay("line", crate::line);
}

#[test]
fn the_streams_that_fuzzing_found_are_the_same_lines_in_any_pieces() {
    replay("stream", crate::stream);
}

#[test]
fn the_filters_that_fuzzing_found_are_compiled_or_refused() {
    replay("filter", crate::filter);
}

#[test]
fn the_conditions_that_fuzzing_found_do_not_contradict_themselves() {
    replay("condition", crate::condition);
}

#[test]
fn the_targets_that_fuzzing_found_have_one_template_each() {
    replay("target", crate::target);
}

#[test]
fn the_templates_that_fuzzing_found_make_json_or_are_refused() {
    replay("webhook", crate::webhook);
}

#[test]
fn the_requests_that_fuzzing_found_are_the_same_when_written_again() {
    replay("api", crate::api);
}

#[test]
fn the_records_that_fuzzing_found_are_told_of_or_refused() {
    replay("event", crate::event);
}

#[test]
fn what_fuzzing_had_nodes_say_counts_within_the_caps() {
    replay("fleet", crate::fleet);
}

#[test]
fn the_answers_that_fuzzing_found_ban_whom_they_name() {
    replay("crowdsec", crate::crowdsec);
}

#[test]
fn the_lists_that_fuzzing_found_name_whom_they_name_when_written_again() {
    replay("exchange", crate::exchange);
}

#[test]
fn what_fuzzing_found_to_import_is_a_configuration() {
    replay("import", crate::import);
}

#[test]
fn the_captures_that_fuzzing_found_are_replayed_as_far_as_they_go() {
    replay("capture", crate::capture);
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
