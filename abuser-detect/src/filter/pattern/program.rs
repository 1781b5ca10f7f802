//! Expressions as instructions for the matcher.
//!
//! Log lines are short and filters' expressions mostly literal, so what counts is to see early that
//! a way leads nowhere: every choice knows which bytes each of its ways can begin with, and a
//! repetition of one character which byte may follow it.

use super::syntax::{Assert, Greed, Node, Set};

/// How many instructions an expression may become.
const MAX_CODE: usize = 100_000;

/// Which bytes can come next, and whether the end of the text can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct First {
    bits: [u64; 4],
    end: bool,
}

impl First {
    const NONE: Self = Self {
        bits: [0; 4],
        end: false,
    };
    const ALL: Self = Self {
        bits: [u64::MAX; 4],
        end: true,
    };

    fn byte(byte: u8) -> Self {
        let mut first = Self::NONE;
        first.insert(byte);
        first
    }

    fn insert(&mut self, byte: u8) {
        if let Some(word) = self.bits.get_mut(usize::from(byte >> 6)) {
            *word |= 1 << (byte & 63);
        }
    }

    fn set(set: &Set) -> Self {
        let [low, high] = set.ascii;
        let wide = if set.can_be_wide() { u64::MAX } else { 0 };
        Self {
            bits: [low, high, wide, wide],
            end: false,
        }
    }

    fn or(mut self, other: Self) -> Self {
        for (word, other) in self.bits.iter_mut().zip(other.bits) {
            *word |= other;
        }
        self.end |= other.end;
        self
    }

    fn and(mut self, other: Self) -> Self {
        for (word, other) in self.bits.iter_mut().zip(other.bits) {
            *word &= other;
        }
        self.end &= other.end;
        self
    }

    /// Whether that byte, or the end, can come next.
    #[inline]
    pub(super) fn admits(&self, byte: Option<u8>) -> bool {
        match byte {
            Some(byte) => self.has(byte),
            None => self.end,
        }
    }

    /// Whether that byte can come next.
    #[inline]
    pub(super) fn has(&self, byte: u8) -> bool {
        self.bits[usize::from(byte >> 6)] >> (byte & 63) & 1 == 1
    }
}

/// One instruction. `to`, `end` and the like are addresses.
#[derive(Debug)]
pub(super) enum Inst {
    Byte(u8),
    Bytes(Box<[u8]>),
    Set(Box<Set>),
    Assert(Assert),
    Save(usize),
    Jump(usize),
    /// The first of the ways that leads on.
    Choice(Box<[(First, usize)]>),
    /// One character, repeated.
    Run(Box<Run>),
    /// Remembers where a round of a loop begins.
    Mark(usize),
    /// Ends a round of a loop: on to `to`, unless it has consumed nothing.
    Round {
        slot: usize,
        to: usize,
    },
    Backreference {
        group: usize,
        fold: bool,
    },
    /// What follows is looked for, up to a `Match`; then it goes on at `end`.
    Look {
        behind: Option<usize>,
        negative: bool,
        end: usize,
    },
    Atomic {
        end: usize,
    },
    Condition {
        group: usize,
        no: usize,
    },
    Match,
}

/// One character of a set, repeated.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) set: Set,
    /// The bytes that are certainly in the set, as long as it does not matter how many characters
    /// they are.
    pub(super) bytes: First,
    /// Whether it is all but the newline.
    pub(super) dot: bool,
    pub(super) min: u32,
    pub(super) max: u32,
    pub(super) lazy: bool,
    /// What can follow.
    pub(super) next: First,
}

/// An expression, ready to be matched.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) code: Vec<Inst>,
    /// How many slots it saves to: two for each group, one for each loop.
    pub(super) slots: usize,
    /// Whether it can only match at the start of the text.
    pub(super) anchored: bool,
    /// What a match can begin with.
    pub(super) first: First,
    /// Text that is in all that it matches, and not where an anchored one begins: that is soon seen.
    pub(super) needle: Option<Vec<u8>>,
}

