//! What else bears on the class: warnings in the text, flags, paths to write to, people who are told.

use super::clauses::{self, Clause};
use super::reading::{Parameter, Reading};
use super::senses::Context;
use super::verbs::{self, Form, Sense};
use super::words::{self, Sentence};
use super::{Finding, routers};
use policy::RiskClass::{self, Destructive, Execute, Financial, Read, Write};

/// Everything that the name and the leading sentence do not say. `so_far` is the class by what is known already.
pub(super) fn findings(
    reading: &Reading,
    names: &[Clause],
    told: &[Clause],
    so_far: Option<RiskClass>,
    context: Context,
) -> Vec<Finding> {
    let mut found = Vec::new();
    let changes = so_far.is_some_and(|class| class > Read);
    let senses = || names.iter().take(1).chain(told).map(|clause| clause.verb.sense);
    if changes || so_far.is_none() {
        found.extend(warnings(reading));
    }
    let puts = senses().any(|sense| {
        matches!(
            sense,
            Sense::Put
                | Sense::Replace
                | Sense::Change
                | Sense::Make
                | Sense::Move
                | Sense::Import
                | Sense::Export
                | Sense::Generate
        )
    });
    if puts {
        found.extend(overwrites(reading));
    }
    found.extend(flags(reading, so_far));
    found.extend(hard_reset(reading));
    found.extend(outputs(reading, so_far));
    let advises = senses().next() == Some(Sense::Advise);
    if !changes {
        found.extend(if advises { None } else { saves(reading) }.or_else(|| saves_by_argument(reading)));
    }
    if changes {
        found.extend(supports_deleting(reading));
    }
    if senses().any(|sense| matches!(sense, Sense::Make | Sense::Change | Sense::Put | Sense::Replace)) {
        found.extend(puts_into_effect(reading));
    }
    found.extend(to_media(reading));
    if !changes && senses().any(|sense| matches!(sense, Sense::Generate | Sense::Convert | Sense::Export)) {
        found.extend(jobs(reading));
    }
    if so_far.is_none_or(|class| class < Execute) {
        found.extend(delegates(reading));
    }
    if so_far == Some(Write) {
        found.extend(recipients(reading, names, told));
    }
    if changes || so_far.is_none() {
        found.extend(requests(reading).or_else(|| sends_requests(reading)));
    }
    if let Some(parameter) = reading.parameters.iter().find(|parameter| accepts_a_price(parameter)) {
        found.push(Finding::said(Financial, 1, "R11", "accepts a price", &parameter.path, parameter.name.clone()));
    }
    if context.is_about_money && so_far == Some(Write) {
        found.extend(money_in_text(reading));
    }
    // Line edits, and text found and replaced, are updates: of those the hint says too much.
    let part = "text string value cell line sequence occurrence part section phrase word";
    let replaces = |clause: &Clause| clause.verb.sense == Sense::Replace && !clause.mentions(part);
    let may_lose = names.iter().take(1).chain(told).any(replaces);
    if so_far == Some(Write) && reading.hints.destructive == Some(true) && may_lose {
        found.push(Finding::said(
            Destructive,
            2,
            "R21",
            "the hint confirms what the words suggest",
            "annotations.destructiveHint",
            "true".into(),
        ));
    }
    found
}

/// Sentences other than the leading one which say that something is removed for good.
fn warnings(reading: &Reading) -> Vec<Finding> {
    let mut found = Vec::new();
    for sentence in reading.sentences.iter().take(40) {
        if is_conditional(&sentence.words) || sentence.has("may be") {
            continue;
        }
        let quote = || clauses::quote(&sentence.text);
        let final_ = "cannot be undone, can't be undone, irreversible, is permanent, cannot be reversed, \
        cannot be recovered, irreversibly";
        let clauses = clauses::of_sentence(sentence);
        let third = sentence.words.iter().any(|word| matches!(verbs::find(word), Some((_, Form::Third))));
        let deletes = clauses.iter().any(|clause| matches!(clause.verb.sense, Sense::Delete) && !clause.is_about("tag label"));
        if deletes && third && (sentence.words.first().is_some_and(|word| words::is_one(word, "this it deletes permanently the"))) {
            found.push(Finding::said(Destructive, 2, "R6", "the text says that it deletes", "description", quote()));
        } else if reading.hints.destructive == Some(true) && words::phrases(LOST).any(|phrase| sentence.has(phrase)) {
            found.push(Finding::said(Destructive, 2, "R21", "the hint confirms that something is lost", "description", quote()));
        } else if words::phrases(final_).any(|phrase| sentence.has(phrase)) && sentence.words.iter().any(|word| matches!(verbs::find(word), Some((verb, _)) if matches!(verb.sense, Sense::Delete | Sense::Remove | Sense::Replace))) {
            found.push(Finding::said(Destructive, 2, "R6", "the text says that there is no way back", "description", quote()));
        }
    }
    found
}

