//! What takes more rights than a node has: making the bucket, and taking out what a node has said.
//!
//! A node that is lost or hostile is shut out by its credentials, on the servers. Then its keys are taken
//! out one by one, each by a message that all nodes hear: a purge of the stream would be heard by none
//! that is connected.

use async_nats::{HeaderMap, jetstream};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::{sync::mpsc, time::timeout};

use super::{
    connection::{self, ANSWER, FleetError, Login},
    member::inbox,
    wire::{self, Key, Kind, Said, Written},
};
use crate::{
    api::types::{FleetLoginRequest, FleetRevoked},
    config::FleetConfig,
};

/// Deletions under way at once.
const AT_ONCE: usize = 256;
/// Where answers for who is no node go.
const ADMIN: &str = "admin";

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The request makes no sense.
    #[error("{0}")]
    Senseless(String),
    /// There is nothing of that name.
    #[error("{0}")]
    Missing(String),
}

impl From<FleetError> for AdminError {
    fn from(error: FleetError) -> Self {
        Self::Senseless(error.to_string())
    }
}

/// A connection with these rights; what servers say of it comes through the channel.
struct Session {
    client: async_nats::Client,
    context: jetstream::Context,
    said: mpsc::Receiver<async_nats::Event>,
}

impl Session {
    async fn open(config: &FleetConfig, login: FleetLoginRequest) -> Result<Self, AdminError> {
        let given = requested(login)?;
        let inbox = match given {
            Some(_) => inbox(ADMIN),
            None => inbox(&config.node),
        };
        let login = match given {
            Some(login) => login,
            None => Login::read(&config.login)?,
        };
        let (tell, said) = mpsc::channel(64);
        let client = connection::connect_once(config, login, &inbox, tell).await?;
        let context = connection::context(client.clone());
        Ok(Self {
            client,
            context,
            said,
        })
    }

    /// What the server has refused, if it was that.
    fn refusal(&mut self, error: impl std::fmt::Display) -> AdminError {
        let mut why = error.to_string();
        while let Ok(event) = self.said.try_recv() {
            if let async_nats::Event::ServerError(refusal) = event {
                why = format!(
                    "the server refuses it ({refusal}); name credentials that may, with --credentials-file, \
                     --nkey-file, or --user and --password-file"
                );
            }
        }
        AdminError::Senseless(why)
    }
}

/// Makes the bucket if it is not there.
pub(super) async fn init(config: &FleetConfig, login: FleetLoginRequest) -> Result<(), AdminError> {
    let mut session = Session::open(config, login).await?;
    let made = connection::bucket(&session.context, config).await;
    made.map(drop).map_err(|error| session.refusal(error))
}

/// Takes out all that a node has said.
pub(super) async fn revoke(
    config: &FleetConfig,
    node: &str,
    login: FleetLoginRequest,
) -> Result<FleetRevoked, AdminError> {
    if node == config.node {
        return Err(AdminError::Senseless(format!(
            "{node} is this node, which would say all of it again; run this on another one"
        )));
    }
    let mut session = Session::open(config, login).await?;
    let keys = read_keys(&session, config, node).await;
    let keys = keys.map_err(|error| session.refusal(error))?;
    if keys.is_empty() {
        return Err(AdminError::Missing(format!(
            "there is nothing of a node {node} in the bucket; `abuser fleet status` shows which nodes there \
             are"
        )));
    }
    let mut revoked = FleetRevoked {
        node: node.to_owned(),
        bans: 0,
        allow: 0,
    };
    for (key, _) in &keys {
        match Key::parse(key) {
            Some(Key::Topic(_, topic)) if topic.kind == Kind::Ban => revoked.bans += 1,
            Some(Key::Topic(..)) => revoked.allow += 1,
            _ => {}
        }
    }
    let context = &session.context;
    let deletions = keys.into_iter().map(|(key, headers)| {
        let subject = format!("$KV.{}.{key}", config.bucket);
        async move {
            let sent = context.publish_with_headers(subject, headers, "".into());
            sent.await?.await.map(drop)
        }
    });
    let mut done = stream::iter(deletions).buffer_unordered(AT_ONCE);
    let result = loop {
        match done.next().await {
            Some(Ok(())) => {}
            Some(Err(error)) => break Err(error),
            None => break Ok(()),
        }
    };
    drop(done);
    match result {
        Ok(()) => Ok(revoked),
        Err(error) => Err(session.refusal(error)),
    }
}

/// The keys of a node that have a value, and what deletes each.
async fn read_keys(
    session: &Session,
    config: &FleetConfig,
    node: &str,
) -> Result<Vec<(String, HeaderMap)>, FleetError> {
    let failed = |error: &dyn std::fmt::Display| FleetError::failed("read the bucket", error);
    let bucket = connection::bucket(&session.context, config).await?;
    let prefix = format!("$KV.{}.", config.bucket);
    let subjects = bucket.info_with_subjects(format!("{prefix}{node}.>")).await;
    let subjects = subjects.map_err(|error| failed(&error))?;
    let there: Vec<_> = subjects
        .try_collect()
        .await
        .map_err(|error: jetstream::stream::InfoError| failed(&error))?;
    if there.is_empty() {
        return Ok(Vec::new());
    }
    let keys = format!("{node}.>");
    let mut messages =
        connection::read(&session.client, &session.context, &config.bucket, &keys).await?;
    let mut found = Vec::new();
    loop {
        // A node that goes on writing is not waited for.
        let next = timeout(ANSWER, messages.next()).await;
        let Ok(Some(message)) = next else { break };
        let message = message.map_err(|error| failed(&error))?;
        if wire::deletes(message.headers.as_ref()).is_none()
            && let Some(key) = message.subject.strip_prefix(&prefix)
        {
            let seq = Written::<Said>::parse(&message.payload).map(|written| written.seq);
            found.push((key.to_owned(), wire::deletion(seq)));
        }
        if message.info().is_ok_and(|info| info.pending == 0) {
            break;
        }
    }
    Ok(found)
}

/// As whom to connect, if somebody said so.
fn requested(login: FleetLoginRequest) -> Result<Option<Login>, AdminError> {
    let FleetLoginRequest {
        credentials,
        nkey,
        user,
        password,
    } = login;
    Ok(match (credentials, nkey, user, password) {
        (None, None, None, None) => None,
        (Some(text), None, None, None) => Some(Login::Credentials(text)),
        (None, Some(seed), None, None) => Some(Login::Nkey(seed.trim().to_owned())),
        (None, None, Some(user), Some(password)) => {
            Some(Login::Password(user, password.trim().to_owned()))
        }
        _ => {
            return Err(AdminError::Senseless(
                "log in with one of credentials, an nkey, and a user with a password".to_owned(),
            ));
        }
    })
}
