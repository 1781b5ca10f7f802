//! Files on disk: merging, and files that cannot be read.

use std::{fs, time::Duration};

use tempfile::TempDir;

use super::{good, limit};
use crate::config::load;

fn directory(files: &[(&str, &[u8])]) -> TempDir {
    let directory = TempDir::new().unwrap();
    for (name, content) in files {
        let path = directory.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    directory
}

#[track_caller]
fn load_error(directory: &TempDir) -> String {
    load(&directory.path().join("a.toml"))
        .unwrap_err()
        .to_string()
}

#[test]
fn files_in_conf_d_follow_in_the_order_of_their_names() {
    let directory = directory(&[
        (
            "a.toml",
            b"interfaces = [\"eth0\"]\n[ban]\nmaxretry = 1\nincrement = true\n\
              [[limit]]\nname = \"a\"\nrate = \"1/s\"",
        ),
        (
            "conf.d/20.toml",
            b"[ban]\nmaxretry = 20\n[[limit]]\nname = \"c\"\nrate = \"1/s\"",
        ),
        (
            "conf.d/10.toml",
            b"interfaces = [\"eth1\", \"eth0\"]\n[ban]\nmaxretry = 10\nfindtime = \"1h\"\n\
              [[limit]]\nname = \"b\"\nrate = \"1/s\"",
        ),
        ("conf.d/.hidden.toml", b"not toml"),
        ("conf.d/30.toml.bak", b"not toml"),
    ]);
    let config = load(&directory.path().join("a.toml")).unwrap();
    assert_eq!(config.interfaces, ["eth0", "eth1"]);
    assert_eq!(config.ban.maxretry, 20);
    assert_eq!(config.ban.findtime, Duration::from_secs(3600));
    assert!(config.ban.increment);
    let names: Vec<_> = config
        .limits
        .iter()
        .map(|limit| limit.name.as_str())
        .collect();
    assert_eq!(names, ["a", "b", "c"]);
}

#[test]
fn a_token_may_come_from_another_file_than_what_needs_it() {
    let listen: &[u8] = b"[api]\nlisten = \"[::1]:9090\"";
    let token: &[u8] = b"[api]\ntoken_file = \"/t\"";
    for (first, second) in [(listen, token), (token, listen)] {
        let directory = directory(&[("a.toml", first), ("conf.d/b.toml", second)]);
        let config = load(&directory.path().join("a.toml")).unwrap();
        assert_eq!(config.api.listen, "[::1]:9090".parse().ok());
        assert_eq!(config.api.token_file, Some("/t".into()));
    }
    let error = load_error(&directory(&[("a.toml", b""), ("conf.d/b.toml", listen)]));
    assert!(error.contains("conf.d/b.toml:2:10: "), "{error}");
}

#[test]
fn a_later_file_may_turn_the_page_off_that_an_earlier_one_turns_on() {
    let (on, off): (&[u8], &[u8]) = (b"[api]\npage = true", b"[api]\npage = false");
    let files = directory(&[("a.toml", on), ("conf.d/b.toml", off)]);
    assert!(!load(&files.path().join("a.toml")).unwrap().api.page);
    let error = load_error(&directory(&[("a.toml", off), ("conf.d/b.toml", on)]));
    assert!(error.contains("conf.d/b.toml:2:8: "), "{error}");
}

#[test]
fn errors_across_files_name_both() {
    let web = limit("");
    let directory = directory(&[
        ("a.toml", web.as_bytes()),
        ("conf.d/b.toml", web.as_bytes()),
    ]);
    let error = load_error(&directory);
    assert!(error.contains("conf.d/b.toml:2:8: "), "{error}");
    assert!(error.contains("a.toml:2; choose another"), "{error}");
}

#[test]
fn a_missing_file_is_an_error_that_says_how_to_begin_one() {
    let error = load_error(&directory(&[("conf.d/b.toml", b"")]));
    assert!(error.contains("a.toml: no such file"), "{error}");
    assert!(error.contains("abuser run -i IFACE"), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
    let first = error.split(['(', ')']).nth(1).unwrap();
    let first = first.strip_prefix("its first line: ").unwrap();
    assert_eq!(good(first).interfaces, ["eth0"]);
}

#[test]
fn a_link_to_what_is_not_there_is_said_to_be_one() {
    let directory = directory(&[("a.toml", b""), ("conf.d/a.toml", b"")]);
    let link = directory.path().join("conf.d/b.toml");
    std::os::unix::fs::symlink("../gone.toml", link).unwrap();
    let error = load_error(&directory);
    assert!(
        error.contains("b.toml: is a link to ../gone.toml, which is not there"),
        "{error}"
    );
}

#[test]
fn what_cannot_be_read_as_a_file_is_named() {
    let too_large = vec![b'#'; 1 << 20];
    assert!(load(&directory(&[("a.toml", &too_large)]).path().join("a.toml")).is_ok());
    let too_large = vec![b'#'; (1 << 20) + 1];
    let error = load_error(&directory(&[("a.toml", &too_large)]));
    assert!(
        error.contains("a.toml: larger than 1048576 bytes"),
        "{error}"
    );

    let error = load_error(&directory(&[("a.toml/file", b"")]));
    assert!(
        error.contains("a.toml: is a directory, not a file"),
        "{error}"
    );

    let error = load_error(&directory(&[("a.toml", b"# caf\xe9 \xff")]));
    assert!(
        error.contains("a.toml:1:6: the text is not UTF-8"),
        "{error}"
    );

    let error = load_error(&directory(&[("a.toml", b""), ("conf.d/b.toml/file", b"")]));
    assert!(error.contains("b.toml: is a directory"), "{error}");

    // A path through a file: no such file can exist.
    let directory = directory(&[("a.toml", b"")]);
    let error = load(&directory.path().join("a.toml/b.toml"))
        .unwrap_err()
        .to_string();
    assert!(error.contains("cannot be read"), "{error}");
}
