//! A local API that takes some of what is pushed to it, or answers a machine what it should not.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use testkit::{comes_true, require_root};

use super::{
    answers::{Followed, Request, decision, http, ok, snapshot},
    bans, status, wait_for,
};
use crate::support::{wait_until, wait_until_seen};

/// What a local API has taken, and how it answers whoever tells of alerts.
#[derive(Clone)]
struct Machine {
    /// Values of the alerts it has; their numbers are their places, from 1 on.
    taken: Arc<Mutex<Vec<String>>>,
    /// What it answers to alerts instead of taking them.
    refusal: Arc<Mutex<Box<Refusal>>>,
    /// What it answers when it is asked for alerts.
    own: Arc<Mutex<String>>,
    /// What it answers when it is asked for those about 203.0.113.7, and for decisions about it.
    about: Arc<Mutex<(String, String)>>,
}

type Refusal = dyn Fn(&[String]) -> Option<String> + Send;

impl Machine {
    fn new(refusal: impl Fn(&[String]) -> Option<String> + Send + 'static) -> Self {
        Self {
            taken: Arc::default(),
            refusal: Arc::new(Mutex::new(Box::new(refusal))),
            own: Arc::new(Mutex::new(ok("null"))),
            about: Arc::new(Mutex::new((ok("null"), ok("null")))),
        }
    }

    fn refuse(&self, refusal: impl Fn(&[String]) -> Option<String> + Send + 'static) {
        *self.refusal.lock().expect("a refusal") = Box::new(refusal);
    }

    /// What it has, in order.
    fn taken(&self) -> Vec<String> {
        let mut taken = self.taken.lock().expect("alerts").clone();
        taken.sort_unstable();
        taken
    }

    fn answer(&self, request: &Request) -> String {
        let line = &request.line;
        if line.contains("/v1/watchers/login") {
            return ok("{\"code\":200,\"token\":\"token\"}");
        }
        if line.starts_with("POST /v1/alerts") {
            return self.take(&request.body);
        }
        if let Some(number) = line.strip_prefix("GET /v1/alerts/") {
            let number = number
                .split(' ')
                .next()
                .and_then(|number| number.parse().ok());
            let number: usize = number.expect("a number");
            let value = self.taken.lock().expect("alerts")[number - 1].clone();
            let decisions = json!([{
                "id": number, "origin": "abuser", "value": value, "duration": "1h",
            }]);
            return ok(&json!({"machine_id": "here", "decisions": decisions}).to_string());
        }
        let (alerts, decisions) = if line.contains("value=203.0.113.7&") {
            self.about.lock().expect("answers").clone()
        } else {
            (ok("null"), ok("null"))
        };
        if line.starts_with("GET /v1/alerts?") && line.contains("value=") {
            return alerts;
        }
        if line.starts_with("GET /v1/alerts?") {
            return self.own.lock().expect("an answer").clone();
        }
        if line.starts_with("GET /v1/decisions?value=") {
            return decisions;
        }
        if line.starts_with("DELETE") {
            return ok("{\"nbDeleted\":\"1\"}");
        }
        ok(&snapshot(&[decision(9_999, "198.51.100.1")]))
    }

    fn take(&self, body: &str) -> String {
        let alerts: Value = serde_json::from_str(body).expect("alerts");
        let alerts = alerts.as_array().expect("a list").iter();
        let values = alerts.map(|alert| {
            alert["source"]["value"]
                .as_str()
                .expect("a text")
                .to_owned()
        });
        let values: Vec<_> = values.collect();
        if let Some(refusal) = self.refusal.lock().expect("a refusal")(&values) {
            return refusal;
        }
        let mut taken = self.taken.lock().expect("alerts");
        let numbers = values.into_iter().map(|value| {
            taken.push(value);
            taken.len().to_string()
        });
        ok(&json!(numbers.collect::<Vec<_>>()).to_string())
    }
}

fn followed(machine: &Machine) -> Followed {
    let machine = machine.clone();
    Followed::with(true, move |request| Some(machine.answer(request)))
}

fn addresses(numbers: impl IntoIterator<Item = u8>) -> Vec<String> {
    let numbers = numbers.into_iter();
    numbers
        .map(|number| format!("203.0.113.{number}"))
        .collect()
}

fn ban(followed: &Followed, addresses: &[String], time: &str) {
    let addresses: Vec<_> = addresses.iter().map(String::as_str).collect();
    let command = [&["ban", "add", "--for", time], &*addresses].concat();
    followed.daemon.abuser(&command).success();
}