/// Compiles an expression; `keep` says which groups are of interest.
///
/// # Errors
/// That it is too big.
pub(super) fn compile(
    node: &Node,
    groups: usize,
    keep: &dyn Fn(usize) -> bool,
) -> Result<Program, String> {
    let mut compiler = Compiler {
        code: Vec::new(),
        slots: (groups + 1) * 2,
        keep,
    };
    compiler.emit(node, First::ALL)?;
    compiler.push(Inst::Match)?;
    Ok(Program {
        anchored: anchored(node),
        first: first(node, First::ALL),
        needle: needle(node),
        slots: compiler.slots,
        code: compiler.code,
    })
}

impl Program {
    /// Whether the text begins as it must: quick to see, if it is to begin with a certain text.
    pub(super) fn starts(&self, text: &[u8], from: usize) -> bool {
        if !self.anchored || from > 0 {
            return true;
        }
        match self.code.get(..2) {
            Some([Inst::Assert(Assert::Start), Inst::Bytes(literal)]) => text.starts_with(literal),
            _ => self.first.admits(text.first().copied()),
        }
    }
}

fn anchored(node: &Node) -> bool {
    match node {
        Node::Assert(Assert::Start) => true,
        Node::Concat(nodes) => {
            let consuming = |node: &&Node| !matches!(node, Node::Look { .. } | Node::Empty);
            nodes.iter().find(consuming).is_some_and(anchored)
        }
        Node::Alternate(nodes) => nodes.iter().all(anchored),
        Node::Group { node, .. } | Node::Atomic(node) => anchored(node),
        Node::Repeat { node, min, .. } => *min > 0 && anchored(node),
        _ => false,
    }
}

/// The longest text that is in all that an expression matches.
fn needle(node: &Node) -> Option<Vec<u8>> {
    fn walk(node: &Node, run: &mut String, best: &mut String) {
        let flush = |run: &mut String, best: &mut String| {
            if run.starts_with('\0') {
                run.clear();
            }
            if run.len() > best.len() {
                best.clone_from(run);
            }
            run.clear();
        };
        match node {
            Node::Literal(c) => run.push(*c),
            // What it begins with is seen without a search.
            Node::Assert(Assert::Start) => run.push('\0'),
            Node::Empty | Node::Assert(_) | Node::Look { .. } => {}
            Node::Concat(nodes) => nodes.iter().for_each(|node| walk(node, run, best)),
            Node::Group { node, .. } | Node::Atomic(node) => walk(node, run, best),
            Node::Repeat { node, min, .. } => {
                flush(run, best);
                if *min > 0 {
                    walk(node, run, best);
                    flush(run, best);
                }
            }
            Node::Set(_)
            | Node::Alternate(_)
            | Node::Backreference { .. }
            | Node::Condition { .. } => {
                flush(run, best);
            }
        }
    }
    let (mut run, mut best) = (String::new(), String::new());
    walk(node, &mut run, &mut best);
    let longest = if run.len() > best.len() && !run.starts_with('\0') {
        run
    } else {
        best
    };
    (!longest.is_empty()).then(|| longest.into_bytes())
}

