//! System calls that a running daemon never makes, refused by seccomp.
//!
//! A list of what is refused, not of what is allowed: libraries and kernels come with new calls, and a
//! daemon that fails in its hundredth hour because its C library has begun to use one protects
//! nobody. Refused are those that bring code into the kernel, look into other processes, change
//! the machine or its mounts, or have been the way into kernels again and again. They fail with
//! EPERM, as they do without privilege. systemd's unit has a list of what is allowed besides.
//!
//! Threads and programs have to be made, in new namespaces not. `clone` says which in an argument, and those with a new
//! namespace are refused. `clone3` says it in memory, where no filter can look, so there is no such call: libraries
//! then take `clone`.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

/// They, on every architecture.
const REFUSED: &[libc::c_long] = &[
    // Other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    // Code for the kernel; `bpf` stays, for interfaces that come later.
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    // Mounts and namespaces.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_unshare,
    libc::SYS_setns,
    // With CAP_DAC_READ_SEARCH, any file of any mount by its inode.
    libc::SYS_open_by_handle_at,
    // The machine.
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_adjtimex,
    libc::SYS_clock_adjtime,
    libc::SYS_syslog,
    libc::SYS_vhangup,
    // Large parts of the kernel that are of no use here.
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_userfaultfd,
    libc::SYS_perf_event_open,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_fanotify_init,
    libc::SYS_personality,
];

/// They, on this one.
#[cfg(target_arch = "x86_64")]
const REFUSED_HERE: &[libc::c_long] = &[libc::SYS_iopl, libc::SYS_ioperm, libc::SYS_modify_ldt];
#[cfg(not(target_arch = "x86_64"))]
const REFUSED_HERE: &[libc::c_long] = &[];

/// What `clone` makes besides a thread or a process if it has one of them.
const NAMESPACES: [libc::c_int; 7] = [
    libc::CLONE_NEWNS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
];

/// The numbers that one of them has: a kernel with the x32 ABI takes them with this bit, too.
#[cfg(target_arch = "x86_64")]
fn numbers(call: libc::c_long) -> impl Iterator<Item = libc::c_long> {
    const X32: libc::c_long = 0x4000_0000;
    // Those that have a number of their own there; `asm/unistd_x32.h` of Linux.
    let own = match call {
        libc::SYS_ptrace => Some(521),
        libc::SYS_kexec_load => Some(528),
        libc::SYS_process_vm_readv => Some(539),
        libc::SYS_process_vm_writev => Some(540),
        _ => None,
    };
    let x32 = [Some(call), own].into_iter().flatten();
    std::iter::once(call).chain(x32.map(|call| call | X32))
}
#[cfg(not(target_arch = "x86_64"))]
fn numbers(call: libc::c_long) -> impl Iterator<Item = libc::c_long> {
    std::iter::once(call)
}

