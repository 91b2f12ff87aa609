//! Paths to arguments, as policies write them.

/// Whether a path in a policy can name this argument without quotes.
pub(crate) fn is_plain(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 64
        && name != "length"
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

/// Whether a list of this name has the words of one command, rather than a command line in each element.
pub(crate) fn has_words_of_one_command(name: &str) -> bool {
    matches!(name, "command" | "cmd" | "argv" | "args")
}
