//! Lines as OpenSSH writes them, one connection after the other.

use super::*;

/// Which lines count, as how many; `LINE` is what each begins with.
#[track_caller]
fn counted(parser: &mut Parser, lines: &[&str]) -> usize {
    let mut counted = 0;
    for line in lines {
        let line = format!("Jan 15 10:00:00 host {line}");
        match parser.parse(&line) {
            Ok(record) => {
                assert_eq!(record.source, Some([192, 0, 2, 1].into()), "{line}");
                counted += 1;
            }
            Err(Unparsed::NoFailure | Unparsed::Repeated) => {}
            Err(error) => panic!("{error}: {line}"),
        }
    }
    counted
}

#[track_caller]
fn assert_counted(expected: usize, lines: &[&str]) {
    assert_eq!(
        counted(&mut parser(Kind::Sshd), lines),
        expected,
        "{lines:#?}"
    );
}

#[test]
fn each_password_counts_and_the_end_of_its_connection_does_not() {
    assert_counted(
        2,
        &[
            "sshd[812]: pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost=192.0.2.1  user=root",
            "sshd[812]: Failed password for root from 192.0.2.1 port 40000 ssh2",
            "sshd[812]: Failed password for root from 192.0.2.1 port 40000 ssh2",
            "sshd[812]: Connection closed by authenticating user root 192.0.2.1 port 40000 [preauth]",
            "sshd[812]: PAM 1 more authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost=192.0.2.1  user=root",
        ],
    );
    assert_counted(
        1,
        &[
            "sshd-session[813]: Invalid user admin from 192.0.2.1 port 40001",
            "sshd-session[813]: pam_unix(sshd:auth): check pass; user unknown",
            "sshd-session[813]: Failed password for invalid user admin from 192.0.2.1 port 40001 ssh2",
            "sshd-session[813]: Received disconnect from 192.0.2.1 port 40001:11: Bye Bye [preauth]",
            "sshd-session[813]: Disconnected from invalid user admin 192.0.2.1 port 40001 [preauth]",
        ],
    );
    assert_counted(
        6,
        &[
            "sshd[814]: Failed password for root from 192.0.2.1 port 40002 ssh2",
            "sshd[814]: Failed password for root from 192.0.2.1 port 40002 ssh2",
            "sshd[814]: Failed password for root from 192.0.2.1 port 40002 ssh2",
            "sshd[814]: Failed password for root from 192.0.2.1 port 40002 ssh2",
            "sshd[814]: Failed password for root from 192.0.2.1 port 40002 ssh2",
            "sshd[814]: Failed password for root from 192.0.2.1 port 40002 ssh2",
            "sshd[814]: error: maximum authentication attempts exceeded for root from 192.0.2.1 port 40002 ssh2 [preauth]",
            "sshd[814]: Disconnecting authenticating user root 192.0.2.1 port 40002: Too many authentication failures [preauth]",
        ],
    );
}

#[test]
fn an_attempt_by_pam_counts_once_whether_sshd_tells_of_it_too_or_not() {
    // Of a user that exists, sshd tells from the third on.
    assert_counted(
        4,
        &[
            "sshd[820]: error: PAM: Authentication failure for root from 192.0.2.1",
            "sshd[820]: error: PAM: Authentication failure for root from 192.0.2.1",
            "sshd[820]: error: PAM: Authentication failure for root from 192.0.2.1",
            "sshd[820]: Failed keyboard-interactive/pam for root from 192.0.2.1 port 40003 ssh2",
            "sshd[820]: error: PAM: Authentication failure for root from 192.0.2.1",
            "sshd[820]: Failed keyboard-interactive/pam for root from 192.0.2.1 port 40003 ssh2",
            "sshd[820]: Connection closed by authenticating user root 192.0.2.1 port 40003 [preauth]",
        ],
    );
    assert_counted(
        2,
        &[
            "sshd[821]: Invalid user admin from 192.0.2.1 port 40004",
            "sshd[821]: Postponed keyboard-interactive for invalid user admin from 192.0.2.1 port 40004 ssh2 [preauth]",
            "sshd[821]: error: PAM: User not known to the underlying authentication module for illegal user admin from 192.0.2.1",
            "sshd[821]: Failed keyboard-interactive/pam for invalid user admin from 192.0.2.1 port 40004 ssh2",
            "sshd[821]: Failed password for invalid user admin from 192.0.2.1 port 40004 ssh2",
            "sshd[821]: Connection reset by invalid user admin 192.0.2.1 port 40004 [preauth]",
        ],
    );
    // Where names of hosts are looked up, PAM has no address.
    assert_counted(
        2,
        &[
            "sshd[822]: error: PAM: Authentication failure for illegal user admin from client.example",
            "sshd[822]: Failed keyboard-interactive/pam for invalid user admin from 192.0.2.1 port 40005 ssh2",
            "sshd[822]: error: PAM: Authentication failure for illegal user admin from client.example",
            "sshd[822]: Failed keyboard-interactive/pam for invalid user admin from 192.0.2.1 port 40005 ssh2",
        ],
    );
    // macOS and FreeBSD.
    assert_counted(
        1,
        &["sshd[823]: error: PAM: authentication error for james from 192.0.2.1 via 198.51.100.7"],
    );
}

