//! A terminal's screen as an SVG picture: its text, colours and attributes, cell by cell in place
//! whatever font there is. Bars are drawn, since fonts leave gaps between them.

use std::fmt::Write as _;

use vt100::{Cell, Color, Screen};

/// A cell's size, and its line's baseline, in the picture's units.
const WIDTH: f32 = 8.4;
const HEIGHT: f32 = 17.0;
const BASELINE: f32 = 12.5;
/// The empty border.
const BORDER: f32 = 10.0;

const BACKGROUND: &str = "#16181d";
const FOREGROUND: &str = "#d7dae0";
/// The first sixteen colours.
const COLOURS: [&str; 16] = [
    "#3b4048", "#e06c75", "#98c379", "#e5c07b", "#61afef", "#c678dd", "#56b6c2", "#d7dae0",
    "#5c6370", "#ff7b86", "#b1e18b", "#ffd68a", "#7cc7ff", "#e08bf5", "#6fe0ee", "#ffffff",
];

/// How some cells look.
#[derive(Clone, Copy, PartialEq)]
struct Look {
    foreground: Color,
    background: Color,
    bold: bool,
    dim: bool,
    inverse: bool,
}

impl Look {
    fn of(cell: &Cell) -> Self {
        Self {
            foreground: cell.fgcolor(),
            background: cell.bgcolor(),
            bold: cell.bold(),
            dim: cell.dim(),
            inverse: cell.inverse(),
        }
    }

    fn colours(self) -> (String, String) {
        let colour = |colour, default: &str| match colour {
            Color::Default => default.to_owned(),
            Color::Idx(index) => COLOURS
                .get(usize::from(index))
                .map_or_else(|| default.to_owned(), |colour| (*colour).to_owned()),
            Color::Rgb(red, green, blue) => format!("#{red:02x}{green:02x}{blue:02x}"),
        };
        let text = colour(self.foreground, FOREGROUND);
        let ground = colour(self.background, BACKGROUND);
        if self.inverse {
            (ground, text)
        } else {
            (text, ground)
        }
    }

    /// Whether it is how headings look.
    fn is_heading(self) -> bool {
        self.bold && self.foreground == Color::Idx(6)
    }
}

/// Cells next to each other that look the same.
struct Run {
    column: u16,
    look: Look,
    cells: u16,
    text: String,
}

/// The picture.
pub(super) fn picture(screen: &Screen, title: &str) -> String {
    let (rows, columns) = screen.size();
    let (rows, columns) = (rows.get(), columns.get());
    let width = f32::from(columns) * WIDTH + 2.0 * BORDER;
    let height = f32::from(rows) * HEIGHT + 2.0 * BORDER;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" \
         width=\"{width:.0}\" height=\"{height:.0}\" \
         font-family=\"ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace\" \
         font-size=\"14\" xml:space=\"preserve\">\n<title>{}</title>\n\
         <rect width=\"100%\" height=\"100%\" rx=\"6\" fill=\"{BACKGROUND}\"/>\n",
        escaped(title)
    );
    for row in 0..rows {
        for run in runs(screen, row, columns) {
            draw(&mut svg, row, &run);
        }
    }
    svg.push_str("</svg>\n");
    svg
}

/// What the picture has as headings, in their order.
pub(super) fn headings(svg: &str) -> Vec<&str> {
    let parts = svg.split("class=\"heading\"").skip(1);
    parts
        .filter_map(|part| Some(part.split_once('>')?.1.split_once('<')?.0.trim()))
        .collect()
}

fn runs(screen: &Screen, row: u16, columns: u16) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for column in 0..columns {
        let Some(cell) = screen.cell(row, column) else {
            continue;
        };
        // What a wide character takes of the next cell.
        if cell.is_wide_continuation() {
            if let Some(run) = runs.last_mut() {
                run.cells += 1;
            }
            continue;
        }
        let look = Look::of(cell);
        let text = if cell.has_contents() {
            cell.contents()
        } else {
            " "
        };
        match runs.last_mut() {
            Some(run) if run.look == look => {
                run.cells += 1;
                run.text.push_str(text);
            }
            _ => runs.push(Run {
                column,
                look,
                cells: 1,
                text: text.to_owned(),
            }),
        }
    }
    runs
}

