//! A point's last values as an SVG path.

use std::collections::VecDeque;
use std::fmt::Write;

/// Width of the drawing, in its own units; the page stretches it.
pub(in crate::web) const WIDTH: f32 = 240.0;

/// Height of the drawing.
pub(in crate::web) const HEIGHT: f32 = 44.0;

/// Room above and below the line, so that its stroke is never cut.
const MARGIN: f32 = 4.0;

/// A line and its end.
#[derive(Debug, PartialEq)]
pub(in crate::web) struct Sparkline {
    /// The path's data.
    pub(in crate::web) path: String,
    /// A path of no length at the last value: with a round cap it is a dot that stretching does not distort.
    pub(in crate::web) end: String,
    /// The least value drawn.
    pub(in crate::web) min: f32,
    /// The greatest value drawn.
    pub(in crate::web) max: f32,
}

/// Draws the values; `None` if there are fewer than two to draw a line between.
pub(in crate::web) fn draw(values: &VecDeque<f32>) -> Option<Sparkline> {
    let values: Vec<f32> = values.iter().copied().filter(|value| value.is_finite()).collect();
    if values.len() < 2 {
        return None;
    }
    let min = values.iter().copied().fold(f32::INFINITY, f32::min);
    let max = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    // A tenth of a percent of the value counts as flat: the last digit of a sensor must not look like a storm.
    let least_span = (min.abs().max(max.abs()) / 1_000.0).max(f32::MIN_POSITIVE);
    let (span, middle) = ((max - min).max(least_span).min(f32::MAX), f32::midpoint(min, max));
    let step = WIDTH / (values.len() - 1) as f32;
    let place = |index: usize, value: f32| {
        let y = HEIGHT / 2.0 - (value - middle) / span * (HEIGHT - 2.0 * MARGIN);
        (step * index as f32, y.clamp(MARGIN, HEIGHT - MARGIN))
    };
    let mut path = String::with_capacity(values.len() * 12);
    for (index, value) in values.iter().enumerate() {
        let (x, y) = place(index, *value);
        // Writing to a string cannot fail.
        _ = write!(path, "{}{x:.0} {y:.1}", if index == 0 { 'M' } else { 'L' });
    }
    let (x, y) = place(values.len() - 1, values.last().copied()?);
    Some(Sparkline { path, end: format!("M{x:.0} {y:.1}h0"), min, max })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_line_runs_from_edge_to_edge_with_high_values_on_top() {
        let line = draw(&[1.0, 3.0, 2.0].into()).unwrap();
        assert_eq!(line.path, "M0 40.0L120 4.0L240 22.0");
        assert_eq!(line.end, "M240 22.0h0");
    }

    #[test]
    fn a_flat_line_lies_in_the_middle_and_odd_values_do_no_harm() {
        assert_eq!(draw(&[5.0, 5.0].into()).unwrap().path, "M0 22.0L240 22.0");
        assert_eq!(draw(&[5.0].into()), None);
        assert_eq!(draw(&[f32::NAN, f32::INFINITY].into()), None);
        let extreme = draw(&[f32::MIN, f32::MAX, 0.0].into()).unwrap();
        assert!(!extreme.path.contains("NaN"), "{}", extreme.path);
    }
}