#[test]
fn keys_are_one_attempt_and_none_if_one_of_them_fits() {
    assert_counted(
        0,
        &[
            "sshd[830]: Failed publickey for git from 192.0.2.1 port 40010 ssh2: RSA SHA256:AAAA",
            "sshd[830]: Failed publickey for git from 192.0.2.1 port 40010 ssh2: ECDSA SHA256:BBBB",
            "sshd[830]: Accepted publickey for git from 192.0.2.1 port 40010 ssh2: ED25519 SHA256:CCCC",
            "sshd[830]: Disconnected from user git 192.0.2.1 port 40010",
        ],
    );
    assert_counted(
        1,
        &[
            "sshd[831]: Failed publickey for root from 192.0.2.1 port 40011 ssh2: RSA SHA256:AAAA",
            "sshd[831]: Failed publickey for root from 192.0.2.1 port 40011 ssh2: ECDSA SHA256:BBBB",
            "sshd[831]: error: maximum authentication attempts exceeded for root from 192.0.2.1 port 40011 ssh2 [preauth]",
            "sshd[831]: Disconnecting authenticating user root 192.0.2.1 port 40011: Too many authentication failures [preauth]",
        ],
    );
    assert_counted(
        1,
        &[
            "sshd[832]: Invalid user admin from 192.0.2.1 port 40012",
            "sshd[832]: Failed publickey for invalid user admin from 192.0.2.1 port 40012 ssh2: RSA SHA256:AAAA",
            "sshd[832]: Failed publickey for invalid user admin from 192.0.2.1 port 40012 ssh2: ECDSA SHA256:BBBB",
            "sshd[832]: Connection closed by invalid user admin 192.0.2.1 port 40012 [preauth]",
        ],
    );
}

#[test]
fn an_end_is_an_attempt_if_nothing_else_of_its_connection_was() {
    for end in [
        "Connection closed by authenticating user root 192.0.2.1 port 40020 [preauth]",
        "Connection reset by authenticating user root 192.0.2.1 port 40020 [preauth]",
        "Connection closed by invalid user  192.0.2.1 port 40020 [preauth]",
        "Disconnected from authenticating user root 192.0.2.1 port 40020 [preauth]",
    ] {
        let line = format!("sshd[840]: {end}");
        assert_counted(1, &[&line]);
        // The number of a process comes again, and without one it is the same anyway.
        assert_counted(2, &[&line, &line]);
        let line = format!("sshd: {end}");
        assert_counted(2, &[&line, &line]);
        // Another process, and another host.
        let failed = "sshd[841]: Failed password for root from 192.0.2.1 port 40021 ssh2";
        assert_counted(2, &[failed, &line]);
    }
    // Who has logged in leaves by another word; what failed before that is not forgotten.
    assert_counted(
        2,
        &[
            "sshd[842]: Failed password for root from 192.0.2.1 port 40022 ssh2",
            "sshd[842]: Accepted password for root from 192.0.2.1 port 40022 ssh2",
            "sshd[842]: Disconnected from user root 192.0.2.1 port 40022",
            "sshd[842]: Connection closed by authenticating user root 192.0.2.1 port 40023 [preauth]",
        ],
    );
}

