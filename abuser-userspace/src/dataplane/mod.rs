//! The kernel half, seen from the daemon: load the program, attach it, read and write its
//! maps.
//!
//! Maps and links are pinned under `<pin_dir>/v<layout>`, so that enforcement outlives the
//! daemon: after a crash the program goes on dropping, and the next start adopts what it
//! finds and replaces the program in the pinned links at once. A start of another layout version
//! makes maps of its own, fills them, and then does the same with the links.
//!
//! | module | what it holds |
//! | --- | --- |
//! | `adopt` | links that an earlier daemon left, of this layout or another |
//! | `batch` | many map entries with one system call |
//! | [`buckets`] | the bucket table: who is in it, and sweeping it |
//! | [`hints`] | what the program reads before it looks a prefix up |
//! | `host` | the kernel's ticks, and the key of the bucket table |
//! | `memory` | array maps as memory |
//! | [`dispatcher`] | being one of several programs on an interface |
//! | [`attach`] | interfaces: foreign programs, modes, links |
//! | [`interfaces`] | what the kernel says of interfaces (netlink) |
//! | [`limits`] | limits from the configuration to the maps |
//! | [`links`] | being told when interfaces change |
//! | `object` | maps and links by descriptors of their own |
//! | [`outcomes`] | what became of packets, by interface |
//! | [`pins`] | bpffs, the pin folder, its lock |
//! | [`prefixes`] | the tables of bans, of who is allowed and of who is throttled |
//! | [`program`] | loading; who may, and which kernels can |
//! | [`protected`] | what is attached, and what is waited for |
//! | `ring` | how much of the ring buffer is not read yet |
//! | `refusal` | why the kernel does not take a program |
//! | `rtnl` | which program is on an interface, and another in its place |
//! | [`throttles`] | who is throttled, by which limits |
//! | `syscall` | `bpf(2)` for what aya has no function for |
//! | [`upkeep`] | pins that somebody removes |
//! | [`verified`] | the table of verified sources |

mod adopt;
pub mod attach;
mod batch;
pub mod buckets;
pub mod counters;
pub mod dispatcher;
pub mod error;
pub mod hints;
mod host;
pub mod interfaces;
pub mod limits;
pub mod links;
mod memory;
mod object;
pub mod outcomes;
pub mod pins;
pub mod prefixes;
pub mod program;
pub mod protected;
mod refusal;
mod ring;
mod rtnl;
mod syscall;
pub mod throttles;
pub mod upkeep;
pub mod verified;

