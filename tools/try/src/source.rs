//! A file's text and the places in it.

/// A place: which of the files, and how many bytes into its text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct At {
    /// Index of the file, in the order they were given.
    pub file: usize,
    /// Bytes from the beginning of its text.
    pub offset: usize,
}

/// One file, read.
#[derive(Debug, Clone)]
pub struct Source {
    /// Its path as the user gave it; `-` is standard input.
    pub name: String,
    /// Its whole text.
    pub text: String,
}

impl Source {
    /// Line and column of a byte of the text, both counted from 1, columns in characters.
    pub fn line_column(&self, offset: usize) -> (usize, usize) {
        let mut end = offset.min(self.text.len());
        while !self.text.is_char_boundary(end) {
            end -= 1;
        }
        let before = &self.text[..end];
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        (before.matches('\n').count() + 1, before[start..].chars().count() + 1)
    }

    /// Byte offset of the beginning of a line, counted from 1.
    pub fn line_start(&self, line: usize) -> usize {
        let newlines = self.text.match_indices('\n').map(|(offset, _)| offset + 1);
        std::iter::once(0).chain(newlines).nth(line.saturating_sub(1)).unwrap_or(self.text.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_columns_count_characters_from_one() {
        let source = Source { name: "a".into(), text: "é\nxÿz\n".into() };
        assert_eq!(source.line_column(0), (1, 1));
        assert_eq!(source.line_column(2), (1, 2));
        assert_eq!(source.line_column(3), (2, 1));
        assert_eq!(source.line_column(6), (2, 3));
        assert_eq!(source.line_column(999), (3, 1));
        assert_eq!(source.line_start(2), 3);
        assert_eq!(source.line_start(9), source.text.len());
    }
}
