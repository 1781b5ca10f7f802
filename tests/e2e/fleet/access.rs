//! Who may connect: certificates both ways, and credentials of an operator's accounts; and others in the
//! place of those, after a reload.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use nkeys::KeyPair;
use serde_json::{Value, json};
use testkit::{
    Authority, Certified,
    nats::{ACCOUNTS, Cluster, Site},
    require_root,
};

use super::{AGREE, Fleet, text};

fn write_private(path: &Path, content: &str) {
    fs::write(path, content).expect("writing a file");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("its mode");
}

/// The folder with certificates, as long as the test.
struct Certificates {
    folder: tempfile::TempDir,
    authority: Authority,
}

impl Certificates {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let authority = Authority::new(folder.path()).expect("an authority");
        Self { folder, authority }
    }

    fn certify(&self, name: &str) -> Certified {
        // Those of the cables that are laid here, and where a server is asked whether it is there.
        let addresses = [[10, 77, 1, 1], [10, 77, 2, 1], [127, 0, 0, 1]].map(Into::into);
        let certified = self.authority.certify(name, &addresses);
        certified.expect("a certificate")
    }

    /// What servers have to say that ask for certificates.
    fn server(&self) -> String {
        let Certified { certificate, key } = self.certify("nats");
        let block = format!(
            "tls {{ cert_file: \"{}\", key_file: \"{}\", ca_file: \"{}\", verify: true }}\n",
            certificate.display(),
            key.display(),
            self.authority.certificate().display()
        );
        format!("{ACCOUNTS}\n{block}")
    }

    /// A node's configuration, which speaks TLS with these keys.
    fn node(cluster: &Cluster, name: &str, site: &Site, keys: &str) -> String {
        let config = cluster.node_config(name, site, keys);
        config.replace("\"nats://", "\"tls://")
    }

    fn ca_key(&self) -> String {
        format!("ca_file = \"{}\"\n", self.authority.certificate().display())
    }
}

fn identity_keys(certified: &Certified) -> String {
    let Certified { certificate, key } = certified;
    format!(
        "cert_file = \"{}\"\nkey_file = \"{}\"\n",
        certificate.display(),
        key.display()
    )
}

#[test]
fn servers_and_nodes_show_each_other_certificates_and_a_reload_takes_new_ones() {
    require_root!();
    let certificates = Certificates::new();
    let cluster = Cluster::prepare_with(1, |_| Ok(certificates.server())).expect("a cluster");
    let mut fleet = Fleet {
        nodes: Vec::new(),
        cluster,
    };
    fleet.cluster.start_server(0).expect("a server");
    for (index, name) in ["web-1", "web-2"].into_iter().enumerate() {
        let site = fleet.cluster.lay_cable().expect("a cable");
        let keys = certificates.ca_key() + &identity_keys(&certificates.certify(name));
        let config = Certificates::node(&fleet.cluster, name, &site, &keys);
        fleet.join_at(name, site, &config);
        if index == 0 {
            fleet.init(0);
        }
        fleet.wait_complete(index);
    }
    fleet
        .node(0)
        .abuser(&["ban", "add", "203.0.113.1"])
        .success();
    fleet.wait_bans(1, &[("203.0.113.1/32", "fleet web-1")]);
    let shown = |fleet: &Fleet| {
        let connection = fleet.cluster.connection_of(0, "web-1");
        let connection = connection.unwrap_or_default();
        text(&connection["tls_peer_certs"][0]["cert_sha256"])
    };
    let before = shown(&fleet);
    assert_ne!(before, "", "the server has seen a certificate");
    // A reload without anything new goes on with the connection.
    let reload = || fleet.node(0).abuser(&["reload"]).success();
    reload();
    certificates.certify("web-1");
    assert_eq!(shown(&fleet), before);
    reload();
    fleet.wait(AGREE, "the new certificate", || {
        let now = shown(&fleet);
        !now.is_empty() && now != before
    });
    fleet.wait_complete(0);
    let said = fleet.node(0).stderr();
    let again = said.matches("connects again, with what its files say now");
    assert_eq!(again.count(), 1, "{said}");
    // What was heard was in force all the while.
    fleet
        .node(1)
        .abuser(&["ban", "add", "203.0.113.2"])
        .success();
    fleet.wait_bans(
        0,
        &[
            ("203.0.113.1/32", "manual"),
            ("203.0.113.2/32", "fleet web-2"),
        ],
    );
    // One that is none changes nothing.
    let key = certificates.folder.path().join("web-1.key");
    fs::write(&key, "nonsense").expect("writing it");
    reload();
    fleet.wait(AGREE, "a warning", || {
        let said = fleet.node(0).stderr();
        said.contains("goes on with the files as they were") && said.contains("web-1.")
    });
    assert_eq!(fleet.status(0)["connected"], true);
}

