//! A local API as a machine tells it of bans: alerts, each with its decision.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use reqwest::{Method, StatusCode};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{
    alert::{Alert, Meta},
    client::{BOUNCER_REMEDY, Lapi, LapiError, ask},
};
use crate::{config::CrowdsecPush, files, outbound};

/// The origin of decisions from here: what `cscli decisions list --origin` takes.
pub(super) const ORIGIN: &str = "abuser";

/// Alerts of one answer. Local APIs of old never answer if they are asked for more and have fewer.
const PAGE: usize = 100;

/// What to do if a machine is refused.
const REMEDY: &str = "are [crowdsec] machine_id and password_file those of one of `cscli machines list`, \
                      and is it validated there? Make one with `cscli machines add`";

/// A local API, and who we are there as a machine.
pub(super) struct Machine {
    lapi: Lapi,
    /// The same as a bouncer: only those are told which decisions there are.
    bouncer: Lapi,
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

/// An alert that is there.
#[derive(Debug, Default, Deserialize)]
pub(super) struct KnownAlert {
    /// Which machine told of it.
    #[serde(default)]
    pub(super) machine_id: String,
    /// What was decided; may be `null`.
    #[serde(default)]
    pub(super) decisions: Option<Vec<KnownDecision>>,
    /// Its properties; may be `null`.
    #[serde(default)]
    pub(super) meta: Option<Vec<Meta>>,
}

impl KnownAlert {
    /// The decisions that were made of a ban from here.
    pub(super) fn own(self) -> impl Iterator<Item = KnownDecision> {
        let decisions = self.decisions.unwrap_or_default().into_iter();
        decisions.filter(|decision| decision.origin == ORIGIN)
    }
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

/// Whose alerts are asked for.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    /// All.
    Anywhere,
    /// Those about prefixes in this one, written as a local API takes it.
    In(IpNet, String),
    /// Those about exactly this one.
    At(String),
}

impl Place {
    fn within(net: IpNet) -> Self {
        Self::In(net, net.to_string())
    }

    fn query(&self) -> Vec<(&'static str, &str)> {
        match self {
            Self::Anywhere => Vec::new(),
            Self::In(_, range) => vec![("range", range), ("contains", "false")],
            Self::At(value) => vec![("value", value)],
        }
    }