const LOST: &str = "are lost, is lost, will be lost, permanently lost, is destructive, is a destructive";

/// R7: the text says that something is replaced as a whole.
fn overwrites(reading: &Reading) -> Option<Finding> {
    let keeps = "not overwrite, without overwriting, never overwrites, won't overwrite, doesn't overwrite, \
        no overwrite, not replace, to avoid overwriting, version history, merge, preserve, preserved, emulation, \
        preserves, fails if, instead of overwriting, partial";
    let whole = "completely overwrite, overwrites existing, overwrite existing files, overwrites the, overwrites any, \
        will overwrite, overwriting any, overwriting the, overwriting existing, overwrites all, \
        replaces the entire, replace the entire, replaces all, replace all, replaces the whole, \
        replace the whole, will be removed, are removed, will be deleted, replaces existing, \
        replaces any existing, replaces the existing, replacing the entire, replacing all, \
        replacing any existing, replaces its, overwrites it, overwritten, replaces the full, \
        full replacement, replaces the current, replaces content, replaces the existing, replacing existing, replacing its entire, \
        allow deleting content, existing content is replaced";
    let whole = reading.possible(whole);
    let sentence = reading.sentences.iter().take(40).find(|sentence| {
        whole.iter().any(|phrase| sentence.has(phrase))
            && !words::phrases(keeps).any(|phrase| sentence.has(phrase))
            && !is_negated(&sentence.words)
    })?;
    Some(Finding::said(Destructive, 2, "R7", "replaces as a whole", "description", clauses::quote(&sentence.text)))
}

/// R1, R2: a flag that deletes or overwrites is a named way to do so.
fn flags(reading: &Reading, so_far: Option<RiskClass>) -> Vec<Finding> {
    let mut found = Vec::new();
    for parameter in reading.parameters.iter().filter(|parameter| parameter.kind == "boolean") {
        let Some(first) = parameter.words.first() else { continue };
        // `clear_existing`, `removePrevImages`: what was there before goes.
        let former = parameter.mentions("existing prev previous old former current")
            && parameter.words.iter().any(|word| matches!(word.as_str(), "clear" | "remove" | "replace" | "reset" | "discard"))
            && !matches!(so_far, None | Some(Read));
        let harmless = "include show is has with only hide exclude skip no keep prevent confirm ignore dont soft return list \
        protect use disable enable dry deletion require fail was preserve filter";
        // What is shown, and how: `whether the tag appears in the output`.
        let shortens = first == "truncate" && !parameter.mentions("table file log data index queue");
        let shows = so_far == Some(Read)
            && !words::is_one(first, CHANGES)
            && parameter.said.iter().any(|word| words::is_one(word, "appears emitted shown displayed"));
        if words::is_one(first, harmless) || so_far == Some(Read) && shortens {
            continue;
        }
        let deletes = parameter.words.iter().any(|word| {
            matches!(verbs::find(word), Some((verb, Form::Base | Form::Gerund)) if verb.sense == Sense::Delete && !matches!(verb.word, "empty" | "flush" | "drop" | "forget")) || matches!(word.as_str(), "overwrite" | "purge")
        });
        let own = |word: &str| parameter.words.len() <= 3 && parameter.mentions(word);
        if shows && !deletes {
            continue;
        }
        let deletes = deletes || former;
        if deletes && !parameter.mentions("protection marker markers policy event events trigger") {
            found.push(Finding::said(
                Destructive,
                2,
                "R1",
                "a flag that removes or overwrites",
                &parameter.path,
                parameter.name.clone(),
            ));
        } else if so_far == Some(Write)
            && ["start", "run", "execute", "launch", "deploy", "activate", "trigger"].contains(&first.as_str())
            && (parameter.words.len() == 1 || own("immediately") || own("now") || own("workflow") || own("job"))
        {
            found.push(Finding::said(Execute, 2, "R1", "a flag that starts something", &parameter.path, parameter.name.clone()));
        } else if so_far == Some(Read)
            && (first != "start" || parameter.words.len() == 1)
            && !parameter.mentions("cache context memory history session")
            && words::is_one(first, CHANGES)
        {
            found.push(Finding::said(Write, 2, "R1", "a flag that changes something", &parameter.path, parameter.name.clone()));
        }
    }
    found
}