/// Why they are not refused.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallsError {
    #[error("there is no filter for {0}")]
    Architecture(&'static str),
    #[error(transparent)]
    Filter(#[from] seccompiler::BackendError),
    #[error(transparent)]
    Kernel(#[from] seccompiler::Error),
}

/// Refuses them in all threads, and in what they run.
pub(super) fn refuse() -> Result<(), CallsError> {
    for program in programs()? {
        seccompiler::apply_filter_all_threads(&program)?;
    }
    Ok(())
}

/// What the kernel runs at each call: of several answers it takes the strictest.
fn programs() -> Result<[BpfProgram; 2], CallsError> {
    let refused = REFUSED.iter().chain(REFUSED_HERE);
    // No condition: whatever the arguments.
    let whole = refused.map(|call| (*call, Vec::new()));
    let with_namespaces = [(libc::SYS_clone, namespaces()?)];
    Ok([
        failing(libc::EPERM, whole.chain(with_namespaces))?,
        failing(libc::ENOSYS, [(libc::SYS_clone3, Vec::new())])?,
    ])
}

/// A program by which calls fail with an error, under the conditions that stand beside them.
fn failing(
    error: libc::c_int,
    calls: impl IntoIterator<Item = (libc::c_long, Vec<SeccompRule>)>,
) -> Result<BpfProgram, CallsError> {
    let architecture = std::env::consts::ARCH;
    let target = TargetArch::try_from(architecture);
    let target = target.map_err(|_unknown| CallsError::Architecture(architecture))?;
    let rules: BTreeMap<i64, _> = calls
        .into_iter()
        .flat_map(|(call, rules)| numbers(call).map(move |number| (number, rules.clone())))
        .collect();
    let action = SeccompAction::Errno(error.unsigned_abs());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, action, target)?;
    Ok(filter.try_into()?)
}

/// That `clone` is asked for a namespace: a rule for each, of which one is enough.
fn namespaces() -> Result<Vec<SeccompRule>, CallsError> {
    let rule = |flag: libc::c_int| {
        let flag = u64::from(flag.unsigned_abs());
        let is_set = SeccompCmpOp::MaskedEq(flag);
        let condition = SeccompCondition::new(0, SeccompCmpArgLen::Qword, is_set, flag)?;
        Ok(SeccompRule::new(vec![condition])?)
    };
    NAMESPACES.into_iter().map(rule).collect()
}

#[cfg(test)]
#[expect(unsafe_code, reason = "calls that the C library has no functions for")]
mod tests {
    use nix::errno::Errno;

    use super::*;

    /// What the kernel says to a call by its number, with arguments that mean nothing.
    fn answer(number: libc::c_long) -> Errno {
        let none = -1_i64;
        // SAFETY: a call that is refused does nothing; no other one takes these, which are no descriptor, no address
        // and no known flags.
        let returned = unsafe { libc::syscall(number, none, none, none, none, none, none) };
        assert_eq!(returned, -1, "call {number}");
        Errno::last()
    }

    /// [`refuse`] in this thread only.
    fn refuse_here() {
        for program in programs().unwrap() {
            seccompiler::apply_filter(&program).unwrap();
        }
    }

    #[test]
    fn namespaces_are_refused_whoever_is_asked_and_threads_and_programs_are_not() {
        let thread = std::thread::spawn(|| {
            refuse_here();
            for flag in NAMESPACES {
                for number in numbers(libc::SYS_clone) {
                    let flags = i64::from(flag | libc::SIGCHLD);
                    // SAFETY: it is refused; if it were not, the new process, a copy of this one, would end at once.
                    let returned = unsafe { libc::syscall(number, flags, 0, 0, 0, 0) };
                    if returned == 0 {
                        // SAFETY: this is the copy, which nobody waits for and nothing runs in.
                        unsafe { libc::_exit(0) };
                    }
                    assert_eq!((returned, Errno::last()), (-1, Errno::EPERM), "{flag:#x}");
                }
            }
            assert_eq!(answer(libc::SYS_clone3), Errno::ENOSYS);
            assert_eq!(std::thread::spawn(|| 7).join().unwrap(), 7);
            let run = std::process::Command::new("true").status().unwrap();
            assert!(run.success());
        });
        thread.join().unwrap();
    }

    #[test]
    fn calls_are_refused_by_each_of_their_numbers() {
        let thread = std::thread::spawn(|| {
            refuse_here();
            for call in [libc::SYS_process_vm_readv, libc::SYS_kcmp] {
                for number in numbers(call) {
                    assert_eq!(answer(number), Errno::EPERM, "{number:#x}");
                }
            }
        });
        thread.join().unwrap();
    }

    #[test]
    fn what_the_security_page_says_is_refused_is_refused() {
        // As docs/SECURITY.md has them.
        let other_processes = [
            libc::SYS_ptrace,
            libc::SYS_process_vm_readv,
            libc::SYS_process_vm_writev,
            libc::SYS_process_madvise,
            libc::SYS_pidfd_getfd,
        ];
        let modules_and_kexec = [
            libc::SYS_init_module,
            libc::SYS_finit_module,
            libc::SYS_delete_module,
            libc::SYS_kexec_load,
            libc::SYS_kexec_file_load,
        ];
        let mounts_and_namespaces = [
            libc::SYS_mount,
            libc::SYS_umount2,
            libc::SYS_pivot_root,
            libc::SYS_chroot,
            libc::SYS_move_mount,
            libc::SYS_open_tree,
            libc::SYS_fsopen,
            libc::SYS_fsconfig,
            libc::SYS_fsmount,
            libc::SYS_fspick,
            libc::SYS_mount_setattr,
            libc::SYS_unshare,
            libc::SYS_setns,
        ];
        let keys = [libc::SYS_add_key, libc::SYS_request_key, libc::SYS_keyctl];
        let large_parts = [
            libc::SYS_io_uring_setup,
            libc::SYS_io_uring_enter,
            libc::SYS_io_uring_register,
            libc::SYS_perf_event_open,
            libc::SYS_userfaultfd,
            libc::SYS_open_by_handle_at,
        ];
        let clocks_and_rebooting = [
            libc::SYS_settimeofday,
            libc::SYS_clock_settime,
            libc::SYS_adjtimex,
            libc::SYS_clock_adjtime,
            libc::SYS_reboot,
        ];
        let thread = std::thread::spawn(move || {
            refuse_here();
            for calls in [
                &other_processes[..],
                &modules_and_kexec,
                &mounts_and_namespaces,
                &keys,
                &large_parts,
                &clocks_and_rebooting,
            ] {
                for call in calls {
                    assert_eq!(answer(*call), Errno::EPERM, "call {call}");
                }
            }
        });
        thread.join().unwrap();
    }

    #[test]
    fn there_is_a_filter_for_this_architecture_and_no_call_is_listed_twice() {
        assert!(
            programs()
                .unwrap()
                .iter()
                .all(|program| !program.is_empty())
        );
        let mut listed: Vec<_> = REFUSED.iter().chain(REFUSED_HERE).collect();
        let count = listed.len();
        listed.sort_unstable();
        listed.dedup();
        assert_eq!(listed.len(), count);
    }
}