#[test]
fn without_a_certificate_that_the_other_believes_there_is_no_connection_and_the_status_says_why() {
    require_root!();
    let certificates = Certificates::new();
    let stranger = Certificates::new();
    let cluster = Cluster::prepare_with(1, |_| Ok(certificates.server())).expect("a cluster");
    let mut fleet = Fleet {
        nodes: Vec::new(),
        cluster,
    };
    fleet.cluster.start_server(0).expect("a server");
    let identity = identity_keys(&certificates.certify("web-1"));
    for (index, (name, keys)) in [
        ("web-1", stranger.ca_key() + &identity),
        ("web-2", certificates.ca_key()),
    ]
    .into_iter()
    .enumerate()
    {
        let site = fleet.cluster.lay_cable().expect("a cable");
        let config = Certificates::node(&fleet.cluster, name, &site, &keys);
        fleet.join_at(name, site, &config);
        fleet.wait(AGREE, "an error", || {
            !fleet.status(index)["error"].is_null()
        });
    }
    let error = |index: usize| text(&fleet.status(index)["error"]);
    fleet.wait(AGREE, "the server's certificate", || {
        error(0).contains("invalid peer certificate")
    });
    fleet.wait(AGREE, "the node's", || {
        error(1).to_lowercase().contains("certificate")
    });
    for index in 0..2 {
        assert_eq!(fleet.status(index)["connected"], false);
    }
}

/// A signed statement, as NATS writes it: who says what of whom.
fn jwt(issuer: &KeyPair, subject: &KeyPair, name: &str, nats: &Value) -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let claims = json!({
        "jti": name, "iat": since.expect("a time").as_secs(), "iss": issuer.public_key(),
        "name": name, "sub": subject.public_key(), "nats": nats,
    });
    let header = json!({"typ": "JWT", "alg": "ed25519-nkey"});
    let encode = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let text = format!("{}.{}", encode(&header), encode(&claims));
    let signature = issuer.sign(text.as_bytes()).expect("a signature");
    format!("{text}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
}

/// An operator with an account for a fleet.
struct Operator {
    account: KeyPair,
    folder: tempfile::TempDir,
    config: String,
}

impl Operator {
    fn new() -> Self {
        let (operator, account) = (KeyPair::new_operator(), KeyPair::new_account());
        let system = KeyPair::new_account();
        let signed = |whose: &KeyPair, name: &str, storage: i64| {
            let limits = json!({
                "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true,
                "conn": -1, "leaf": -1, "mem_storage": storage, "disk_storage": storage,
                "streams": storage, "consumer": storage,
            });
            let nats = json!({
                "limits": limits, "default_permissions": {"pub": {}, "sub": {}}, "type": "account",
                "version": 2,
            });
            jwt(&operator, whose, name, &nats)
        };
        let own = jwt(
            &operator,
            &operator,
            "operator",
            &json!({"type": "operator", "version": 2}),
        );
        let config = format!(
            "operator: \"{own}\"\nsystem_account: {}\nresolver: MEMORY\n\
             resolver_preload {{\n{}: \"{}\"\n{}: \"{}\"\n}}\n",
            system.public_key(),
            system.public_key(),
            signed(&system, "SYS", 0),
            account.public_key(),
            signed(&account, "ABUSER", -1),
        );
        Self {
            account,
            folder: tempfile::tempdir().expect("a folder"),
            config,
        }
    }

