//! A real browser without a window, driven over `WebDriver`, in the network namespace of a test.
//!
//! It has a folder of its own, and nothing of it is left: its processes are known by a word in
//! their environment, which they hand on to whatever they start.

use std::{
    fs,
    net::TcpStream,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use fantoccini::{
    Client, ClientBuilder, Locator,
    error::CmdError,
    wd::{Capabilities, WebDriverCompatibleCommand},
};
use hyper_util::client::legacy::connect::HttpConnector;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::{Janitor, Namespace, Service, peers};
use tokio::runtime::{Builder, Runtime};

/// How long a browser may take for what takes it a moment, on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long its processes may take to leave.
const LEAVE: Duration = Duration::from_secs(10);

/// The keys, as `WebDriver` has them.
pub(super) const ENTER: &str = "\u{e007}";
pub(super) const ESCAPE: &str = "\u{e00c}";

/// Where the driver listens; each namespace has its own ports.
const DRIVER: &str = "127.0.0.1:9515";
/// What its processes have in their environment, each browser with another value.
const MARK: &str = "ABUSER_TEST_BROWSER";

/// A browser with one tab.
pub(super) struct Browser {
    namespace: Namespace,
    runtime: Runtime,
    client: Option<Client>,
    driver: Option<Service>,
    mark: String,
    _janitor: Janitor,
    _folder: TempDir,
}

impl Browser {
    /// Starts one.
    #[track_caller]
    pub(super) fn start(namespace: &Namespace) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("abuser-browser-")
            .tempdir()
            .expect("a folder for a browser");
        let path = |name: &str| folder.path().join(name);
        let mark = format!("{MARK}={}", folder.path().display());
        let mut command =
            peers::command(namespace, "chromedriver").unwrap_or_else(|error| panic!("{error}"));
        command
            .arg("--port=9515")
            .env(MARK, folder.path())
            .env("HOME", path("home"))
            .env("TMPDIR", folder.path());
        let answers = || namespace.run(|| TcpStream::connect(DRIVER).is_ok());
        let driver = Service::start(command, &path("driver.log"), answers)
            .unwrap_or_else(|error| panic!("{error}"));
        let capabilities = capabilities(&path("profile"));
        let runtime = Builder::new_current_thread().enable_all().build();
        let mut browser = Self {
            namespace: namespace.clone(),
            runtime: runtime.expect("a runtime"),
            client: None,
            driver: Some(driver),
            mark,
            _janitor: Janitor::hire(&[folder.path()]).expect("a janitor"),
            _folder: folder,
        };
        let client = browser.namespace.run(|| {
            browser.runtime.block_on(async {
                let mut builder = ClientBuilder::new(HttpConnector::new());
                builder.capabilities(capabilities);
                let driver = format!("http://{DRIVER}");
                let connected = builder.connect(&driver);
                tokio::time::timeout(PATIENCE, connected).await
            })
        });
        browser.client = Some(
            client
                .expect("a browser starts in time")
                .unwrap_or_else(|error| panic!("no browser: {error}")),
        );
        browser
    }

    /// Has the browser do something; its connections come from the namespace.
    #[track_caller]
    fn ask<T: Send>(
        &self,
        what: &str,
        ask: impl AsyncFnOnce(&Client) -> Result<T, CmdError> + Send,
    ) -> T {
        let client = self.client.as_ref().expect("a browser that runs");
        let answer = self.namespace.run(|| {
            let answer = async { tokio::time::timeout(PATIENCE, ask(client)).await };
            self.runtime.block_on(answer)
        });
        answer
            .unwrap_or_else(|_| panic!("{what}: not within {PATIENCE:?}"))
            .unwrap_or_else(|error| panic!("{what}: {error}"))
    }

    #[track_caller]
    pub(super) fn open(&self, url: &str) {
        self.ask(url, async |client| client.goto(url).await);
    }

    /// Loads the page again.
    #[track_caller]
    pub(super) fn reload(&self) {
        self.ask("reload", async |client| client.refresh().await);
    }

    /// What a script returns.
    #[track_caller]
    pub(super) fn run(&self, script: &str) -> Value {
        self.ask(script, async |client| {
            client.execute(script, Vec::new()).await
        })
    }

    /// What an expression is.
    #[track_caller]
    pub(super) fn value(&self, expression: &str) -> Value {
        self.run(&format!("return {expression};"))
    }

    /// What stands in an element that is there, as people see it; empty if it is hidden.
    #[track_caller]
    pub(super) fn text(&self, selector: &str) -> String {
        self.ask(selector, async |client| {
            client.find(Locator::Css(selector)).await?.text().await
        })
    }

    /// Clicks as people do: what is hidden or covered cannot be.
    #[track_caller]
    pub(super) fn click(&self, selector: &str) {
        self.ask(selector, async |client| {
            client.find(Locator::Css(selector)).await?.click().await
        });
    }

    /// Types into a field, over what is there. "\n" is the key Enter.
    #[track_caller]
    pub(super) fn fill(&self, selector: &str, text: &str) {
        let keys = text.replace('\n', ENTER);
        self.ask(selector, async |client| {
            let field = client.find(Locator::Css(selector)).await?;
            field.clear().await?;
            field.send_keys(&keys).await
        });
    }

    /// Presses a key where the focus is.
    #[track_caller]
    pub(super) fn press(&self, key: &str) {
        self.ask("a key", async |client| {
            client.active_element().await?.send_keys(key).await
        });
    }

    /// Waits until an expression is true.
    #[track_caller]
    pub(super) fn wait_for(&self, expression: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let value = self.value(expression);
            if value == true {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "{expression} is {value} after {PATIENCE:?}; the page says:\n{}",
                self.value("document.body.innerText")
            );
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until this text is seen in an element.
    #[track_caller]
    pub(super) fn wait_for_text(&self, selector: &str, text: &str) {
        self.wait_for(&format!(
            "(document.querySelector({})?.innerText ?? '').includes({})",
            json!(selector),
            json!(text)
        ));
    }

    /// What the browser has noted since this was asked last: `browser` is the console,
    /// `performance` what came and went.
    #[track_caller]
    pub(super) fn log(&self, kind: &'static str) -> Vec<Value> {
        let noted = self.ask(kind, async |client| {
            let body = json!({ "type": kind });
            client.issue_cmd(Extension("se/log", body)).await
        });
        noted.as_array().expect("a list").clone()
    }

    /// A command of the browser's own protocol.
    #[track_caller]
    pub(super) fn devtools(&self, command: &str, parameters: &Value) -> Value {
        let body = json!({ "cmd": command, "params": parameters });
        self.ask(command, async |client| {
            client.issue_cmd(Extension("goog/cdp/execute", body)).await
        })
    }

    /// Shows the page as on a screen of this size, in CSS pixels.
    #[track_caller]
    pub(super) fn resize(&self, width: u32, height: u32) {
        let is_phone = width < 700;
        self.devtools(
            "Emulation.setDeviceMetricsOverride",
            &json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": is_phone }),
        );
    }

    /// Has the page know that its reader wants it so: `light` or `dark`.
    #[track_caller]
    pub(super) fn prefer(&self, scheme: &str) {
        let feature = json!({ "name": "prefers-color-scheme", "value": scheme });
        self.devtools(
            "Emulation.setEmulatedMedia",
            &json!({ "features": [feature] }),
        );
    }

    /// What is seen now, as PNG.
    #[track_caller]
    pub(super) fn picture(&self) -> Vec<u8> {
        self.ask("a picture", async |client| client.screenshot().await)
    }

    /// The processes of the browser.
    fn processes(&self) -> Vec<Pid> {
        processes(&self.mark)
    }

    /// What they have in their environment.
    pub(super) fn mark(&self) -> &str {
        &self.mark
    }
}

/// The processes that have this in their environment; those that have ended and wait for somebody
/// to notice have none.
pub(super) fn processes(mark: &str) -> Vec<Pid> {
    let folder = fs::read_dir("/proc").expect("/proc is there");
    let pids = folder.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let has_mark = |pid: &i32| {
        let environment = fs::read(PathBuf::from(format!("/proc/{pid}/environ")));
        let environment = environment.unwrap_or_default();
        let mut words = environment.split(|byte| *byte == 0);
        words.any(|word| word == mark.as_bytes())
    };
    pids.filter(has_mark).map(Pid::from_raw).collect()
}

impl Drop for Browser {
    fn drop(&mut self) {
        if let Some(client) = self.client.take() {
            let closed = self.namespace.run(|| {
                let closed = async { tokio::time::timeout(LEAVE, client.close()).await };
                self.runtime.block_on(closed)
            });
            if !matches!(closed, Ok(Ok(()))) {
                eprintln!("the browser does not close: {closed:?}");
            }
        }
        // The browser dies with its driver.
        drop(self.driver.take());
        let deadline = Instant::now() + LEAVE;
        while !self.processes().is_empty() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(20));
        }
        for process in self.processes() {
            let _gone = kill(process, Signal::SIGKILL);
        }
    }
}

