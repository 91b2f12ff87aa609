//! A definition as a whole: the digest that names it, and what in it hides.
//!
//! A definition is what a server says of one tool or prompt: an object with a name, texts for the model, schemas, annotations
//! and whatever else. All of it is pinned, members that nobody knows too.

use json::{Kind, Value};
use policy::{Hidden, first_hidden, visible};

/// The digest of a definition: SHA-256 of its canonical text, 64 hexadecimal digits. Spelling, white space and the order of
/// members do not change it; everything else does.
pub fn digest(definition: Value<'_>) -> String {
    digest_of(&definition.canonical())
}

/// The digest of a text: SHA-256, 64 hexadecimal digits.
pub fn digest_of(text: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Something in a definition that hides.
#[derive(Clone, Debug)]
pub struct HiddenIn<'d> {
    /// Where: `inputSchema.properties.path.description`.
    pub place: String,
    /// What.
    pub hidden: Hidden,
    /// The string in which it stands, where it is a text for reading and nothing is found by it: it may be written anew, with
    /// what hides shown. `None` for keys, names and values, which would become others.
    pub text: Option<Value<'d>>,
}

/// Everything in a definition that holds characters which hide, in its order; at most `most`.
pub fn hidden_in(definition: Value<'_>, most: usize) -> Vec<HiddenIn<'_>> {
    let mut found = Vec::new();
    // Most definitions hold nothing that would have to be looked at twice.
    if !definition.raw().bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\n' | b'\r' | b'\t'))
        || definition.raw().contains('\\')
    {
        look_into(definition, &mut Vec::new(), most, &mut found);
    }
    found
}

/// The string token for a text with what hides shown.
pub fn shown_token(text: Value<'_>) -> String {
    json::quote(&visible(&text.as_str().unwrap_or_default()))
}

fn look_into<'d>(value: Value<'d>, path: &mut Vec<String>, most: usize, found: &mut Vec<HiddenIn<'d>>) {
    if found.len() >= most || path.len() > DEEPEST {
        return;
    }
    match value.kind() {
        Kind::String => {
            if let Some(hidden) = value.as_str().as_deref().and_then(first_hidden) {
                // A property may be called `description` too, but then its value is a schema.
                let is_text = matches!(path.last().map(String::as_str), Some("description" | "title"));
                let text = is_text.then_some(value);
                found.push(HiddenIn { place: path.join("."), hidden, text });
            }
        }
        Kind::Array => {
            for (i, element) in value.elements().into_iter().flatten().enumerate() {
                path.push(i.to_string());
                look_into(element, path, most, found);
                path.pop();
            }
        }
        Kind::Object => {
            for member in value.members().into_iter().flatten() {
                if let Some(hidden) = first_hidden(&member.key) {
                    found.push(HiddenIn { place: path.join("."), hidden, text: None });
                }
                path.push(visible(&member.key).into_owned());
                look_into(member.value, path, most, found);
                path.pop();
            }
        }
        Kind::Null | Kind::Bool | Kind::Number => {}
    }
}

/// The parser's own bound is lower; this one keeps the promise where another made the document.
const DEEPEST: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;
    use json::{Document, Strictness};

    fn document(text: &str) -> Document {
        Document::parse(text.to_owned(), Strictness::Reply).unwrap()
    }

    #[test]
    fn spelling_does_not_change_a_digest_and_everything_else_does() {
        let digest = |text: &str| digest(document(text).root());
        let one = digest(r#"{"name":"a","inputSchema":{"type":"object","maximum":1.0}}"#);
        assert_eq!(one, digest(r#"{ "inputSchema": {"maximum":1,"type":"obj\u0065ct"}, "name":"a" }"#));
        assert_ne!(one, digest(r#"{"name":"a","inputSchema":{"type":"object","maximum":1},"_meta":{}}"#));
        assert_ne!(one, digest(r#"{"name":"a","name":"a","inputSchema":{"type":"object","maximum":1}}"#));
        assert_eq!(one.len(), 64);
    }

    #[test]
    fn what_hides_is_found_wherever_it_stands() {
        let document = document(
            r#"{"name":"a","description":"x\u202ey","inputSchema":{"properties":{"p\u200b":{"enum":["\ud83d\ude00","b\u00ad"]}}}}"#,
        );
        let found = hidden_in(document.root(), 10);
        let places: Vec<_> = found.iter().map(|found| (found.place.as_str(), found.text.is_some())).collect();
        assert_eq!(
            places,
            [("description", true), ("inputSchema.properties", false), ("inputSchema.properties.p\\u{200b}.enum.1", false)]
        );
        assert_eq!(shown_token(found[0].text.unwrap()), r#""x\\u{202e}y""#);
        assert_eq!(hidden_in(document.root(), 1).len(), 1);
    }
}
