//! Few inputs that reach all that many do: what is committed.
//!
//! libFuzzer tells of each input which edges it reaches; of those the fewest bytes are taken, the most
//! for their size first. Inputs that people have given a name stay whatever they reach: each stands for
//! something that once did not hold.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use super::{
    build::Binaries,
    targets::{self, Target},
};

/// Inputs of a target that are committed, at most, and their bytes.
const MOST_FILES: usize = 60;
const MOST_BYTES: u64 = 100_000;
/// The longest of them, unless somebody has named it.
const LONGEST: u64 = 4096;

/// An input, and the edges that it reaches.
struct Input {
    path: PathBuf,
    bytes: u64,
    edges: Vec<u64>,
}

/// Puts the fewest inputs that reach all that was reached into the committed corpus.
pub(super) fn run(binaries: &Binaries, target: &Target) -> Result<()> {
    let inputs = look(binaries, target)?;
    let all: HashSet<u64> = inputs
        .iter()
        .flat_map(|input| &input.edges)
        .copied()
        .collect();
    let kept = choose(&inputs);
    let reached: HashSet<u64> = kept
        .iter()
        .flat_map(|input| &input.edges)
        .copied()
        .collect();
    let bytes: u64 = kept.iter().map(|input| input.bytes).sum();
    println!(
        "{:<10} {:>4} of {} inputs, {:>6} bytes, {} of {} edges",
        target.name,
        kept.len(),
        inputs.len(),
        bytes,
        reached.len(),
        all.len()
    );
    let names: HashSet<_> = kept
        .iter()
        .filter_map(|input| input.path.file_name())
        .collect();
    for path in targets::files(&target.corpus)? {
        if path.file_name().is_some_and(|name| !names.contains(name)) {
            // What it reaches others do, but the next run may go on from it.
            let to = target.working.join(path.file_name().unwrap_or_default());
            fs::copy(&path, &to).with_context(|| format!("keep {}", path.display()))?;
            fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
        }
    }
    for input in kept {
        let to = target
            .corpus
            .join(input.path.file_name().unwrap_or_default());
        if !to.exists() {
            fs::copy(&input.path, &to).with_context(|| format!("write {}", to.display()))?;
        }
    }
    Ok(())
}

/// All inputs, and what each reaches.
fn look(binaries: &Binaries, target: &Target) -> Result<Vec<Input>> {
    targets::make(&target.working)?;
    let control = target.findings.with_extension("merge");
    let merged = target.findings.with_extension("merged");
    for path in [&control, &merged] {
        let gone = if path.is_dir() {
            fs::remove_dir_all(path)
        } else {
            fs::remove_file(path)
        };
        if let Err(error) = gone
            && error.kind() != std::io::ErrorKind::NotFound
        {
            return Err(error).with_context(|| format!("remove {}", path.display()));
        }
    }
    targets::make(&merged)?;
    let mut command = Command::new(binaries.of(target));
    command
        .arg("-merge=1")
        .arg(format!("-merge_control_file={}", control.display()))
        .args([&merged, &target.corpus, &target.working])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let status = command
        .status()
        .with_context(|| format!("start {}", target.name))?;
    if !status.success() {
        bail!(
            "{} cannot be asked what its inputs reach: {status}",
            target.name
        );
    }
    let text =
        fs::read_to_string(&control).with_context(|| format!("read {}", control.display()))?;
    let inputs = read(&text, |path| Some(fs::metadata(path).ok()?.len()));
    fs::remove_dir_all(&merged).with_context(|| format!("remove {}", merged.display()))?;
    Ok(inputs)
}

/// Reads what libFuzzer has noted: how many files, how many of the first folder, their paths, then
/// for each `COV`, its number and the edges that no file before it had reached.
fn read(text: &str, size: impl Fn(&Path) -> Option<u64>) -> Vec<Input> {
    let mut lines = text.lines();
    let count = lines.next().and_then(|line| line.parse().ok()).unwrap_or(0);
    let mut inputs: Vec<_> = lines
        .by_ref()
        .skip(1)
        .take(count)
        .map(|path| Input {
            path: PathBuf::from(path),
            bytes: size(Path::new(path)).unwrap_or(u64::MAX),
            edges: Vec::new(),
        })
        .collect();
    for line in lines {
        let mut words = line.split(' ');
        let is_features = words.next() == Some("FT");
        let number = words.next().and_then(|word| word.parse::<usize>().ok());
        if let (true, Some(input)) = (
            is_features,
            number.and_then(|number| inputs.get_mut(number)),
        ) {
            input.edges = words.filter_map(|word| word.parse().ok()).collect();
        }
    }
    inputs
}

/// Inputs with a name, then the most that is new for its size.
fn choose(inputs: &[Input]) -> Vec<&Input> {
    let (named, others): (Vec<&Input>, Vec<&Input>) =
        inputs.iter().partition(|input| is_named(&input.path));
    let mut reached: HashSet<u64> = named
        .iter()
        .flat_map(|input| &input.edges)
        .copied()
        .collect();
    let mut bytes: u64 = named.iter().map(|input| input.bytes).sum();
    let mut kept = named;
    let mut others: Vec<_> = others
        .into_iter()
        .filter(|input| input.bytes <= LONGEST)
        .collect();
    while kept.len() < MOST_FILES {
        let new = |input: &Input| {
            let edges = input.edges.iter();
            edges.filter(|edge| !reached.contains(edge)).count()
        };
        // A short one that reaches less is worth more than a long one that reaches a little more.
        let worth = |input: &Input| {
            let new = u64::try_from(new(input)).unwrap_or(u64::MAX);
            new.saturating_mul(1_000_000) / (64 + input.bytes)
        };
        let best =
            (0..others.len()).max_by_key(|index| others.get(*index).map(|input| worth(input)));
        let Some(best) = best.map(|index| others.swap_remove(index)) else {
            break;
        };
        if new(best) == 0 {
            break;
        }
        if bytes + best.bytes > MOST_BYTES {
            continue;
        }
        bytes += best.bytes;
        reached.extend(&best.edges);
        kept.push(best);
    }
    kept
}

/// Whether a file has another name than libFuzzer's, which is a sum of what is in it.
fn is_named(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    name.len() != 40 || !name.iter().all(u8::is_ascii_hexdigit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_noted_is_read_and_few_inputs_reach_all_of_it() {
        let names = ["a", "b", "c"].map(|letter| format!("/corpus/{}", letter.repeat(40)));
        let text = format!(
            "4\n0\n{}\n/corpus/a-name\nSTARTED 0 10\nFT 0 1 2\nCOV 0 9\nSTARTED 1 20\nFT 1 1 2 3\nSTARTED 2 9000\nFT 2 4\nFT 3 5\n",
            names.join("\n")
        );
        let inputs = read(&text, |path| {
            let is_long = path.ends_with("c".repeat(40));
            Some(if is_long { 9000 } else { 20 })
        });
        assert_eq!(inputs.len(), 4);
        assert_eq!(inputs[1].edges, [1, 2, 3]);
        let kept: Vec<_> = choose(&inputs)
            .iter()
            .map(|input| input.path.clone())
            .collect();
        assert_eq!(kept, [Path::new("/corpus/a-name"), Path::new(&names[1])]);
    }
}
