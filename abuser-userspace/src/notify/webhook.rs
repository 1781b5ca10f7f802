//! Events as requests: one after the other, so that they come in order, each until it is taken.
//!
//! A request that is sent again is the same to the byte, under the same id, so that a receiver
//! that has taken it without saying so can tell. Only its signature is new.

use std::time::{Duration, Instant, SystemTime};

use reqwest::{
    Client, RequestBuilder, Response, StatusCode,
    header::{self, HeaderMap},
};

use super::{
    backoff,
    message::Message,
    queue::Taken,
    receiver::{Attempt, Receiver},
    signature,
    template::Template,
};
use crate::{
    config::WebhookConfig,
    files::{SHORTEST_SECRET, read_secret},
    outbound::{self, Options},
};

/// The header with what tells a request from others, the same whenever it is sent again.
const ID: &str = "x-abuser-delivery";

/// How much of an answer is read, in bytes: enough to know why, and to use the connection again.
const ANSWER: usize = 16 << 10;
/// How much of it is shown, in characters.
const SHOWN: usize = 300;

/// A request's way to its receiver.
pub(super) struct Webhook<'c> {
    config: &'c WebhookConfig,
    timeout: Duration,
    template: Option<Template>,
    /// Made when it is needed, and anew when something failed: what it trusts are files.
    client: Option<Client>,
}

/// A request, but for what is new each time.
struct Delivery {
    id: String,
    body: Vec<u8>,
}

/// What follows from an attempt.
enum Next {
    Done,
    /// The same again, not before this time if one was asked for.
    Again(Option<Duration>),
    /// It would fail each time.
    Never,
}

/// Delivers what the receiver is told, until nothing more comes.
pub(super) async fn serve(receiver: &Receiver, config: &WebhookConfig) {
    let mut webhook = match Webhook::new(config, receiver.config.timeout) {
        Ok(webhook) => webhook,
        // It was tried when the configuration was read.
        Err(error) => {
            tracing::error!("notify {}: {error}", receiver.config.name);
            return;
        }
    };
    let mut failures = 0;
    while let Some(taken) = receiver.next(config.batch).await {
        webhook.deliver(receiver, &taken, &mut failures).await;
    }
}

impl<'c> Webhook<'c> {
    fn new(config: &'c WebhookConfig, timeout: Duration) -> Result<Self, String> {
        let template = config.template.as_deref().map(Template::new).transpose()?;
        Ok(Self {
            config,
            timeout,
            template,
            client: None,
        })
    }

    /// Sends events until they are taken, refused, or too old. `failures` is how many attempts have
    /// failed in a row, those of earlier events included: whoever is down is not tried more often
    /// because more happens.
    async fn deliver(&mut self, receiver: &Receiver, taken: &Taken, failures: &mut u32) {
        let message = Message::new(&receiver.config.name, &taken.events, taken.lost);
        let delivery = match self.delivery(&message) {
            Ok(delivery) => delivery,
            Err(error) => return receiver.failed(taken, &error),
        };
        let give_up = taken.since + self.config.give_up;
        loop {
            let (attempt, next) = self.attempt(&delivery).await;
            let why = attempt.error.unwrap_or_default();
            match next {
                Next::Done => {
                    *failures = 0;
                    return receiver.delivered(taken);
                }
                Next::Never => {
                    *failures = 0;
                    return receiver.failed(taken, &why);
                }
                Next::Again(asked) => {
                    *failures = failures.saturating_add(1);
                    // What is taken is not left to what is there next time.
                    self.client = None;
                    let delay = backoff::delay(*failures, fastrand::f64(), asked);
                    if receiver.is_ending() || Instant::now() + delay > give_up {
                        receiver.failed(taken, &why);
                        // The next events have waited as long, and have their one attempt later.
                        return receiver.rest(delay).await;
                    }
                    receiver.fails(&why);
                    receiver.rest(delay).await;
                }
            }
        }
    }

