//! Fenced blocks in Markdown.

/// A fenced block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    /// The first word after the opening fence; empty where there is none.
    pub kind: String,
    /// What else stands there.
    pub more: String,
    /// The number of the first line of its text, from 1.
    pub line: usize,
    /// The lines between the fences, each with its line break.
    pub text: String,
}

impl Block {
    /// The lines that say something, with their numbers: no blank ones, no comments.
    pub fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let numbered = self.text.lines().enumerate().map(|(i, line)| (self.line + i, line.trim()));
        numbered.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
    }
}

/// The fenced blocks of a text (CommonMark §4.5): a run of at least three backticks or tildes, up to a run as long of the same
/// sign, or the end. A block in a longer fence is part of that block's text.
pub(crate) fn blocks(text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<(char, usize, usize, Block)> = None;
    for (i, line) in text.lines().enumerate() {
        match &mut open {
            None => {
                if let Some((sign, length, indent, info)) = fence(line) {
                    let (kind, more) = info.split_once(char::is_whitespace).unwrap_or((info, ""));
                    let (kind, more) = (kind.to_owned(), more.trim().to_owned());
                    open = Some((sign, length, indent, Block { kind, more, line: i + 2, text: String::new() }));
                }
            }
            Some((sign, length, indent, block)) => match fence(line) {
                Some((closing, closing_length, _, "")) if closing == *sign && closing_length >= *length => {
                    blocks.extend(open.take().map(|(.., block)| block));
                }
                _ => {
                    let leading = line.len() - line.trim_start_matches(' ').len();
                    block.text.push_str(&line[leading.min(*indent)..]);
                    block.text.push('\n');
                }
            },
        }
    }
    blocks.extend(open.map(|(.., block)| block));
    blocks
}

/// The sign, its number, the indentation and the info string of a fence.
fn fence(line: &str) -> Option<(char, usize, usize, &str)> {
    let rest = line.trim_start_matches(' ');
    let indent = line.len() - rest.len();
    let sign = rest.chars().next().filter(|sign| matches!(sign, '`' | '~'))?;
    let info = rest.trim_start_matches(sign);
    let length = rest.len() - info.len();
    let info = info.trim();
    (indent <= 3 && length >= 3 && !(sign == '`' && info.contains('`'))).then_some((sign, length, indent, info))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_found_with_their_lines() {
        let text = "prose\n```policy\na: 1\n\nb: 2\n```\n  ~~~calls x\n  t # allow\n  ~~~\n```\nend";
        let found = blocks(text);
        let block =
            |kind: &str, more: &str, line, text: &str| Block { kind: kind.into(), more: more.into(), line, text: text.into() };
        let expected =
            [block("policy", "", 3, "a: 1\n\nb: 2\n"), block("calls", "x", 8, "t # allow\n"), block("", "", 11, "end\n")];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_block_in_a_longer_fence_is_text() {
        let found = blocks("````markdown\n```calls\nt # deny\n```\n````\n");
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].kind, "markdown");
    }
}
