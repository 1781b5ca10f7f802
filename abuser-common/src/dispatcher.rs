//! The dispatcher protocol of libxdp, version 2: what several XDP programs on one interface
//! agree on.
//!
//! An interface has one XDP program. The dispatcher is one that does nothing but call others,
//! its components, one after the other. Whoever adds or removes a component builds a new dispatcher
//! and puts it in the place of the old one. The protocol is described in xdp-tools,
//! `lib/libxdp/protocol.org`; what is here is its format to the byte.

/// Components at most.
pub const MAX_COMPONENTS: usize = 10;
/// What tells a dispatcher's configuration from anything else.
pub const MAGIC: u8 = 236;
/// The version of the protocol that is spoken here.
pub const VERSION: u8 = 2;
/// What an empty slot returns, besides the actions of XDP; going on after it is part of every
/// component's [`Config::chain_call_actions`].
pub const EMPTY_SLOT: u32 = 31;
/// Of [`Config::program_flags`]: the component knows that a packet may lie in several buffers
/// (`BPF_F_XDP_HAS_FRAGS`).
pub const HAS_FRAGS: u32 = 1 << 5;

/// The dispatcher's name in the kernel, by which all find it.
pub const PROGRAM: &str = "xdp_dispatcher";
/// The name of the configuration in the dispatcher's object.
pub const CONFIG: &str = "CONFIG";

/// The one value in the dispatcher's read-only data: which components there are. Only as
/// many entries of each array count as there are components.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// [`MAGIC`].
    pub magic: u8,
    /// [`VERSION`].
    pub version: u8,
    /// How many components there are.
    pub components: u8,
    /// 1 if the dispatcher itself was loaded for packets in several buffers, which takes
    /// [`HAS_FRAGS`] of every component.
    pub is_frags: u8,
    /// For each component, a bit for each action (`1 << XDP_PASS`) after which the next one is
    /// called; after others the packet's fate is sealed.
    pub chain_call_actions: [u32; MAX_COMPONENTS],
    /// Whoever has the lower number comes first.
    pub run_priorities: [u32; MAX_COMPONENTS],
    /// [`HAS_FRAGS`] or 0.
    pub program_flags: [u32; MAX_COMPONENTS],
}

const _: () = assert!(size_of::<Config>() == 124);

impl Config {
    /// A dispatcher without components.
    pub const EMPTY: Self = Self {
        magic: MAGIC,
        version: VERSION,
        components: 0,
        is_frags: 0,
        chain_call_actions: [0; MAX_COMPONENTS],
        run_priorities: [0; MAX_COMPONENTS],
        program_flags: [0; MAX_COMPONENTS],
    };
}

#[cfg(feature = "user")]
// SAFETY: `Config` is `repr(C)`, has no padding, and any bytes are one.
unsafe impl aya::Pod for Config {}
