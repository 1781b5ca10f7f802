//! The program, loaded and not attached.

use std::{
    path::Path,
    sync::atomic::{AtomicU32, Ordering},
};

use abuser::{
    config::{self, Config},
    dataplane::{Dataplane, limits::Compiled, program},
};
use abuser_common::{
    event::Event,
    layout::{AllowOrigin, Ban, LimitCounters, Outcome},
    model::{Machine, Model},
    prefix::PrefixKey,
};
use aya::{
    maps::{MapData, RingBuf},
    programs::{TestRun as _, TestRunOptions, Xdp},
};

/// `XDP_DROP` of the kernel's `enum xdp_action`.
const XDP_DROP: u32 = 1;
/// `XDP_PASS` of the kernel's `enum xdp_action`.
pub(crate) const XDP_PASS: u32 = 2;

/// The program in the kernel, and beside it the same tables on the host.
pub(crate) struct Kernel {
    dataplane: Option<Dataplane>,
    pub(crate) model: Model,
    /// The host's clock and connections.
    pub(crate) machine: Machine,
    _runtime: tokio::runtime::Runtime,
}

impl Kernel {
    /// Loads the program with limits as a configuration file has them.
    ///
    /// `ABUSER_BPF_OBJECT` names another object than the one that is built in: a fresh
    /// build that is to be checked.
    pub(crate) fn load(limits: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let mut config = config::parse(limits, Path::new("limits")).expect("limits");
        config.xdp.pin_dir =
            format!("/sys/fs/bpf/abuser-testrun-{}-{count}", std::process::id()).into();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let fresh = std::env::var_os("ABUSER_BPF_OBJECT")
            .map(|path| std::fs::read(path).expect("the object in ABUSER_BPF_OBJECT"));
        let object = fresh.as_deref().unwrap_or(program::OBJECT);
        let dataplane = {
            let _entered = runtime.enter();
            Dataplane::load_object(object, &config.xdp.pin_dir, 0).and_then(|mut dataplane| {
                dataplane.take_over(&config.limits, false)?;
                Ok(dataplane)
            })
        };
        Self {
            dataplane: Some(dataplane.unwrap_or_else(|error| panic!("{error}"))),
            model: model(&config),
            machine: Machine::default(),
            _runtime: runtime,
        }
    }

    fn dataplane(&mut self) -> &mut Dataplane {
        self.dataplane.as_mut().expect("taken only when dropped")
    }

    /// Bans a prefix, in the kernel and on the host.
    pub(crate) fn ban(&mut self, prefix: &str, id: u64, expires_ns: u64) {
        let key = key(prefix);
        let ban = Ban {
            expires_ns,
            id,
            ..Ban::default()
        };
        let (table, hints) = self.dataplane().bans();
        table.insert(hints, &key, ban).expect("a ban");
        self.model.add_ban(key, ban);
    }

    /// The ban of a prefix as it stands in the kernel.
    pub(crate) fn ban_of(&mut self, prefix: &str) -> Option<Ban> {
        self.dataplane()
            .bans()
            .0
            .get(&key(prefix))
            .expect("a look-up")
    }

    /// Allows a prefix, in the kernel and on the host.
    pub(crate) fn allow(&mut self, prefix: &str) {
        let key = key(prefix);
        let (table, hints) = self.dataplane().allowed();
        table
            .insert(hints, &key, AllowOrigin::Command as u64)
            .expect("an allow entry");
        self.model.add_allow(key);
    }

    /// The loaded program.
    pub(crate) fn program(&mut self) -> &Xdp {
        program::xdp(self.dataplane().program_mut()).expect("the program")
    }

    /// Runs the program on a frame and returns what became of it, by the program's own
    /// counters; checks that the XDP action says the same.
    pub(crate) fn run(&mut self, frame: &[u8]) -> Outcome {
        let before = self.outcomes();
        let action = run(self.program(), frame, 1);
        let after = self.outcomes();
        let changed: Vec<_> = before
            .iter()
            .zip(&after)
            .filter(|(before, after)| before != after)
            .map(|((outcome, before), (_, after))| (*outcome, after - before))
            .collect();
        let [(outcome, 1)] = changed[..] else {
            panic!("one packet was counted as {changed:?}");
        };
        let expected = if outcome.dropped() {
            XDP_DROP
        } else {
            XDP_PASS
        };
        assert_eq!(action, expected, "{outcome:?}");
        outcome
    }

    /// Packets by outcome.
    pub(crate) fn outcomes(&mut self) -> Vec<(Outcome, u64)> {
        let outcomes = self.dataplane().counters().outcomes().expect("counters");
        outcomes
            .into_iter()
            .map(|(outcome, traffic)| (outcome, traffic.packets))
            .collect()
    }

    /// Packets with one outcome.
    pub(crate) fn count(&mut self, outcome: Outcome) -> u64 {
        let outcomes = self.outcomes();
        let found = outcomes.iter().find(|(counted, _)| *counted == outcome);
        found.expect("every outcome is counted").1
    }

    /// What was counted under each limit.
    pub(crate) fn limits(&mut self) -> Vec<LimitCounters> {
        self.dataplane().limits().counted().expect("counters")
    }

    /// Events sent, suppressed and lost.
    pub(crate) fn event_counts(&mut self) -> (u64, u64, u64) {
        let stats = self.dataplane().counters().events().expect("counters");
        (stats.sent, stats.suppressed, stats.lost)
    }

    /// The ring buffer; once.
    pub(crate) fn ring(&mut self) -> RingBuf<MapData> {
        self.dataplane().take_events().expect("the ring buffer")
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        if let Some(dataplane) = self.dataplane.take() {
            dataplane.shut_down();
        }
    }
}

/// Runs the program on a frame `repeat` times; the last action. One time takes
/// microseconds, any more take tens of milliseconds: the kernel patches its XDP dispatcher.
pub(crate) fn run(program: &Xdp, frame: &[u8], repeat: u32) -> u32 {
    let options = TestRunOptions {
        data_in: Some(frame),
        repeat,
        ..TestRunOptions::default()
    };
    program
        .test_run(options)
        .expect("BPF_PROG_TEST_RUN")
        .return_value
}

/// All events that are in the ring buffer.
pub(crate) fn drain(ring: &mut RingBuf<MapData>) -> Vec<Event> {
    let mut events = Vec::new();
    while let Some(record) = ring.next() {
        events.push(Event::decode(&record).expect("an event"));
    }
    events
}

fn key(prefix: &str) -> PrefixKey {
    let net = config::parse_prefix(prefix).expect("a prefix");
    PrefixKey::new(net.addr(), net.prefix_len()).expect("a key")
}

/// The host's tables for the same limits.
fn model(config: &Config) -> Model {
    let Compiled {
        limits,
        protocols,
        ports,
    } = Compiled::new(&config.limits);
    let mut model = Model::default();
    for (index, limit) in (0..).zip(limits) {
        model.add_limit(index, limit);
    }
    model.protocols = (0..).zip(protocols).collect();
    model.ports = (0..).zip(ports).collect();
    model
}
