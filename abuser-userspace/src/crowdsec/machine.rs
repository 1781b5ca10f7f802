//! A local API as a machine tells it of bans: alerts, each with its decision.

use reqwest::Method;
use serde::{Deserialize, Serialize};

use super::client::{Lapi, LapiError, ask};
use crate::{config::CrowdsecPush, files, outbound};

/// The origin of decisions from here: what `cscli decisions list --origin` takes.
pub(super) const ORIGIN: &str = "abuser";

/// What to do if a machine is refused.
const REMEDY: &str = "are [crowdsec] machine_id and password_file those of one of `cscli machines list`, \
                      and is it validated there? Make one with `cscli machines add`";

/// A local API, and who we are there as a machine.
pub(super) struct Machine {
    lapi: Lapi,
    id: String,
    password: String,
    token: String,
}

/// Who logs in.
#[derive(Serialize)]
struct Login<'a> {
    machine_id: &'a str,
    password: &'a str,
    scenarios: [&'a str; 0],
}

#[derive(Deserialize)]
struct LoggedIn {
    token: String,
}

/// An alert. All of these are required.
#[derive(Debug, Serialize)]
pub(super) struct Alert {
    /// What was done, in words that others may filter by.
    pub(super) scenario: String,
    /// Empty: no scenario of the hub, so that it is told apart.
    pub(super) scenario_hash: &'static str,
    /// Our version.
    pub(super) scenario_version: &'static str,
    /// Why, for people.
    pub(super) message: String,
    /// How many events led to it.
    pub(super) events_count: u32,
    /// When it began, RFC 3339.
    pub(super) start_at: String,
    /// When it was told. The decision's duration counts from here.
    pub(super) stop_at: String,
    /// Of a bucket; there is none.
    pub(super) capacity: i32,
    /// Of a bucket; there is none.
    pub(super) leakspeed: &'static str,
    /// Never.
    pub(super) simulated: bool,
    /// Always: there is a decision.
    pub(super) remediation: bool,
    /// Who.
    pub(super) source: Source,
    /// What led to it.
    pub(super) events: Vec<Event>,
    /// The ban.
    pub(super) decisions: [NewDecision; 1],
}

/// Who an alert is about.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Source {
    /// `Ip` or `Range`.
    pub(super) scope: &'static str,
    /// The address or prefix.
    pub(super) value: String,
    /// The same, if it is an address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ip: Option<String>,
    /// The same, if it is a prefix.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) range: Option<String>,
}

/// Something that led to an alert.
#[derive(Debug, Serialize)]
pub(super) struct Event {
    /// When, RFC 3339.
    pub(super) timestamp: String,
    /// What.
    pub(super) meta: Vec<Meta>,
}

/// A property of an event.
#[derive(Debug, Serialize)]
pub(super) struct Meta {
    /// Its name.
    pub(super) key: &'static str,
    /// Its value.
    pub(super) value: String,
}

/// A decision that is to be.
#[derive(Debug, Serialize)]
pub(super) struct NewDecision {
    /// How long, as Go writes it.
    pub(super) duration: String,
    /// [`ORIGIN`].
    pub(super) origin: &'static str,
    /// As that of the alert.
    pub(super) scenario: String,
    /// As that of the source.
    pub(super) scope: &'static str,
    /// `ban`.
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    /// As that of the source.
    pub(super) value: String,
}

/// An alert that is there.
#[derive(Debug, Deserialize)]
pub(super) struct KnownAlert {
    /// Which machine told of it.
    #[serde(default)]
    pub(super) machine_id: String,
    /// What was decided; may be `null`.
    #[serde(default)]
    pub(super) decisions: Option<Vec<KnownDecision>>,
}

/// A decision that is there.
#[derive(Debug, Deserialize)]
pub(super) struct KnownDecision {
    /// Its number.
    #[serde(default)]
    pub(super) id: u64,
    /// Whose it is.
    #[serde(default)]
    pub(super) origin: String,
    /// The address or prefix.
    #[serde(default)]
    pub(super) value: String,
    /// What is left, as Go writes it.
    #[serde(default)]
    pub(super) duration: String,
}