fn draw(svg: &mut String, row: u16, run: &Run) {
    let (text, ground) = run.look.colours();
    let x = BORDER + f32::from(run.column) * WIDTH;
    let y = BORDER + f32::from(row) * HEIGHT;
    // Writing to a String cannot fail.
    if ground != BACKGROUND {
        let width = f32::from(run.cells) * WIDTH;
        let _infallible = writeln!(
            svg,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{HEIGHT}\" fill=\"{ground}\"/>"
        );
    }
    let bar = |c: char| {
        let eighths = u32::from(c).checked_sub(0x2580)?;
        u16::try_from(eighths)
            .ok()
            .filter(|eighths| (1..=8).contains(eighths))
    };
    let heights: Option<Vec<_>> = run
        .text
        .trim_end()
        .chars()
        .map(|c| if c == ' ' { Some(0) } else { bar(c) })
        .collect();
    match heights {
        Some(heights) => {
            for (number, eighths) in (0_u16..).zip(heights).filter(|(_, eighths)| *eighths > 0) {
                let height = f32::from(eighths) / 8.0 * (HEIGHT - 2.0);
                let x = x + f32::from(number) * WIDTH;
                let y = y + HEIGHT - 1.0 - height;
                let _infallible = writeln!(
                    svg,
                    "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{height:.1}\" fill=\"{text}\"/>",
                    WIDTH - 0.6
                );
            }
        }
        None => {
            // Words that stand apart are texts of their own: no font moves them.
            for (offset, words) in words(&run.text) {
                let x = x + f32::from(offset) * WIDTH;
                let mut attributes = String::new();
                if run.look.is_heading() {
                    attributes.push_str(" class=\"heading\"");
                }
                if run.look.bold {
                    attributes.push_str(" font-weight=\"bold\"");
                }
                if run.look.dim {
                    attributes.push_str(" opacity=\"0.6\"");
                }
                let length = f32::from(u16::try_from(words.chars().count()).unwrap_or(0)) * WIDTH;
                let _infallible = writeln!(
                    svg,
                    "<text x=\"{x:.1}\" y=\"{:.1}\" textLength=\"{length:.1}\" \
                     lengthAdjust=\"spacingAndGlyphs\" fill=\"{text}\"{attributes}>{}</text>",
                    y + BASELINE,
                    escaped(words)
                );
            }
        }
    }
}

/// The parts of a text between which there are two spaces or more, with the characters before them.
fn words(text: &str) -> Vec<(u16, &str)> {
    let mut parts = Vec::new();
    let mut column = 0;
    for part in text.split("  ") {
        let before = part.chars().take_while(|c| *c == ' ').count();
        let words = part.trim();
        if !words.is_empty() {
            parts.push((u16::try_from(column + before).unwrap_or(u16::MAX), words));
        }
        column += part.chars().count() + 2;
    }
    parts
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[test]
fn a_picture_has_the_words_in_their_places_and_draws_bars() {
    let rows = std::num::NonZeroU16::new(2).expect("two");
    let columns = std::num::NonZeroU16::new(20).expect("twenty");
    let mut parser = vt100::Parser::new(rows, columns, 0);
    parser.process("\u{1b}[1;36mA <b>\u{1b}[0m  c\r\n\u{1b}[32m\u{2581}\u{2588}".as_bytes());
    let svg = picture(parser.screen(), "a & b");
    assert_eq!(headings(&svg), ["A &lt;b&gt;"]);
    assert!(svg.contains("<title>a &amp; b</title>"));
    let c = format!("<text x=\"{:.1}\"", BORDER + 7.0 * WIDTH);
    assert!(svg.contains(&c), "{svg}");
    assert_eq!(svg.matches("fill=\"#98c379\"").count(), 2, "{svg}");
}
