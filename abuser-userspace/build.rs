//! How the binary is linked for tests.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // At a fixed address: unoptimised code has 200,000 pointers to relocate whenever it is started, which the tests
    // do some ten thousand times, and in emulators. What is released stays position-independent.
    if std::env::var("PROFILE").as_deref() == Ok("debug") {
        println!("cargo::rustc-link-arg-bins=-no-pie");
    }
}
