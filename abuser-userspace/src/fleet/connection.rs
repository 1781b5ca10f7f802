//! The way to the servers: who this node is to them, and the bucket.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use async_nats::{
    Client, ConnectOptions, Event, ServerAddr,
    jetstream::{
        self,
        consumer::{DeliverPolicy, push},
        context::{ContextBuilder, GetStreamErrorKind},
        stream::{self, DiscardPolicy, StorageType, Stream},
    },
};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use super::wire::MAX_VALUE;
use crate::{
    config::{FleetConfig, FleetLogin},
    files::{SecretError, read_bounded, read_private},
    outbound::{self, Options, OutboundError, backoff},
};

/// How long a server may take to answer.
pub(super) const ANSWER: Duration = Duration::from_secs(2);
/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(3);
/// How often the connection is tried out: one that is cut is noticed after three times this.
const PING: Duration = Duration::from_secs(2);
/// Attempts to connect before there is a pause.
const AT_ONCE: u32 = 2;
/// The longest pause between attempts to connect.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// Messages that may wait to be looked at.
const BACKLOG: usize = 65_536;
/// The longest secret, in bytes.
const MAX_SECRET: u64 = 16 << 10;
/// The longest file of certificates, in bytes.
const MAX_PEM: u64 = 4 << 20;
/// How much longer the bucket keeps what others do not take for true any more.
const MARGIN: Duration = Duration::from_secs(24 * 3600);
/// What else is in a message besides its value, in bytes.
const AROUND: i32 = 1024;

/// What does not work between this node and the servers.
#[derive(Debug, thiserror::Error)]
pub(super) enum FleetError {
    /// A file with a secret.
    #[error("the {what} of [fleet]: {source}")]
    Secret {
        /// What is in it.
        what: &'static str,
        /// What is wrong with it.
        source: SecretError,
    },
    /// A file or a text that is no secret of the kind.
    #[error("{what}: {problem}")]
    Unfit {
        /// What it was to be.
        what: String,
        /// Why it is not.
        problem: String,
    },
    /// Files with certificates, or with the key of one.
    #[error("the certificates of [fleet]: {0}")]
    Certificates(#[from] OutboundError),
    /// There is no bucket, and it cannot be made.
    #[error(
        "the bucket \"{bucket}\" is not there, and this node may not make it: run `abuser fleet init` with an \
         administrator's credentials ({problem})"
    )]
    NoBucket {
        /// Its name.
        bucket: String,
        /// Why it was not made.
        problem: String,
    },
    /// Something else.
    #[error("cannot {what}: {problem}")]
    Failed {
        /// What was tried.
        what: &'static str,
        /// Why not.
        problem: String,
    },
}

impl FleetError {
    pub(super) fn failed(what: &'static str, problem: &dyn std::fmt::Display) -> Self {
        Self::Failed {
            what,
            problem: problem.to_string(),
        }
    }
}

/// What to say to servers about who this is.
pub(super) enum Login {
    None,
    /// The text of a file of credentials.
    Credentials(String),
    /// A seed.
    Nkey(String),
    Password(String, String),
}

impl Login {
    /// Reads what the configuration says.
    pub(super) fn read(login: &FleetLogin) -> Result<Self, FleetError> {
        Ok(match login {
            FleetLogin::None => Self::None,
            FleetLogin::Credentials(path) => {
                Self::Credentials(read_secret(path, "credentials_file")?)
            }
            FleetLogin::Nkey(path) => Self::Nkey(read_secret(path, "nkey_file")?),
            FleetLogin::Password { user, file } => {
                Self::Password(user.clone(), read_secret(file, "password_file")?)
            }
        })
    }

    /// All of it, to tell whether it is another one.
    fn bytes(&self) -> [&[u8]; 2] {
        match self {
            Self::None => [&[], &[]],
            Self::Credentials(secret) | Self::Nkey(secret) => [&[], secret.as_bytes()],
            Self::Password(user, password) => [user.as_bytes(), password.as_bytes()],
        }
    }

    fn options(self) -> Result<ConnectOptions, FleetError> {
        Ok(match self {
            Self::None => ConnectOptions::new(),
            // The client wants the last line to have its end.
            Self::Credentials(text) => ConnectOptions::with_credentials(&format!("{text}\n"))
                .map_err(|error| unfit("the credentials of [fleet]", &error))?,
            Self::Nkey(seed) => {
                // Looked at here, because the client would say nothing of it and try for ever.
                nkeys::KeyPair::from_seed(&seed)
                    .map_err(|error| unfit("the nkey of [fleet] is no seed", &error))?;
                ConnectOptions::with_nkey(seed)
            }
            Self::Password(user, password) => {
                ConnectOptions::with_user_and_password(user, password)
            }
        })
    }
}

