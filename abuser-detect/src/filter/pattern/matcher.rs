//! The matcher: tries one way after the other, as Python does, and gives up after so many steps.

use super::{
    program::{Inst, Program, Run},
    syntax::{Assert, is_word},
};

/// No position: the group did not take part.
pub(super) const UNSET: usize = usize::MAX;

/// How many steps a search may take, however long the text is: some hundredths of a second.
const MAX_STEPS: usize = 2_000_000;

/// What a match needs to remember, kept from one to the next so that nothing is allocated.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    pub(super) slots: Vec<usize>,
    frames: Vec<Frame>,
    steps: usize,
    /// How many looks and atomic groups are being matched.
    depth: usize,
    /// The furthest byte that was looked at: a text that is the same up to and with it matches the
    /// same way.
    pub(super) reach: usize,
}

/// What to go back to.
#[derive(Clone, Copy, Debug)]
enum Frame {
    /// Another way.
    At { pc: usize, pos: usize },
    /// The ways of a choice from the `way`th.
    Choice { pc: usize, way: usize, pos: usize },
    /// A greedy run that ended at `pos` and may be as short as `min`.
    Greedy { pc: usize, pos: usize, min: usize },
    /// A lazy run that is at `pos` and may take `left` more.
    Lazy { pc: usize, pos: usize, left: u32 },
    /// What a slot held before.
    Restore { slot: usize, old: usize },
}

/// The steps that a match may take are used up.
pub(super) struct Exhausted;

impl Program {
    /// Searches the text; where groups are is in the slots of `scratch` if it is found.
    pub(super) fn search(
        &self,
        text: &str,
        from: usize,
        scratch: &mut Scratch,
    ) -> Result<bool, Exhausted> {
        scratch.steps = (100_000 + 16 * text.len()).min(MAX_STEPS);
        scratch.reach = from;
        let bytes = text.as_bytes();
        let mut start = from;
        loop {
            if self.first.admits(bytes.get(start).copied()) {
                scratch.slots.clear();
                scratch.slots.resize(self.slots, UNSET);
                scratch.frames.clear();
                if let Some(end) = self.run(text, 0, start, scratch)? {
                    if let Some([from, to]) = scratch.slots.first_chunk_mut() {
                        (*from, *to) = (start, end);
                    }
                    return Ok(true);
                }
            }
            if self.anchored || start >= bytes.len() {
                return Ok(false);
            }
            scratch.reach = scratch.reach.max(start);
            start += width(bytes, start);
        }
    }