    /// Writes credentials of a new user, who may do this; who that is.
    fn write_credentials(&self, name: &str, publish: &[&str], subscribe: &[&str]) -> String {
        let user = KeyPair::new_user();
        let nats = json!({
            "pub": {"allow": publish}, "sub": {"allow": subscribe}, "subs": -1, "data": -1,
            "payload": -1, "type": "user", "version": 2,
        });
        let jwt = jwt(&self.account, &user, name, &nats);
        let seed = user.seed().expect("a seed");
        let text = format!(
            "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        );
        write_private(&self.path(name), &text);
        user.public_key()
    }

    /// Writes credentials of a node, which may do what nodes may.
    fn write_node(&self, name: &str) -> String {
        let [own, inbox] = [format!("$KV.abuser.{name}.>"), format!("_INBOX_{name}.>")];
        self.write_credentials(
            name,
            &[
                &own,
                "$JS.API.STREAM.INFO.KV_abuser",
                "$JS.API.CONSUMER.CREATE.KV_abuser",
                "$JS.API.CONSUMER.CREATE.KV_abuser.>",
                "$JS.FC.KV_abuser.>",
            ],
            &["$KV.abuser.>", &inbox],
        )
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.creds"))
    }
}

#[test]
fn credentials_of_an_operators_account_do_and_a_reload_takes_new_ones() {
    require_root!();
    let operator = Operator::new();
    let config = operator.config.clone();
    let cluster = Cluster::prepare_with(1, |_| Ok(config)).expect("a cluster");
    let mut fleet = Fleet {
        nodes: Vec::new(),
        cluster,
    };
    fleet.cluster.start_server(0).expect("a server");
    operator.write_credentials(
        "admin",
        &["$KV.abuser.>", "$JS.API.>", "$JS.FC.KV_abuser.>"],
        &["_INBOX_admin.>"],
    );
    let admin = operator.path("admin").display().to_string();
    let admin = ["--credentials-file", &admin];
    let mut users = Vec::new();
    for (index, name) in ["web-1", "web-2"].into_iter().enumerate() {
        users.push(operator.write_node(name));
        let site = fleet.cluster.lay_cable().expect("a cable");
        let config = format!(
            "interfaces = [\"near\"]\n[fleet]\nnats = {}\nnode = \"{name}\"\n\
             credentials_file = \"{}\"\nreplicas = 1\n",
            fleet.cluster.urls(&site),
            operator.path(name).display(),
        );
        fleet.join_at(name, site, &config);
        if index == 0 {
            fleet.init_as(0, &admin);
        }
        fleet.wait_complete(index);
    }
    fleet
        .node(0)
        .abuser(&["ban", "add", "203.0.113.1"])
        .success();
    fleet.wait_bans(1, &[("203.0.113.1/32", "fleet web-1")]);
    let user = |fleet: &Fleet| {
        let connection = fleet.cluster.connection_of(0, "web-1");
        text(&connection.unwrap_or_default()["authorized_user"])
    };
    assert_eq!(user(&fleet), users[0]);
    // A secret that was changed is taken by a reload, and by SIGHUP.
    for by_signal in [false, true] {
        let new = operator.write_node("web-1");
        assert_ne!(user(&fleet), new);
        if by_signal {
            fleet.node(0).signal(nix::sys::signal::Signal::SIGHUP);
        } else {
            fleet.node(0).abuser(&["reload"]).success();
        }
        fleet.wait(AGREE, "the new user", || user(&fleet) == new);
        fleet.wait_complete(0);
    }
    // One that others can read is not.
    let open = fs::Permissions::from_mode(0o644);
    fs::set_permissions(operator.path("web-1"), open).expect("its mode");
    fleet.node(0).abuser(&["reload"]).success();
    fleet.wait(AGREE, "a warning", || {
        let said = fleet.node(0).stderr();
        said.contains("goes on with the files as they were")
            && said.contains("(mode 644): run `chmod 600 ")
    });
    fleet
        .node(0)
        .abuser(&["ban", "remove", "203.0.113.1"])
        .success();
    fleet.wait_bans(1, &[]);
    assert!(fleet.status(0)["connected"] == true);
    let revoked = [&["fleet", "revoke", "web-1"], &admin[..]].concat();
    let revoked = fleet.node(1).json(&revoked);
    assert_eq!(revoked["node"], "web-1");
}
