//! What is taken away: a label, a part of a list, or the thing itself.

use super::{Meaning, plain, weak};
use crate::grade::clauses::Clause;
use crate::grade::words;
use policy::RiskClass::{Destructive, Execute, Read, Write};

pub(super) fn remove(clause: &Clause) -> Meaning {
    if clause.is_about(LABELS) || clause.mentions("bullet") {
        return plain(Write, "R6", "only a label or an entry in a list goes");
    }
    let from = clause.rest.iter().position(|word| word == "from").map(|at| &clause.rest[at..]);
    let from_list = from.is_some_and(|rest| rest.iter().any(|word| words::is_one(word, LISTS)));
    // Not the thing goes, but that it belongs there.
    let parts = "rule record entry column row field file data content text";
    let from_group = from.is_some_and(|rest| rest.iter().take(6).any(|word| words::is_one(word, "balancer firewall pool")));
    if clause.verb.word == "remove" && from_group && !clause.is_about(parts) {
        return plain(Write, "R6", "only an entry in a list goes");
    }
    if clause.is_about("line item entry product") && clause.mentions("cart basket wishlist watchlist playlist queue favorites") {
        return plain(Write, "R6", "only an entry in a list goes");
    }
    if clause.verb.word == "remove" && from_list {
        return plain(Write, "R6", "only an entry in a list goes");
    }
    // What was forbidden is allowed again.
    if clause.is_about("ban timeout block restriction mute limit lock hold suspension") {
        return plain(Write, "R14", "a restriction goes");
    }
    let from_people = from.is_some_and(|rest| rest.iter().any(|word| words::is_one(&words::singular(word), PEOPLE)));
    if clause.verb.word == "remove"
        && (clause.is_about("member user collaborator participant")
            || clause.is_about("role right privilege") && (from_people || clause.mentions(PEOPLE)))
    {
        return plain(Write, "R14", "takes away rights");
    }
    match clause.verb.word {
        "clear" | "clean" | "strip" | "discard"
            if clause.mentions(
                "filter selection highlight search input formatting emulation override screen focus session context setting \
                 preference default value field working",
            ) && !clause.mentions("data history memory all") =>
        {
            plain(Write, "R5", "a setting goes")
        }
        "trim" | "strip" if clause.mentions("video audio clip image text string whitespace silence") => {
            plain(Write, "R10", "cuts something off")
        }
        "remove" if clause.is_about("role right privilege") => weak(Destructive, "R14", "may remove the role itself"),
        "remove" if clause.is_about("permission access policy") => plain(Write, "R14", "takes away rights"),
        "remove" if clause.mentions("background noise duplicate vocal") => weak(Read, "R19", "gives back a changed copy"),
        "uninstall" => plain(Destructive, "R6", "removes a program and what belongs to it"),
        _ => plain(Destructive, "R6", "removes something"),
    }
}

const LABELS: &str = "approval protection dependency upvote tag label reaction star favorite favourite bookmark like vote \
    assignee reviewer watcher follower assignment flag pin emoji milestone category upvote attendee highlight overlay";
const LISTS: &str = "release initiative roadmap campaign task project team folder album channel library module cycle epic portfolio \
    segment audience watching watchlist list favorites favourites playlist queue collection group board sprint milestone section watch \
    cart wishlist category blocks blocklist denylist allowlist whitelist blacklist";

const PEOPLE: &str = "member user collaborator participant account principal group contributor subscriber";

pub(super) fn delete(clause: &Clause) -> Meaning {
    if clause.is_about("reaction star favorite bookmark like vote upvote") {
        return plain(Write, "R6", "only a label goes");
    }
    match clause.verb.word {
        "drop" if clause.mentions("file element item pin") => weak(Execute, "R15", "acts on a page"),
        "forget" | "empty" | "flush" | "wipe" | "destroy" => plain(Destructive, "R6", "what is removed does not come back"),
        _ => plain(Destructive, "R6", "deletes"),
    }
}

pub(super) fn consume(clause: &Clause) -> Meaning {
    match clause.verb.word {
        "consume" => weak(Destructive, "R18", "what is read is gone"),
        _ => plain(Destructive, "R18", "what is read is gone"),
    }
}
