//! What must hold for any file as a capture that is replayed.

use std::{io::Cursor, path::Path, sync::LazyLock};

use abuser::{
    config::{self, Config},
    replay::{Input, Options, replay},
};

use crate::shown;

/// The least that a packet takes in a capture, in bytes: pcapng's simple packets of nothing.
const SMALLEST: usize = 16;
/// The most that gzip makes of a byte.
const EXPANSION: usize = 1100;

static CONFIG: LazyLock<Config> = LazyLock::new(|| {
    let text = "allow = { addresses = [\"192.0.2.1\"] }\n\
        [ban]\nmaxretry = 2\n\
        [[limit]]\nname = \"all\"\nprotocol = \"any\"\nrate = \"10/s\"\nburst = 2\n\
        [[limit]]\nname = \"web\"\nprotocol = \"tcp\"\nports = [443]\ncount = \"connections\"\nrate = \"1/s\"\nburst = 1\n\
        [[limit]]\nname = \"much\"\nprotocol = \"udp\"\ncount = \"bytes\"\nrate = \"1000/s\"\nburst = 2000\n";
    config::parse(text, Path::new("a.toml")).expect("a configuration")
});

/// Replays bytes as a capture.
///
/// # Panics
///
/// If more comes out of it than there is, what is told does not add up, or an error is none that can be
/// shown.
pub fn capture(bytes: &[u8]) {
    let input = || Input {
        path: "a.pcap".to_owned(),
        contents: Box::new(Cursor::new(bytes.to_vec())),
    };
    let options = Options {
        to: Vec::new(),
        top: 10,
    };
    let report = match replay(&CONFIG, vec![input()], &options) {
        Ok(report) => report,
        Err(error) => return shown::is_one_plain_line(&error.to_string()),
    };
    let [capture] = report.captures.as_slice() else {
        panic!("{} captures of one", report.captures.len());
    };
    let most = bytes.len() / SMALLEST
        * if bytes.starts_with(&[0x1f, 0x8b]) {
            EXPANSION
        } else {
            1
        };
    let frames = usize::try_from(capture.frames).expect("not so many");
    assert!(frames <= most, "{frames} frames of {} bytes", bytes.len());
    assert!(capture.replayed <= capture.frames);
    assert_eq!(report.packets, capture.replayed);
    assert_eq!(report.outcomes.total().packets, report.packets);
    assert_eq!(report.outcomes.total().bytes, report.bytes);
    assert!(report.seconds >= 0.0);
    let json = serde_json::to_value(&report).expect("it can be written");
    let again = replay(&CONFIG, vec![input()], &options).expect("read before");
    let again = serde_json::to_value(&again).expect("it can be written");
    assert_eq!(json, again, "replayed twice");
}
