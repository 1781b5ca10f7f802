//! The program, loaded and not attached.

use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use abuser::{
    config::{self, Config},
    dataplane::{
        Dataplane,
        limits::Compiled,
        program,
        throttles::{self, Throttled, Throttling},
    },
};
use abuser_bench::timed::{self, Timed};
use abuser_common::{
    bucket::{Key, Place},
    event::Event,
    gcra::KernelTime,
    layout::{
        AllowOrigin, Ban, Host, LAYOUT_VERSION, LimitCounters, MAX_LIMITS, Outcome, PORTS_PER_BANK,
        PROTOCOLS_PER_BANK, Settings, maps,
    },
    model::{Machine, Model},
    prefix::{PrefixKey, Source},
};
use aya::{
    maps::{Array, Map, MapData, RingBuf},
    programs::{TestRun as _, TestRunOptions, Xdp},
};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};

/// The bank that the limits are in.
pub(crate) const BANK: u32 = 1;

/// `XDP_DROP` of the kernel's `enum xdp_action`.
pub(crate) const XDP_DROP: u32 = 1;
/// `XDP_PASS` of the kernel's `enum xdp_action`.
pub(crate) const XDP_PASS: u32 = 2;

/// The program in the kernel, and beside it the same tables on the host.
pub(crate) struct Kernel {
    dataplane: Option<Dataplane>,
    /// The same program at a time that the frame tells, over the same maps.
    timed: Option<Timed>,
    pin_dir: PathBuf,
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
        Self::load_observing(limits, false)
    }

    /// As [`Kernel::load`], with the program's clock in the test's hands (see
    /// [`Kernel::run_timed`]), and the key of the places in the bucket table.
    pub(crate) fn load_timed(limits: &str, observe: bool, key: Key) -> Self {
        let mut kernel = Self::load_observing(limits, observe);
        let fresh = fresh_object();
        let object = fresh.as_deref().unwrap_or(program::OBJECT);
        let timed = Timed::load(object, &kernel.pin_dir);
        let timed = timed.unwrap_or_else(|error| panic!("{error:#}"));
        let pinned = kernel.pin_dir.join(format!("v{LAYOUT_VERSION}"));
        let host = MapData::from_pin(pinned.join(maps::HOST)).expect("the pinned map");
        let mut host: Array<MapData, Host> = Map::Array(host).try_into().expect("the host map");
        let constants = host.get(&0, 0).expect("the host's constants");
        host.set(0, Host { key, ..constants }, 0)
            .expect("the host's constants");
        kernel.model.key = key;
        kernel.timed = Some(timed);
        kernel
    }

    fn load_observing(limits: &str, observe: bool) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let mut config = config::parse(limits, Path::new("limits")).expect("limits");
        config.xdp.pin_dir =
            format!("/sys/fs/bpf/abuser-testrun-{}-{count}", std::process::id()).into();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let fresh = fresh_object();
        let object = fresh.as_deref().unwrap_or(program::OBJECT);
        let dataplane = {
            let _entered = runtime.enter();
            Dataplane::load_object(object, &config.xdp.pin_dir, 0).and_then(|mut dataplane| {
                dataplane.set_limits(&config.limits, observe, &Throttled::new())?;
                Ok(dataplane)
            })
        };
        Self {
            dataplane: Some(dataplane.unwrap_or_else(|error| panic!("{error}"))),
            timed: None,
            pin_dir: config.xdp.pin_dir.clone(),
            model: model(&config, observe),
            machine: Machine::default(),
            _runtime: runtime,
        }
    }

    pub(crate) fn dataplane(&mut self) -> &mut Dataplane {
        self.dataplane.as_mut().expect("taken only when dropped")
    }

    /// Bans a prefix, in the kernel and on the host.
    pub(crate) fn ban(&mut self, prefix: &str, id: u64, expires_ns: u64) {
        self.ban_key(key(prefix), id, expires_ns);
    }

    /// As [`Kernel::ban`].
    pub(crate) fn ban_key(&mut self, key: PrefixKey, id: u64, expires_ns: u64) {
        let ban = Ban {
            expires_ns,
            id,
            ..Ban::default()
        };
        let (table, hints) = self.dataplane().bans();
        table.insert(hints, &[(key, ban)]).expect("a ban");
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
        self.allow_key(key(prefix));
    }

    /// As [`Kernel::allow`].
    pub(crate) fn allow_key(&mut self, key: PrefixKey) {
        let (table, hints) = self.dataplane().allowed();
        table
            .insert(hints, &[(key, AllowOrigin::Command as u64)])
            .expect("an allow entry");
        self.model.add_allow(key);
    }

    /// Throttles a prefix, in the kernel and on the host: by which limits, and until when.
    pub(crate) fn throttle(&mut self, prefix: &str, limits: &[(&str, u64)]) {
        let limits = limits.iter().map(|(limit, expires_ns)| Throttling {
            limit: (*limit).into(),
            expires_ns: *expires_ns,
        });
        self.throttle_key(key(prefix), &limits.collect::<Vec<_>>());
    }

    /// As [`Kernel::throttle`].
    pub(crate) fn throttle_key(&mut self, key: PrefixKey, throttling: &[Throttling]) {
        let (table, hints, limits) = self.dataplane().throttled();
        let entry = throttles::entry(throttling, limits.configs(), limits.bank());
        table.insert(hints, &[(key, entry)]).expect("a throttle");
        self.model.add_throttle(key, entry);
    }

    /// The loaded program.
    pub(crate) fn program(&mut self) -> &Xdp {
        program::xdp(self.dataplane().program_mut()).expect("the program")
    }

    /// Runs the program on a frame at a time, which takes the frame's first eight octets;
    /// the action.
    pub(crate) fn run_timed(&mut self, frame: &mut [u8], now: KernelTime) -> u32 {
        run_at(self.timed(), frame, now)
    }

    /// The program of [`Kernel::run_timed`], for [`run_at`].
    pub(crate) fn timed(&mut self) -> &Xdp {
        let timed = self.timed.as_mut().expect("a kernel of `load_timed`");
        timed.program().expect("the timed program")
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

    /// Clears words of full buckets, as the daemon does from time to time.
    pub(crate) fn sweep(&mut self, now: KernelTime) {
        let dataplane = self.dataplane();
        let scales = dataplane.limits().scales();
        dataplane.buckets().sweep(&scales, now);
    }

    /// Packets by outcome.
    pub(crate) fn outcomes(&mut self) -> Vec<(Outcome, u64)> {
        let outcomes = self
            .dataplane()
            .counters()
            .packets()
            .outcomes()
            .expect("counters");
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
            let _detached = dataplane.shut_down();
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

/// [`timed::run_at`], which has to work.
pub(crate) fn run_at(program: &Xdp, frame: &mut [u8], now: KernelTime) -> u32 {
    timed::run_at(program, frame, now).unwrap_or_else(|error| panic!("{error:#}"))
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

fn fresh_object() -> Option<Vec<u8>> {
    std::env::var_os("ABUSER_BPF_OBJECT")
        .map(|path| std::fs::read(path).expect("the object in ABUSER_BPF_OBJECT"))
}

/// `count` IPv4 networks of `length` bits whose buckets lie in one set under the limit with
/// this slot, looked for from `first` on.
pub(crate) fn crowd(key: &Key, slot: u8, length: u8, first: u32, count: usize) -> Vec<Ipv4Addr> {
    let mut crowd: Vec<Ipv4Addr> = Vec::new();
    let step = 1_u32 << (32 - length);
    let mut network = first & !(step - 1);
    let set = |address: u32| Place::new(key, slot, &Source::v4(address.to_be_bytes())).set();
    let shared = set(network);
    for _ in 0..1_u64 << length {
        if set(network) == shared {
            crowd.push(network.into());
            if crowd.len() == count {
                break;
            }
        }
        network = network.wrapping_add(step);
    }
    crowd
}

/// Keeps this thread on one CPU: budgets and tallies are each CPU's own.
pub(crate) fn pin_to_cpu(cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu).expect("a CPU number");
    sched_setaffinity(Pid::from_raw(0), &set).expect("the CPU");
}

/// The host's tables for the same limits.
fn model(config: &Config, observe: bool) -> Model {
    let Compiled {
        limits,
        protocols,
        ports,
    } = Compiled::new(&config.limits);
    // The first limits go to the bank that is not in use when the maps are made.
    let mut model = Model::default();
    model.settings = Settings::new(BANK, observe);
    for (index, limit) in (BANK * MAX_LIMITS..).zip(limits) {
        model.add_limit(index, limit);
    }
    model.protocols = (BANK * PROTOCOLS_PER_BANK..).zip(protocols).collect();
    model.ports = (BANK * PORTS_PER_BANK..).zip(ports).collect();
    model
}