/// One that refuses all alerts with one of these among them.
fn refusing(refused: &'static [&'static str], status: &'static str) -> Machine {
    Machine::new(move |values| {
        let is_among = values.iter().any(|value| refused.contains(&&**value));
        is_among.then(|| http(status, "", "{\"message\":\"not this one\"}"))
    })
}

#[test]
fn a_ban_that_the_local_api_refuses_holds_up_no_other() {
    require_root!();
    for refusal in ["500 Internal Server Error", "400 Bad Request"] {
        let machine = refusing(&["203.0.113.7", "203.0.113.8"], refusal);
        let followed = followed(&machine);
        let push = || status(&followed.daemon)["push"].clone();
        ban(&followed, &addresses(1..=12), "1h");
        wait_until_seen("the others", push, |push| {
            push["active"] == 10 && push["queued"] == 0
        });
        let others = || addresses((1..=12).filter(|number| !(7..=8).contains(number)));
        let mut expected = others();
        expected.sort_unstable();
        assert_eq!(machine.taken(), expected, "each once");
        wait_until("them to be counted", || push()["refused"] == 2);
        assert_eq!(
            (&push()["error"], &push()["connected"]),
            (&Value::Null, &true.into())
        );
        let said = followed.daemon.stderr();
        assert!(
            said.contains("203.0.113.7/32") && said.contains("not this one"),
            "{said}"
        );
        let shown = followed.daemon.abuser(&["status"]).success().stdout;
        assert!(shown.contains("10 bans from here, 2 REFUSED"), "{shown}");
        // They are left alone, also when all is compared.
        let told = || followed.lapi.requests("POST /v1/alerts").len();
        let before = told();
        ban(&followed, &addresses([20]), "1h");
        wait_until("another one", || machine.taken().len() == 11);
        assert_eq!(told(), before + 1);
        machine.refuse(|_| None);
        ban(&followed, &addresses([7]), "2h");
        wait_until("it has changed", || {
            machine.taken().contains(&"203.0.113.7".to_owned())
        });
        assert!(!machine.taken().contains(&"203.0.113.8".to_owned()));
    }
}

#[test]
fn a_ban_that_the_local_api_could_not_take_for_a_moment_is_told_once_more() {
    require_root!();
    let alone = AtomicUsize::new(0);
    let locked = move |sources: &[String]| {
        let is_among = sources.iter().any(|source| source == "203.0.113.7");
        let is_alone = is_among && sources.len() == 1;
        let locked = is_among && alone.fetch_add(is_alone.into(), Ordering::Relaxed) == 0;
        locked.then(|| http("500 Internal Server Error", "", "{\"message\":\"locked\"}"))
    };
    let machine = Machine::new(locked);
    let followed = followed(&machine);
    let push = || status(&followed.daemon)["push"].clone();
    ban(&followed, &addresses(1..=12), "1h");
    wait_until_seen("all", push, |push| {
        push["active"] == 12 && push["queued"] == 0
    });
    assert_eq!(push()["refused"], 0);
    assert!(machine.taken().contains(&"203.0.113.7".to_owned()));
}

#[test]
fn only_what_is_known_to_have_no_alert_is_taken_back_when_the_local_api_fails() {
    require_root!();
    let left = json!([
        {"id": 70, "origin": "abuser", "value": "203.0.113.7", "duration": "1h"},
        {"id": 71, "origin": "abuser", "value": "203.0.113.7", "duration": "1h"},
        {"id": 72, "origin": "cscli", "value": "203.0.113.7", "duration": "1h"},
    ]);
    let another_s = json!([{"machine_id": "there", "decisions": [left[1]]}]);
    let many = json!(vec![json!({"machine_id": "there", "decisions": []}); 100]);
    let failure = http("500 Internal Server Error", "", "{\"message\":\"locked\"}");
    let machine = |alerts: String| {
        let machine = refusing(&["203.0.113.7"], "500 Internal Server Error");
        *machine.about.lock().expect("answers") = (alerts, ok(&left.to_string()));
        let followed = followed(&machine);
        ban(&followed, &addresses([7, 8]), "1h");
        followed
    };
    let took = Instant::now();
    let known = machine(ok(&another_s.to_string()));
    let unknown = [machine(failure), machine(ok(&many.to_string()))];
    for followed in unknown.iter().chain([&known]) {
        let push = || status(&followed.daemon)["push"].clone();
        wait_until_seen("a refusal", push, |push| push["refused"] == 1);
    }
    let ended = |followed: &Followed| {
        let requests = followed.lapi.requests("DELETE").into_iter();
        requests.map(|request| request.line).collect::<Vec<_>>()
    };
    // Another node that has made a decision may be about to write its alert.
    let patience = Duration::from_secs(90);
    assert!(comes_true(patience, || !ended(&known).is_empty()));
    assert!(took.elapsed() > Duration::from_secs(15), "at once");
    wait_until_seen(
        "it to be counted",
        || status(&known.daemon)["push"].clone(),
        |push| push["withdrawn"] == 1,
    );
    // The question about it counts as one that the stream has answered.
    wait_until_seen(
        "all decisions to be asked for again",
        || known.lapi.requests("startup=true").len(),
        |times| *times > 1,
    );
    let [only] = &*ended(&known) else {
        panic!("{:?}", ended(&known));
    };
    assert!(only.contains("/v1/decisions/70 "), "{only}");
    for followed in &unknown {
        assert_eq!(ended(followed), [""; 0]);
    }
}

