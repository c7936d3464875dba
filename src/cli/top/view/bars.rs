//! Bars of block characters, for histories and progress.

/// Characters from empty to full.
const STEPS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// History as bars, the newest at the right, in this many columns and lines from the top. The highest value has the
/// full height; an unknown value is a gap, and a value above zero is always visible.
pub(super) fn past_bars(past: &[Option<f64>], columns: u16, lines: u16) -> Vec<String> {
    let shown = &past[past.len().saturating_sub(columns.into())..];
    let known = shown.iter().flatten().copied();
    let highest = known.fold(0.0f64, f64::max);
    let eighths = |value: f64| {
        if highest <= 0.0 || value <= 0.0 {
            return 1;
        }
        let full = f64::from(lines) * 8.0;
        ((value / highest * full).round() as usize).clamp(2.min(full as usize), full as usize)
    };
    let heights: Vec<_> = shown.iter().map(|value| value.map(eighths)).collect();
    let gap = usize::from(columns) - shown.len();
    let line = |n: u16| {
        let below = usize::from(lines - 1 - n) * 8;
        let bars = heights.iter().map(|height| match height {
            None => ' ',
            Some(height) => STEPS[height.saturating_sub(below).min(8)],
        });
        " ".repeat(gap) + &bars.collect::<String>()
    };
    (0..lines).map(line).collect()
}

/// Progress from 0 to 1 as a bar of this many columns.
pub(super) fn progress_bar(passed: f64, columns: u16) -> String {
    let columns = usize::from(columns);
    let full = ((passed.clamp(0.0, 1.0) * columns as f64).round() as usize).min(columns);
    "█".repeat(full) + &"░".repeat(columns - full)
}

/// Number of columns for each part of a whole, at least one for each part above zero.
pub(super) fn share_columns(parts: &[f64], columns: u16) -> Vec<u16> {
    let whole: f64 = parts.iter().sum();
    if whole <= 0.0 {
        return vec![0; parts.len()];
    }
    let mut left = columns;
    let mut given = Vec::new();
    for part in parts {
        let share = (part / whole * f64::from(columns)).round() as u16;
        let share = share.max(u16::from(*part > 0.0)).min(left);
        left -= share;
        given.push(share);
    }
    given
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn highest_value_fills_the_height_and_gaps_stay_gaps() {
        let past = [Some(0.0), None, Some(1.0), Some(50.0), Some(100.0)];
        assert_eq!(past_bars(&past, 6, 1), [" ▁ ▂▄█"]);
        assert_eq!(past_bars(&past, 3, 2), ["  █", "▂██"]);
        assert_eq!(past_bars(&[Some(0.0); 3], 3, 1), ["▁▁▁"]);
        assert_eq!(past_bars(&[], 3, 1), ["   "]);
    }

    proptest! {
        #[test]
        fn bars_have_exactly_the_columns_that_they_are_given(
            past in prop::collection::vec(prop::option::of(0.0f64..1e9), 0..50),
            columns in 0u16..60, lines in 1u16..5, passed in -1.0f64..2.0,
            parts in prop::collection::vec(0.0f64..100.0, 0..6),
        ) {
            for line in past_bars(&past, columns, lines) {
                prop_assert_eq!(line.chars().count(), usize::from(columns));
            }
            prop_assert_eq!(progress_bar(passed, columns).chars().count(), usize::from(columns));
            prop_assert!(share_columns(&parts, columns).iter().sum::<u16>() <= columns);
        }
    }
}