    /// Runs from `pc` to a `Match`, whose position it returns, and leaves the frames above those
    /// that were there for whoever wants another match.
    #[expect(clippy::too_many_lines, reason = "one arm for each instruction")]
    fn run(
        &self,
        text: &str,
        mut pc: usize,
        mut pos: usize,
        scratch: &mut Scratch,
    ) -> Result<Option<usize>, Exhausted> {
        let bytes = text.as_bytes();
        let code = self.code.as_slice();
        let floor = scratch.frames.len();
        loop {
            let Some(inst) = code.get(pc) else {
                return Ok(None);
            };
            pc += 1;
            scratch.reach = scratch.reach.max(pos);
            let on = match inst {
                Inst::Byte(byte) => {
                    let on = bytes.get(pos) == Some(byte);
                    pos += 1;
                    on
                }
                Inst::Bytes(literal) => {
                    scratch.reach = scratch.reach.max(pos + literal.len());
                    let on = bytes
                        .get(pos..)
                        .is_some_and(|rest| rest.starts_with(literal));
                    pos += literal.len();
                    on
                }
                Inst::Set(set) => match bytes.get(pos) {
                    Some(&byte) if byte < 128 => {
                        pos += 1;
                        set.has_ascii(byte)
                    }
                    Some(_) => match wide(text, pos) {
                        Some(c) => {
                            pos += c.len_utf8();
                            set.has_wide(c)
                        }
                        None => false,
                    },
                    None => false,
                },
                Inst::Assert(assert) => holds(*assert, text, pos),
                Inst::Save(slot) | Inst::Mark(slot) => {
                    scratch.save(*slot, pos);
                    true
                }
                Inst::Jump(to) => {
                    pc = *to;
                    true
                }
                // Whatever takes long comes by here or goes back.
                Inst::Choice(ways) => match choose(ways, 0, bytes.get(pos).copied()) {
                    Some((way, to)) => {
                        scratch.steps = scratch.steps.checked_sub(1).ok_or(Exhausted)?;
                        scratch.later(ways, pc - 1, way, pos, bytes);
                        pc = to;
                        true
                    }
                    None => false,
                },
                Inst::Run(run) => match start_run(run, text, pos, scratch, pc) {
                    Some(at) => {
                        pos = at;
                        true
                    }
                    None => false,
                },
                Inst::Round { slot, to } => {
                    if scratch.slots.get(*slot) != Some(&pos) {
                        pc = *to;
                    }
                    true
                }
                Inst::Backreference { group, fold } => {
                    scratch.reach = bytes.len();
                    match back(text, pos, scratch.group(*group), *fold) {
                        Some(at) => {
                            pos = at;
                            true
                        }
                        None => false,
                    }
                }
                Inst::Look {
                    behind,
                    negative,
                    end,
                } => {
                    let from = match behind {
                        Some(count) => back_by(text, pos, *count),
                        None => Some(pos),
                    };
                    let before = scratch.frames.len();
                    let found = match from {
                        Some(from) => self.inner(text, pc, from, scratch)?.is_some(),
                        None => false,
                    };
                    scratch.commit(before, found && *negative);
                    pc = *end;
                    found != *negative
                }
                Inst::Atomic { end } => {
                    let before = scratch.frames.len();
                    let found = self.inner(text, pc, pos, scratch)?;
                    scratch.commit(before, false);
                    pc = *end;
                    match found {
                        Some(at) => {
                            pos = at;
                            true
                        }
                        None => false,
                    }
                }
                Inst::Condition { group, no } => {
                    if scratch.group(*group).is_none() {
                        pc = *no;
                    }
                    true
                }
                Inst::Match => return Ok(Some(pos)),
            };
            if !on {
                scratch.steps = scratch.steps.checked_sub(1).ok_or(Exhausted)?;
                match self.back(text, floor, scratch) {
                    Some(other) => (pc, pos) = other,
                    None => return Ok(None),
                }
            }
        }
    }

    /// Runs what is in a look or an atomic group.
    fn inner(
        &self,
        text: &str,
        pc: usize,
        pos: usize,
        scratch: &mut Scratch,
    ) -> Result<Option<usize>, Exhausted> {
        scratch.depth += 1;
        let found = self.run(text, pc, pos, scratch);
        scratch.depth -= 1;
        found
    }

    /// Where to go on after a way has led nowhere.
    fn back(&self, text: &str, floor: usize, scratch: &mut Scratch) -> Option<(usize, usize)> {
        let bytes = text.as_bytes();
        while scratch.frames.len() > floor {
            match scratch.frames.pop()? {
                Frame::At { pc, pos } => return Some((pc, pos)),
                Frame::Restore { slot, old } => {
                    if let Some(place) = scratch.slots.get_mut(slot) {
                        *place = old;
                    }
                }
                Frame::Choice { pc, way, pos } => {
                    let Some(Inst::Choice(ways)) = self.code.get(pc) else {
                        continue;
                    };
                    if let Some((way, to)) = choose(ways, way, bytes.get(pos).copied()) {
                        scratch.later(ways, pc, way, pos, bytes);
                        return Some((to, pos));
                    }
                }
                Frame::Greedy { pc, mut pos, min } => {
                    let Some(Inst::Run(run)) = self.code.get(pc) else {
                        continue;
                    };
                    while pos > min {
                        pos -= 1;
                        while bytes.get(pos).is_some_and(|byte| byte & 0xc0 == 0x80) && pos > min {
                            pos -= 1;
                        }
                        scratch.steps = scratch.steps.saturating_sub(1);
                        if run.next.admits(bytes.get(pos).copied()) {
                            if pos > min {
                                scratch.frames.push(Frame::Greedy { pc, pos, min });
                            }
                            return Some((pc + 1, pos));
                        }
                    }
                }
                Frame::Lazy {
                    pc,
                    mut pos,
                    mut left,
                } => {
                    let Some(Inst::Run(run)) = self.code.get(pc) else {
                        continue;
                    };
                    while left > 0 {
                        scratch.reach = scratch.reach.max(pos + 1);
                        let Some(at) = one(run, text, pos) else {
                            break;
                        };
                        scratch.steps = scratch.steps.saturating_sub(1);
                        pos = at;
                        left -= 1;
                        if run.next.admits(bytes.get(pos).copied()) {
                            if left > 0 {
                                scratch.frames.push(Frame::Lazy { pc, pos, left });
                            }
                            return Some((pc + 1, pos));
                        }
                    }
                }
            }
        }
        None
    }
}

