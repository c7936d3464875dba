//! Excerpts: the few lines of a text that a finding is about, however long the text and its lines are.

use std::ops::Range;

/// Longest line that is shown completely, in bytes.
const WHOLE: usize = 240;

/// Bytes that are shown of a longer line, and how many of them are before the position.
const WINDOW: usize = 200;
const BEFORE: usize = 60;

/// Most lines between two positions that are still shown. Otherwise only their number is given.
const BETWEEN: usize = 8;

/// Positions at which the lines of a text begin.
pub(super) struct LineStarts<'t> {
    text: &'t str,
    starts: Vec<usize>,
}

/// A part of a text, with the positions in it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Excerpt {
    /// The lines, shortened if necessary.
    pub(super) source: String,
    /// Number of the first line, from 1.
    pub(super) first: usize,
    /// The span that the finding is about.
    pub(super) main: Range<usize>,
    /// A related span.
    pub(super) also: Option<Range<usize>>,
    /// Line and column of `main` (from 1, in characters), if `source` lacks the text before it.
    pub(super) place: Option<(usize, usize)>,
}

impl<'t> LineStarts<'t> {
    pub(super) fn of(text: &'t str) -> Self {
        let breaks = memchr::memchr_iter(b'\n', text.as_bytes()).map(|at| at + 1);
        Self {
            text,
            starts: std::iter::once(0).chain(breaks).collect(),
        }
    }

    /// Returns the number of the line that contains a position, from 0.
    fn number(&self, at: usize) -> usize {
        self.starts.partition_point(|start| *start <= at) - 1
    }

    /// Returns the span of a line, without its line end.
    fn span(&self, line: usize) -> Range<usize> {
        let start = self.starts.get(line).copied().unwrap_or(self.text.len());
        match self.starts.get(line + 1) {
            Some(next) => start..next - 1,
            None => start..self.text.len(),
        }
    }

    /// Returns the line and column (in characters) of a position, from 1.
    pub(super) fn place(&self, offset: usize) -> (usize, usize) {
        let at = floor(self.text, offset);
        let line = self.number(at);
        let before = &self.text[self.span(line).start..at];
        (line + 1, before.chars().count() + 1)
    }

    /// Clips a span to the text, to character boundaries and to one line: carets under ten lines of a multi-line
    /// value would not help.
    fn clip(&self, span: &Range<usize>) -> Range<usize> {
        let start = floor(self.text, span.start);
        let end = self.span(self.number(start)).end;
        start..floor(self.text, span.end).clamp(start, end.max(start))
    }

    /// Returns the lines that contain `main` and `also`, and those in between.
    pub(super) fn excerpt(&self, main: &Range<usize>, also: Option<&Range<usize>>) -> Excerpt {
        let main = self.clip(main);
        let also = also.map(|span| self.clip(span));
        let main_line = self.number(main.start);
        let also_line = also
            .as_ref()
            .map_or(main_line, |span| self.number(span.start));
        let (mut first, last) = (main_line.min(also_line), main_line.max(also_line));
        // After the last line end there is nothing to show, so the line before it is shown.
        if self.span(first).is_empty() && first + 1 == self.starts.len() && first > 0 {
            first -= 1;
        }
        let mut excerpt = Excerpt {
            source: String::new(),
            first: first + 1,
            main: 0..0,
            also: None,
            place: None,
        };
        for line in first..=last {
            let whole = self.span(line);
            let focus = match (line == main_line, line == also_line, &also) {
                (true, _, _) => Some(main.clone()),
                (_, true, Some(also)) => Some(also.clone()),
                _ => None,
            };
            if focus.is_some() || last - first <= BETWEEN {
                let window = self.window(&whole, focus.as_ref());
                let to = excerpt.source.len();
                if window.start > whole.start {
                    excerpt.source.push('…');
                }
                let base = excerpt.source.len();
                excerpt.source.push_str(&self.text[window.clone()]);
                let moved = |span: &Range<usize>| {
                    let part = |at: usize| base + at.clamp(window.start, window.end) - window.start;
                    part(span.start)..part(span.end)
                };
                if line == main_line {
                    excerpt.main = moved(&main);
                    excerpt.place = (base > to).then(|| self.place(main.start));
                }
                if line == also_line
                    && let Some(also) = &also
                {
                    excerpt.also = Some(moved(also));
                }
                if window.end < whole.end {
                    excerpt.source.push('…');
                }
            }
            if line + 1 < self.starts.len() {
                excerpt.source.push('\n');
            }
        }
        excerpt
    }

    /// Returns the part of a line that is shown.
    fn window(&self, line: &Range<usize>, focus: Option<&Range<usize>>) -> Range<usize> {
        if line.len() <= WHOLE {
            return line.clone();
        }
        let focus = focus.map_or(line.start, |focus| focus.start);
        let start = match focus - line.start <= WINDOW / 2 {
            true => line.start,
            false => floor(self.text, focus - BEFORE),
        };
        start..floor(self.text, start + WINDOW).clamp(start, line.end)
    }
}

/// Returns the nearest character boundary that is not after `offset`.
fn floor(text: &str, offset: usize) -> usize {
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    offset
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn short_lines_are_shown_whole_with_their_number() {
        let text = "a = 1\nb = 2\nc = 3\n";
        let excerpt = LineStarts::of(text).excerpt(&(10..11), None);
        assert_eq!((&*excerpt.source, excerpt.first), ("b = 2\n", 2));
        assert_eq!(&excerpt.source[excerpt.main], "2");
        assert_eq!(excerpt.place, None);
    }

    #[test]
    fn long_line_is_cut_around_the_place_and_keeps_its_column() {
        let text = format!(
            "x\nkey = [{} \"here\", {}]\n",
            "1,".repeat(500),
            "2,".repeat(500)
        );
        let start = text.find("\"here").unwrap_or(0);
        let excerpt = LineStarts::of(&text).excerpt(&(start..start + 6), None);
        assert_eq!(&excerpt.source[excerpt.main.clone()], "\"here\"");
        assert!(excerpt.source.len() < WHOLE, "{excerpt:?}");
        assert_eq!(excerpt.place, Some((2, start - 1)));
    }

    #[test]
    fn far_lines_in_between_are_counted_and_not_copied() {
        let text = "word\n".repeat(10_000);
        let (a, b) = (0..4, 5 * 9_999..5 * 9_999 + 4);
        let excerpt = LineStarts::of(&text).excerpt(&b, Some(&a));
        assert_eq!((excerpt.first, excerpt.source.len()), (1, 10_000 + 8));
        assert_eq!(excerpt.also, Some(0..4));
        assert_eq!(
            excerpt.source[..excerpt.main.start].matches('\n').count(),
            9_999
        );
    }

    proptest! {
        #[test]
        fn any_spans_of_any_text_have_an_excerpt(
            text in "(\\PC{0,300}|\n){0,4}", a in 0usize..900, b in 0usize..900, c in 0usize..900
        ) {
            let excerpt = LineStarts::of(&text).excerpt(&(a..b), Some(&(c..a)));
            prop_assert!(excerpt.source.get(excerpt.main).is_some());
            let also = excerpt.also.map(|also| excerpt.source.get(also).is_some());
            prop_assert_eq!(also, Some(true));
        }
    }
}
