//! The bench's own XDP programs, loaded.

use std::{net::Ipv4Addr, time::Duration};

use abuser::dataplane::dispatcher::OBJECT as OBJECT_OF_DISPATCHER;
use abuser_common::dispatcher::{self, Config, EMPTY_SLOT, MAX_COMPONENTS};
use anyhow::{Context as _, Result, ensure};
use aya::{
    Ebpf, EbpfLoader, VerifierLogLevel,
    maps::{Array, LpmTrie, MapData, ProgramArray, lpm_trie::Key},
    programs::{ProgramFd, TestRun as _, TestRunAttrs, TestRunOptions, Xdp},
};

use crate::prefixes::Prefix;

/// The object that `cargo xtask build-ebpf` makes and the repository holds.
static OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("CARGO_MANIFEST_DIR"), "/ebpf/bench.bpf.o"));

/// Sources that random ones are drawn from: 16 million.
pub(crate) const RANDOM_SOURCES: u32 = 1 << 24;

/// Frames that the kernel sends at a time, in a flood: as many as a driver polls.
const BATCH: u32 = 64;

/// Of so many frames of [`Name::FloodWithOffender`] one is the offender's.
const EVERY: u64 = 64;

/// The name of a program in the object.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Name {
    /// Nothing but a drop: what every other is measured above.
    BareDrop,
    /// Nothing but a pass.
    BarePass,
    /// The reference for limits.
    LruBucket,
    /// The reference for bans.
    LpmBlocklist,
    /// Gives the frame a random source, then runs the candidate.
    RandomSource,
    /// Gives the frame a random source, then sends it out.
    Flood,
    /// The same, and now and then the frame is the offender's.
    FloodWithOffender,
}

impl Name {
    const fn text(self) -> &'static str {
        match self {
            Self::BareDrop => "bare_drop",
            Self::BarePass => "bare_pass",
            Self::LruBucket => "lru_bucket",
            Self::LpmBlocklist => "lpm_blocklist",
            Self::RandomSource => "random_source",
            Self::Flood => "flood",
            Self::FloodWithOffender => "flood_with_offender",
        }
    }
}

/// A dispatcher with one empty slot.
pub(crate) fn dispatcher() -> Result<Ebpf> {
    let mut config = Config {
        components: 1,
        ..Config::EMPTY
    };
    config.chain_call_actions = [1 << EMPTY_SLOT; MAX_COMPONENTS];
    let mut loaded = EbpfLoader::new()
        .verifier_log_level(VerifierLogLevel::DISABLE)
        .override_global(dispatcher::CONFIG, &config, true)
        .load(OBJECT_OF_DISPATCHER)
        .context("load the dispatcher's map into the kernel")?;
    let program = loaded.program_mut(dispatcher::PROGRAM);
    let program: &mut Xdp = program
        .context("the dispatcher's object has no program")?
        .try_into()?;
    program.load().context("load the dispatcher")?;
    Ok(loaded)
}

/// The programs and their maps.
#[derive(Debug)]
pub(crate) struct Programs(Ebpf);

impl Programs {
    /// Loads these programs.
    pub(crate) fn load(names: &[Name]) -> Result<Self> {
        Self::load_with(names, RANDOM_SOURCES, 0)
    }

    /// Loads the floods, to send from so many sources, a power of two, out of the interface
    /// with this index.
    pub(crate) fn load_flood(sources: u32, interface: u32) -> Result<Self> {
        Self::load_with(&[Name::Flood, Name::FloodWithOffender], sources, interface)
    }

    fn load_with(names: &[Name], sources: u32, interface: u32) -> Result<Self> {
        let loaded = EbpfLoader::new()
            .verifier_log_level(VerifierLogLevel::DISABLE)
            .override_global("SOURCES_MASK", &(sources - 1), true)
            .override_global("FLOOD_INTERFACE", &interface, true)
            .load(OBJECT)
            .context("load the maps of the bench's programs into the kernel")?;
        let mut programs = Self(loaded);
        for name in names {
            programs
                .get_mut(*name)?
                .load()
                .with_context(|| format!("load the bench's program {}", name.text()))?;
        }
        Ok(programs)
    }

    /// One of the programs.
    pub(crate) fn get(&self, name: Name) -> Result<&Xdp> {
        let program = self.0.program(name.text());
        let program = program.with_context(|| no_program(name))?;
        program.try_into().with_context(|| no_program(name))
    }

    /// One of the programs, to load or attach it.
    pub(crate) fn get_mut(&mut self, name: Name) -> Result<&mut Xdp> {
        let program = self.0.program_mut(name.text());
        let program = program.with_context(|| no_program(name))?;
        program.try_into().with_context(|| no_program(name))
    }

    /// The file descriptor of a loaded program, as a candidate.
    pub(crate) fn fd(&self, name: Name) -> Result<ProgramFd> {
        descriptor(self.get(name)?)
    }

