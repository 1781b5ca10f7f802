//! The story: calm, abuse, the ban, forgiveness, the end.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{bail, ensure};
use serde_json::Value;
use testkit::{Daemon, LineStream, Wire, traffic::connect_from};

use super::{
    clients::{Flood, GoodClient, fetch, get},
    server::WebServer,
    stage::Stage,
};

const SERVER: SocketAddr = SocketAddr::new(Wire::SERVER_V4, 80);
const GOOD: IpAddr = Wire::CLIENT_V4;
const ABUSER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 66));

const GOOD_PER_SECOND: f64 = 5.0;
const FLOOD_PER_SECOND: f64 = 200.0;

/// As the configuration says.
const LIMIT_PER_SECOND: f64 = 10.0;
const LIMIT_BURST: f64 = 10.0;
const CONFIG: &str = r#"interfaces = ["veth-server"]

[[limit]]
name = "api"
protocol = "tcp"
ports = [80]
count = "connections"
rate = "10/s"
burst = 10

[ban]
maxretry = 3
findtime = "1m"
bantime = "1m"
"#;

/// What must not stay unanswered longer than this, within the demo.
const ANSWER: Duration = Duration::from_secs(1);
/// A ban needs three offences, of which the kernel reports one a second.
const BAN_WITHIN: Duration = Duration::from_secs(10);

pub(super) fn play(binary: &Path) -> anyhow::Result<()> {
    let mut stage = Stage::new()?;
    stage.say("Two network namespaces and a cable between them; nothing else is touched.")?;
    let wire = Wire::try_new()?;
    wire.client_end.add_address(&format!("{ABUSER}/24"))?;
    let _server = WebServer::start(&wire.server, SERVER)?;
    stage.say(&format!("A web server listens on {SERVER}."))?;

    stage.say("abuser run -c abuser.toml, on the server's interface, with:")?;
    stage.quote(CONFIG)?;
    let daemon = Daemon::try_start(binary, &wire.server, CONFIG)?;
    let Some(xdp) = wire.server_end.xdp()? else {
        bail!("abuser runs, but there is no XDP program on veth-server");
    };
    let mode = if xdp.native { "native" } else { "generic" };
    stage.say(&format!(
        "It runs: XDP program {} is attached ({mode} mode).",
        xdp.program_id
    ))?;

    let mut scene = Scene {
        shown: daemon.stream(&["events"]),
        checked: daemon.stream(&["events", "--json"]),
        good: GoodClient::start(&wire.client, GOOD, SERVER, GOOD_PER_SECOND),
        daemon,
        wire,
        events: Vec::new(),
        next_tally: Instant::now() + Duration::from_secs(1),
    };
    stage.say(&format!(
        "A good client, {GOOD}, fetches a page {GOOD_PER_SECOND} times a second."
    ))?;
    scene.follow(&stage, Duration::from_secs(3))?;

    abuse(&mut stage, &mut scene)?;
    forgiveness(&mut stage, &mut scene)?;
    the_end(&mut stage, scene)?;
    stage.conclude()
}

/// What goes on at the same time.
struct Scene {
    shown: LineStream,
    checked: LineStream,
    good: GoodClient,
    daemon: Daemon,
    wire: Wire,
    /// All events so far, as JSON.
    events: Vec<Value>,
    next_tally: Instant,
}

impl Scene {
    /// Lets time pass, showing the events and each second how the good client fares.
    fn follow(&mut self, stage: &Stage, time: Duration) -> anyhow::Result<()> {
        let until = Instant::now() + time;
        loop {
            stage.check()?;
            for line in self.shown.pending() {
                stage.say(&format!("event: {line}"))?;
            }
            self.events.extend(
                self.checked
                    .pending()
                    .iter()
                    .filter_map(|line| serde_json::from_str(line).ok()),
            );
            let now = Instant::now();
            if now >= self.next_tally {
                self.next_tally = now + Duration::from_secs(1);
                let tally = self.good.tally();
                stage.say(&format!(
                    "good client: {} of {} requests served, the slowest in {:.1?}",
                    tally.served, tally.sent, tally.slowest
                ))?;
            }
            if now >= until {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(50).min(until - now));
        }
    }

    /// Runs a command of the CLI and shows what it prints.
    fn show(&self, stage: &Stage, arguments: &[&str]) -> anyhow::Result<()> {
        stage.say(&format!("$ abuser {}", arguments.join(" ")))?;
        let output = self.daemon.abuser(arguments);
        ensure!(output.status.success(), "{output}");
        stage.quote(&output.stdout)
    }

    fn ban(&self) -> anyhow::Result<Option<Value>> {
        let host = format!("{ABUSER}/32");
        let bans = self.daemon.try_json(&["ban", "list"])?;
        let mut bans = bans.as_array().cloned().unwrap_or_default().into_iter();
        Ok(bans.find(|ban| ban["source"] == host.as_str()))
    }

    fn abuser_fetches(&self) -> bool {
        let client = &self.wire.client;
        client.run(|| fetch(ABUSER, SERVER, ANSWER)).is_ok()
    }
}

