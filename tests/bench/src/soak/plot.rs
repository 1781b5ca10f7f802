//! The picture of a run: small panels over the same time, with every restart marked. Its background is
//! white whatever the viewer's is, so it can be read in dark ones.

use anyhow::{Result, anyhow};
use plotters::{
    coord::{Shift, types::RangedCoordf64},
    prelude::*,
};

use super::{plan::Restart, record::Record, sample::Sample};

/// Of the picture.
const SIZE: (u32, u32) = (1200, 1120);
/// Of its head, where restarts are explained.
const HEAD: u32 = 64;
const COLUMNS: usize = 2;
const ROWS: usize = 4;
/// Of text, in pixels.
const TEXT: u32 = 17;

/// Colours that are told apart by who does not tell red from green (Okabe and Ito).
const BLUE: RGBColor = RGBColor(0, 114, 178);
const ORANGE: RGBColor = RGBColor(213, 94, 0);
const GREEN: RGBColor = RGBColor(0, 158, 115);
const GREY: RGBColor = RGBColor(90, 90, 90);

/// A value of each sample; where there is none, there is no point.
type Value = fn(&Sample) -> Option<f64>;

struct Panel {
    title: &'static str,
    /// By powers of ten.
    logarithmic: bool,
    curves: Vec<Curve>,
}

/// Its name, its colour, its points in each life.
type Curve = (&'static str, RGBColor, Vec<Vec<(f64, f64)>>);

/// Draws a run as SVG.
pub(super) fn draw(record: &Record) -> Result<String> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let failed = |error| anyhow!("draw the picture: {error}");
        root.fill(&WHITE).map_err(failed)?;
        let (head, body) = root.split_vertically(HEAD);
        draw_head(&head, record).map_err(|error| anyhow!("draw the head: {error}"))?;
        let panels = panels(record);
        for (area, panel) in body.split_evenly((ROWS, COLUMNS)).iter().zip(&panels) {
            draw_panel(area, panel, record)
                .map_err(|error| anyhow!("draw the panel {}: {error}", panel.title))?;
        }
        root.present().map_err(failed)?;
    }
    Ok(svg)
}

fn panels(record: &Record) -> [Panel; 8] {
    let samples = &record.samples;
    let curve = |name, colour, value: Value| (name, colour, by_life(samples, value));
    let rates = |name, colour, count: fn(&Sample) -> u64| (name, colour, rates(samples, count));
    [
        Panel {
            title: "own memory, MB",
            logarithmic: false,
            curves: vec![curve("own", BLUE, |sample| Some(sample.own_megabytes))],
        },
        Panel {
            title: "descriptors and threads",
            logarithmic: false,
            curves: vec![
                curve("descriptors", BLUE, |sample| Some(sample.descriptors)),
                curve("threads", ORANGE, |sample| Some(sample.threads)),
            ],
        },
        Panel {
            title: "bans by the API, ms",
            logarithmic: true,
            curves: vec![
                curve("median", BLUE, |sample| sample.call_p50_ms),
                curve("99th percentile", ORANGE, |sample| sample.call_p99_ms),
            ],
        },
        Panel {
            title: "from the last line of an offender to its ban, ms",
            logarithmic: true,
            curves: vec![
                curve("median", BLUE, |sample| sample.offence_p50_ms),
                curve("longest", ORANGE, |sample| sample.offence_max_ms),
            ],
        },
        Panel {
            title: "packets in a second, by verdict",
            logarithmic: true,
            curves: vec![
                rates("dropped by the limit", BLUE, |sample| sample.dropped_limit),
                rates("dropped by bans", ORANGE, |sample| sample.dropped_ban),
                rates("passed", GREEN, |sample| sample.passed),
            ],
        },
        Panel {
            title: "datagrams in a second, of the two clients",
            logarithmic: true,
            curves: vec![
                rates("banned: sent", BLUE, |sample| sample.datagrams.banned_sent),
                rates("banned: arrived", ORANGE, |sample| {
                    sample.datagrams.banned_arrived
                }),
                rates("clean: arrived", GREEN, |sample| {
                    sample.datagrams.clean_arrived
                }),
            ],
        },
        Panel {
            title: "the daemon's CPU, % of a core",
            logarithmic: false,
            curves: vec![curve("CPU", BLUE, |sample| sample.cpu_percent)],
        },
        Panel {
            title: "load of the machine, and kB of the log that are not read",
            logarithmic: false,
            curves: vec![
                curve("load", GREY, |sample| Some(sample.load)),
                curve("lag", ORANGE, |sample| Some(sample.lag_bytes / 1e3)),
            ],
        },
    ]
}