impl Scratch {
    /// The furthest byte that the last search looked at.
    pub(crate) fn reach(&self) -> usize {
        self.reach
    }

    /// Where a group matched.
    pub(crate) fn group(&self, group: usize) -> Option<(usize, usize)> {
        let from = *self.slots.get(group * 2)?;
        let to = *self.slots.get(group * 2 + 1)?;
        (from != UNSET && to != UNSET && from <= to).then_some((from, to))
    }

    fn save(&mut self, slot: usize, pos: usize) {
        if let Some(place) = self.slots.get_mut(slot) {
            let old = std::mem::replace(place, pos);
            // If there is nothing to go back to, it will not be asked for.
            if self.depth > 0 || !self.frames.is_empty() {
                self.frames.push(Frame::Restore { slot, old });
            }
        }
    }

    /// Remembers the ways of a choice that come after `way`.
    #[inline]
    fn later(
        &mut self,
        ways: &[(super::program::First, usize)],
        pc: usize,
        way: usize,
        pos: usize,
        bytes: &[u8],
    ) {
        let Some((way, to)) = choose(ways, way + 1, bytes.get(pos).copied()) else {
            return;
        };
        self.frames.push(if way + 1 == ways.len() {
            Frame::At { pc: to, pos }
        } else {
            Frame::Choice { pc, way, pos }
        });
    }

    /// Forgets the other ways above `floor`. What groups held before is kept for whoever goes back
    /// further, or put back at once if `undo`.
    fn commit(&mut self, floor: usize, undo: bool) {
        if undo {
            while self.frames.len() > floor {
                if let Some(Frame::Restore { slot, old }) = self.frames.pop()
                    && let Some(place) = self.slots.get_mut(slot)
                {
                    *place = old;
                }
            }
            return;
        }
        let mut kept = floor;
        for at in floor..self.frames.len() {
            if let Some(frame @ Frame::Restore { .. }) = self.frames.get(at).copied() {
                if let Some(place) = self.frames.get_mut(kept) {
                    *place = frame;
                }
                kept += 1;
            }
        }
        self.frames.truncate(kept);
    }
}

#[inline]
fn choose(
    ways: &[(super::program::First, usize)],
    from: usize,
    byte: Option<u8>,
) -> Option<(usize, usize)> {
    for (at, (first, to)) in ways.iter().enumerate().skip(from) {
        if first.admits(byte) {
            return Some((at, *to));
        }
    }
    None
}

/// The end of the character at `pos` if it is in the run's set.
#[inline]
fn one(run: &Run, text: &str, pos: usize) -> Option<usize> {
    let byte = *text.as_bytes().get(pos)?;
    if byte < 128 {
        return run.set.has_ascii(byte).then_some(pos + 1);
    }
    let c = wide(text, pos)?;
    run.set.has_wide(c).then_some(pos + c.len_utf8())
}