fn abuse(stage: &mut Stage, scene: &mut Scene) -> anyhow::Result<()> {
    let client = scene.wire.client.clone();
    let mut kept = client.run(|| connect_from(ABUSER, SERVER, ANSWER))?;
    kept.set_read_timeout(Some(ANSWER))?;
    get(&mut kept, true)?;
    stage.say(&format!(
        "An abusive client, {ABUSER}, opens a connection that it keeps, and is served."
    ))?;
    stage.say(&format!(
        "Then it opens {FLOOD_PER_SECOND} more a second, as fast as they fail."
    ))?;
    let began = Instant::now();
    let flood = Flood::start(&client, ABUSER, SERVER, FLOOD_PER_SECOND);

    let mut ban = None;
    while ban.is_none() && began.elapsed() < BAN_WITHIN {
        scene.follow(stage, Duration::from_millis(100))?;
        ban = scene.ban()?;
    }
    let took = began.elapsed();
    ensure!(
        ban.is_some(),
        "{ABUSER} was not banned within {BAN_WITHIN:?}; the daemon said:\n{}",
        scene.daemon.stderr()
    );
    stage.claim(
        ban.as_ref().is_some_and(|ban| ban["cause"] == "limit"),
        format!("{ABUSER} was banned for breaking the limit, {took:.1?} after it began"),
    )?;
    let connected = flood.connected();
    stage.say(&format!(
        "It is banned, {took:.1?} after it began: {} connections tried, {connected} got through.",
        flood.attempts(),
    ))?;
    #[expect(clippy::cast_precision_loss, reason = "some dozens of connections")]
    let within = connected as f64 <= LIMIT_BURST + 1.0 + LIMIT_PER_SECOND * took.as_secs_f64();
    stage.claim(
        within,
        format!("until then it had what the limit allows: {connected} connections"),
    )?;
    scene.show(stage, &["ban", "list"])?;

    // What was under way when the ban came has ended by now.
    scene.follow(stage, Duration::from_millis(200))?;
    let (attempts, connected) = (flood.attempts(), flood.connected());
    stage.say("It goes on all the same.")?;
    scene.follow(stage, Duration::from_secs(3))?;
    let attempts = flood.attempts() - attempts;
    let connected = flood.connected() - connected;
    drop(flood);
    stage.say(&format!(
        "Since the ban: {attempts} connections tried, {connected} got through."
    ))?;
    stage.claim(
        attempts > 0 && connected == 0,
        format!("of {attempts} connections that it tried while banned, {connected} got through"),
    )?;

    let cut_off = get(&mut kept, true).is_err();
    stage.claim(
        cut_off,
        "the connection that it had before the ban is cut off too".to_owned(),
    )?;
    if cut_off {
        stage.say("The connection that it had before the ban is cut off too.")?;
    }
    Ok(())
}

fn forgiveness(stage: &mut Stage, scene: &mut Scene) -> anyhow::Result<()> {
    let address = ABUSER.to_string();
    scene.show(stage, &["ban", "remove", &address])?;
    let back = scene.abuser_fetches();
    stage.claim(back, "after `ban remove` it is served again".to_owned())?;
    if back {
        stage.say(&format!("{ABUSER} is served again."))?;
    }
    scene.follow(stage, ANSWER)
}

fn the_end(stage: &mut Stage, mut scene: Scene) -> anyhow::Result<()> {
    scene.show(stage, &["status"])?;
    scene.show(stage, &["limits"])?;
    let status = scene.daemon.try_json(&["status"])?;
    let packets = |outcome: &str| {
        status["outcomes"][outcome]["packets"]
            .as_u64()
            .unwrap_or_default()
    };
    let (by_limit, by_ban) = (packets("dropped_limit"), packets("dropped_ban"));
    stage.claim(
        by_limit > 0 && by_ban > 0,
        format!("`status` counts the drops: {by_limit} packets by the limit, {by_ban} by the ban"),
    )?;

    let of = |source: IpAddr| {
        let source = source.to_string();
        let dropped = |event: &&Value| {
            event["source"]
                .as_str()
                .is_some_and(|found| found == source || found == format!("{source}/32"))
                && (event["kind"] == "drop" || event["kind"] == "ban")
        };
        scene.events.iter().filter(dropped).count()
    };
    stage.claim(
        of(ABUSER) > 0,
        format!("`events` told of the abuser, {} times", of(ABUSER)),
    )?;
    stage.claim(
        of(GOOD) == 0,
        "`events` never told of a drop or a ban of the good client".to_owned(),
    )?;

    stage.say("abuser is asked to leave (SIGTERM), while the good client goes on.")?;
    // The readers first: their complaint that the daemon has gone is no part of the story.
    scene.shown.interrupt()?;
    scene.checked.interrupt()?;
    let left = scene.daemon.terminate();
    let xdp = scene.wire.server_end.xdp()?;
    stage.claim(
        left.success() && xdp.is_none(),
        format!("the daemon left ({left}), and no XDP program is on the interface"),
    )?;
    // Before the guard of `scene.daemon` removes what is there.
    let pins = scene.daemon.pin_dir();
    stage.claim(
        !pins.exists(),
        "the daemon left no pinned map or link behind".to_owned(),
    )?;
    thread::sleep(Duration::from_millis(500));

    let (tally, time) = scene.good.finish();
    #[expect(clippy::cast_precision_loss, reason = "some dozens of requests")]
    let rate = tally.served as f64 / time.as_secs_f64();
    if let Some(error) = &tally.last_error {
        stage.say(&format!("The good client's last failure: {error}"))?;
    }
    stage.claim(
        tally.served == tally.sent && rate >= 0.95 * GOOD_PER_SECOND,
        format!(
            "the good client was served throughout: {} of {} requests, {rate:.1} a second, \
             the slowest in {:.1?}",
            tally.served, tally.sent, tally.slowest
        ),
    )
}