/// What can come first where `node` and then something that begins with `next` must match.
fn first(node: &Node, next: First) -> First {
    match node {
        Node::Literal(c) => {
            let mut bytes = [0; 4];
            First::byte(c.encode_utf8(&mut bytes).bytes().next().unwrap_or_default())
        }
        Node::Set(set) => First::set(set),
        Node::Assert(Assert::LastEnd | Assert::LineEnd) => {
            let mut ends = First::byte(b'\n');
            ends.end = true;
            next.and(ends)
        }
        Node::Assert(Assert::End) => First {
            end: next.end,
            ..First::NONE
        },
        Node::Empty | Node::Look { .. } | Node::Assert(_) => next,
        Node::Concat(nodes) => nodes
            .iter()
            .rev()
            .fold(next, |next, node| first(node, next)),
        Node::Alternate(nodes) => {
            let ways = nodes.iter().map(|node| first(node, next));
            ways.fold(First::NONE, First::or)
        }
        Node::Repeat { node, min, max, .. } => {
            if *max == Some(0) {
                return next;
            }
            let nullable = node.nullable();
            let body = if nullable {
                // What follows an empty round is another one or what comes after.
                let once = first(node, next).or(next);
                first(node, once).or(once)
            } else {
                first(node, First::NONE)
            };
            if *min == 0 || nullable {
                body.or(next)
            } else {
                body
            }
        }
        Node::Group { node, .. } | Node::Atomic(node) => first(node, next),
        Node::Backreference { .. } => First::ALL,
        Node::Condition { yes, no, .. } => first(yes, next).or(first(no, next)),
    }
}

struct Compiler<'k> {
    code: Vec<Inst>,
    slots: usize,
    keep: &'k dyn Fn(usize) -> bool,
}