#[test]
fn what_sshd_says_otherwise_is_no_failure() {
    assert_counted(
        0,
        &[
            "sshd[850]: Server listening on 0.0.0.0 port 22.",
            "sshd[850]: Connection closed by 192.0.2.1 port 40030",
            "sshd[850]: Received disconnect from 192.0.2.1 port 40030:11: disconnected by user",
            "sshd[850]: Accepted password for root from 192.0.2.1 port 40030 ssh2",
            "sshd[850]: Failed none for invalid user admin from 192.0.2.1 port 40030 ssh2",
            "cron[850]: Failed password for root from 192.0.2.1 port 40030 ssh2",
        ],
    );
}

#[test]
fn whom_a_user_name_names_is_not_the_one_who_failed() {
    let mut parser = parser(Kind::Sshd);
    for (number, message) in [
        "Failed password for invalid user x from 203.0.113.66 port 1 ssh2: y from 192.0.2.1 port 40000 ssh2",
        "Failed password for invalid user x from 203.0.113.66 port 1 ssh2 from 192.0.2.1 port 40000 ssh2",
        "error: PAM: Authentication failure for illegal user x from 203.0.113.66 via y from 192.0.2.1",
        "error: PAM: Authentication failure for illegal user x for y from 203.0.113.66 from 192.0.2.1 via 203.0.113.7",
        "Connection closed by invalid user x 203.0.113.66 port 1 [preauth] 192.0.2.1 port 40000 [preauth]",
        "Disconnecting invalid user x 203.0.113.66 port 1: Too many authentication failures 192.0.2.1 port 40000: Too many authentication failures [preauth]",
    ]
    .into_iter()
    .enumerate()
    {
        let line = format!("sshd[{number}]: {message}");
        assert_fields(&mut parser, &line, &[("source", "192.0.2.1"), ("time", "~")]);
    }
    for line in [
        // The other name is the client's word, too.
        "sshd[9]: Disconnecting invalid user a 192.0.2.1 port 4: Change of username or service not allowed: (a,s) -> (b 203.0.113.66 port 1: Too many authentication failures,s) [preauth]",
        "sshd[9]: Failed hostbased for dan from 192.0.2.1 port 45785 ssh2: RSA 8c:e3, client user \"x from 203.0.113.66 port 1 ssh2\", client host \"h\"",
    ] {
        assert_eq!(parser.parse(line), Err(Unparsed::NoFailure), "{line}");
    }
}

#[test]
fn times_users_and_addresses_of_sshd() {
    let mut parser = parser(Kind::Sshd);
    parser.set_now(Time(1_705_306_000_000));
    assert_fields(
        &mut parser,
        "2024-01-15T10:00:00.500000+02:00 host sshd-session[7]: Failed password for invalid user bob from 2001:db8::7 port 4 ssh2",
        &[
            ("time", "1705305600500"),
            ("source", "2001:db8::7"),
            ("user", "bob"),
            (
                "message",
                "Failed password for invalid user bob from 2001:db8::7 port 4 ssh2",
            ),
        ],
    );
    assert_fields(
        &mut parser,
        "Jan 15 10:00:00 host sshd[7]: Failed password for root from 192.0.2.1 port 4 ssh2",
        &[("time", "1705305600000"), ("user", "root")],
    );
}

#[test]
fn a_host_whose_name_is_a_book_is_none() {
    let mut parser = parser(Kind::Sshd);
    let line = |host: usize| {
        let host = "h".repeat(host);
        format!(
            "Jan 15 10:00:00 {host} sshd[7]: Failed password for root from 192.0.2.1 port 4 ssh2"
        )
    };
    assert!(parser.parse(&line(255)).is_ok());
    let long = line(400);
    assert_eq!(
        parser.parse(&long),
        Err(Unparsed::Bad("the name of the host"))
    );
}

#[test]
fn what_syslog_says_was_repeated_counts() {
    assert_counted(
        2,
        &[
            "sshd[812]: Failed password for root from 192.0.2.1 port 40000 ssh2",
            "sshd[812]: message repeated 2 times: [ Failed password for root from 192.0.2.1 port 40000 ssh2]",
            "sshd[812]: message repeated x times: [ Failed password for root from 192.0.2.1 port 40000 ssh2]",
            "sshd[812]: message repeated 2 times: [ Failed password for root from 192.0.2.1 port 40000 ssh2",
            "sshd[812]: message repeated 2 times: [ Connection closed by authenticating user root 192.0.2.1 port 40000 [preauth]]",
        ],
    );
}
