//! What this node says: what happens here, and all that holds here when that must be compared.

use std::{collections::HashMap, future::Future, time::Duration};

use abuser_common::{layout::AllowOrigin, prefix::PrefixKey};
use async_nats::jetstream;
use futures_util::{FutureExt as _, future::BoxFuture};
use tokio::{sync::oneshot, time::timeout};

use super::{Member, Stopped, now};
use crate::{
    api::types::{EventKind, EventRecord},
    daemon::engine::Command,
    fleet::{
        connection::FleetError,
        publish::Write,
        wire::{self, Kind, Presence, Said, Topic, Written, presence_key, topic_key},
    },
};

/// How long the bucket may take to say that it has something before it is said again.
const ACKNOWLEDGED: Duration = Duration::from_millis(400);

impl Member {
    fn presence(&self) -> (String, Vec<u8>) {
        let presence = Presence {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            instance: self.instance,
        };
        let now = now();
        let value = Written::new(presence, now, now).to_bytes();
        let key = presence_key(&self.config.node);
        (format!("$KV.{}.{key}", self.config.bucket), value)
    }

    /// Says that this node is there.
    pub(super) fn greet(
        &self,
        context: &jetstream::Context,
    ) -> BoxFuture<'static, Result<(), FleetError>> {
        let (subject, value) = self.presence();
        let context = context.clone();
        async move {
            let failed = |error: jetstream::context::PublishError| {
                FleetError::failed("write into the bucket", &error)
            };
            let sent = context
                .publish(subject, value.into())
                .await
                .map_err(failed)?;
            sent.await.map(drop).map_err(failed)
        }
        .boxed()
    }

    /// Writes one change.
    pub(super) fn write(
        &self,
        context: &jetstream::Context,
        write: Write,
        now: u64,
    ) -> impl Future<Output = (Topic, Result<(), String>)> + Send + use<> {
        let Write { topic, seq, said } = write;
        let key = topic_key(&self.config.node, &topic);
        let subject = format!("$KV.{}.{key}", self.config.bucket);
        let context = context.clone();
        async move {
            let written = async {
                let sent = if let Some(said) = said {
                    let value = Written::new(said, seq, now).to_bytes();
                    context.publish(subject, value.into()).await
                } else {
                    let headers = wire::deletion(Some(seq));
                    context
                        .publish_with_headers(subject, headers, "".into())
                        .await
                };
                sent?.await
            };
            let result = match timeout(ACKNOWLEDGED, written).await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => Err("no answer in time".to_owned()),
            };
            (topic, result)
        }
    }

    pub(super) fn has_written(&mut self, result: Result<(), String>) -> bool {
        match result {
            Ok(()) => {
                self.counts.published += 1;
                self.link.write_error = None;
                true
            }
            Err(error) => {
                self.link.write_error = Some(format!("cannot write into the bucket: {error}"));
                false
            }
        }
    }

    /// Says what has happened to a ban here.
    pub(super) fn say(&mut self, event: &EventRecord) {
        let source = || event.source.as_deref()?.parse::<ipnet::IpNet>().ok();
        let key = |net: ipnet::IpNet| PrefixKey::new(net.addr(), net.prefix_len());
        let Some(source) = matches!(event.kind, EventKind::Ban | EventKind::Unban)
            .then(source)
            .flatten()
            .and_then(key)
        else {
            return;
        };
        let topic = Topic {
            kind: Kind::Ban,
            source,
        };
        let cause = event.cause.as_deref().unwrap_or_default();
        let said = (event.kind == EventKind::Ban && self.shares(cause)).then(|| {
            let expires = event.expires.as_deref();
            let expires = expires.and_then(|time| humantime::parse_rfc3339(time).ok());
            Said::new(expires, cause, event.reason.as_deref())
        });
        self.own.want(topic, said);
    }

    fn shares(&self, cause: &str) -> bool {
        self.config
            .share
            .iter()
            .any(|shared| shared.name() == cause)
    }

    /// Says all that holds here.
    pub(super) async fn say_all(&mut self) -> Result<(), Stopped> {
        let mut said = HashMap::new();
        let mut after = None;
        loop {
            let page = self.ask(|reply| Command::BanPage(after, reply)).await?;
            let Some(page) = page else {
                // Not all of them are known, so none is taken back; a moment later they may be.
                self.untold = true;
                return Ok(());
            };
            for entry in &page.items {
                let record = entry.exported(false);
                if self.shares(record.cause)
                    && let Some(source) =
                        PrefixKey::new(record.source.addr(), record.source.prefix_len())
                {
                    let topic = Topic {
                        kind: Kind::Ban,
                        source,
                    };
                    let value = Said::new(record.expires, record.cause, record.reason);
                    said.insert(topic, value);
                }
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        self.own.want_all(Kind::Ban, said);
        self.say_allowed().await
    }

    /// Says whom somebody allows here.
    pub(super) async fn say_allowed(&mut self) -> Result<(), Stopped> {
        let mut said = HashMap::new();
        if self.config.share_allow {
            let Some(entries) = self.ask(Command::AllowList).await? else {
                self.untold = true;
                return Ok(());
            };
            let command = AllowOrigin::Command.name();
            for entry in entries.iter().filter(|entry| entry.origin == command) {
                let (address, length) = (entry.source.addr(), entry.source.prefix_len());
                if let Some(source) = PrefixKey::new(address, length) {
                    let topic = Topic {
                        kind: Kind::Allow,
                        source,
                    };
                    said.insert(topic, Said::new(None, "allow", entry.note.as_deref()));
                }
            }
        }
        self.own.want_all(Kind::Allow, said);
        Ok(())
    }

    /// Asks the engine; `None` if it could not tell.
    async fn ask<T>(
        &self,
        command: impl FnOnce(crate::daemon::engine::Reply<T>) -> Command,
    ) -> Result<Option<T>, Stopped> {
        let (reply, answer) = oneshot::channel();
        let sent = self.around.commands.send(command(reply)).await;
        sent.map_err(|_| Stopped)?;
        match answer.await {
            Ok(Ok(answer)) => Ok(Some(answer)),
            Ok(Err(error)) => {
                tracing::error!(%error, "fleet: cannot compare what is shared with what is so here");
                Ok(None)
            }
            Err(_) => Err(Stopped),
        }
    }
}
