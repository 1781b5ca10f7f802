//! Tables of text that can be sorted and filtered: what each pane shows.

use std::{cmp::Ordering, net::IpAddr};

use ipnet::IpNet;

/// What a cell is sorted by.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Order {
    /// Text: the first first.
    Text(String),
    /// A source: IPv4 first, by their addresses.
    Source(IpNet),
    /// A number: the greatest first.
    Number(f64),
    /// A number: the least first.
    Least(f64),
}

/// One cell.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Cell {
    pub(super) text: String,
    order: Order,
}

impl Cell {
    /// Text that is sorted as it is.
    pub(super) fn text(text: impl Into<String>) -> Self {
        let text = text.into();
        let order = Order::Text(text.clone());
        Self { text, order }
    }

    /// Text that is sorted by a number.
    pub(super) fn number(text: impl Into<String>, number: f64) -> Self {
        Self {
            text: text.into(),
            order: Order::Number(number),
        }
    }

    /// Text that is sorted by something else.
    pub(super) fn by(text: impl Into<String>, order: Order) -> Self {
        Self {
            text: text.into(),
            order,
        }
    }

    /// A source.
    pub(super) fn source(source: IpNet) -> Self {
        Self {
            text: super::text::source(&source),
            order: Order::Source(source),
        }
    }

    /// A count.
    #[expect(clippy::cast_precision_loss, reason = "only for sorting")]
    pub(super) fn count(count: u64) -> Self {
        Self::number(super::text::count(count), count as f64)
    }

    /// A rate.
    pub(super) fn rate(rate: f64) -> Self {
        Self::number(super::text::rate(rate), rate)
    }
}

/// How a row is to be seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Tone {
    /// As usual.
    #[default]
    Plain,
    /// Something is being held off.
    Bad,
    /// Something deserves a look.
    Warn,
    /// Let through by the allow list.
    Good,
}

/// A row, and what it is about.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    /// By this the row is found again when it has moved.
    pub(super) key: String,
    pub(super) cells: Vec<Cell>,
    pub(super) tone: Tone,
}

/// A column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) title: &'static str,
    /// In cells; of the last column 0 stands for what is left.
    pub(super) width: u16,
    /// Whether it is aligned to the right.
    pub(super) right: bool,
}

/// A column that is aligned to the left.
pub(super) const fn left(title: &'static str, width: u16) -> Column {
    Column {
        title,
        width,
        right: false,
    }
}

/// A column that is aligned to the right.
pub(super) const fn right(title: &'static str, width: u16) -> Column {
    Column {
        title,
        width,
        right: true,
    }
}

/// How a grid is sorted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sorting {
    /// The column; none: as the daemon tells it.
    pub(super) column: Option<usize>,
    pub(super) reversed: bool,
}

/// A table.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Grid {
    pub(super) columns: &'static [Column],
    pub(super) rows: Vec<Row>,
}

impl Grid {
    /// Keeps the rows that have this text in some cell, whatever its case; if it is an address, also
    /// those of prefixes that hold it.
    pub(super) fn filter(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        let wanted = text.to_lowercase();
        let address: Option<IpAddr> = text.parse().ok();
        let has = |cell: &Cell| cell.text.to_lowercase().contains(&wanted);
        let holds = |row: &Row| {
            let address = address.as_ref();
            address.is_some_and(|address| {
                let prefix = row.key.parse::<IpNet>();
                prefix.is_ok_and(|prefix| prefix.contains(address))
            })
        };
        self.rows
            .retain(|row| row.cells.iter().any(has) || holds(row));
    }

    /// Sorts the rows; those that are the same stay in their order.
    pub(super) fn sort(&mut self, sorting: Sorting) {
        if let Some(column) = sorting.column {
            self.rows.sort_by(|one, other| {
                let cells = one.cells.get(column).zip(other.cells.get(column));
                cells.map_or(Ordering::Equal, |(one, other)| {
                    compare(&one.order, &other.order)
                })
            });
        }
        if sorting.reversed {
            self.rows.reverse();
        }
    }
}

fn compare(one: &Order, other: &Order) -> Ordering {
    match (one, other) {
        (Order::Text(one), Order::Text(other)) => one.cmp(other),
        (Order::Source(one), Order::Source(other)) => one.cmp(other),
        (Order::Number(one), Order::Number(other)) => other.total_cmp(one),
        (Order::Least(one), Order::Least(other)) => one.total_cmp(other),
        _ => Ordering::Equal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 2] = [left("NAME", 5), right("COUNT", 5)];

    fn grid() -> Grid {
        let row = |name: &str, count| Row {
            key: name.to_owned(),
            cells: vec![Cell::text(name), Cell::count(count)],
            tone: Tone::Plain,
        };
        Grid {
            columns: &COLUMNS,
            rows: vec![row("bb", 7), row("Ab", 900), row("c", 8)],
        }
    }

    fn keys(grid: &Grid) -> Vec<&str> {
        grid.rows.iter().map(|row| row.key.as_str()).collect()
    }

    #[test]
    fn numbers_are_sorted_from_the_greatest_and_text_from_the_first() {
        let sorted = |column, reversed| {
            let mut grid = grid();
            grid.sort(Sorting { column, reversed });
            keys(&grid).join(" ")
        };
        assert_eq!(sorted(None, false), "bb Ab c");
        assert_eq!(sorted(Some(0), false), "Ab bb c");
        assert_eq!(sorted(Some(1), false), "Ab c bb");
        assert_eq!(sorted(Some(1), true), "bb c Ab");
        assert_eq!(sorted(Some(9), false), "bb Ab c");
    }

    #[test]
    fn a_filter_looks_into_all_cells_whatever_their_case() {
        let filtered = |text| {
            let mut grid = grid();
            grid.filter(text);
            keys(&grid).join(" ")
        };
        assert_eq!(filtered("B"), "bb Ab");
        assert_eq!(filtered("900"), "Ab");
        assert_eq!(filtered(""), "bb Ab c");
        assert_eq!(filtered("x"), "");
    }

    #[test]
    fn an_address_finds_the_prefixes_that_hold_it() {
        let row = |key: &str| Row {
            key: key.to_owned(),
            cells: vec![Cell::text(key)],
            tone: Tone::Plain,
        };
        let mut grid = Grid {
            columns: &COLUMNS,
            rows: vec![
                row("203.0.113.0/24"),
                row("203.0.113.7/32"),
                row("192.0.2.0/24"),
            ],
        };
        grid.filter("203.0.113.7");
        assert_eq!(keys(&grid), ["203.0.113.0/24", "203.0.113.7/32"]);
    }
}
