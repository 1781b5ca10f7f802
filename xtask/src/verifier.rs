//! What the running kernel's verifier says of a built object.

use anyhow::{Context as _, Result};
use aya::{EbpfLoader, VerifierLogLevel, programs::Xdp};

/// How many instructions the verifier walks through before it gives up (Linux 5.2).
const LIMIT: u32 = 1_000_000;

/// One program and what it cost to verify.
#[derive(Debug)]
pub(crate) struct Verified {
    /// The program's name.
    pub(crate) program: String,
    /// Instructions that the verifier processed; `None` before Linux 5.16.
    pub(crate) instructions: Option<u32>,
}

/// Loads every program of an object, lets go of it, and says what each took to verify, by
/// name.
///
/// Nothing is attached or pinned.
pub(crate) fn verify(object: &[u8]) -> Result<Vec<Verified>> {
    let mut loaded = EbpfLoader::new()
        .verifier_log_level(VerifierLogLevel::STATS)
        .load(object)
        .context("load the object's maps into the kernel")?;
    let mut verified = loaded
        .programs_mut()
        .map(|(name, program)| {
            let program: &mut Xdp = program
                .try_into()
                .with_context(|| format!("take {name} for an XDP program"))?;
            program
                .load()
                .with_context(|| format!("load the program {name} into the kernel"))?;
            let info = program
                .info()
                .with_context(|| format!("ask the kernel about the program {name}"))?;
            Ok(Verified {
                program: name.to_owned(),
                instructions: info.verified_instruction_count(),
            })
        })
        .collect::<Result<Vec<_>>>()?;
    verified.sort_by(|one, other| one.program.cmp(&other.program));
    Ok(verified)
}

impl std::fmt::Display for Verified {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            program,
            instructions,
        } = self;
        match instructions {
            Some(count) => write!(
                f,
                "the verifier took {program} in {count} steps, of {LIMIT} that it allows"
            ),
            None => write!(
                f,
                "the verifier took {program}; this kernel does not tell in how many steps, Linux 5.16 does"
            ),
        }
    }
}
