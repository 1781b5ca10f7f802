//! The slots, and calling what is in them one after the other.
//!
//! A slot is a global function, which the kernel lets another program take the place of
//! (`BPF_PROG_TYPE_EXT`). The configuration is known and frozen before the program is loaded, so
//! the verifier removes the calls of slots that it does not use.

use core::ptr;

use abuser_common::dispatcher::{Config, EMPTY_SLOT, MAX_COMPONENTS};
use aya_ebpf::{EbpfContext as _, bindings::xdp_action, bindings::xdp_md, programs::XdpContext};

/// Written by whoever loads the program.
#[unsafe(no_mangle)]
static CONFIG: Config = Config::EMPTY;

/// Makes the slots, whose names are the protocol's.
macro_rules! slots {
    ($($number:literal $slot:ident)*) => {
        $(
            #[unsafe(no_mangle)]
            #[inline(never)]
            extern "C" fn $slot(ctx: *mut xdp_md) -> u32 {
                if ctx.is_null() {
                    return xdp_action::XDP_ABORTED;
                }
                empty($number)
            }
        )*

        /// Calls the component in each slot until one seals the packet's fate.
        #[inline(always)]
        pub(crate) fn run(ctx: &XdpContext) -> u32 {
            let packet = ctx.as_ptr().cast::<xdp_md>();
            let components = usize::from(read(&raw const CONFIG.components));
            const { assert!([$($number),*].len() == MAX_COMPONENTS) };
            $(
                if components <= $number {
                    return xdp_action::XDP_PASS;
                }
                let action = $slot(packet);
                let goes_on = read(&raw const CONFIG.chain_call_actions[$number]);
                if goes_on & 1_u32.wrapping_shl(action) == 0 {
                    return action;
                }
            )*
            xdp_action::XDP_PASS
        }
    };
}

slots! {
    0 prog0
    1 prog1
    2 prog2
    3 prog3
    4 prog4
    5 prog5
    6 prog6
    7 prog7
    8 prog8
    9 prog9
}

/// What a slot returns that nothing is in. Neither the compiler, which would call none whose
/// answer it knows, nor the linker, which would make one of functions that are the same, may
/// see that it is always the same.
#[inline(always)]
fn empty(number: u32) -> u32 {
    let answer = [EMPTY_SLOT, number];
    let _number = read(&raw const answer[1]);
    read(&raw const answer[0])
}

/// Reads what the compiler must not take for the constant that it sees.
#[inline(always)]
fn read<T: Copy>(value: *const T) -> T {
    // SAFETY: the caller hands over the address of a value that it borrows, as `&raw` makes it.
    unsafe { ptr::read_volatile(value) }
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// Tells the kernel which helpers the program may call.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
