//! The model against the kernel: random packets, tables and clock, the same for `decide()`
//! on the host and for the real program, which must agree on everything.
//!
//! Each configuration follows from a number that is printed; `ABUSER_SEED` repeats it, and it
//! alone.

mod scenario;

use std::net::{TcpListener, TcpStream};

use abuser_common::{
    gate::EventStats,
    layout::{LimitCounters, MAX_LIMITS, Outcomes},
    packet::{Bytes, Header, TcpTuple},
    prefix::PrefixKey,
    verdict::{Decision, Tables as _, decide},
};
use aya::maps::{MapData, RingBuf};
use testkit::{Packet, guest, packet::flags, require_root};

use self::scenario::Scenario;
use crate::kernel::{BANK, Kernel, XDP_DROP, XDP_PASS, drain, pin_to_cpu};

/// Packets in one configuration.
const PACKETS: u32 = 50_000;

/// Packets between two looks at counters and events; the ring has room for more.
const BATCH: u32 = 1_000;

/// Configurations of each test: for each the program is loaded and verified anew.
const CONFIGURATIONS: u32 = 10;

#[test]
fn half_a_million_random_packets_fare_as_decide_says() {
    require_root!();
    run_configurations(0);
}

#[test]
fn another_half_a_million_random_packets_do_too() {
    require_root!();
    run_configurations(1);
}

/// A frame as the kernel presents it to a program under test: the first of it in one buffer,
/// the rest in others, and received on the loopback interface.
struct Received<'a>(&'a [u8]);

impl Received<'_> {
    /// What of a page is left beside the kernel's own.
    const FIRST_BUFFER: usize = 4096 - 256 - 320;

    fn first_buffer(&self) -> &[u8] {
        &self.0[..self.0.len().min(Self::FIRST_BUFFER)]
    }
}

impl Bytes for Received<'_> {
    fn header<T: Header>(&self, offset: usize) -> Option<&T> {
        self.first_buffer().header(offset)
    }

    fn readable(&self) -> u32 {
        self.first_buffer().length()
    }

    fn length(&self) -> u32 {
        self.0.length()
    }

    fn interface(&self) -> u32 {
        1
    }
}

/// Runs on one CPU: budgets and tallies are each CPU's own.
fn run_configurations(cpu: usize) {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    pin_to_cpu(cpu % cpus);
    let told = std::env::var("ABUSER_SEED").map(|seed| seed.parse().expect("a number"));
    let seeds: Vec<u64> = match told {
        Ok(seed) => vec![seed],
        Err(_) => (0..guest::cases(CONFIGURATIONS))
            .map(|_| fastrand::u64(..))
            .collect(),
    };
    for seed in seeds {
        let started = std::time::Instant::now();
        let mut pair = Pair::new(seed);
        pair.run();
        println!("{} in {:?}", pair.summary(), started.elapsed());
    }
}

/// The kernel and the host on the same scenario.
struct Pair {
    seed: u64,
    scenario: Scenario,
    kernel: Kernel,
    ring: RingBuf<MapData>,
    /// What the host counted, by outcome.
    traffic: Outcomes,
    events: usize,
    bans: Vec<PrefixKey>,
    throttles: usize,
    _connection: (TcpListener, TcpStream),
}

impl Pair {
    fn new(seed: u64) -> Self {
        println!("ABUSER_SEED={seed}");
        let mut scenario = Scenario::new(seed);
        let mut kernel = Kernel::load_timed(&scenario.limits, scenario.observe, scenario.key);
        let ring = kernel.ring();
        for prefix in scenario.allowed() {
            kernel.allow_key(prefix);
        }
        if let Some(limit) = kernel.model.limit(BANK * MAX_LIMITS) {
            scenario.crowd(limit.slot, limit.ipv4_prefix);
        }
        let connection = connect(&mut scenario, &kernel);
        let mut pair = Self {
            seed,
            scenario,
            kernel,
            ring,
            traffic: Outcomes::default(),
            events: 0,
            bans: Vec::new(),
            throttles: 0,
            _connection: connection,
        };
        for _ in 0..pair.scenario.bans_at_start() {
            pair.ban();
        }
        for _ in 0..pair.scenario.throttles_at_start() {
            pair.throttle();
        }
        pair
    }

    fn run(&mut self) {
        for number in 1..=guest::cases(PACKETS) {
            if self.scenario.is_time_to_ban() {
                self.ban();
            }
            if self.scenario.is_time_to_throttle() {
                self.throttle();
            }
            self.packet(number);
            if number % BATCH == 0 {
                self.compare(number);
            }
        }
        self.compare_bans();
    }

    fn ban(&mut self) {
        let (prefix, expires_ns) = self.scenario.ban();
        if self.bans.contains(&prefix) {
            return;
        }
        self.bans.push(prefix);
        let id = self.bans.len() as u64;
        self.kernel.ban_key(prefix, id, expires_ns);
    }

