//! The soak in short: all that an hour of it does, a few times.

use std::time::Duration;

/// Enough for each kind of restart. Growth takes longer to tell.
const TIME: Duration = Duration::from_secs(16);

#[test]
fn everything_at_once_breaks_no_promise_over_restarts() {
    testkit::require_root!();
    let report = abuser_bench::soak::run(TIME).unwrap_or_else(|error| panic!("{error:#}"));
    println!("{}", report.table);
    assert!(report.passed, "{}", report.table);
}
