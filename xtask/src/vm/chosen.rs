//! Which tests run in guests: the one place where that is decided.
//!
//! Each start of the daemon takes a second or two in an emulator, and each command a third of one, whatever the
//! test then does, so not all of the two hundred tests can run with two kernels within five minutes. Those here use, between
//! them, all that abuser uses of a kernel; what they are about stands beside them. Those that are ignored elsewhere, because they
//! only run in guests, come on top of them, of every binary: libxdp's dispatcher with programs of the type EXT, and the like.
//! Some of either kind, which are about the daemon rather than the kernel, run with one of them only ([`WITH_ONE`]).
//! Left out are tests that
//!
//! - depend on the same parts of the kernel as one that is here, and differ in what the program decides or the
//!   daemon does, which is the same code with any kernel;
//! - measure time or rates (`rates`, `exactness`, floods that are cut to a rate), which an emulator does not keep;
//! - wait for what the daemon looks at from time to time (addresses and routes of this host);
//! - need many starts or hundreds of thousands of packets (ten restarts, starts killed at any moment).
//!
//! `cargo xtask vm --all` runs those, too, and all with each kernel.

use std::collections::BTreeSet;

/// Tests that run in guests.
pub(super) struct Chosen {
    /// A test, or all in a module: what its name begins with.
    pub(super) tests: &'static str,
    /// What of the kernel they are about.
    #[expect(dead_code, reason = "for whoever reads the list")]
    pub(super) about: &'static str,
}

impl Chosen {
    pub(super) fn is_of(&self, name: &str) -> bool {
        name.strip_prefix(self.tests)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    }
}

/// Whether a test that also runs elsewhere does so in guests, by its name after that of its binary.
pub(super) fn is_chosen(name: &str) -> bool {
    CHOSEN.iter().any(|chosen| chosen.is_of(name))
}

/// Whether a test runs with this kernel, if it runs in guests at all.
pub(super) fn runs_with(name: &str, kernel: &str) -> bool {
    WITH_ONE
        .iter()
        .find(|(test, _)| name == *test)
        .is_none_or(|(_, only)| *only == kernel)
}

/// Those of the names here that no test has.
pub(super) fn missing(names: &BTreeSet<String>) -> impl Iterator<Item = &'static str> {
    let chosen = CHOSEN
        .iter()
        .filter(|entry| !names.iter().any(|name| entry.is_of(name)))
        .map(|entry| entry.tests);
    let with_one = WITH_ONE
        .iter()
        .map(|(test, _)| *test)
        .filter(|test| !names.contains(*test));
    chosen.chain(with_one)
}

/// Tests that are in guests for what they do to the machine, because the programs that they need are only there, or for
/// parts of the kernel that other tests go through with both; and the only kernel that each runs with.
const WITH_ONE: &[(&str, &str)] = &[
    (
        "netns::dispatcher::abuser_comes_and_goes_beside_xdp_filter_and_nothing_lapses",
        "6.1",
    ),
    (
        "netns::dispatcher::others_come_and_go_beside_abuser_and_no_ban_lapses",
        "6.12",
    ),
    (
        "netns::interfaces::a_renamed_one_takes_its_counters_along_and_a_new_one_of_its_name_has_its_own",
        "6.12",
    ),
    (
        "netns::lifecycle::a_killed_daemon_leaves_the_filter_on_and_the_next_one_adopts_it_without_a_gap",
        "6.12",
    ),
    (
        "netns::verified::a_client_whose_connection_goes_over_a_packet_limit_is_banned",
        "6.1",
    ),
    (
        "netns::lifecycle::a_restart_in_another_mode_replaces_what_a_killed_daemon_left",
        "6.1",
    ),
    (
        "netns::clock::a_clock_that_is_set_while_the_daemon_runs_changes_no_ban",
        "6.1",
    ),
    (
        "netns::clock::a_clock_that_is_set_while_no_daemon_runs_changes_no_ban",
        "6.12",
    ),
    (
        "netns::clock::offences_on_both_sides_of_a_step_are_counted_and_those_before_findtime_are_not",
        "6.12",
    ),
    (
        "netns::dispatcher::a_start_that_fails_puts_back_the_component_that_it_replaced",
        "6.1",
    ),
    (
        "netns::dispatcher::who_is_thrown_out_comes_back_and_the_dead_are_taken_out_alone",
        "6.12",
    ),
    (
        "netns::dispatcher::leaving::a_component_that_cannot_be_taken_out_is_told_with_what_to_do",
        "6.1",
    ),
    (
        "netns::dispatcher::leaving::a_dispatcher_that_is_switched_off_or_vanishes_leaves_no_pin_of_abuser",
        "6.12",
    ),
    (
        "netns::dispatcher::leaving::the_engine_goes_on_while_somebody_else_changes_dispatchers",
        "6.1",
    ),
    (
        "netns::attach::a_foreign_program_is_refused_by_name_and_id_and_left_in_place",
        "6.1",
    ),
    (
        "netns::bans::banning_many_and_removing_all_leaves_nobody_banned",
        "6.12",
    ),
    (
        "netns::reload::bans_and_the_buckets_of_unchanged_limits_survive_a_reload",
        "6.1",
    ),
    (
        "netns::vanish::one_that_moves_to_another_namespace_is_let_go_and_filtered_again_when_it_is_back",
        "6.12",
    ),
    (
        "netns::dispatcher::the_capabilities_of_the_service_with_its_drop_in_are_enough_to_join",
        "6.12",
    ),
];