/// The points in minutes, in a piece for each life.
fn by_life(samples: &[Sample], value: Value) -> Vec<Vec<(f64, f64)>> {
    samples
        .chunk_by(|one, next| one.life == next.life)
        .map(|life| {
            let points = life.iter();
            points
                .filter_map(|sample| Some((sample.seconds / 60.0, value(sample)?)))
                .collect()
        })
        .collect()
}

/// How fast a count rises, in one piece: it goes on over restarts.
fn rates(samples: &[Sample], count: fn(&Sample) -> u64) -> Vec<Vec<(f64, f64)>> {
    #[expect(clippy::cast_precision_loss, reason = "counts here are below 2^52")]
    let points = samples.windows(2).filter_map(|pair| {
        let [before, now] = pair else { return None };
        let time = now.seconds - before.seconds;
        let more = count(now).saturating_sub(count(before));
        Some((now.seconds / 60.0, more as f64 / time))
    });
    vec![points.collect()]
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

fn colour_of(restart: Restart) -> RGBColor {
    match restart {
        Restart::Kill => RGBColor(204, 121, 167),
        Restart::Stop => RGBColor(150, 150, 150),
        Restart::Takeover => RGBColor(230, 159, 0),
    }
}

fn draw_head(area: &Area<'_>, record: &Record) -> Result<(), Box<dyn std::error::Error>> {
    let title = format!(
        "{:.0} minutes of everything at once: {}",
        (record.end.seconds / 60.0).max(1.0),
        if record.end.passed {
            "every promise was kept"
        } else {
            "NOT every promise was kept"
        }
    );
    area.draw(&Text::new(
        title,
        (16, 10),
        ("sans-serif", TEXT + 6).into_font().color(&BLACK),
    ))?;
    let mut x = 16;
    for restart in Restart::ALL {
        let count = record
            .restarts
            .iter()
            .filter(|one| one.kind == restart)
            .count();
        let colour = colour_of(restart);
        area.draw(&Rectangle::new([(x, 42), (x + 3, 58)], colour.filled()))?;
        let words = match restart {
            Restart::Kill => "killed and started again",
            Restart::Stop => "stopped and started again",
            Restart::Takeover => "killed, and taken over by another version",
        };
        let words = format!("{words}: {count} times");
        let style = ("sans-serif", TEXT).into_font().color(&BLACK);
        area.draw(&Text::new(words, (x + 10, 42), style))?;
        x += 340;
    }
    Ok(())
}

fn draw_panel(
    area: &Area<'_>,
    panel: &Panel,
    record: &Record,
) -> Result<(), Box<dyn std::error::Error>> {
    let points = || {
        panel
            .curves
            .iter()
            .flat_map(|(_, _, lives)| lives.iter().flatten())
    };
    let end = record
        .samples
        .last()
        .map_or(1.0, |sample| sample.seconds / 60.0);
    let highest = points().map(|(_, y)| *y).fold(1.0, f64::max);
    // Names stand above the curves, a line each.
    let names = match panel.curves.len() {
        1 => 0.2,
        2 => 0.55,
        _ => 0.7,
    };
    let mut builder = ChartBuilder::on(area);
    builder
        .margin(10)
        .margin_right(18)
        .caption(panel.title, ("sans-serif", TEXT + 2))
        .x_label_area_size(26)
        .y_label_area_size(64);
    if panel.logarithmic {
        let lowest = points().map(|(_, y)| *y).filter(|y| *y > 0.0);
        let lowest = lowest.fold(highest, f64::min).max(0.1) * 0.7;
        let highest = highest * (highest / lowest).powf(names);
        let y = (lowest..highest).log_scale();
        let chart = builder.build_cartesian_2d(0.0..end, y)?;
        draw_curves(chart, panel, record, (lowest, highest))
    } else {
        let y = 0.0..highest * (1.0 + names);
        let chart = builder.build_cartesian_2d(0.0..end, y)?;
        draw_curves(chart, panel, record, (0.0, highest * (1.0 + names)))
    }
}

fn draw_curves<'a, Y>(
    mut chart: ChartContext<'a, SVGBackend<'a>, Cartesian2d<RangedCoordf64, Y>>,
    panel: &Panel,
    record: &Record,
    (lowest, highest): (f64, f64),
) -> Result<(), Box<dyn std::error::Error>>
where
    Y: Ranged<ValueType = f64> + plotters::coord::ranged1d::ValueFormatter<f64>,
{
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(RGBColor(225, 225, 225))
        .x_labels(7)
        .y_labels(6)
        .label_style(("sans-serif", TEXT))
        .x_label_formatter(&|minute| format!("{minute:.0} min"))
        .y_label_formatter(&|value| shown(*value))
        .draw()?;
    for restart in &record.restarts {
        let x = restart.seconds / 60.0;
        let line = [(x, lowest), (x, highest)];
        chart.draw_series(LineSeries::new(
            line,
            colour_of(restart.kind).stroke_width(1),
        ))?;
    }
    for (name, colour, lives) in &panel.curves {
        let style = colour.stroke_width(2);
        let mut named = false;
        for life in lives.iter().filter(|life| !life.is_empty()) {
            let points = life.iter().map(|(x, y)| (*x, y.max(lowest)));
            let series = chart.draw_series(LineSeries::new(points, style))?;
            if !named {
                named = true;
                series
                    .label(*name)
                    .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
            }
        }
    }
    if panel.curves.len() > 1 {
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperRight)
            .background_style(WHITE.mix(0.85))
            .label_font(("sans-serif", TEXT))
            .draw()?;
    }
    Ok(())
}