    /// Throttles a source, or one that is throttled by other limits.
    fn throttle(&mut self) {
        let (prefix, throttling) = self.scenario.throttle();
        self.kernel.throttle_key(prefix, &throttling);
        self.throttles += 1;
    }

    fn packet(&mut self, number: u32) {
        let (mut frame, now) = self.scenario.packet();
        let action = self.kernel.run_timed(&mut frame, now);
        self.kernel.machine.now.set(now);
        let Decision { outcome, length } =
            decide(&Received(&frame), &self.kernel.model, &self.kernel.machine);
        let expected = if outcome.dropped() {
            XDP_DROP
        } else {
            XDP_PASS
        };
        assert_eq!(
            action, expected,
            "seed {}, packet {number} at {now:?}: {outcome:?} on the host; {frame:02x?}",
            self.seed
        );
        self.traffic.count(outcome, length);
    }

    /// Compares counters and events.
    fn compare(&mut self, number: u32) {
        let at = format!("seed {}, after packet {number}", self.seed);
        let sent = drain(&mut self.ring);
        let expected: Vec<_> = self.kernel.model.events.borrow_mut().drain(..).collect();
        self.events += sent.len();
        assert_eq!(sent.len(), expected.len(), "events; {at}");
        for (sent, expected) in sent.iter().zip(&expected) {
            assert_eq!(sent, expected, "event; {at}");
        }
        let model_events = EventStats {
            budget_tat: 0,
            ..self.kernel.model.event_stats.get()
        };
        let model_sources = self.kernel.model.source_stats.get();
        let model_limits: Vec<_> = {
            let counters = self.kernel.model.limit_counters.borrow();
            (BANK * MAX_LIMITS..)
                .take(self.scenario.limit_count)
                .map(|index| counters.get(&index).copied().unwrap_or_default())
                .collect()
        };
        let dataplane = self.kernel.dataplane();
        let counters = dataplane.counters();
        for (outcome, traffic) in counters.packets().outcomes().expect("counters") {
            assert_eq!(traffic, self.traffic.of(outcome), "{outcome:?}; {at}");
        }
        let limits: Vec<LimitCounters> = dataplane.limits().counted().expect("counters");
        assert_eq!(limits, model_limits, "limits; {at}");
        assert_eq!(counters.events().expect("counters"), model_events, "{at}");
        let sources = counters.sources().expect("counters");
        assert_eq!(
            (sources.lookups, sources.connected, sources.evictions),
            (
                model_sources.lookups,
                model_sources.connected,
                model_sources.evictions
            ),
            "{at}"
        );
    }

    /// Compares hits of bans.
    fn compare_bans(&mut self) {
        for prefix in &self.bans {
            let (table, _) = self.kernel.dataplane().bans();
            let met = table.get(prefix).expect("a look-up");
            let expected = self.kernel.model.ban_of(prefix);
            assert_eq!(met, expected, "seed {}, ban of {prefix:?}", self.seed);
        }
    }

    fn summary(&self) -> String {
        let outcomes: Vec<_> = self
            .traffic
            .each()
            .filter(|(_, traffic)| traffic.packets != 0)
            .map(|(outcome, traffic)| format!("{} {}", traffic.packets, outcome.name()))
            .collect();
        let sources = self.kernel.model.source_stats.get();
        format!(
            "{} limits ({} for throttled sources), {} bans, {} throttles: {}, {} events, {} \
             evictions, {} connected",
            self.scenario.limit_count,
            self.scenario.limits.matches("throttled").count(),
            self.bans.len(),
            self.throttles,
            outcomes.join(", "),
            self.events,
            sources.evictions,
            sources.connected
        )
    }
}

/// Makes a connection of this machine with itself, and gives its segments to the scenario.
fn connect(scenario: &mut Scenario, kernel: &Kernel) -> (TcpListener, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a socket");
    let server = listener.local_addr().expect("an address");
    let client = TcpStream::connect(server).expect("a connection");
    let port = client.local_addr().expect("an address").port();
    let segment = Packet::eth()
        .ipv4("127.0.0.1")
        .to("127.0.0.1")
        .tcp(server.port())
        .from_port(port);
    for flags in [flags::ACK, flags::ACK | flags::PSH, flags::SYN, flags::FIN] {
        scenario.add(segment.clone().flags(flags).build());
    }
    let mut octets = [127, 0, 0, 1, 127, 0, 0, 1, 0, 0, 0, 0];
    octets[8..10].copy_from_slice(&port.to_be_bytes());
    octets[10..].copy_from_slice(&server.port().to_be_bytes());
    let mut connections = kernel.machine.connections.borrow_mut();
    connections.insert(TcpTuple::V4 { octets });
    (listener, client)
}
