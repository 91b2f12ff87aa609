//! Paths of pages, in which names of servers and tools stand: names may hold anything.

use collection::Server;

/// A name as one part of a path, the same in a URL and in a file system: letters, digits, `-` and `_` stay, a dot that is not
/// the first too, everything else is `~` and two hexadecimal digits for each byte. A very long name is cut, and told apart
/// by its digest.
pub(crate) fn slug(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for (i, byte) in name.bytes().enumerate() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => out.push(char::from(byte)),
            b'.' if i > 0 => out.push('.'),
            _ => out.push_str(&format!("~{byte:02x}")),
        }
    }
    if out.len() > LONGEST {
        out.truncate(LONGEST - CUT.len() - DIGITS);
        out = format!("{out}{CUT}{}", &catalogue::digest_of(name)[..DIGITS]);
    }
    out
}

/// Between what is left of a name that was cut and its digest; no name has it in its slug.
const CUT: &str = "~~";
const DIGITS: usize = 15;

/// File systems have names of up to 255 bytes, and a form comes after it.
const LONGEST: usize = 200;

/// What a name begins with whose slug was cut: as much of it as is plain, in lower case. `None` for another slug.
pub(crate) fn cut(slug: &str) -> Option<String> {
    let (left, digest) = slug.rsplit_once(CUT)?;
    let plain = left.split('~').next().unwrap_or_default();
    (digest.len() == DIGITS).then(|| plain.to_ascii_lowercase())
}

/// The name of a slug; `None` where it was cut, or is none.
pub(crate) fn name_of(slug: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(slug.len());
    let mut rest = slug.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if *first != b'~' {
            bytes.push(*first);
            rest = after;
            continue;
        }
        let digits = std::str::from_utf8(after.get(..2)?).ok()?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = &after[2..];
    }
    String::from_utf8(bytes).ok()
}

/// By what the pages of a server are found: its name, where it is the current version, else its name and version.
pub(crate) fn address(server: &Server) -> String {
    if server.is_current { server.facts.name.clone() } else { server.designation() }
}

pub(crate) fn of_server(server: &str) -> String {
    format!("server/{}", slug(server))
}

pub(crate) fn of_high_risk(server: &str) -> String {
    format!("high-risk/{}", slug(server))
}

pub(crate) fn of_tool(server: &str, tool: &str) -> String {
    format!("server/{}/{}", slug(server), slug(tool))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_from_their_slugs() {
        for name in
            ["files", "@azure/mcp+mode-all", "../../etc/passwd", "..", "a~b", "größe 世界", "x\u{202e}", "awslabs.x@0.0.37"]
        {
            let slug = slug(name);
            assert!(!slug.contains('/') && !slug.starts_with('.'), "{slug}");
            assert_eq!(name_of(&slug).as_deref(), Some(name));
        }
        assert_eq!(slug("@azure/mcp"), "~40azure~2fmcp");
        let long = slug(&format!("Long-{}", "/".repeat(500)));
        assert!(long.len() <= LONGEST);
        assert_eq!((name_of(&long), cut(&long).as_deref()), (None, Some("long-")));
        assert_eq!(cut("files"), None);
        assert_eq!(name_of("~zz"), None);
        assert_eq!(name_of("a~"), None);
    }
}