impl Compiler<'_> {
    fn push(&mut self, inst: Inst) -> Result<usize, String> {
        if self.code.len() >= MAX_CODE {
            return Err("the expression is too big".to_owned());
        }
        self.code.push(inst);
        Ok(self.code.len() - 1)
    }

    fn here(&self) -> usize {
        self.code.len()
    }

    fn patch(&mut self, at: usize, inst: Inst) {
        if let Some(place) = self.code.get_mut(at) {
            *place = inst;
        }
    }

    /// Emits `node`, after which comes what begins with `next`.
    fn emit(&mut self, node: &Node, next: First) -> Result<(), String> {
        match node {
            Node::Empty => {}
            Node::Literal(c) => {
                let mut bytes = [0; 4];
                self.literal(c.encode_utf8(&mut bytes).as_bytes())?;
            }
            Node::Set(set) => {
                self.push(Inst::Set(Box::new(set.clone())))?;
            }
            Node::Assert(assert) => {
                self.push(Inst::Assert(*assert))?;
            }
            Node::Concat(nodes) => self.concat(nodes, next)?,
            Node::Alternate(nodes) => {
                let choice = self.push(Inst::Jump(0))?;
                let (mut ways, mut jumps) = (Vec::new(), Vec::new());
                for (at, way) in nodes.iter().enumerate() {
                    ways.push((first(way, next), self.here()));
                    self.emit(way, next)?;
                    if at + 1 < nodes.len() {
                        jumps.push(self.push(Inst::Jump(0))?);
                    }
                }
                self.patch(choice, Inst::Choice(ways.into()));
                let end = self.here();
                for jump in jumps {
                    self.patch(jump, Inst::Jump(end));
                }
            }
            Node::Repeat {
                node,
                min,
                max,
                greed,
            } => self.repeat(node, *min, *max, *greed, next)?,
            Node::Group { index, node } => {
                let keep = (self.keep)(*index);
                if keep {
                    self.push(Inst::Save(index * 2))?;
                }
                self.emit(node, next)?;
                if keep {
                    self.push(Inst::Save(index * 2 + 1))?;
                }
            }
            Node::Backreference { group, fold } => {
                self.push(Inst::Backreference {
                    group: *group,
                    fold: *fold,
                })?;
            }
            Node::Look {
                ahead,
                negative,
                node,
            } => {
                let look = self.push(Inst::Match)?;
                self.emit(node, First::ALL)?;
                self.push(Inst::Match)?;
                let behind = if *ahead { None } else { node.width() };
                let end = self.here();
                self.patch(
                    look,
                    Inst::Look {
                        behind,
                        negative: *negative,
                        end,
                    },
                );
            }
            Node::Condition { group, yes, no } => {
                let condition = self.push(Inst::Match)?;
                self.emit(yes, next)?;
                let jump = self.push(Inst::Jump(0))?;
                let otherwise = self.here();
                self.emit(no, next)?;
                self.patch(
                    condition,
                    Inst::Condition {
                        group: *group,
                        no: otherwise,
                    },
                );
                let end = self.here();
                self.patch(jump, Inst::Jump(end));
            }
            Node::Atomic(node) => {
                let atomic = self.push(Inst::Match)?;
                self.emit(node, First::ALL)?;
                self.push(Inst::Match)?;
                let end = self.here();
                self.patch(atomic, Inst::Atomic { end });
            }
        }
        Ok(())
    }

    fn literal(&mut self, bytes: &[u8]) -> Result<(), String> {
        match bytes {
            [byte] => self.push(Inst::Byte(*byte))?,
            bytes => self.push(Inst::Bytes(bytes.into()))?,
        };
        Ok(())
    }

    fn concat(&mut self, nodes: &[Node], next: First) -> Result<(), String> {
        // What can follow each of them.
        let mut nexts = vec![next; nodes.len()];
        let mut after = next;
        for (place, node) in nexts.iter_mut().zip(nodes).rev() {
            *place = after;
            after = first(node, after);
        }
        let mut text = String::new();
        for (node, next) in nodes.iter().zip(nexts) {
            if let Node::Literal(c) = node {
                text.push(*c);
                continue;
            }
            if !text.is_empty() {
                self.literal(text.as_bytes())?;
                text.clear();
            }
            self.emit(node, next)?;
        }
        if !text.is_empty() {
            self.literal(text.as_bytes())?;
        }
        Ok(())
    }

    fn repeat(
        &mut self,
        node: &Node,
        min: u32,
        max: Option<u32>,
        greed: Greed,
        next: First,
    ) -> Result<(), String> {
        if greed == Greed::Possessive {
            let atomic = self.push(Inst::Match)?;
            self.repeat(node, min, max, Greed::Greedy, First::ALL)?;
            self.push(Inst::Match)?;
            let end = self.here();
            self.patch(atomic, Inst::Atomic { end });
            return Ok(());
        }
        let lazy = greed == Greed::Lazy;
        let single = match node {
            Node::Set(set) => Some(set.clone()),
            Node::Literal(c) => Some(Set::one(*c, false)),
            _ => None,
        };
        if let Some(set) = single {
            let mut bytes = First::set(&set);
            if !set.is_all_wide() {
                bytes.bits = [bytes.bits[0], bytes.bits[1], 0, 0];
            }
            self.push(Inst::Run(Box::new(Run {
                bytes,
                dot: set.is_dot(),
                set,
                min,
                max: max.unwrap_or(u32::MAX),
                lazy,
                next,
            })))?;
            return Ok(());
        }
        let again = first(node, First::NONE).or(next);
        let again = if node.nullable() {
            first(node, again).or(again)
        } else {
            again
        };
        for _ in 0..min {
            self.emit(node, again)?;
        }
        let body = first(node, again);
        let Some(max) = max else {
            let nullable = node.nullable();
            let top = self.push(Inst::Jump(0))?;
            let start = self.here();
            let slot = self.slots;
            if nullable {
                self.slots += 1;
                self.push(Inst::Mark(slot))?;
            }
            self.emit(node, again)?;
            if nullable {
                self.push(Inst::Round { slot, to: top })?;
            } else {
                self.push(Inst::Jump(top))?;
            }
            let end = self.here();
            self.patch(top, choice(lazy, (body, start), (next, end)));
            return Ok(());
        };
        let mut choices = Vec::new();
        for _ in min..max {
            choices.push(self.push(Inst::Jump(0))?);
            self.emit(node, again)?;
        }
        let end = self.here();
        for at in choices {
            self.patch(at, choice(lazy, (body, at + 1), (next, end)));
        }
        Ok(())
    }
}

fn choice(lazy: bool, body: (First, usize), exit: (First, usize)) -> Inst {
    Inst::Choice(if lazy { [exit, body] } else { [body, exit] }.into())
}
