//! Medians, percentiles and trends of few numbers.

/// The value below or at which `percent` of the values lie; 0 for none.
pub(crate) fn percentile(values: &[f64], percent: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(rank).copied().unwrap_or_default()
}

/// The middle value; 0 for none.
pub(crate) fn median(values: &[f64]) -> f64 {
    percentile(values, 50)
}

/// How much a value grew from the first of these points to the last, as (time, value): by the
/// median slope between any two of them (Theil and Sen), which no few of them can lead astray. 0
/// for fewer than two.
pub(crate) fn growth(points: &[(f64, f64)]) -> f64 {
    let (Some((first, _)), Some((last, _))) = (points.first(), points.last()) else {
        return 0.0;
    };
    let slopes: Vec<f64> = points
        .iter()
        .enumerate()
        .flat_map(|(at, (time, value))| {
            let later = points.iter().skip(at + 1);
            later.map(move |(later, then)| (then - value) / (later - time))
        })
        .filter(|slope| slope.is_finite())
        .collect();
    median(&slopes) * (last - first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_the_trend_whatever_a_few_points_say() {
        let line: Vec<_> = (0..20).map(f64::from).map(|t| (t, 5.0 + 2.0 * t)).collect();
        assert!((growth(&line) - 38.0).abs() < 1e-9);
        let mut peaks = line.clone();
        for at in [3, 11, 19] {
            peaks[at].1 += 1000.0;
        }
        assert!((growth(&peaks) - 38.0).abs() < 1e-9);
        let steps: Vec<_> = line.iter().map(|(t, _)| (*t, (t % 3.0).floor())).collect();
        assert!(growth(&steps).abs() < 1.0);
        assert!(growth(&[]).abs() < 1e-9);
        assert!(growth(&[(1.0, 7.0)]).abs() < 1e-9);
    }

    #[test]
    fn a_percentile_is_one_of_the_values() {
        let values: Vec<f64> = (1..=200).rev().map(f64::from).collect();
        assert_eq!(median(&values).to_string(), "100");
        assert_eq!(percentile(&values, 99).to_string(), "198");
        assert_eq!(percentile(&values, 100).to_string(), "200");
        assert_eq!(median(&[3.0, 1.0, 2.0]).to_string(), "2");
        assert_eq!(median(&[]).to_string(), "0");
    }
}