/// A value at an axis.
fn shown(value: f64) -> String {
    if value >= 1e6 {
        format!("{:.0} M", value / 1e6)
    } else if value >= 1e3 {
        format!("{:.0} k", value / 1e3)
    } else if value >= 10.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.1}")
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::record::{Line, Restarted},
        *,
    };

    #[test]
    fn a_picture_has_every_panel_and_its_own_background() {
        let mut record = Record::new(false);
        for number in 1..60_u32 {
            let sample = Sample {
                seconds: f64::from(number),
                life: u64::from(number / 20 + 1),
                own_megabytes: 20.0,
                call_p99_ms: (number % 2 == 0).then_some(3.0),
                dropped_limit: u64::from(number) * 1_000,
                ..Sample::default()
            };
            record.add(Line::Sample(sample)).unwrap();
        }
        let restarted = Restarted {
            seconds: 20.0,
            kind: Restart::Takeover,
            away_ms: 100.0,
        };
        record.add(Line::Restart(restarted)).unwrap();
        let svg = draw(&record).unwrap();
        for panel in panels(&record) {
            let title = panel.title.replace('\'', "&apos;");
            assert!(svg.contains(&title), "{title}");
        }
        assert!(svg.contains("taken over by another version: 1 times"));
        assert!(svg.contains("#FFFFFF"));
        assert!(!svg.contains("NaN"));
    }
}