fn capabilities(profile: &std::path::Path) -> Capabilities {
    let profile = format!("--user-data-dir={}", profile.display());
    let options = json!({
        "binary": peers::path("chromium").unwrap_or_else(|error| panic!("{error}")),
        "args": [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-breakpad",
            "--force-color-profile=srgb",
            "--window-size=1280,800",
            profile,
        ],
    });
    let mut capabilities = Capabilities::new();
    capabilities.insert("browserName".to_owned(), json!("chrome"));
    capabilities.insert("goog:chromeOptions".to_owned(), options);
    let logs = json!({ "browser": "ALL", "performance": "ALL" });
    capabilities.insert("goog:loggingPrefs".to_owned(), logs);
    capabilities
}

/// A request that `WebDriver` has not, and this driver has.
#[derive(Debug)]
struct Extension(&'static str, Value);

impl WebDriverCompatibleCommand for Extension {
    fn endpoint(
        &self,
        base: &url::Url,
        session: Option<&str>,
    ) -> Result<url::Url, url::ParseError> {
        let session = session.unwrap_or_default();
        base.join(&format!("session/{session}/{}", self.0))
    }

    fn method_and_body(&self, _: &url::Url) -> (http::Method, Option<String>) {
        (http::Method::POST, Some(self.1.to_string()))
    }
}