/// How the names of flags begin that let something change.
const CHANGES: &str = "initiate create write save mark start trigger apply persist reset";

/// R1: `git reset --hard`: of what is set back, one of the ways throws away what was there.
fn hard_reset(reading: &Reading) -> Option<Finding> {
    let resets = words::of_name(&reading.name).iter().any(|word| word == "reset");
    let parameter = reading.parameters.iter().find(|parameter| resets && parameter.values.iter().any(|value| value == "hard"))?;
    Some(Finding::said(Destructive, 2, "R1", "throws away what was there", &parameter.path, "hard".into()))
}

/// R16: a result that is written where the caller says.
fn outputs(reading: &Reading, so_far: Option<RiskClass>) -> Option<Finding> {
    if so_far.is_some_and(|class| class > Read) {
        return None;
    }
    let parameter =
        reading.parameters.iter().find(|parameter| parameter.depth <= 1 && parameter.is_text() && is_output(parameter))?;
    Some(Finding::said(
        Write,
        2,
        "R16",
        "the result is written to a path that the caller names",
        &parameter.path,
        parameter.name.clone(),
    ))
}

fn is_output(parameter: &Parameter) -> bool {
    let saves = parameter.said.iter().any(|word| words::is_one(word, "save saved saves write written saving store output"));
    let remote = parameter.said.iter().any(|word| matches!(word.as_str(), "jsonpath"))
        || parameter.mentions("format type url mode schema id name language style")
            && !parameter.is_one_of("file name, output file name");
    let named = parameter.mentions("output save download dest destination target local export out")
        && parameter.ends_in("path file dir directory filepath folder filename to");
    let file = parameter.ends_in("path filepath file directory dir filename") || parameter.is_one_of("save to");
    !remote
        && (named
            || file
                && saves
                && !parameter.said.iter().any(|word| matches!(word.as_str(), "read" | "load" | "analyze" | "upload")))
}

/// R16: the text says that something is saved to disk.
fn saves(reading: &Reading) -> Option<Finding> {
    let phrases = "to disk, to a local file, to the local, saved to a, saves to, saves the result, saved in the, \
        writes to, saves it to, and saves, and save it, and save the, saved to the, will be saved, saves the, \
        writes the, save to file, saves it, written to a file, written to the, writes a, writes files, \
        creates a file, to your local, saves locally, stores it";
    let phrases = reading.possible(phrases);
    let sentence = reading.sentences.iter().take(30).find(|sentence| {
        phrases.iter().any(|phrase| sentence.has(phrase))
            && !is_negated(&sentence.words)
            && !is_notice(sentence)
            && !sentence.words.iter().any(|word| words::is_one(word, "temporary temp previously if user reference"))
    })?;
    Some(Finding::said(Write, 2, "R16", "writes to disk", "description", clauses::quote(&sentence.text)))
}

/// R16: an argument's text says that something is written.
fn saves_by_argument(reading: &Reading) -> Option<Finding> {
    let phrases = "will be appended, will be generated in, will be saved, will be written, saves the, is written to, are saved, are written";
    let says = |parameter: &&Parameter| {
        parameter.depth == 0 && words::phrases(phrases).any(|phrase| words::has_phrase(&parameter.said, phrase))
    };
    if let Some(parameter) = reading.parameters.iter().find(says) {
        return Some(Finding::said(Write, 2, "R16", "writes to disk", &parameter.path, clauses::quote(&parameter.description)));
    }
    let sentence = reading.says_any("will be appended, output location, destination path, path to the generated file, path of the generated file, path to the saved")?;
    Some(Finding::said(Write, 2, "R16", "writes to disk", "description", clauses::quote(&sentence.text)))
}