use std::{
    collections::BTreeMap,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use abuser_common::{
    gcra::KernelTime,
    layout::{Ban, Throttle, maps},
    prefix::List,
};
use aya::{
    Ebpf,
    maps::{MapData, RingBuf},
};

use self::{
    buckets::{Buckets, Owners},
    counters::Counters,
    dispatcher::Access,
    hints::Hints,
    interfaces::{Interface, Netlink},
    limits::LimitTables,
    outcomes::PacketCounters,
    pins::PinDir,
    prefixes::PrefixTable,
    program::Programs,
    protected::Protected,
    ring::Positions,
    throttles::Throttled,
    upkeep::Upkeep,
    verified::VerifiedSources,
};
pub use self::{error::DataplaneError, pins::roots as pin_roots};
use crate::config::{How, LimitConfig};

/// The loaded program with its maps and the interfaces it is attached to.
pub struct Dataplane {
    programs: Programs,
    pins: PinDir,
    netlink: Netlink,
    protected: Protected,
    upkeep: Upkeep,
    tables: Tables,
    /// How far the ring buffer of events is read, once it was taken.
    events: Option<Positions>,
    /// Whether the maps were found pinned, with what an earlier daemon left in them.
    adopted: bool,
}

/// The program's maps.
struct Tables {
    hints: Hints,
    bans: PrefixTable<Ban>,
    allowed: PrefixTable<u64>,
    throttled: PrefixTable<Throttle>,
    limits: LimitTables,
    buckets: Arc<Buckets>,
    verified: Arc<VerifiedSources>,
    counters: Counters,
    /// What the buckets of a source are found by.
    owners: Owners,
}

impl Tables {
    /// Whether no prefix table holds anything.
    fn are_empty(&self) -> bool {
        let bans = self.bans.keys().next();
        let others = self.allowed.keys().chain(self.throttled.keys()).next();
        bans.or(others).is_none()
    }

    /// Makes the hints exact for what the prefix tables hold.
    fn rebuild_hints(&mut self) {
        let bans = self.bans.keys().map(|key| (List::Bans, key));
        let allowed = self.allowed.keys().map(|key| (List::Allowed, key));
        let throttled = self.throttled.keys().map(|key| (List::Throttled, key));
        self.hints.rebuild(bans.chain(allowed).chain(throttled));
    }
}

impl Dataplane {
    /// Loads the program into the kernel, or adopts what an earlier daemon left pinned.
    /// Nothing is attached yet.
    ///
    /// Must be called within a tokio runtime, after [`program::check_system`].
    pub fn load(pin_dir: &Path, log_level: u8) -> Result<Self, DataplaneError> {
        Self::load_object(program::OBJECT, pin_dir, log_level)
    }

    /// [`Dataplane::load`] for an object other than the one that is built in.
    pub fn load_object(
        object: &[u8],
        pin_dir: &Path,
        log_level: u8,
    ) -> Result<Self, DataplaneError> {
        let pins = PinDir::lock(pin_dir)?;
        let adopted = pins.adopt_maps();
        match Self::open(object, &pins, adopted, log_level) {
            Ok((programs, upkeep, tables, netlink)) => Ok(Self {
                programs,
                upkeep,
                pins,
                netlink,
                protected: Protected::default(),
                tables,
                events: None,
                adopted,
            }),
            Err(error) => {
                if !adopted {
                    // What this start made is of no use to anyone.
                    pins.remove_own();
                }
                Err(error)
            }
        }
    }

    fn open(
        object: &[u8],
        pins: &PinDir,
        adopted: bool,
        log_level: u8,
    ) -> Result<(Programs, Upkeep, Tables, Netlink), DataplaneError> {
        let mut programs = Programs::load(object, pins, log_level)?;
        let upkeep = Upkeep::new(pins)?;
        let program = &mut programs.direct;
        let key = host::prepare(program)?.key;
        let hints = Hints::open(program)?;
        let mut tables = Tables {
            hints,
            bans: PrefixTable::open(program, maps::BANS, List::Bans)?,
            allowed: PrefixTable::open(program, maps::ALLOWED, List::Allowed)?,
            throttled: PrefixTable::open(program, maps::THROTTLED, List::Throttled)?,
            limits: LimitTables::open(program)?,
            buckets: Arc::new(Buckets::open(program)?),
            verified: Arc::new(VerifiedSources::open(program)?),
            counters: Counters::open(program)?,
            owners: Owners::new(key),
        };
        // New maps are empty, and their hints with them: megabytes that need not be touched.
        if adopted || !tables.are_empty() {
            tables.rebuild_hints();
        }
        let netlink = Netlink::connect()?;
        Ok((programs, upkeep, tables, netlink))
    }

    /// Whether an earlier daemon's bans and buckets were adopted.
    pub fn adopted(&self) -> bool {
        self.adopted
    }

    /// The ring buffer of events; it can be taken once.
    pub fn take_events(&mut self) -> Result<RingBuf<MapData>, DataplaneError> {
        let ring = program::take_map(&mut self.programs.direct, maps::EVENTS)?;
        self.events = Some(Positions::of(&ring)?);
        Ok(ring)
    }

    /// Bytes in the ring buffer of events that were not read yet, with the heads of records.
    pub fn unread_events(&self) -> u64 {
        self.events.as_ref().map_or(0, Positions::unread_bytes)
    }

    /// The program.
    pub fn program_mut(&mut self) -> &mut Ebpf {
        &mut self.programs.direct
    }

    /// What was loaded of it, each with a log of its own.
    pub fn programs_mut(&mut self) -> impl Iterator<Item = &mut Ebpf> {
        self.programs.each_mut()
    }

    /// Finds every interface named and makes sure that it can be attached to. Nothing is
    /// changed yet: what can fail is to fail here.
    pub async fn find_interfaces(
        &self,
        names: &[String],
        how: How,
    ) -> Result<Vec<Interface>, DataplaneError> {
        let mut found = BTreeMap::new();
        for name in names {
            let interface = self.netlink.interface(name).await?;
            attach::check_usable(&self.pins, &interface, how)?;
            found.insert(interface.index, interface);
        }
        Ok(found.into_values().collect())
    }

    /// Attaches to interfaces that came back and lets go of those that went; whether there
    /// was any. To be called whenever [`links::NetlinkChanges`] says so.
    pub async fn follow_links(&mut self) -> Result<bool, DataplaneError> {
        // What comes back is to be pinned, too.
        self.upkeep.keep(&mut self.pins, &mut self.protected);
        let packets = self.tables.counters.packets_mut();
        packets.settle()?;
        self.protected
            .follow(&mut self.programs, &self.pins, &self.netlink, packets)
            .await
    }

    /// Attaches to more interfaces that [`Dataplane::find_interfaces`] found: to all of them or,
    /// if one refuses, to none.
    pub fn attach_more(
        &mut self,
        interfaces: &[Interface],
        how: How,
        access: &mut Access,
    ) -> Result<(), DataplaneError> {
        let attached = self.attach(interfaces, how, access);
        if attached.is_err() {
            self.detach_again(interfaces, access);
        }
        attached
    }

    /// Undoes [`Dataplane::attach_more`].
    pub fn detach_again(&mut self, interfaces: &[Interface], access: &mut Access) {
        for interface in interfaces {
            if let Err(error) = self.detach(&interface.name, access) {
                tracing::error!(interface = interface.name, "{error}");
            }
        }
    }

    /// Puts limits in force in place of what was, all at once; `throttled` are throttled by them.
    pub fn set_limits(
        &mut self,
        limits: &[LimitConfig],
        observe: bool,
        throttled: &Throttled,
    ) -> Result<(), DataplaneError> {
        let Tables {
            hints,
            throttled: table,
            limits: tables,
            buckets,
            ..
        } = &mut self.tables;
        tables.apply(limits, observe, buckets, |bank| {
            throttles::prepare(table, hints, throttled, limits, bank)
        })
    }

    /// Has the program drop nothing from the next packet on, or drop again.
    pub fn set_observe(&mut self, observe: bool) -> Result<(), DataplaneError> {
        self.tables.limits.set_observe(observe)
    }

    /// Attaches to interfaces that [`Dataplane::find_interfaces`] found and puts limits in force in
    /// place of what was. [`Dataplane::abandon`] can still undo it.
    pub fn protect(
        &mut self,
        interfaces: &[Interface],
        how: How,
        limits: &[LimitConfig],
        observe: bool,
        throttled: &Throttled,
    ) -> Result<(), DataplaneError> {
        // Maps that a program reads keep their limits until nothing else can fail. Fresh ones have
        // theirs before the first packet: the program may replace one that has limits, too.
        if !self.adopted {
            self.set_limits(limits, observe, throttled)?;
        }
        self.attach(interfaces, how, &mut Access::patient())?;
        if self.adopted {
            self.set_limits(limits, observe, throttled)?;
        }
        Ok(())
    }

    /// Clears away what earlier daemons left that this one does not go on with: the last step of a
    /// start, when nothing can fail any more.
    pub fn settle(&mut self) {
        self.protected.settle(&self.pins);
        self.packets_mut().forget_others();
    }

    fn attach(
        &mut self,
        interfaces: &[Interface],
        how: How,
        access: &mut Access,
    ) -> Result<(), DataplaneError> {
        let packets = self.tables.counters.packets_mut();
        self.protected.attach(
            &mut self.programs,
            &self.pins,
            packets,
            interfaces,
            how,
            access,
        )
    }

    /// The interfaces: those attached to and those that should be.
    pub fn protected(&self) -> &Protected {
        &self.protected
    }

    /// Gives up one interface; `false` if it was neither attached to nor waited for. An error says
    /// why the program is still on it.
    pub fn detach(&mut self, interface: &str, access: &mut Access) -> Result<bool, DataplaneError> {
        let packets = self.tables.counters.packets_mut();
        self.protected.detach(interface, packets, access)
    }

    /// Gives up a start that failed: what this start made is taken back, what an earlier
    /// daemon left stays as it is.
    pub fn abandon(mut self) {
        let mut access = Access::patient();
        for attachment in self.protected.take_attachments() {
            if let Err(error) = attachment.take_back(&mut access) {
                tracing::error!("{error}");
            }
        }
        if !self.adopted {
            self.pins.remove_own();
        }
    }

    /// The folder of the pins.
    pub fn pin_dir(&self) -> &Path {
        self.pins.base()
    }

    /// How it stands with the pins.
    pub fn upkeep(&self) -> &Upkeep {
        &self.upkeep
    }

    /// Leaves everything as it is: pinned links keep the program on its interfaces.
    pub fn leave(mut self) {
        self.upkeep.keep(&mut self.pins, &mut self.protected);
        for attachment in self.protected.take_attachments() {
            attachment.leave();
        }
    }

    /// Detaches from everything and leaves no pin behind. An error says which program is still on its
    /// interface, and why, if one is; the others are gone.
    pub fn shut_down(mut self) -> Result<(), DataplaneError> {
        let mut access = Access::patient();
        let mut detached = Ok(());
        let mut attachments = self.protected.take_attachments();
        // What nobody can be in the way of comes first.
        attachments.sort_by_key(attach::Attachment::is_component);
        for attachment in attachments {
            if let Err(kept) = attachment.detach(&mut access) {
                let (_, error) = *kept;
                if detached.is_err() {
                    tracing::error!("{error}");
                } else {
                    detached = Err(error);
                }
            }
        }
        self.pins.remove_all();
        detached
    }

    /// The ban table with what it needs to be changed.
    pub fn bans(&mut self) -> (&mut PrefixTable<Ban>, &mut Hints) {
        (&mut self.tables.bans, &mut self.tables.hints)
    }

    /// The allow table with what it needs to be changed.
    pub fn allowed(&mut self) -> (&mut PrefixTable<u64>, &mut Hints) {
        (&mut self.tables.allowed, &mut self.tables.hints)
    }

    /// The table of who is throttled with what it needs to be changed, and the limits in force.
    pub fn throttled(&mut self) -> (&mut PrefixTable<Throttle>, &mut Hints, &LimitTables) {
        let Tables {
            throttled,
            hints,
            limits,
            ..
        } = &mut self.tables;
        (throttled, hints, limits)
    }

    /// The counters.
    pub fn counters(&self) -> &Counters {
        &self.tables.counters
    }

    /// What became of packets, to be changed.
    pub fn packets_mut(&mut self) -> &mut PacketCounters {
        self.tables.counters.packets_mut()
    }

    /// The limits that are in force.
    pub fn limits(&self) -> &LimitTables {
        &self.tables.limits
    }

    /// The bucket table.
    pub fn buckets(&self) -> &Arc<Buckets> {
        &self.tables.buckets
    }

    /// Whose bucket lies where in it.
    pub fn bucket_owners(&self) -> Owners {
        self.tables.owners
    }

    /// The table of verified sources.
    pub fn verified(&self) -> &Arc<VerifiedSources> {
        &self.tables.verified
    }
}

/// The kernel's monotonic clock, as the program reads it.
pub fn kernel_now() -> KernelTime {
    // CLOCK_MONOTONIC cannot fail on Linux; if it did, 0 makes nothing expire early.
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC)
        .map(|time| KernelTime(u64::try_from(Duration::from(time).as_nanos()).unwrap_or(u64::MAX)))
        .unwrap_or_default()
}

/// The wall-clock time of a kernel time, as the clocks stand now.
pub fn wall_clock(time: KernelTime) -> SystemTime {
    let (now, wall) = (kernel_now(), SystemTime::now());
    let ahead = Duration::from_nanos(time.since_ns(now));
    let behind = Duration::from_nanos(now.since_ns(time));
    wall.checked_add(ahead)
        .and_then(|wall| wall.checked_sub(behind))
        .unwrap_or(wall)
}
