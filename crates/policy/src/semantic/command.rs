//! `command_in`: a command line, or an argument vector, is one of some commands.
//!
//! What is allowed is written as words: `git status` is exactly that. `*` stands for one plain word, `**` at the end for any
//! number of them, and `/srv/data/**` for a path within that directory. A plain word does not begin with a hyphen, a slash or
//! a tilde and leads nowhere upwards, so that neither `--output=/x` nor `../../x` slips in as an argument of something
//! harmless.

use super::path::Place;
use super::{Mistake, listed, strings, text, words};
use crate::model::{Literal, SemanticOperator};
use json::{Kind, Value};

/// Commands, each as the words it may have.
#[derive(Debug)]
pub(super) struct CommandIn {
    shown: Vec<String>,
    commands: Vec<Vec<Expected>>,
}

/// What may stand in one place of a command.
#[derive(Debug)]
enum Expected {
    /// Exactly this.
    Word(String),
    /// One plain word.
    Plain,
    /// Any number of plain words, to the end.
    PlainToTheEnd,
    /// A path in this directory.
    Within(Place),
}

impl CommandIn {
    pub(super) fn new(allowed: &Literal) -> Result<CommandIn, Mistake> {
        let shown = strings(allowed, EXPECTED)?;
        let commands = shown.iter().map(|text| command(text)).collect::<Result<_, _>>()?;
        Ok(CommandIn { shown, commands })
    }
}

fn command(text: &str) -> Result<Vec<Expected>, Mistake> {
    let wrong = |why: &str| Mistake::new(format!("`{text}` is no command: {why}"), EXPECTED);
    let pieces: Vec<&str> = text.split(' ').filter(|piece| !piece.is_empty()).collect();
    let mut command = Vec::new();
    for (i, piece) in pieces.iter().enumerate() {
        command.push(match *piece {
            "*" | "**" if i == 0 => return Err(wrong("any program could be run")),
            "*" => Expected::Plain,
            "**" if i + 1 == pieces.len() => Expected::PlainToTheEnd,
            "**" => return Err(wrong("`**` stands at the end")),
            piece => match piece.strip_suffix("/**") {
                Some(directory) if i > 0 => Expected::Within(Place::read(directory).map_err(|why| wrong(&why))?),
                _ if split(piece).is_ok_and(|words| words == [piece]) => Expected::Word(piece.to_owned()),
                _ => return Err(wrong("a word must be plain, without quotes and signs of a shell")),
            },
        });
    }
    if command.is_empty() { Err(wrong("it is empty")) } else { Ok(command) }
}

impl SemanticOperator for CommandIn {
    fn name(&self) -> &'static str {
        "command_in"
    }

    fn phrase(&self) -> String {
        format!("be one of the commands {}", self.operand())
    }

    fn operand(&self) -> String {
        listed(&self.shown)
    }

    fn takes_lists(&self) -> bool {
        true
    }

    fn holds(&self, value: Value<'_>) -> Result<bool, String> {
        let given = if value.kind() == Kind::String { split(&text(value)?)? } else { words(value)? };
        if given.is_empty() {
            return Err("must be a command".to_owned());
        }
        Ok(self.commands.iter().any(|command| fits(command, &given)))
    }
}

fn fits(command: &[Expected], given: &[String]) -> bool {
    let mut rest = given.iter();
    for expected in command {
        let fits = match expected {
            Expected::PlainToTheEnd => return rest.all(|word| is_plain(word)),
            Expected::Word(word) => rest.next() == Some(word),
            Expected::Plain => rest.next().is_some_and(|word| is_plain(word)),
            Expected::Within(directory) => {
                rest.next().is_some_and(|word| Place::read(word).is_ok_and(|place| place.is_within(directory)))
            }
        };
        if !fits {
            return false;
        }
    }
    rest.next().is_none()
}

/// Whether a word is no option, no way out of where the command runs, and nothing that another program would read anew.
fn is_plain(word: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/' | ',' | '+' | '@' | ' ');
    !word.is_empty()
        && !word.starts_with(['-', '/', '@', '+', ' '])
        && word.chars().all(plain)
        && word.split('/').all(|component| !component.starts_with(".."))
}