/// R3: the text lists deleting among what a tool that changes things supports.
fn supports_deleting(reading: &Reading) -> Option<Finding> {
    let lists = |sentence: &&Sentence| {
        let has = |list: &str| sentence.words.iter().any(|word| words::is_one(word, list));
        has("supports support including includes operations")
            && has("deleting deletion removal delete")
            && !is_conditional(&sentence.words)
    };
    let sentence = reading.sentences.iter().take(12).find(lists)?;
    Some(Finding::said(Destructive, 2, "R3", "deleting is among what it does", "description", clauses::quote(&sentence.text)))
}

/// R9: text that a platform puts into effect, or runs on events.
fn puts_into_effect(reading: &Reading) -> Option<Finding> {
    let manifests = |word: &String| words::is_one(word, "kubernetes kubectl manifest");
    let speaks = reading.sentences.iter().take(2).flat_map(|sentence| &sentence.words).any(manifests);
    let effective = |parameter: &&Parameter| {
        let manifest = parameter.is_one_of("manifest, manifests, yaml content, template body, resource yaml, manifest yaml");
        let resource = parameter.is_one_of("resource, resources, yaml, body, spec, definition, resource definition")
            && (speaks || parameter.said.iter().any(manifests));
        let handler = parameter.is_text() && parameter.mentions("handlers handler resolver") && parameter.mentions("code");
        parameter.depth == 0 && (manifest || handler || resource || parameter.is_named("code handlers"))
    };
    let parameter = reading.parameters.iter().find(effective)?;
    Some(Finding::said(Execute, 2, "R9", "text that is put into effect", &parameter.path, parameter.name.clone()))
}

/// R12: `text_to_speech`, `image_to_video`.
fn to_media(reading: &Reading) -> Option<Finding> {
    let names = words::of_name(&reading.name);
    let makes = names
        .windows(2)
        .any(|pair| pair[0] == "to" && words::is_one(&pair[1], "speech audio image video sound voice music 3d song animation"));
    makes.then(|| Finding::said(Execute, 2, "R12", "a model or a renderer makes something", "name", reading.name.clone()))
}

/// R8: what is made is made later, by a job that the call starts.
fn jobs(reading: &Reading) -> Option<Finding> {
    let sentence = reading.says_any(STARTS_A_JOB).filter(|sentence| !is_negated(&sentence.words))?;
    Some(Finding::said(Execute, 2, "R8", "starts a job", "description", clauses::quote(&sentence.text)))
}

const STARTS_A_JOB: &str = "is asynchronous, runs asynchronously, asynchronous job, asynchronous task, starts a job, returns a job id, \
    in the background, asynchronously and returns";

/// R12: the text says that somebody else decides what is done.
fn delegates(reading: &Reading) -> Option<Finding> {
    let sentence = reading.says_any(DELEGATES).filter(|sentence| !is_negated(&sentence.words))?;
    Some(Finding::said(Execute, 2, "R12", "an assistant that may act", "description", clauses::quote(&sentence.text)))
}

const DELEGATES: &str = "agent decides, agent will decide, agent acts, acts on your behalf, autonomously execute, autonomously executes, \
    autonomously perform, autonomously performs, autonomously complete, would change data, performs actions on";

/// R13: an entry that tells people whom the caller names.
fn recipients(reading: &Reading, names: &[Clause], told: &[Clause]) -> Option<Finding> {
    let drafts = names.iter().chain(told).any(|clause| clause.mentions("draft") || clause.verb.word == "draft");
    let creates = names
        .iter()
        .chain(told)
        .any(|clause| matches!(clause.verb.sense, Sense::Make | Sense::Change | Sense::Post | Sense::Manage | Sense::Submit));
    if drafts || !creates {
        return None;
    }
    let tells = |parameter: &&Parameter| {
        parameter.depth == 0
            && (parameter.is_one_of("attendees, recipients, cc, bcc, invitees, cc email addresses, cc emails, send notifications, notify users, send email, send invitations, send updates, send notification, notify, recipient, to email, notification emails, guests"))
            && !parameter.is_named("notify") | (parameter.kind == "boolean")
    };
    let parameter = reading.parameters.iter().find(tells)?;
    Some(Finding::said(Execute, 2, "R13", "people whom the caller names are told", &parameter.path, parameter.name.clone()))
}