const fn chosen(tests: &'static str, about: &'static str) -> Chosen {
    Chosen { tests, about }
}

const CHOSEN: &[Chosen] = &[
    chosen(
        "testrun::differential::half_a_million_random_packets_fare_as_decide_says",
        "verifier and just-in-time compiler, every map, sockets: all verdicts on random packets (fewer of them here)",
    ),
    chosen(
        "testrun::fixtures::jumbo::a_transport_past_the_first_buffer_is_hidden",
        "packets in several buffers",
    ),
    chosen(
        "testrun::fixtures::hidden::a_syn_in_two_fragments_is_charged_as_a_connection",
        "global functions that walk headers",
    ),
    chosen(
        "testrun::fixtures::throttles::throttles_of_a_source_and_of_the_prefixes_around_it_add_up",
        "look-ups in hash maps without preallocation",
    ),
    chosen(
        "testrun::buckets::a_full_set_keeps_those_who_sent_most",
        "compare-and-swap of words in an array that the daemon maps",
    ),
    chosen(
        "testrun::events::an_ipv6_source_is_named_in_full_and_charged_by_its_64",
        "ring buffer",
    ),
    chosen(
        "testrun::events::a_ban_counts_its_hits_and_its_events_carry_its_number",
        "atomic additions to an entry of a hash map",
    ),
    chosen(
        "testrun::prefixes::entries_that_do_not_all_fit_change_nothing",
        "batches of a hash map, and where they stop",
    ),
    chosen(
        "testrun::interfaces::the_ports_of_an_interface_count_for_it_for_as_long_as_they_are",
        "per-CPU arrays",
    ),
    chosen(
        "netns::attach::auto_mode_uses_the_driver_of_a_veth",
        "native mode",
    ),
    chosen(
        "netns::attach::auto_mode_on_lo_falls_back_to_generic_says_why_and_limits",
        "generic mode, and how a driver refuses",
    ),
    chosen(
        "netns::attach::a_foreign_program_is_refused_by_name_and_id_and_left_in_place",
        "what the kernel tells of programs",
    ),
    chosen(
        "netns::mtu::the_driver_of_a_veth_filters_packets_of_the_largest_mtu",
        "native mode with packets in several buffers",
    ),
    chosen(
        "netns::bans::a_ban_ends_by_itself_in_the_kernel_while_the_daemon_is_stopped",
        "the kernel's clock of ticks",
    ),
    chosen(
        "netns::bans::banning_many_and_removing_all_leaves_nobody_banned",
        "batches of a hash map, while packets come",
    ),
    chosen(
        "netns::interfaces::a_renamed_one_takes_its_counters_along_and_a_new_one_of_its_name_has_its_own",
        "netlink: interfaces renamed and made",
    ),
    chosen(
        "netns::vanish::one_that_vanishes_is_reported_and_one_that_returns_is_filtered_again",
        "links of interfaces that go",
    ),
    chosen(
        "netns::vanish::one_that_moves_to_another_namespace_is_let_go_and_filtered_again_when_it_is_back",
        "links of interfaces that change namespaces",
    ),
    chosen(
        "netns::lifecycle::a_killed_daemon_leaves_the_filter_on_and_the_next_one_adopts_it_without_a_gap",
        "pinned links and maps, and a link's program replaced",
    ),
    chosen(
        "netns::lifecycle::a_restart_in_another_mode_replaces_what_a_killed_daemon_left",
        "a link given up for one in another mode",
    ),
    chosen(
        "netns::reload::bans_and_the_buckets_of_unchanged_limits_survive_a_reload",
        "another bank of limits under traffic",
    ),
    chosen(
        "netns::verified::a_client_whose_connection_goes_over_a_packet_limit_is_banned",
        "look-ups of the kernel's sockets",
    ),
];
