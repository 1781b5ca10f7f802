//! What a process takes: memory, descriptors, threads, as `/proc` tells it.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result};

/// What the kernel names the mapping of a BPF map.
const BPF_MAP: &str = "anon_inode:bpf-map";

/// Ticks of a second in `/proc/PID/stat`: the same on every machine that runs Linux.
const USER_HZ: f64 = 100.0;

/// Memory of a process, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    /// All that is mapped and present.
    pub(crate) resident: u64,
    /// The part of it that is BPF maps: memory of the kernel, which is there as long as the map
    /// is, and counts here only because the process has looked at it.
    pub(crate) maps: u64,
}

impl Memory {
    /// What would not be there without the process.
    pub(crate) const fn own(self) -> u64 {
        self.resident - self.maps
    }
}

/// A process, by its number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Process(pub(crate) u32);

impl Process {
    /// Its memory now.
    pub(crate) fn memory(self) -> Result<Memory> {
        Ok(read_smaps(&self.read("smaps")?))
    }

    /// The most memory that was ever present since the start or [`Process::forget_peak`], in
    /// bytes; `None` if it is over.
    pub(crate) fn peak(self) -> Option<u64> {
        number_of(&self.read("status").ok()?, "VmHWM").map(|kib| kib * 1024)
    }

    /// Begins to look for the peak anew.
    pub(crate) fn forget_peak(self) -> Result<()> {
        let path = self.path("clear_refs");
        fs::write(&path, "5").with_context(|| format!("reset the peak by {}", path.display()))
    }

    /// How long it has kept CPUs busy, in seconds. It grows no less on a machine that others use,
    /// but less than the time does.
    pub(crate) fn cpu_seconds(self) -> Result<f64> {
        cpu_ticks(&self.read("stat")?)
            .map(|ticks| ticks / USER_HZ)
            .with_context(|| format!("{} is not as it should be", self.path("stat").display()))
    }

    /// How many threads it has.
    pub(crate) fn threads(self) -> Result<u64> {
        let status = self.read("status")?;
        number_of(&status, "Threads")
            .with_context(|| format!("{} names no threads", self.path("status").display()))
    }

    /// How many descriptors it has open.
    pub(crate) fn descriptors(self) -> Result<usize> {
        let path = self.path("fd");
        let open = fs::read_dir(&path).with_context(|| format!("list {}", path.display()))?;
        Ok(open.count())
    }

    fn read(self, file: &str) -> Result<String> {
        let path = self.path(file);
        fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
    }

    fn path(self, file: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{file}", self.0))
    }
}

/// User and system time in `/proc/PID/stat`: the 14th and 15th value, of which the second is a
/// name in brackets that may hold anything.
fn cpu_ticks(stat: &str) -> Option<f64> {
    let (_, values) = stat.rsplit_once(')')?;
    let mut times = values.split_whitespace().skip(11);
    let mut next = || times.next()?.parse::<f64>().ok();
    Some(next()? + next()?)
}

/// Sums up `/proc/PID/smaps`: for each mapping a line that says what it is, then lines `Key: value`.
fn read_smaps(text: &str) -> Memory {
    let mut memory = Memory::default();
    let mut of_map = false;
    for line in text.lines() {
        let first = line.split_whitespace().next().unwrap_or_default();
        if !first.ends_with(':') {
            of_map = line.trim_end().ends_with(BPF_MAP);
        } else if let Some(kib) = number_of(line, "Rss") {
            memory.resident += kib * 1024;
            memory.maps += if of_map { kib * 1024 } else { 0 };
        }
    }
    memory
}

/// The number behind a key of `/proc/PID/status` or a mapping.
fn number_of(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let value = line.strip_prefix(key)?.strip_prefix(':')?;
        value.split_whitespace().next()?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_of_the_kernel_are_told_apart_from_a_process_s_own_memory() {
        let smaps = "\
55d0c0a00000-55d0c0b00000 r-xp 00000000 fe:01 1234                       /usr/bin/abuser
Size:               1024 kB
Rss:                 700 kB
Pss:                 700 kB
VmFlags: rd ex mr mw me
7f0000000000-7f0001000000 rw-s 00000000 00:0e 7                          anon_inode:bpf-map
Size:              16384 kB
Rss:               16000 kB
VmFlags: rd wr sh mr mw me ms
7f0002000000-7f0002100000 rw-p 00000000 00:00 0
Rss:                 100 kB
";
        let memory = read_smaps(smaps);
        assert_eq!(memory.resident, 16_800 * 1024);
        assert_eq!(memory.maps, 16_000 * 1024);
        assert_eq!(memory.own(), 800 * 1024);
    }

    #[test]
    fn a_number_is_found_by_its_whole_key() {
        let status = "Name:\tabuser\nVmHWM:\t  2048 kB\nThreads:\t7\n";
        assert_eq!(number_of(status, "VmHWM"), Some(2048));
        assert_eq!(number_of(status, "Threads"), Some(7));
        assert_eq!(number_of(status, "Thread"), None);
    }

    #[test]
    fn time_on_cpus_is_found_behind_whatever_name() {
        let stat = "7 (a) b) 1) S 1 7 7 0 -1 4194304 100 0 0 0 250 50 9 9 20 0 5 0 100\n";
        assert_eq!(cpu_ticks(stat), Some(300.0));
        assert_eq!(cpu_ticks("7 (abuser) S 1"), None);
    }

    #[test]
    fn this_process_can_be_looked_at() {
        let this = Process(std::process::id());
        assert!(this.memory().unwrap().own() > 100_000);
        assert!(this.peak().unwrap() > 100_000);
        assert!(this.cpu_seconds().unwrap() >= 0.0);
        assert!(this.threads().unwrap() >= 1);
        assert!(this.descriptors().unwrap() >= 3);
    }
}
