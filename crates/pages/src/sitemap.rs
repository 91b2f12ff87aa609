//! What search engines are told of: <https://www.sitemaps.org/protocol.html>.

use crate::html::escape;
use std::fmt::Write as _;

/// Where pages will be: `https://example.org/catalog`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base(String);

impl std::str::FromStr for Base {
    type Err = String;

    fn from_str(text: &str) -> Result<Base, String> {
        let bare = text.trim_end_matches('/');
        let rest = bare.strip_prefix("https://").or_else(|| bare.strip_prefix("http://"));
        let is_plain = |rest: &str| rest.bytes().all(|byte| byte.is_ascii_graphic() && !b"<>\"\\^`{|}?#@".contains(&byte));
        match rest {
            Some(rest) if is_plain(rest) && !rest.is_empty() && !rest.starts_with('/') => Ok(Base(bare.to_owned())),
            _ => {
                Err("not the address of a directory: it begins with `https://` or `http://`, names a host, and has no `?` or `#`"
                    .to_owned())
            }
        }
    }
}

/// The files that tell search engines of the pages at `paths` below `base`: the name of each, and what is in it. The first is
/// `sitemap.xml`; it names the others, where one cannot hold all.
pub fn sitemaps(base: &Base, paths: &[String]) -> Vec<(String, String)> {
    let page = |path: &String| match path.as_str() {
        "index" => format!("{}/", base.0),
        path => format!("{}/{path}.html", base.0),
    };
    if paths.len() <= MOST {
        return vec![(NAME.to_owned(), document("urlset", "url", paths.iter().map(page)))];
    }
    let parts = paths.chunks(MOST).enumerate();
    let parts: Vec<_> =
        parts.map(|(i, part)| (format!("sitemap-{}.xml", i + 1), document("urlset", "url", part.iter().map(page)))).collect();
    let names = parts.iter().map(|(name, _)| format!("{}/{name}", base.0));
    let index = (NAME.to_owned(), document("sitemapindex", "sitemap", names));
    [index].into_iter().chain(parts).collect()
}

const NAME: &str = "sitemap.xml";

/// A file holds so many addresses, says the protocol.
const MOST: usize = 50_000;

fn document(root: &str, element: &str, addresses: impl Iterator<Item = String>) -> String {
    let mut out =
        format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<{root} xmlns=\"http://www.sitemaps.org/schemas/sitemap/0.9\">\n");
    for address in addresses {
        let _ = writeln!(out, "<{element}><loc>{}</loc></{element}>", escape(&address));
    }
    out.push_str(&format!("</{root}>\n"));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_page_is_named_below_the_base() {
        let base: Base = "https://example.org/a&b/".parse().unwrap();
        let files = sitemaps(&base, &["index".to_owned(), "server/~40acme~2ffiles".to_owned()]);
        assert_eq!(files.len(), 1);
        let (name, text) = &files[0];
        assert_eq!(name, "sitemap.xml");
        assert!(text.contains("<url><loc>https://example.org/a&amp;b/</loc></url>\n"), "{text}");
        assert!(text.contains("<loc>https://example.org/a&amp;b/server/~40acme~2ffiles.html</loc>"), "{text}");
    }

    #[test]
    fn more_pages_than_one_file_holds_are_in_several() {
        let paths: Vec<String> = (0..=MOST).map(|i| format!("server/{i}")).collect();
        let files = sitemaps(&"http://localhost:8000".parse().unwrap(), &paths);
        let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["sitemap.xml", "sitemap-1.xml", "sitemap-2.xml"]);
        assert!(files[0].1.contains("<sitemap><loc>http://localhost:8000/sitemap-2.xml</loc></sitemap>"), "{}", files[0].1);
        assert_eq!(files[1].1.matches("<loc>").count(), MOST);
        assert_eq!(files[2].1.matches("<loc>").count(), 1);
    }

    #[test]
    fn a_base_is_an_address_of_the_web() {
        for wrong in
            ["", "example.org", "ftp://example.org", "https://", "https:///a", "https://a/?b", "https://a b", "https://ü"]
        {
            assert!(wrong.parse::<Base>().is_err(), "{wrong}");
        }
    }
}