/// What the files say that the configuration names.
pub(super) struct Files {
    pub(super) login: Login,
    /// Tells whether any of them says something else than before.
    pub(super) fingerprint: [u8; 32],
}

impl Files {
    pub(super) fn read(config: &FleetConfig) -> Result<Self, FleetError> {
        let login = Login::read(&config.login)?;
        let certificates = read_certificates(config)?;
        let mut hash = Sha256::new();
        let certificates = certificates.iter().map(Vec::as_slice);
        for part in login.bytes().into_iter().chain(certificates) {
            hash.update(part.len().to_le_bytes());
            hash.update(part);
        }
        Ok(Self {
            login,
            fingerprint: hash.finalize().into(),
        })
    }
}

/// What is wrong with those files.
pub(super) fn problems(config: &FleetConfig) -> Vec<FleetError> {
    let login = Login::read(&config.login).and_then(Login::options);
    let certificates = read_certificates(config);
    login.err().into_iter().chain(certificates.err()).collect()
}

/// The files of certificates and with the key, if they are such. The client would say nothing of what is
/// wrong with them, and try for ever.
fn read_certificates(config: &FleetConfig) -> Result<Vec<Vec<u8>>, FleetError> {
    let FleetConfig {
        ca_file,
        certificate,
        ..
    } = config;
    outbound::client(&Options {
        plain: ca_file.is_none(),
        ca_file: ca_file.clone(),
        identity: certificate.clone(),
        ..Options::default()
    })?;
    let pair = certificate.iter().flat_map(|(cert, key)| [cert, key]);
    let paths = ca_file.iter().chain(pair);
    let read = |path: &PathBuf| {
        read_bounded(path, MAX_PEM).map_err(|source| OutboundError::Read {
            path: path.clone(),
            source,
        })
    };
    Ok(paths.map(read).collect::<Result<_, _>>()?)
}

fn unfit(what: &str, problem: &impl ToString) -> FleetError {
    FleetError::Unfit {
        what: what.to_owned(),
        problem: problem.to_string(),
    }
}

fn read_secret(path: &Path, what: &'static str) -> Result<String, FleetError> {
    let bytes =
        read_private(path, MAX_SECRET).map_err(|source| FleetError::Secret { what, source })?;
    let text = String::from_utf8(bytes).map_err(|_| FleetError::Unfit {
        what: format!("{}, the {what} of [fleet]", path.display()),
        problem: "it is not text".to_owned(),
    })?;
    Ok(text.trim().to_owned())
}

/// Connects to one of the servers as soon as one is there, and again whenever that ends; tells what
/// happens. `inbox` is where answers go: only who may listen there hears them.
pub(super) async fn connect(
    config: &FleetConfig,
    login: Login,
    inbox: &str,
    happenings: mpsc::Sender<Event>,
) -> Result<Client, FleetError> {
    let options = options(config, login, inbox, happenings)?.retry_on_initial_connect();
    connect_with(config, options).await
}

/// Connects to one of the servers, now or not at all.
pub(super) async fn connect_once(
    config: &FleetConfig,
    login: Login,
    inbox: &str,
    happenings: mpsc::Sender<Event>,
) -> Result<Client, FleetError> {
    connect_with(config, options(config, login, inbox, happenings)?).await
}

fn options(
    config: &FleetConfig,
    login: Login,
    inbox: &str,
    happenings: mpsc::Sender<Event>,
) -> Result<ConnectOptions, FleetError> {
    let mut options = login
        .options()?
        .name(format!("abuser {}", config.node))
        .custom_inbox_prefix(inbox)
        .connection_timeout(CONNECT)
        .request_timeout(Some(ANSWER))
        .ping_interval(PING)
        .subscription_capacity(BACKLOG)
        .reconnect_delay_callback(pause)
        .no_echo()
        .event_callback(move |event| {
            let happenings = happenings.clone();
            // One that is not heard in time changes nothing that the next does not tell.
            async move { drop(happenings.try_send(event)) }
        });
    if let Some(path) = &config.ca_file {
        options = options.add_root_certificates(path.clone());
    }
    if let Some((certificate, key)) = &config.certificate {
        options = options.add_client_certificate(certificate.clone(), key.clone());
    }
    if config.nats.iter().any(|url| url.starts_with("tls://")) {
        options = options.require_tls(true);
    }
    Ok(options)
}