/// The words of a command line, as every shell reads them; the error says what it must be.
///
/// Only blanks part words, and only plain single and double quotes quote. Whatever a shell would do something with, even
/// between double quotes, is refused: nothing is expanded, joined, redirected or run in between.
fn split(line: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    for c in line.chars() {
        if c.is_control() || !c.is_ascii() {
            return Err("must be one plain line of ASCII".to_owned());
        }
        match quote {
            Some(mark) if c == mark => quote = None,
            Some('"') if matches!(c, '$' | '`' | '\\' | '!') => return Err(shell_sign(c)),
            Some(_) => word.get_or_insert_default().push(c),
            None => match c {
                ' ' => words.extend(word.take()),
                '\'' | '"' => {
                    quote = Some(c);
                    word.get_or_insert_default();
                }
                ';' | '&' | '|' | '<' | '>' | '(' | ')' | '$' | '`' | '\\' | '*' | '?' | '[' | ']' | '{' | '}' | '~' | '!'
                | '#' | '%' | '^' => {
                    return Err(shell_sign(c));
                }
                _ => word.get_or_insert_default().push(c),
            },
        }
        if words.len() > MOST_WORDS {
            return Err(format!("must have at most {MOST_WORDS} words"));
        }
    }
    if quote.is_some() {
        return Err("must close its quotes".to_owned());
    }
    words.extend(word);
    if words.first().is_some_and(|first| first.contains('=')) {
        return Err("must begin with a command, not with an assignment".to_owned());
    }
    Ok(words)
}

fn shell_sign(c: char) -> String {
    format!("must be a plain command, without `{c}`")
}

const MOST_WORDS: usize = 256;
const EXPECTED: &str = "expected a command such as `git status` or `cat /srv/data/**`, or a list of them";

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn line(text: &str, expected: Option<bool>) {
        let allowed =
            ["ls", "git status", "git log --oneline **", "cat /srv/data/**", "echo *"].map(|text| Literal::String(text.into()));
        let operator = CommandIn::new(&Literal::Array(allowed.into())).unwrap();
        let text = if text.starts_with('[') { text.to_owned() } else { json::quote(text) };
        let document = json::Document::parse(text.clone(), json::Strictness::Request).unwrap();
        assert_eq!(operator.holds(document.root()).ok(), expected, "{text}");
    }

    #[test]
    fn a_command_is_its_words() {
        line("ls", Some(true));
        line("git  status", Some(true));
        line("'git' \"status\"", Some(true));
        line("git log --oneline main src/lib.rs", Some(true));
        line("cat /srv/data/a.txt", Some(true));
        line("echo 'two words'", Some(true));
        line(r#"["git", "status"]"#, Some(true));
        line("ls -la", Some(false));
        line("git push", Some(false));
        line("git log --output=/x", Some(false));
        line("git log --oneline --output=/x", Some(false));
        line("git log --oneline ../../x", Some(false));
        line("cat /etc/passwd", Some(false));
        line("cat ../../x", Some(false));
        line(r#"["ls", "; rm -rf /"]"#, Some(false));
    }

    #[test]
    fn what_a_shell_would_do_something_with_cannot_be_judged() {
        for text in [
            "ls > ~/.bashrc",
            "ls; id",
            "ls && id",
            "ls | sh",
            "echo $(id)",
            "echo `id`",
            "ls\nid",
            "echo \"$HOME\"",
            "cat /srv/data/*",
            "echo a\\ b",
            "LD_PRELOAD=x ls",
            "echo 'open",
            "ls & id",
            "echo {a,b}",
            "cat < /etc/passwd",
            "",
            "[]",
            "[1]",
        ] {
            line(text, None);
        }
    }

    #[test]
    fn a_command_that_would_allow_any_program_is_a_mistake() {
        for text in ["*", "** x", "ls ** x", "", "ls; id", "cat /srv/../**"] {
            assert!(CommandIn::new(&Literal::String(text.into())).is_err(), "{text}");
        }
    }
}
