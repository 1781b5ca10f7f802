//! `[[blocklist]]`, good and bad.

use std::path::PathBuf;

use super::{assert_error, good};
use crate::{config::BlocklistConfig, exchange::Format};

#[test]
fn a_list_takes_its_name_from_its_file_unless_it_has_one() {
    let config = good(
        "[[blocklist]]\npath = \"/etc/abuser/spam.netset\"\n\
         [[blocklist]]\npath = \"/srv/a b\"\nname = \"ours\"\nformat = \"csv\"\nstrict = true\nforce = true",
    );
    assert_eq!(
        config.blocklists,
        [
            BlocklistConfig {
                name: "spam".to_owned(),
                path: PathBuf::from("/etc/abuser/spam.netset"),
                format: None,
                strict: false,
                force: false,
            },
            BlocklistConfig {
                name: "ours".to_owned(),
                path: PathBuf::from("/srv/a b"),
                format: Some(Format::Csv),
                strict: true,
                force: true,
            },
        ]
    );
}

#[test]
fn what_is_wrong_with_a_list_is_told_where_it_stands() {
    for (text, place, phrase) in [
        (
            "[[blocklist]]\nname = \"a\"",
            "1:1",
            "`path` is missing in [[blocklist]]",
        ),
        (
            "[[blocklist]]\npath = \"spam.txt\"",
            "2:8",
            "is not an absolute path",
        ),
        (
            "[[blocklist]]\npath = \"/a b\"",
            "2:8",
            "add for example name = \"spam\"",
        ),
        (
            "[[blocklist]]\npath = \"/a\"\nname = \"a b\"",
            "3:8",
            "cannot name a block list",
        ),
        (
            "[[blocklist]]\npath = \"/a\"\nformat = \"cvs\"",
            "3:10",
            "did you mean \"csv\"?",
        ),
        (
            "[[blocklist]]\npath = \"/a\"\nstrict = \"no\"",
            "3:10",
            "expected true or false",
        ),
        (
            "[blocklist]\npath = \"/a\"",
            "1:1",
            "double brackets: [[blocklist]]",
        ),
        (
            "[[blocklist]]\npaht = \"/a\"",
            "2:1",
            "did you mean `path`?",
        ),
        (
            "[[blocklist]]\npath = \"/a/x.txt\"\n[[blocklist]]\npath = \"/b/x.csv\"",
            "4:8",
            "\"x\" of this [[blocklist]] is taken by a.toml:2",
        ),
    ] {
        assert_error(text, place, &[phrase]);
    }
    let list = |number| format!("[[blocklist]]\npath = \"/a{number}\"\n");
    let many: Vec<_> = (0..65).map(list).collect();
    let many = many.concat();
    assert_error(&many, "129:1", &["one more than the 64"]);
}