fn start_run(
    run: &Run,
    text: &str,
    mut pos: usize,
    scratch: &mut Scratch,
    pc: usize,
) -> Option<usize> {
    let bytes = text.as_bytes();
    let pc = pc - 1;
    for _ in 0..run.min {
        scratch.reach = scratch.reach.max(pos);
        pos = one(run, text, pos)?;
    }
    let mut left = run.max.saturating_sub(run.min);
    if run.lazy {
        while !run.next.admits(bytes.get(pos).copied()) {
            if run.max == u32::MAX && bytes.get(pos).is_some_and(|&byte| run.bytes.has(byte)) {
                pos += 1;
                continue;
            }
            scratch.reach = scratch.reach.max(pos);
            if left == 0 {
                return None;
            }
            pos = one(run, text, pos)?;
            left -= 1;
        }
        scratch.reach = scratch.reach.max(pos);
        if left > 0 {
            scratch.frames.push(Frame::Lazy { pc, pos, left });
        }
        return Some(pos);
    }
    let min = pos;
    loop {
        if run.max == u32::MAX {
            let rest = bytes.get(pos..).unwrap_or_default();
            let end = if run.dot {
                memchr::memchr(b'\n', rest)
            } else {
                rest.iter().position(|&byte| !run.bytes.has(byte))
            };
            pos += end.unwrap_or(rest.len());
            if bytes.get(pos).is_none_or(u8::is_ascii) {
                break;
            }
        }
        if left == 0 {
            break;
        }
        let Some(at) = one(run, text, pos) else {
            break;
        };
        pos = at;
        left -= 1;
    }
    scratch.steps = scratch.steps.saturating_sub((pos - min) / 8);
    scratch.reach = scratch.reach.max(pos);
    // Back to the last place where what follows can begin.
    while !run.next.admits(bytes.get(pos).copied()) {
        if pos <= min {
            return None;
        }
        pos -= 1;
        while bytes.get(pos).is_some_and(|byte| byte & 0xc0 == 0x80) && pos > min {
            pos -= 1;
        }
    }
    if pos > min {
        scratch.frames.push(Frame::Greedy { pc, pos, min });
    }
    Some(pos)
}

/// The character at `pos`.
#[cold]
fn wide(text: &str, pos: usize) -> Option<char> {
    text.get(pos..)?.chars().next()
}

/// How many bytes the character at `pos` has.
fn width(bytes: &[u8], pos: usize) -> usize {
    let rest = bytes.get(pos + 1..).unwrap_or_default();
    1 + rest.iter().take_while(|&&byte| byte & 0xc0 == 0x80).count()
}

fn back_by(text: &str, pos: usize, count: usize) -> Option<usize> {
    if count == 0 {
        return Some(pos);
    }
    let before = text.get(..pos)?;
    before.char_indices().rev().nth(count - 1).map(|(at, _)| at)
}

fn back(text: &str, pos: usize, group: Option<(usize, usize)>, fold: bool) -> Option<usize> {
    let (from, to) = group?;
    let said = text.get(from..to)?;
    let here = text.get(pos..pos.checked_add(said.len())?)?;
    let same = if fold {
        said.to_lowercase() == here.to_lowercase()
    } else {
        said == here
    };
    same.then_some(pos + said.len())
}

fn holds(assert: Assert, text: &str, pos: usize) -> bool {
    let bytes = text.as_bytes();
    match assert {
        Assert::Start => pos == 0,
        Assert::LineStart => pos == 0 || bytes.get(pos - 1) == Some(&b'\n'),
        Assert::End => pos == bytes.len(),
        Assert::LastEnd => {
            pos == bytes.len() || (pos + 1 == bytes.len() && bytes.get(pos) == Some(&b'\n'))
        }
        Assert::LineEnd => bytes.get(pos).is_none_or(|&byte| byte == b'\n'),
        Assert::Word => word_before(text, pos) != word_at(text, pos),
        Assert::NotWord => word_before(text, pos) == word_at(text, pos),
    }
}

fn word_at(text: &str, pos: usize) -> bool {
    match text.as_bytes().get(pos) {
        Some(&byte) if byte < 128 => byte.is_ascii_alphanumeric() || byte == b'_',
        Some(_) => wide(text, pos).is_some_and(is_word),
        None => false,
    }
}

fn word_before(text: &str, pos: usize) -> bool {
    match pos.checked_sub(1).and_then(|at| text.as_bytes().get(at)) {
        Some(&byte) if byte < 128 => byte.is_ascii_alphanumeric() || byte == b'_',
        Some(_) => back_by(text, pos, 1)
            .and_then(|at| wide(text, at))
            .is_some_and(is_word),
        None => false,
    }
}