#[test]
fn a_local_api_that_is_ill_refuses_no_ban() {
    require_root!();
    let ill = |_: &[String]| {
        Some(http(
            "500 Internal Server Error",
            "",
            "{\"message\":\"ill\"}",
        ))
    };
    let machine = Machine::new(ill);
    let followed = followed(&machine);
    let push = || status(&followed.daemon)["push"].clone();
    ban(&followed, &addresses(1..=3), "1h");
    wait_until("it to fail", || {
        push()["error"]
            .as_str()
            .is_some_and(|error| error.contains("ill"))
    });
    assert_eq!(push()["refused"], 0);
    machine.refuse(|_| None);
    wait_until("it to be well", || machine.taken() == addresses(1..=3));
    wait_until("nothing to be left", || push()["error"] == Value::Null);
    assert_eq!(push()["refused"], 0);
}

#[test]
fn what_is_no_answer_to_a_machine_is_told_and_leaves_decisions_in_force() {
    require_root!();
    let machine = Machine::new(|_| None);
    let followed = followed(&machine);
    let push = || status(&followed.daemon)["push"].clone();
    let enforced = [("198.51.100.1/32", "crowdsec")];
    wait_for(&followed.daemon, &enforced);
    let elsewhere = "location: http://127.0.0.1:8080/elsewhere\r\n";
    let huge = ok(&format!(
        "[{{\"machine_id\":\"{}\"}}]",
        "x".repeat(33 << 20)
    ));
    for (bad, phrase) in [
        (ok("{\"message\":\"fine\"}"), "makes no sense"),
        (ok("[{\"decisions\":[{\"id\":\"7\"}]}]"), "makes no sense"),
        (ok("[{\"decisions\":"), "makes no sense"),
        (ok(""), "makes no sense"),
        (huge, "more than 33554432 bytes"),
        (
            http("403 Forbidden", "", "{\"message\":\"not you\"}"),
            "cscli machines",
        ),
        (http("500 Internal Server Error", "", "<html>"), "500"),
        (http("302 Found", elsewhere, ""), "[crowdsec] url"),
    ] {
        *machine.own.lock().expect("an answer") = bad;
        let error = || push()["error"].as_str().unwrap_or_default().to_owned();
        followed.daemon.abuser(&["reload"]).success();
        wait_until_seen(phrase, error, |error| error.contains(phrase));
        assert_eq!(push()["connected"], false);
        assert_eq!(bans(&followed.daemon).len(), 1);
    }
    assert!(followed.lapi.requests("/elsewhere").is_empty());
    // What makes no sense in one of them takes nothing else with it.
    let own = json!([
        {"machine_id": "here", "decisions": null},
        {"machine_id": "here", "decisions": [
            {"id": 1, "origin": "abuser", "value": "no address", "duration": "1h"},
            {"id": 2, "origin": "abuser", "value": "203.0.113.1", "duration": "for ages"},
            {"id": 3, "origin": "cscli", "value": "203.0.113.2", "duration": "1h"},
            {"id": 4, "origin": "abuser", "value": "203.0.113.3", "duration": "1h"},
        ]},
        {"machine_id": "there", "decisions": [
            {"id": 5, "origin": "abuser", "value": "203.0.113.4", "duration": "1h"},
        ]},
        {},
    ]);
    *machine.own.lock().expect("an answer") = ok(&own.to_string());
    // By itself: a reload would begin to count again what may have been taken back by then.
    wait_until("ours to be taken back", || push()["withdrawn"] == 1);
    let ended = followed.lapi.requests("DELETE");
    assert_eq!(ended.len(), 1, "{ended:?}");
    assert!(ended[0].line.contains("/v1/decisions/4 "), "{ended:?}");
}