async fn connect_with(config: &FleetConfig, options: ConnectOptions) -> Result<Client, FleetError> {
    outbound::install_crypto();
    let addresses = config.nats.iter().map(|url| url.parse::<ServerAddr>());
    let addresses = addresses
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| FleetError::failed("read the URLs in [fleet] nats", &error))?;
    let connected = options.connect(addresses).await;
    connected.map_err(|error| FleetError::failed("connect to a server of [fleet] nats", &error))
}

/// How long to wait before the attempt with this number: at first not at all, for another server may be
/// there; then as for anybody who fails.
fn pause(attempt: usize) -> Duration {
    let failures = u32::try_from(attempt).unwrap_or(u32::MAX);
    match failures.saturating_sub(AT_ONCE) {
        0 => Duration::ZERO,
        failures => backoff(failures, LONGEST_PAUSE, fastrand::f64()),
    }
}

/// Where requests about buckets go.
pub(super) fn context(client: Client) -> jetstream::Context {
    ContextBuilder::new()
        .timeout(ANSWER)
        .max_ack_inflight(4096)
        .build(client)
}

/// The bucket; it is made if it is not there.
pub(super) async fn bucket(
    context: &jetstream::Context,
    config: &FleetConfig,
) -> Result<Stream, FleetError> {
    let name = format!("KV_{}", config.bucket);
    match context.get_stream(&name).await {
        Ok(bucket) => Ok(bucket),
        Err(error) if is_missing(&error.kind()) => make_bucket(context, config).await,
        Err(error) => Err(FleetError::failed("find the bucket", &error)),
    }
}

/// Reads the last message of each key that a pattern matches, and then what is new.
pub(super) async fn read(
    client: &Client,
    context: &jetstream::Context,
    bucket: &str,
    keys: &str,
) -> Result<push::Ordered, FleetError> {
    let failed = |error: &dyn std::fmt::Display| FleetError::failed("read the bucket", error);
    let consumer = push::OrderedConfig {
        deliver_subject: client.new_inbox(),
        filter_subject: format!("$KV.{bucket}.{keys}"),
        deliver_policy: DeliverPolicy::LastPerSubject,
        ..push::OrderedConfig::default()
    };
    let consumer = context.create_consumer_on_stream(consumer, format!("KV_{bucket}"));
    let consumer = consumer.await.map_err(|error| failed(&error))?;
    consumer.messages().await.map_err(|error| failed(&error))
}

/// What a server has said, in words that help: a node that may not make the bucket hears of that by a
/// refusal that names a subject.
pub(super) fn explain(said: String, bucket: &str) -> String {
    if said.contains(&format!("$JS.API.STREAM.CREATE.KV_{bucket}\"")) {
        let bucket = bucket.to_owned();
        return FleetError::NoBucket {
            bucket,
            problem: said,
        }
        .to_string();
    }
    said
}

fn is_missing(error: &GetStreamErrorKind) -> bool {
    match error {
        GetStreamErrorKind::JetStream(error) => {
            error.error_code() == jetstream::ErrorCode::STREAM_NOT_FOUND
        }
        _ => false,
    }
}