/// A request of any method to a URL of the caller's.
fn requests(reading: &Reading) -> Option<Finding> {
    let method = reading.parameters.iter().find(|parameter| {
        parameter.depth == 0
            && parameter.is_one_of("method, http method")
            && routers::is_http(&parameter.values)
            && parameter.values.len() > 1
    })?;
    Some(Finding::said(Execute, 2, "R2", "a request in which anything can be said", &method.path, method.values.join(", ")))
}

/// The same, with the method in the text: `Perform an HTTP PUT request`.
fn sends_requests(reading: &Reading) -> Option<Finding> {
    let methods =
        "http request, http post request, http put request, http patch request, put request, patch request, post request";
    let url = reading.parameters.iter().any(|parameter| parameter.depth == 0 && parameter.is_one_of("url, uri, endpoint"));
    let sentence = reading.sentences.first().filter(|one| url && words::phrases(methods).any(|phrase| one.has(phrase)))?;
    let why = "a request in which anything can be said";
    Some(Finding::said(Execute, 2, "R2", why, "description", clauses::quote(&sentence.text)))
}

fn accepts_a_price(parameter: &Parameter) -> bool {
    parameter.mentions("confirm accept accepted agreed") && parameter.mentions("cost price quote charge fee purchase payment")
}

/// R11: a sentence which says that money moves.
fn money_in_text(reading: &Reading) -> Option<Finding> {
    let phrases = "places an order, charges the, transfers funds, will be charged, moves money, executes a trade, \
        places a trade, by placing a, initiates a payment, sends money, spends";
    let sentence = reading.says_any(phrases).filter(|sentence| !is_conditional(&sentence.words))?;
    Some(Finding::said(Financial, 2, "R11", "the text says that money moves", "description", clauses::quote(&sentence.text)))
}

/// R5, R6: the sentence that names the way back.
pub(super) fn way_back(reading: &Reading) -> Option<String> {
    let phrases = "to trash, to the trash, moves to trash, can be restored, can be recovered, soft delete, soft-delete, \
        soft deletes, can be undone, move to trash, recycle bin, can be reactivated, can be unarchived, \
        moved to trash, in the trash, restore it later, to restore";
    let permanent = reading
        .says_any("permanently, permanent, cannot be undone, irreversible, bypass trash, skip trash, hard delete, hard_delete");
    let sentence = reading.says_any(phrases).filter(|sentence| !is_negated(&sentence.words) && permanent.is_none())?;
    let flags = reading.parameters.iter().any(|parameter| parameter.mentions("permanent permanently force purge hard"));
    (!flags).then(|| clauses::quote(&sentence.text))
}

/// What is left where no verb was found: a noun that is information. A hint that it only reads decides nothing (R21).
pub(super) fn undecided(reading: &Reading, context: Context) -> Option<Finding> {
    let first = reading.sentences.iter().find(|sentence| !is_notice(sentence));
    let pays =
        |sentence: &&Sentence| sentence.words.iter().take(5).any(|word| words::is_one(word, "payment refund payout charge"));
    if let Some(sentence) = first.filter(|sentence| context.is_about_money && pays(sentence)) {
        let why = "what it is called moves money";
        return Some(Finding::said(Financial, 2, "R11", why, "description", clauses::quote(&sentence.text)));
    }
    let sentence = first.filter(|sentence| names_information(&sentence.words))?;
    Some(Finding::said(Read, 2, "R16", "the text names information", "description", clauses::quote(&sentence.text)))
}

/// Whether a text without a verb that is known begins by naming information: `Weather data for a city`, but neither `Scrubs all
/// history data` nor `Scrubs history`, in which something may be done to it.
fn names_information(words: &[String]) -> bool {
    let Some(at) = words.iter().take(8).position(|word| is_information(word)) else { return false };
    let third =
        |word: &String| word.len() > 3 && word.ends_with('s') && !["ss", "us", "is", "ics"].iter().any(|end| word.ends_with(end));
    let acts = words.iter().take(at).skip(1).any(|word| words::is_one(word, DETERMINERS));
    !acts && (at == 0 || !words.first().is_some_and(third))
}

/// Whether a word names something that is only told.
pub(super) fn is_information(word: &str) -> bool {
    words::is_one(&words::singular(word), INFORMATION) || words::is_one(word, INFORMATION)
}

/// What stands before the object of a verb.
const DETERMINERS: &str = "a an the all any each every this these that those your its their";