    fn delivery(&self, message: &Message) -> Result<Delivery, String> {
        let body = match &self.template {
            Some(template) => template.render(message)?,
            None => serde_json::to_vec(message).map_err(|error| error.to_string())?,
        };
        Ok(Delivery {
            id: message.id.clone(),
            body,
        })
    }

    async fn attempt(&mut self, delivery: &Delivery) -> (Attempt, Next) {
        let again = |error| {
            let attempt = Attempt {
                error: Some(error),
                ..Attempt::default()
            };
            (attempt, Next::Again(None))
        };
        let request = match self.request(delivery) {
            Ok(request) => request,
            Err(error) => return again(error),
        };
        match request.send().await {
            Ok(response) => judge(response).await,
            Err(error) => again(outbound::explain(&error)),
        }
    }

    fn request(&mut self, delivery: &Delivery) -> Result<RequestBuilder, String> {
        let secret = |path, shortest| {
            let path: Option<&std::path::PathBuf> = path;
            let secret = path.map(|path| read_secret(path, shortest));
            secret.transpose().map_err(|error| error.to_string())
        };
        let signed_with = secret(self.config.secret_file.as_ref(), SHORTEST_SECRET)?;
        let bearer = secret(self.config.bearer_file.as_ref(), 1)?;
        let client = if let Some(client) = &self.client {
            client
        } else {
            let options = Options {
                timeout: Some(self.timeout),
                plain: !self.config.url.is_https(),
                ca_file: self.config.ca_file.clone(),
                ..Options::default()
            };
            let client = outbound::client(&options).map_err(|error| error.to_string())?;
            self.client.insert(client)
        };
        let mut request = client.post(self.config.url.0.clone());
        for (name, value) in &self.config.headers {
            request = request.header(name, value);
        }
        if let Some(token) = bearer {
            request = request.bearer_auth(token);
        }
        if let Some(secret) = signed_with {
            let signature = signature::sign(&secret, SystemTime::now(), &delivery.body);
            request = request.header(signature::HEADER, signature);
        }
        Ok(request
            .header(header::CONTENT_TYPE, "application/json")
            .header(ID, &delivery.id)
            .body(delivery.body.clone()))
    }
}

/// What an answer means.
async fn judge(response: Response) -> (Attempt, Next) {
    let status = response.status();
    let asked = asked(response.headers());
    let body = outbound::read_start(response, ANSWER).await;
    let body = String::from_utf8_lossy(&body);
    let words: Vec<_> = body.split_whitespace().collect();
    let shown: String = words.join(" ").chars().take(SHOWN).collect();
    let said = if shown.is_empty() {
        String::new()
    } else {
        format!(": {}", crate::words::plain(&shown))
    };
    let is_passing = status.is_server_error()
        || matches!(
            status,
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS
        );
    let (error, next) = if status.is_success() {
        (None, Next::Done)
    } else if is_passing {
        (
            Some(format!("it answers {status}{said}")),
            Next::Again(asked),
        )
    } else if status.is_redirection() {
        let error =
            format!("it answers {status}, which is not followed: write the address it names");
        (Some(error), Next::Never)
    } else {
        let error = format!("it refuses the request and answers {status}{said}");
        (Some(error), Next::Never)
    };
    let attempt = Attempt {
        status: Some(status.as_u16().into()),
        answer: Some(shown).filter(|shown| !shown.is_empty()),
        error,
    };
    (attempt, next)
}

fn asked(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?;
    backoff::retry_after(value, SystemTime::now())
}

/// Sends a message once, within this time.
pub(super) async fn attempt_once(
    config: &WebhookConfig,
    timeout: Duration,
    message: &Message,
) -> Attempt {
    let failed = |error| Attempt {
        error: Some(error),
        ..Attempt::default()
    };
    let mut webhook = match Webhook::new(config, timeout) {
        Ok(webhook) => webhook,
        Err(error) => return failed(error),
    };
    match webhook.delivery(message) {
        Ok(delivery) => webhook.attempt(&delivery).await.0,
        Err(error) => failed(error),
    }
}
