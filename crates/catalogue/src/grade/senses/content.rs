//! What is made, turned into something else, brought out and brought in.

use super::{Meaning, plain, weak};
use crate::grade::clauses::Clause;
use crate::grade::words;
use policy::RiskClass::{Destructive, Execute, Read, Write};

pub(super) fn generate(clause: &Clause) -> Meaning {
    if clause.mentions(MEDIA) || clause.goes_on_with("audio speech video") && !clause.goes_on_with("transcript text") {
        return plain(Execute, "R12", "a model or a renderer makes something");
    }
    if clause.is_about("token key secret credential password") {
        return match clause.verb.word {
            "regenerate" => plain(Destructive, "R14", "the old secret dies"),
            _ => plain(Write, "R14", "makes a key"),
        };
    }
    if clause.mentions(TEXTS) || clause.is_about(TEXTS) || clause.goes_on_with(TEXTS) {
        return plain(Read, "R19", "gives back text");
    }
    match clause.verb.word {
        "generate" => weak(Read, "R19", "makes something and gives it back"),
        _ => weak(Execute, "R12", "a model or a renderer makes something"),
    }
}

const MEDIA: &str = "image video audio speech voice music sound song 3d avatar animation podcast illustration picture logo photo \
    texture clip wallpaper hyper3d mesh melody portrait icon artwork";

/// What is made to be read.
pub(super) const TEXTS: &str = "code text plan sql query diagram config configuration template summary documentation guide prompt \
    instruction url link report list type test example uuid id statement command chart schema locator \
    description insight recommendation name timeline layer structure resource manifest file package hash data \
    embedding docs script csv suggestion analysis question answer response map";

pub(super) fn convert(clause: &Clause) -> Meaning {
    if clause.goes_on_with("speech voice video") && matches!(clause.verb.word, "convert" | "transform") {
        return plain(Execute, "R12", "a model makes something");
    }
    match clause.verb.word {
        "format" if clause.mentions("cell range row column paragraph slide shape sheet worksheet spreadsheet") => {
            plain(Write, "R5", "changes how things are laid out")
        }
        "convert" | "transform"
            if becomes(
                clause,
                "subtask task issue epic ticket event reminder doc docs component symbol frame opportunity deal reseller",
            ) =>
        {
            plain(Write, "R10", "creates something")
        }
        "package" | "bundle" | "zip" | "compress" | "gzip" => weak(Read, "R19", "packs what it is given"),
        "transform" if clause.mentions("object layer node") => plain(Write, "R10", "changes something"),
        _ => plain(Read, "R19", "gives back another form"),
    }
}

/// Whether something is turned into one of these, which a product keeps.
fn becomes(clause: &Clause, kinds: &str) -> bool {
    let into = clause.rest.iter().position(|word| matches!(word.as_str(), "to" | "into"));
    let phrase = into.map(|at| clause.rest[at + 1..].iter().take(5));
    phrase.is_some_and(|mut words| words.any(|word| words::is_one(&words::singular(word), kinds) || words::is_one(word, kinds)))
}

pub(super) fn export(clause: &Clause) -> Meaning {
    if clause.mentions("job task") {
        return plain(Execute, "R16", "starts an export job");
    }
    weak(Read, "R16", "brings data out")
}

pub(super) fn import(clause: &Clause) -> Meaning {
    if clause.mentions("job task model database snapshot") && clause.mentions("job task") {
        return plain(Execute, "R8", "starts an import job");
    }
    plain(Write, "R10", "stores what it brings in")
}