/// Makes the bucket.
///
/// It lets nobody roll up messages: whoever may write one key could take out all. What is old goes by
/// itself, deletions as well as what a node that is gone has said.
pub(super) async fn make_bucket(
    context: &jetstream::Context,
    config: &FleetConfig,
) -> Result<Stream, FleetError> {
    let made = context.create_stream(stream::Config {
        name: format!("KV_{}", config.bucket),
        description: Some("bans and allow entries of abuser".to_owned()),
        subjects: vec![format!("$KV.{}.>", config.bucket)],
        max_messages_per_subject: 1,
        max_message_size: i32::try_from(MAX_VALUE).unwrap_or(i32::MAX) + AROUND,
        max_age: config.max_bantime + MARGIN,
        discard: DiscardPolicy::New,
        storage: StorageType::File,
        num_replicas: config.replicas,
        allow_rollup: false,
        deny_delete: true,
        allow_direct: true,
        ..stream::Config::default()
    });
    made.await.map_err(|error| FleetError::NoBucket {
        bucket: config.bucket.clone(),
        problem: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_to_connect_begin_at_once_and_become_rare_but_never_too_rare() {
        assert_eq!(pause(1), Duration::ZERO);
        for attempt in 3..100 {
            let pause = pause(attempt);
            assert!(
                pause >= Duration::from_millis(500) && pause <= LONGEST_PAUSE,
                "{attempt}"
            );
        }
        assert!(pause(usize::MAX) >= LONGEST_PAUSE / 2);
    }

    #[test]
    fn a_bucket_that_a_node_may_not_make_is_told_with_what_to_do() {
        let refused = "server error: nats: Permissions Violation for Publish to \"$JS.API.STREAM.CREATE.KV_abuser\"";
        let told = explain(refused.to_owned(), "abuser");
        for phrase in [
            "bucket \"abuser\" is not there",
            "abuser fleet init",
            refused,
        ] {
            assert!(told.contains(phrase), "{told}");
        }
        assert_eq!(explain(refused.to_owned(), "other"), refused);
    }

    #[test]
    fn a_secret_that_is_none_is_refused_before_any_server_is_asked() {
        let error = Login::Nkey("SUnonsense".to_owned())
            .options()
            .err()
            .unwrap();
        assert!(error.to_string().contains("no seed"), "{error}");
        let error = Login::Credentials("nonsense".to_owned())
            .options()
            .err()
            .unwrap();
        assert!(error.to_string().contains("credentials"), "{error}");
        let missing = FleetLogin::Nkey("/nowhere/nkey".into());
        let error = Login::read(&missing).err().unwrap().to_string();
        assert!(
            error.contains("/nowhere/nkey") && error.contains("nkey_file"),
            "{error}"
        );
    }

    #[test]
    fn files_are_looked_at_before_any_server_is_asked_and_others_are_told_from_those_before() {
        use std::{fs, os::unix::fs::PermissionsExt as _};

        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let text = format!(
            "[fleet]\nnats = [\"tls://192.0.2.1\"]\nnode = \"here\"\nuser = \"here\"\n\
             password_file = \"{}\"\nca_file = \"{}\"\n",
            path("password"),
            path("ca")
        );
        let config = crate::config::parse(&text, Path::new("a.toml")).unwrap();
        let config = config.fleet.unwrap();
        let problems = || {
            let problems = problems(&config);
            problems.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let told = problems();
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(
            told[0].contains("the password_file of [fleet]: cannot read"),
            "{told:?}"
        );
        assert!(
            told[1].contains("the certificates of [fleet]: cannot read"),
            "{told:?}"
        );
        fs::write(path("password"), "secret").unwrap();
        fs::set_permissions(path("password"), fs::Permissions::from_mode(0o640)).unwrap();
        fs::write(path("ca"), "nonsense").unwrap();
        let told = problems();
        assert!(told[0].contains("(mode 640): run"), "{told:?}");
        assert!(told[1].contains("holds no certificates"), "{told:?}");
        fs::set_permissions(path("password"), fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(path("ca"), AUTHORITY).unwrap();
        assert_eq!(problems(), [""; 0]);
        let read = || Files::read(&config).unwrap().fingerprint;
        let before = read();
        assert_eq!(read(), before);
        fs::write(path("password"), "another").unwrap();
        let password = read();
        assert_ne!(password, before);
        fs::write(path("ca"), AUTHORITY.repeat(2)).unwrap();
        assert_ne!(read(), password);
    }

    /// An authority of nobody's.
    const AUTHORITY: &str = "-----BEGIN CERTIFICATE-----\n\
        MIIBdjCCARugAwIBAgIUUDFoYY8cfhCfRyqXh3wJ8CAepbUwCgYIKoZIzj0EAwIw\n\
        DzENMAsGA1UEAwwEdGVzdDAgFw0yNjExMjYxMTMxNDdaGA8yMTI2MTEwMjExMzE0\n\
        N1owDzENMAsGA1UEAwwEdGVzdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABJlo\n\
        QF3HOms7ZJUR+naIG6pC/pCbj63kDNTlDeQlH367x0ObwSMS+T7olR2JmxDpgUGA\n\
        o6+bRwhZum6qAjP1rMWjUzBRMB0GA1UdDgQWBBR1hV7REvbsN0Kl37eot7t8rH7U\n\
        mTAfBgNVHSMEGDAWgBR1hV7REvbsN0Kl37eot7t8rH7UmTAPBgNVHRMBAf8EBTAD\n\
        AQH/MAoGCCqGSM49BAMCA0kAMEYCIQDKxrqhLwMnz3NCh73YrfCNo5NGc4e3Ekx3\n\
        9nA2xzzSqQIhAI/hwmydOACSB9Ae7qrYiIIvfJHmQAECaVN27Espxj8y\n\
        -----END CERTIFICATE-----\n";
}