impl Machine {
    /// Logs in.
    pub(super) async fn log_in(lapi: &Lapi, push: &CrowdsecPush) -> Result<Self, LapiError> {
        let mut machine = Self {
            lapi: lapi.anonymous(),
            id: push.machine_id.clone(),
            password: files::read_line(&push.password_file)?,
            token: String::new(),
        };
        machine.renew().await?;
        Ok(machine)
    }

    async fn renew(&mut self) -> Result<(), LapiError> {
        let login = Login {
            machine_id: &self.id,
            password: &self.password,
            scenarios: [],
        };
        let request = self.lapi.request(Method::POST, "v1/watchers/login")?;
        let LoggedIn { token } = ask(request.json(&login), REMEDY).await?;
        self.token = format!("Bearer {token}");
        Ok(())
    }

    /// Tells of alerts; their numbers, in the same order.
    pub(super) async fn tell(&mut self, alerts: &[Alert]) -> Result<Vec<String>, LapiError> {
        self.ask(Method::POST, "v1/alerts", &[], Some(alerts)).await
    }

    /// An alert with its decisions.
    pub(super) async fn alert(&mut self, number: &str) -> Result<KnownAlert, LapiError> {
        let path = format!("v1/alerts/{number}");
        self.ask(Method::GET, &path, &[], None::<&()>).await
    }

    /// The decisions in force that this machine has told of.
    pub(super) async fn own(&mut self) -> Result<Vec<KnownDecision>, LapiError> {
        let query = [
            ("origin", ORIGIN),
            ("has_active_decision", "true"),
            // Else there are a hundred.
            ("limit", "0"),
        ];
        let alerts: Option<Vec<KnownAlert>> = self
            .ask(Method::GET, "v1/alerts", &query, None::<&()>)
            .await?;
        let alerts = alerts.unwrap_or_default().into_iter();
        let own = alerts.filter(|alert| alert.machine_id == self.id);
        let decisions = own.flat_map(|alert| alert.decisions.unwrap_or_default());
        Ok(decisions
            .filter(|decision| decision.origin == ORIGIN)
            .collect())
    }

    /// Ends a decision. One that is not there has ended.
    pub(super) async fn withdraw(&mut self, decision: u64) -> Result<(), LapiError> {
        let path = format!("v1/decisions/{decision}");
        let ended: Result<serde_json::Value, _> =
            self.ask(Method::DELETE, &path, &[], None::<&()>).await;
        match ended {
            Ok(_) => Ok(()),
            Err(LapiError::Status { status, message })
                if status.as_u16() == 404 || message.contains("doesn't exist") =>
            {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Shows that the machine is alive, for `cscli machines list`.
    pub(super) async fn show_life(&mut self) -> Result<(), LapiError> {
        let request = |this: &Self| this.request(Method::GET, "v1/heartbeat", &[]);
        let mut answer = super::client::send(request(self)?, REMEDY).await;
        if is_expired(&answer) {
            self.renew().await?;
            answer = super::client::send(request(self)?, REMEDY).await;
        }
        answer.map(drop)
    }

    async fn ask<T: serde::de::DeserializeOwned>(
        &mut self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<&(impl Serialize + ?Sized)>,
    ) -> Result<T, LapiError> {
        let request = |this: &Self| {
            let request = this.request(method.clone(), path, query)?;
            Ok::<_, LapiError>(match body {
                Some(body) => request.json(body),
                None => request,
            })
        };
        let answer = ask(request(self)?, REMEDY).await;
        if !is_expired(&answer) {
            return answer;
        }
        // A token lasts an hour, and not beyond a restart of the local API.
        self.renew().await?;
        ask(request(self)?, REMEDY).await
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<reqwest::RequestBuilder, LapiError> {
        let request = self.lapi.request(method, path)?.query(query);
        Ok(request.header("authorization", outbound::secret_header(&self.token)?))
    }
}

fn is_expired<T>(answer: &Result<T, LapiError>) -> bool {
    matches!(answer, Err(LapiError::Refused { .. }))
}
