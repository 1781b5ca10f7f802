//! What becomes of the linked object before it is committed.
//!
//! DWARF is what BTF is made from, but neither the kernel nor aya reads it, and it is most
//! of the file. `.BTF` and `.BTF.ext` stay: maps and the verifier's messages need them.

use anyhow::{Context as _, Result};
use object::{
    build::elf::{Builder, SectionData},
    elf::SHT_STRTAB,
};

/// An object without DWARF.
#[derive(Debug)]
pub(crate) struct Stripped {
    pub(crate) bytes: Vec<u8>,
    pub(crate) sections: usize,
}

/// Drops the sections of debug information and their relocations.
pub(crate) fn strip_dwarf(linked: &[u8]) -> Result<Stripped> {
    let mut builder = Builder::read(linked).context("read the linked object as ELF")?;
    for section in &mut builder.sections {
        let name = section.name.as_slice();
        section.delete = is_dwarf(name.strip_prefix(b".rel").unwrap_or(name));
    }
    // Deleting a section leaves its symbol; nothing else names it.
    builder.delete_orphan_symbols();
    builder.delete_orphan_relocations();
    add_section_names(&mut builder);
    let sections = builder.sections.count();
    let mut bytes = Vec::new();
    builder
        .write(&mut bytes)
        .context("write the object without its debug sections")?;
    Ok(Stripped { bytes, sections })
}

/// LLVM keeps the names of sections and symbols in one table; the builder wants two.
fn add_section_names(builder: &mut Builder<'_>) {
    if builder
        .sections
        .iter()
        .any(|section| matches!(section.data, SectionData::SectionString))
    {
        return;
    }
    let names = builder.sections.add();
    names.name = b".shstrtab".as_slice().into();
    names.sh_type = SHT_STRTAB;
    names.sh_addralign = 1;
    names.data = SectionData::SectionString;
}

fn is_dwarf(section: &[u8]) -> bool {
    section.starts_with(b".debug_")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object_with(sections: &[&str]) -> Vec<u8> {
        let mut builder = Builder::new(object::Endianness::Little, true);
        builder.header.e_type = object::elf::ET_REL;
        builder.header.e_machine = object::elf::EM_BPF;
        for name in sections {
            let section = builder.sections.add();
            section.name = name.as_bytes().into();
            section.sh_type = object::elf::SHT_PROGBITS;
            section.data = SectionData::Data(b"data".as_slice().into());
        }
        add_section_names(&mut builder);
        let mut bytes = Vec::new();
        builder.write(&mut bytes).expect("a valid object");
        bytes
    }

    #[test]
    fn dwarf_goes_and_btf_stays() {
        let linked = object_with(&[
            "xdp.frags",
            ".debug_info",
            ".debug_line",
            ".BTF",
            ".BTF.ext",
        ]);
        let stripped = strip_dwarf(&linked).expect("a valid object");
        assert_eq!(
            stripped.bytes,
            object_with(&["xdp.frags", ".BTF", ".BTF.ext"])
        );
        assert_eq!(stripped.sections, 4);
    }

    #[test]
    fn bytes_that_are_no_object_are_an_error() {
        assert!(strip_dwarf(b"#!/bin/sh").is_err());
    }
}