    /// What it is made of; empty, if it cannot be divided.
    fn halves(&self) -> Vec<Self> {
        match self {
            Self::Anywhere => vec![
                Self::within(Ipv4Net::default().into()),
                Self::within(Ipv6Net::default().into()),
            ],
            Self::In(net, range) => {
                let Ok(halves) = net.subnets(net.prefix_len().saturating_add(1)) else {
                    return Vec::new();
                };
                // A ban of all of it is in neither half.
                let mut halves: Vec<_> = halves.map(Self::within).collect();
                halves.push(Self::At(range.clone()));
                halves
            }
            Self::At(_) => Vec::new(),
        }
    }
}

impl Machine {
    /// Logs in.
    pub(super) async fn log_in(lapi: &Lapi, push: &CrowdsecPush) -> Result<Self, LapiError> {
        let mut machine = Self {
            lapi: lapi.anonymous(),
            bouncer: lapi.clone(),
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
    pub(super) async fn tell(&mut self, alerts: &[&Alert]) -> Result<Vec<String>, LapiError> {
        self.ask(Method::POST, "v1/alerts", &[], Some(alerts)).await
    }

    /// The decisions of an alert; none if it has gone already.
    pub(super) async fn decisions(&mut self, alert: &str) -> Result<Vec<KnownDecision>, LapiError> {
        let path = format!("v1/alerts/{alert}");
        let alert: Result<KnownAlert, _> = self.ask(Method::GET, &path, &[], None::<&()>).await;
        match alert {
            Ok(alert) => Ok(alert.own().collect()),
            Err(LapiError::Status { status, .. }) if status == StatusCode::NOT_FOUND => {
                Ok(Vec::new())
            }
            Err(error) => Err(error),
        }
    }

    /// The decisions in force that this machine has told of. An answer has as many alerts at most as fit
    /// on a page: where there are more of them, each half of the addresses is asked for on its own.
    pub(super) async fn own(&mut self) -> Result<Vec<KnownDecision>, LapiError> {
        let mut own = Vec::new();
        let mut places = vec![Place::Anywhere];
        while let Some(place) = places.pop() {
            let query = [("origin", ORIGIN), ("has_active_decision", "true")];
            let alerts = self.alerts(&[&query[..], &place.query()].concat()).await?;
            let halves = place.halves();
            if alerts.len() < PAGE || halves.is_empty() {
                let ours = alerts
                    .into_iter()
                    .filter(|alert| alert.machine_id == self.id);
                own.extend(ours.flat_map(KnownAlert::own));
            } else {
                places.extend(halves);
            }
        }
        Ok(own)
    }

    /// What this machine told of a source last, whether or not it is in force.
    pub(super) async fn latest(&mut self, value: &str) -> Result<Option<KnownAlert>, LapiError> {
        // The latest come first, whosesoever they are.
        let alerts = self.alerts(&[("value", value)]).await?;
        let mut alerts = alerts.into_iter();
        Ok(alerts.find(|alert| alert.machine_id == self.id))
    }

    /// Decisions in force about exactly this source that were made of bans, here or on other nodes.
    pub(super) async fn in_force(&self, value: &str) -> Result<Vec<u64>, LapiError> {
        let request = self.bouncer.request(Method::GET, "v1/decisions")?;
        let request = request.query(&[("value", value), ("origins", ORIGIN)]);
        let decisions: Option<Vec<KnownDecision>> = ask(request, BOUNCER_REMEDY).await?;
        let decisions = decisions.unwrap_or_default().into_iter();
        // A local API of old does not look at the origin.
        let ours = decisions.filter(|decision| decision.origin == ORIGIN);
        Ok(ours.map(|decision| decision.id).collect())
    }

    /// Those of these decisions about a source that no alert tells of, whosesoever.
    pub(super) async fn without_alert(
        &mut self,
        value: &str,
        decisions: Vec<u64>,
    ) -> Result<Vec<u64>, LapiError> {
        if decisions.is_empty() {
            return Ok(decisions);
        }
        let active = [("origin", ORIGIN), ("has_active_decision", "true")];
        let alerts = self
            .alerts(&[&active[..], &[("value", value)]].concat())
            .await?;
        // There may be more.
        if alerts.len() >= PAGE {
            return Ok(Vec::new());
        }
        let told: Vec<_> = alerts
            .into_iter()
            .flat_map(KnownAlert::own)
            .map(|decision| decision.id)
            .collect();
        Ok(decisions
            .into_iter()
            .filter(|id| !told.contains(id))
            .collect())
    }

    /// A page of alerts, the latest first.
    async fn alerts(&mut self, query: &[(&str, &str)]) -> Result<Vec<KnownAlert>, LapiError> {
        let limit = PAGE.to_string();
        let query = [query, &[("limit", &*limit)]].concat();
        let alerts: Option<_> = self
            .ask(Method::GET, "v1/alerts", &query, None::<&()>)
            .await?;
        Ok(alerts.unwrap_or_default())
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

    async fn ask<T: DeserializeOwned + Send + 'static>(
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_all_that_there_is_and_end_at_hosts() {
        let all = Place::Anywhere.halves();
        let within = |net: &str| Place::within(net.parse().unwrap());
        assert_eq!(all, [within("0.0.0.0/0"), within("::/0")]);
        let at = |net: &str| Place::At(net.to_owned());
        for (net, halves) in [
            (
                "198.18.0.0/15",
                [
                    within("198.18.0.0/16"),
                    within("198.19.0.0/16"),
                    at("198.18.0.0/15"),
                ],
            ),
            (
                "2001:db8::/127",
                [
                    within("2001:db8::/128"),
                    within("2001:db8::1/128"),
                    at("2001:db8::/127"),
                ],
            ),
        ] {
            assert_eq!(within(net).halves(), halves);
        }
        for end in [
            within("203.0.113.1/32"),
            within("2001:db8::/128"),
            at("203.0.113.0/24"),
        ] {
            assert_eq!(end.halves(), []);
        }
    }
}