/// Whether a sentence is about something else than what the tool does.
pub(super) fn is_notice(sentence: &Sentence) -> bool {
    let first = sentence.words.first().map_or("", String::as_str);
    let starts =
        |phrase: &str| phrase.split(' ').enumerate().all(|(i, wanted)| sentence.words.get(i).is_some_and(|word| word == wanted));
    let beginnings = "deprecated deprecation note important warning mandatory requires requirements cost permissions example \
        examples usage args returns: prerequisites required caution we prerequisite when do never always if before after";
    words::is_one(first, beginnings)
        || starts("this server is")
        || starts("use this when")
        || starts("use this tool when")
        || starts("use when")
        || starts("must be called")
        || starts("start here")
        || starts("make sure")
        || sentence.has("before using this tool")
        || sentence.has("before calling this tool")
        || starts("make the user")
        // `This is the public REST API of …`
        || starts("this is the") && sentence.words.iter().any(|word| words::is_one(word, "api service server"))
        || sentence.words.last().is_some_and(|last| last == ":") && sentence.words.len() < 4
}

/// Whether the tool acts in a browser.
pub(super) fn is_in_browser(reading: &Reading) -> bool {
    let browser = "browser page webpage playwright puppeteer chrome devtools element dialog dropdown";
    let names = words::of_name(&reading.name);
    let server = reading
        .server
        .iter()
        .any(|word| words::is_one(word, "playwright puppeteer browser devtools selenium browserbase chrome webdriver"));
    let named = names.iter().any(|word| words::is_one(word, browser));
    let text = reading
        .sentences
        .iter()
        .take(2)
        .any(|sentence| sentence.words.iter().any(|word| words::is_one(word, "browser webpage dropdown element tab")));
    let notes = reading.server.iter().any(|word| matches!(word.as_str(), "confluence" | "notion" | "wiki" | "atlassian"));
    !notes && (server || named && text)
}

/// Whether the tool's world is money: payments, prices, trading.
pub(super) fn is_about_money(reading: &Reading) -> bool {
    let count = |words: &[String]| words.iter().filter(|word| words::is_one(&words::singular(word), MONEY)).count();
    let text: usize = reading.sentences.iter().take(20).map(|sentence| count(&sentence.words)).sum();
    let parameters: usize = reading.parameters.iter().map(|parameter| count(&parameter.words)).sum();
    let server = reading.server.iter().any(|word| words::is_one(word, MONEY_SERVERS));
    let is_crypto = reading.sentences.iter().take(4).flat_map(|sentence| &sentence.words).any(|word| words::is_one(word, CRYPTO));
    server || is_crypto || count(&words::of_name(&reading.name)) > 0 && text + parameters > 0 || text + parameters > 1
}

const MONEY: &str = "payment currency invoice billing bank refund usd eur wallet balance broker brokerage stock crypto trading \
    trade portfolio checkout card paid payable payout charge shares buy sell limit_price notional eth btc \
    solana customer merchant ledger accounting payee payer";
const CRYPTO: &str = "erc-20 erc20 usdc usdt uniswap defi ethereum bitcoin lamports onchain on-chain stablecoin";
const MONEY_SERVERS: &str = "stripe paypal square xero quickbooks alpaca coinbase binance kraken plaid wise razorpay adyen braintree \
    chargebee mollie klarna shopify robinhood ibkr payments billing trading wallet bank banking finance";

const INFORMATION: &str = "list information info detail details fact status statistic statistics data result content overview summary \
    history documentation guide schema forecast weather price report metadata number count definition help \
    lookup search answer instruction reference state usage version progress log availability";

fn is_negated(words: &[String]) -> bool {
    words.iter().any(|word| words::is_one(word, "not never cannot don't doesn't won't no without avoid isn't"))
}

/// Whether a sentence speaks of other cases than a plain call.
fn is_conditional(words: &[String]) -> bool {
    // `This deletes the branch unless keep is set`: what stands before is the plain call.
    let plain = words.iter().position(|word| word == "unless").filter(|at| *at > 3).unwrap_or(words.len());
    let (words, first) = (&words[..plain], words.first().map_or("", String::as_str));
    words::is_one(first, "if when before after use never do don't to for example")
        || words.iter().any(|word| words::is_one(word, "not doesn't instead never don't unlike won't refused rejected unless"))
}
