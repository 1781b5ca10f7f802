//! The real Prometheus, and its `promtool`.

use std::{
    fs,
    io::Write as _,
    net::TcpStream,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;
use testkit::{CommandOutput, Namespace, Service, peers};

use crate::support::{finish, finish_child, parse};

/// Where it listens.
const ADDRESS: &str = "127.0.0.1:9090";
/// How long scrapes may take to show something: on a busy machine some of them come too late.
const PATIENCE: Duration = Duration::from_secs(60);

/// A Prometheus that scrapes once a second; gone when it is dropped.
pub(super) struct Prometheus {
    // Stopped before its folder goes.
    _service: Service,
    _folder: TempDir,
    namespace: Namespace,
}

impl Prometheus {
    /// Starts one in a namespace, with this as the rest of its scrape configuration, and waits until it
    /// has scraped.
    pub(super) fn start(namespace: &Namespace, job: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let config = folder.path().join("prometheus.yml");
        let text = format!(
            "global:\n  scrape_interval: 1s\n  scrape_timeout: 1s\nscrape_configs:\n  - job_name: abuser\n{job}"
        );
        fs::write(&config, text).expect("writing a configuration");
        let mut command =
            peers::command(namespace, "prometheus").unwrap_or_else(|error| panic!("{error}"));
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                folder.path().join("data").display()
            ))
            .arg(format!("--web.listen-address={ADDRESS}"));
        let service = Service::start(command, &folder.path().join("said"), || {
            namespace.run(|| TcpStream::connect(ADDRESS).is_ok())
        });
        let prometheus = Self {
            _service: service.unwrap_or_else(|error| panic!("{error}")),
            _folder: folder,
            namespace: namespace.clone(),
        };
        prometheus.wait_for("up{job=\"abuser\"}", 1.0);
        prometheus
    }

    /// What an expression comes to: a list of `metric` and `value`.
    #[track_caller]
    pub(super) fn query(&self, expression: &str) -> Value {
        let mut command = promtool(&self.namespace);
        command.args(["query", "instant", "--format=json"]);
        command.arg(format!("http://{ADDRESS}")).arg(expression);
        let output = finish(&mut command);
        parse(&output.success().stdout)
    }

    /// The only value that an expression has, if it has one.
    #[track_caller]
    pub(super) fn value(&self, expression: &str) -> Option<f64> {
        let result = self.query(expression);
        let samples = result.as_array().expect("a list");
        assert!(samples.len() < 2, "{expression}: {result}");
        let value = samples.first()?["value"][1].as_str().expect("a number");
        Some(value.parse().expect("a number"))
    }

    /// Waits until an expression has this value: as of the next scrape, or the one after.
    #[track_caller]
    pub(super) fn wait_for(&self, expression: &str, expected: f64) {
        self.wait_until(expression, |value| value == Some(expected));
    }

    /// Waits until the value of an expression is as wanted.
    #[track_caller]
    pub(super) fn wait_until(&self, expression: &str, wanted: impl Fn(Option<f64>) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let value = self.value(expression);
            if wanted(value) {
                return;
            }
            assert!(Instant::now() < deadline, "{expression} is {value:?}");
            thread::sleep(Duration::from_millis(100));
        }
    }
}

/// `promtool`, to be told what to do.
pub(super) fn promtool(namespace: &Namespace) -> Command {
    peers::command(namespace, "promtool").unwrap_or_else(|error| panic!("{error}"))
}

/// What `promtool check metrics` says of a page.
pub(super) fn check_metrics(namespace: &Namespace, page: &str) -> CommandOutput {
    let mut child = promtool(namespace)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(page.as_bytes()).expect("writing to it");
    drop(stdin);
    finish_child(child, "promtool check metrics".to_owned())
}

/// What `promtool check rules` or `test rules` says of a file.
pub(super) fn rules(namespace: &Namespace, what: &str, file: &Path) -> CommandOutput {
    finish(promtool(namespace).args([what, "rules"]).arg(file))
}
