//! The record beside the committed object: which tools made it.
//!
//! Two builds of one source agree byte for byte if the tools are the same, and cannot be
//! expected to otherwise. The record tells the two cases apart.

use std::fs;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{build_ebpf::CPU, linker, objects::Object, toolchain::Toolchain, workspace::Workspace};

/// What is written beside an object, as `abuser.bpf.toml` beside `abuser.bpf.o`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Record {
    /// The first line of `rustc -vV`.
    pub(crate) rustc: String,
    pub(crate) rustc_commit: String,
    /// The bindings of the helpers depend on the architecture that builds.
    pub(crate) host: String,
    pub(crate) llvm: String,
    pub(crate) bpf_linker: String,
    /// The file name of the linker's LLVM.
    pub(crate) bpf_linker_llvm: String,
    pub(crate) target_cpu: String,
    /// Of the object.
    pub(crate) sha256: String,
}

impl Record {
    pub(crate) fn new(toolchain: &Toolchain, object: &[u8]) -> Self {
        let version = &toolchain.compiler.version;
        Self {
            rustc: version.line.clone(),
            rustc_commit: version.commit_hash.clone(),
            host: version.host.clone(),
            llvm: version.llvm.to_string(),
            bpf_linker: linker::VERSION.to_owned(),
            bpf_linker_llvm: toolchain.linker.llvm.clone(),
            target_cpu: CPU.to_owned(),
            sha256: sha256(object),
        }
    }

    /// The record beside a committed object.
    pub(crate) fn read(workspace: &Workspace, object: &Object) -> Result<Self> {
        let file = object.record(workspace);
        let text = fs::read_to_string(&file).with_context(|| {
            format!(
                "read the record of the committed object, {}; `cargo xtask build-ebpf` makes both",
                file.display()
            )
        })?;
        toml::from_str(&text).with_context(|| {
            format!(
                "parse {}; `cargo xtask build-ebpf` makes it anew",
                file.display()
            )
        })
    }

    /// Writes it beside the object.
    pub(crate) fn write(&self, workspace: &Workspace, object: &Object) -> Result<()> {
        let file = object.record(workspace);
        let text = toml::to_string(self).context("write the toolchain record as TOML")?;
        let preamble = format!(
            "# Made by `cargo xtask build-ebpf` together with {}: the tools that built it.\n\
             # `cargo xtask build-ebpf --check` rebuilds and compares.\n",
            object.file_name()
        );
        fs::write(&file, preamble + &text).with_context(|| format!("write {}", file.display()))
    }

    /// What differs between the tools of two records; empty if they are the same.
    pub(crate) fn tool_differences(&self, other: &Self) -> Vec<String> {
        let Self {
            rustc,
            rustc_commit,
            host,
            llvm,
            bpf_linker,
            bpf_linker_llvm,
            target_cpu,
            sha256: _,
        } = self;
        [
            ("rustc", rustc, &other.rustc),
            ("rustc commit", rustc_commit, &other.rustc_commit),
            ("host", host, &other.host),
            ("LLVM", llvm, &other.llvm),
            ("bpf-linker", bpf_linker, &other.bpf_linker),
            ("bpf-linker's LLVM", bpf_linker_llvm, &other.bpf_linker_llvm),
            ("target-cpu", target_cpu, &other.target_cpu),
        ]
        .into_iter()
        .filter(|(_, mine, theirs)| mine != theirs)
        .map(|(name, mine, theirs)| format!("{name}: `{mine}`, here `{theirs}`"))
        .collect()
    }
}

/// The SHA-256 of some bytes, in hexadecimal.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_the_same_tools_differ_in_nothing_but_the_object() {
        let one = Record {
            rustc: "rustc 1.96.0".into(),
            sha256: "a".into(),
            ..Record::default()
        };
        let other = Record {
            sha256: "b".into(),
            ..one.clone()
        };
        assert_eq!(one.tool_differences(&other), Vec::<String>::new());
    }

    #[test]
    fn a_differing_tool_is_named_with_both_values() {
        let one = Record {
            llvm: "22.1.8".into(),
            ..Record::default()
        };
        let other = Record {
            llvm: "23.1.0".into(),
            ..Record::default()
        };
        assert_eq!(
            one.tool_differences(&other),
            ["LLVM: `22.1.8`, here `23.1.0`"]
        );
    }

    #[test]
    fn a_record_survives_the_way_through_toml() {
        let record = Record {
            rustc: "rustc 1.96.0".into(),
            ..Record::default()
        };
        let text = toml::to_string(&record).expect("a record is TOML");
        assert!(text.contains("rustc-commit = "), "{text}");
        assert_eq!(
            toml::from_str::<Record>(&text).expect("just written"),
            record
        );
    }

    #[test]
    fn a_digest_is_the_one_that_sha256sum_prints() {
        assert_eq!(
            sha256(b""),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
    }
}