    /// Makes [`Name::RandomSource`] go on with this program.
    pub(crate) fn set_candidate(&mut self, candidate: &ProgramFd) -> Result<()> {
        let map = self.0.map_mut("CANDIDATE");
        let map = map.context("the bench's object has no map CANDIDATE")?;
        let mut slots: ProgramArray<_> = map.try_into().context("use CANDIDATE")?;
        slots
            .set(0, candidate, 0)
            .context("put a candidate into the program array (does it take fragments?)")
    }

    /// Fills the blocklist of [`Name::LpmBlocklist`].
    pub(crate) fn block(&mut self, prefixes: &[Prefix]) -> Result<()> {
        let map = self.0.map_mut("BLOCKLIST");
        let map = map.context("the bench's object has no map BLOCKLIST")?;
        let mut blocklist: LpmTrie<_, [u8; 4], u32> = map.try_into().context("use BLOCKLIST")?;
        for Prefix { address, length } in prefixes {
            let key = Key::new(u32::from(*length), address.octets());
            blocklist
                .insert(&key, 1, 0)
                .with_context(|| format!("block {address}/{length} in the LPM trie"))?;
        }
        Ok(())
    }

    /// The maps of [`Name::FloodWithOffender`]: they can be taken once.
    pub(crate) fn take_offender(&mut self) -> Result<Offender> {
        let mut take = |name| {
            let map = self.0.take_map(name);
            map.with_context(|| format!("the bench's object has no map {name}"))
        };
        Ok(Offender {
            address: take("OFFENDER")?.try_into().context("use OFFENDER")?,
            since: take("SINCE")?.try_into().context("use SINCE")?,
            made: take("MADE")?.try_into().context("use MADE")?,
        })
    }
}

/// The offender in a flood.
pub(crate) struct Offender {
    address: Array<MapData, u32>,
    since: Array<MapData, u64>,
    made: Array<MapData, u64>,
}

impl Offender {
    /// Another one begins to offend.
    pub(crate) fn replace(&mut self, address: Ipv4Addr) -> Result<()> {
        self.retire()?;
        let since = self.since.set(0, 0, 0);
        since.context("begin to count an offender's frames")?;
        let bytes = u32::from_ne_bytes(address.octets());
        let offender = self.address.set(0, bytes, 0);
        offender.with_context(|| format!("make {address} the offender"))
    }

    /// Nobody offends.
    pub(crate) fn retire(&mut self) -> Result<()> {
        self.address.set(0, 0, 0).context("retire the offender")
    }

    /// When the offender's frame with this number was made, in kernel time; `None` if it has
    /// not been yet, or never will be.
    pub(crate) fn made(&self, number: u32) -> Result<Option<Duration>> {
        let since = self.since.get(&0, 0);
        let since = since.context("read how far an offender has come")?;
        if number >= self.made.len() || u64::from(number) * EVERY >= since {
            return Ok(None);
        }
        let made = self.made.get(&number, 0);
        let made = made.with_context(|| format!("read when frame {number} was made"))?;
        Ok(Some(Duration::from_nanos(made)))
    }
}

fn no_program(name: Name) -> String {
    format!(
        "the bench's object has no XDP program {}; `cargo xtask build-ebpf` makes it anew",
        name.text()
    )
}

/// The file descriptor of a loaded program.
pub(crate) fn descriptor(program: &Xdp) -> Result<ProgramFd> {
    let fd = program.fd().context("the program is not loaded")?;
    fd.try_clone().context("copy the program's file descriptor")
}

/// Runs a program on a frame so many times; nanoseconds a run.
pub(crate) fn time(program: &Xdp, frame: &[u8], runs: u32) -> Result<f64> {
    let options = TestRunOptions {
        data_in: Some(frame),
        repeat: runs,
        ..TestRunOptions::default()
    };
    let result = program
        .test_run(options)
        .context("run a program on a frame (BPF_PROG_TEST_RUN)")?;
    // `XDP_ABORTED`: the candidate was not reached.
    ensure!(result.return_value != 0, "the program under test aborted");
    Ok(result.duration.as_secs_f64() * 1e9)
}

/// Sends a frame so many times from within the program; nanoseconds a frame.
///
/// The calling thread must be in the namespace of the interface that is sent to.
pub(crate) fn send(program: &Xdp, frame: &[u8], frames: u32) -> Result<f64> {
    let options = TestRunOptions {
        data_in: Some(frame),
        repeat: frames,
        attrs: TestRunAttrs::new().xdp_live_frames(BATCH),
        ..TestRunOptions::default()
    };
    let result = program
        .test_run(options)
        .context("send frames (BPF_PROG_TEST_RUN with live frames, Linux 5.18)")?;
    Ok(result.duration.as_secs_f64() * 1e9)
}
