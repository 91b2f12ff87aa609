//! The class of a clause: what its verb does to its object.
//!
//! The rules are those of the risk taxonomy, by their numbers (`docs/grading.md`). Each arm looks at the object only where
//! the verb alone does not decide.

mod content;
mod removal;

use super::clauses::{self, Clause};
use super::verbs::Sense;
use super::words;
use content::{TEXTS, convert, export, generate, import};
use policy::RiskClass::{self, Destructive, Execute, Financial, Read, Write};
use removal::{consume, delete, remove};

/// What a clause amounts to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Meaning {
    pub class: RiskClass,
    /// The rule of the taxonomy.
    pub rule: &'static str,
    /// Why, in a few words.
    pub why: &'static str,
    /// Whether another reading is as likely: it gives way to what is said more clearly.
    pub is_weak: bool,
    /// Whether what is written stays where it is until somebody sends it.
    pub is_draft: bool,
}

pub(super) const fn plain(class: RiskClass, rule: &'static str, why: &'static str) -> Meaning {
    Meaning { class, rule, why, is_weak: false, is_draft: false }
}

pub(super) const fn weak(class: RiskClass, rule: &'static str, why: &'static str) -> Meaning {
    Meaning { is_weak: true, ..plain(class, rule, why) }
}

/// What surrounds a clause and bears on what it means.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Context {
    /// The tool is about payments, prices or trading.
    pub is_about_money: bool,
    /// The tool acts in a browser.
    pub is_in_browser: bool,
    /// The language that the tool speaks of.
    pub language: Language,
}

/// A language in which a tool is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Language {
    /// None is named.
    #[default]
    None,
    /// One that can change what it asks about, such as SQL.
    Writes,
    /// One that cannot, such as PromQL.
    Reads,
}

/// What doing this to that amounts to. `None` where the verb says nothing by itself.
pub(super) fn of_clause(clause: &Clause, context: Context) -> Option<Meaning> {
    if let Some(meaning) = money(clause, context) {
        return Some(meaning);
    }
    if let Some(meaning) = in_browser(clause, context) {
        return Some(meaning);
    }
    Some(match clause.verb.sense {
        Sense::Look => look(clause),
        Sense::Advise => advise(clause),
        Sense::Query => question(context),
        Sense::Make => make(clause),
        Sense::Change => change(clause),
        Sense::Put => put(clause),
        Sense::Replace => replace(clause),
        Sense::Label => plain(Write, "R6", "a label or a link goes on or off"),
        Sense::Move => plain(Write, "R5", "can be moved or renamed back"),
        Sense::Access => access(clause, context),
        Sense::Context => choose(clause),
        Sense::Undoable => plain(Write, "R5", "the product has a way back"),
        Sense::Run => run(clause, context),
        Sense::Cancel => cancel(clause),
        Sense::Send => send(clause),
        Sense::Post => post(clause),
        Sense::Page => page(clause),
        Sense::Generate => generate(clause),
        Sense::Convert => convert(clause),
        Sense::Export => export(clause),
        Sense::Import => import(clause),
        Sense::Remove => remove(clause),
        Sense::Delete => delete(clause),
        Sense::Consume => consume(clause),
        Sense::Pay => pay(clause, context),
        Sense::Submit => submit(clause),
        Sense::Open => open(clause),
        Sense::Close => close(clause),
        Sense::Reset => reset(clause),
        Sense::Test => test(clause),
        Sense::Schedule => schedule(clause),
        Sense::Manage => return None,
    })
}

fn access(clause: &Clause, context: Context) -> Meaning {
    let next = |list: &str| clause.rest.first().is_some_and(|next| words::is_one(next, list));
    match clause.verb.word {
        "kick" if next("off") || !clause.object.is_empty() && !clause.mentions(MEMBERS) => {
            plain(Execute, "R8", "sets something going")
        }
        "block" if next("until while") => plain(Read, "R16", "waits and tells"),
        "exchange" if !clause.mentions("token code credential grant authorization") => match context.is_about_money {
            true => plain(Financial, "R11", "moves money, or binds somebody to pay"),
            false => weak(Write, "R22", "changes something"),
        },
        _ => plain(Write, "R14", "changes who may do what"),
    }
}

const MEMBERS: &str =
    "member user collaborator participant player viewer guest attendee contributor peer bot client people person";

/// R11, for verbs of any sense: orders, invoices, refunds and their like.
fn money(clause: &Clause, context: Context) -> Option<Meaning> {
    use Sense::{Cancel, Change, Close, Make, Pay, Post, Replace, Run, Send, Submit};
    let acts = matches!(clause.verb.sense, Make | Change | Replace | Cancel | Close | Run | Send | Submit | Post | Pay)
        || matches!(clause.verb.word, "delete" | "remove" | "void" | "capture" | "authorize" | "authorise");
    // What is known of transactions is brought up to date.
    let updates = words::is_one(clause.verb.word, "refresh sync synchronize reload reindex rebuild process");
    if !acts || updates || clause.mentions("draft template estimate") || clause.goes_on_with("draft paper-only") {
        return None;
    }
    if clause.is_about(MOVES_MONEY) {
        return Some(plain(Financial, "R11", "moves money"));
    }
    // These words have another meaning where nothing else speaks of money.
    if context.is_about_money && clause.is_about(MOVES_MONEY_HERE) {
        return Some(plain(Financial, "R11", "moves money, or binds somebody to pay"));
    }
    let finalizes = matches!(
        clause.verb.word,
        "finalize" | "finalise" | "send" | "pay" | "approve" | "submit" | "accept" | "confirm" | "void"
    );
    (finalizes && clause.is_about("invoice quote bill estimate offer proposal") && context.is_about_money).then_some(plain(
        Financial,
        "R11",
        "makes it payable",
    ))
}

const MOVES_MONEY: &str = "payment refund payout charge withdrawal paymentlink purchase checkout payroll remittance reimbursement bet wager \
    disbursement chargeback dividend";

const MOVES_MONEY_HERE: &str = "order trade position transfer transaction invoice bill subscription deposit swap link locate note plan \
    reservation commitment exercise paymentintent intent bid loan allocation buyorder sellorder expense \
    journal";

fn look(clause: &Clause) -> Meaning {
    match clause.verb.word {
        "report" if clause.mentions("bug issue abuse feedback incident spam problem scorecard error") => {
            plain(Write, "R13", "an entry in a shared record")
        }
        "read" if clause.goes_on_with("consumer") => plain(Write, "R18", "what is read is marked as delivered"),
        "track" | "log" if clause.is_about("time work event worklog activity metric expense food meal") => {
            plain(Write, "R10", "stores a record")
        }
        "load" if clause.mentions("data dataset model extension table plugin") => plain(Execute, "R8", "loads data or a program"),
        "pull" if clause.mentions("image model change branch") => plain(Write, "R10", "copies an artefact"),
        "download" if clause.goes_on_with("directory subdirectory folder disk locally filesystem") => {
            plain(Write, "R16", "writes to disk")
        }
        "check" if clause.rest.first().is_some_and(|next| next == "out") => match clause.goes_on_with(BASKETS) {
            true => plain(Financial, "R11", "moves money, or binds somebody to pay"),
            false => plain(Write, "R17", "chooses what is worked with"),
        },
        "log" if clause.rest.first().is_some_and(|next| words::is_one(next, "in into out")) => {
            plain(Write, "R17", "later calls work with what it chooses")
        }
        // `Log a workout`, but not `the commit log`.
        "log" if clause.rest.first().is_some_and(|next| words::is_one(next, "a an your new")) => {
            plain(Write, "R10", "stores a record")
        }
        "receive" if clause.mentions("queue") || clause.goes_on_with("queue") => {
            plain(Write, "R18", "what is read is marked as delivered")
        }
        "poll" | "wait" | "watch" => plain(Read, "R16", "waits and tells"),
        "dump" | "snapshot" if clause.mentions(KEPT) => plain(Write, "R10", "creates a copy that stays"),
        "take" if clause.is_about("snapshot backup image") && clause.goes_on_with(KEPT) => {
            plain(Write, "R10", "creates a copy that stays")
        }
        "group" if clause.mentions("range row column layer node shape element selection tab card task") => {
            plain(Write, "R5", "changes how things are laid out")
        }
        "follow" | "subscribe" | "unsubscribe"
            if !clause.mentions("webhook hook endpoint") || clause.verb.word != "unsubscribe" =>
        {
            plain(Write, "R6", "an entry in a list changes")
        }
        "show" if clause.goes_on_with("unhide unhides") => plain(Write, "R5", "can be hidden again"),
        "unsubscribe" if clause.mentions("webhook hook endpoint") => plain(Destructive, "R6", "removes what was registered"),
        "take" if clause.mentions("ownership control action") => weak(Execute, "R22", "takes over"),
        "chat" | "ask" if clause.mentions("agent assistant") || clause.goes_on_with("agent") => {
            weak(Execute, "R12", "speaks to an assistant that may act")
        }
        "perform" | "provide" | "has" | "is" | "access" | "help" | "include" | "demonstrate" | "expose" | "surface" => {
            weak(Read, "R16", "tells something")
        }
        _ => plain(Read, "R16", "gives information"),
    }
}

const BASKETS: &str = "cart basket order";

/// Of what a copy is made that stays.
const KEPT: &str =
    "volume database cluster disk instance vm droplet server machine container namespace filesystem drive node guest";

fn advise(clause: &Clause) -> Meaning {
    match clause.verb.word {
        "evaluate" if clause.mentions("javascript script code js expression") || clause.goes_on_with("javascript script js") => {
            plain(Execute, "R4", "runs code")
        }
        "debug" if clause.mentions("session process") => plain(Execute, "R8", "steers a process"),
        "resolve"
            if clause.mentions(
                "thread comment issue conversation alert incident discussion finding ticket case request problem error conflict \
                 bug task market dispute",
            ) =>
        {
            plain(Write, "R5", "changes a status")
        }
        "optimize" | "optimise"
            if clause.mentions("db slide table database index disk layout presentation document element text") =>
        {
            plain(Write, "R10", "changes something")
        }
        "embed" if clause.mentions("document record") => weak(Write, "R22", "may store what it embeds"),
        _ => plain(Read, "R19", "gives back advice"),
    }
}

fn make(clause: &Clause) -> Meaning {
    if clause.verb.word == "make"
        && clause.is_about("request call")
        && clause.goes_on_with("api http https rest raw graphql endpoint")
    {
        return plain(Execute, "R2", "a request in which anything can be said");
    }
    if clause.mentions("draft") || clause.verb.word == "draft" {
        return Meaning { is_draft: true, ..plain(Write, "R13", "a draft goes nowhere yet") };
    }
    if clause.is_about("invite invitation") && clause.goes_on_with("link code url")
        || clause.is_about("link code") && clause.mentions("invite invitation")
    {
        return plain(Write, "R14", "changes who may do what");
    }
    if clause.verb.word == "book" && clause.mentions("flight hotel room ticket car ride stay trip seat") {
        return plain(Financial, "R11", "binds somebody to pay");
    }
    if clause.is_about(MESSAGES) {
        return plain(Execute, "R13", "delivers a message");
    }
    let stores = clause.is_about("container") && clause.mentions("blob cosmos storage database");
    if clause.is_about(WORK) && !stores
        || clause.is_about("session") && clause.mentions("browser interpreter shell sandbox terminal debug console kernel")
    {
        return plain(Execute, "R10", "what it creates is itself work");
    }
    if clause.is_about(FIRES) {
        return plain(Execute, "R9", "it will act by itself");
    }
    if clause.is_about(PROGRAMS) && !clause.mentions("version") {
        return plain(Execute, "R9", "puts a program into effect");
    }
    plain(Write, "R10", "creates something")
}

const MESSAGES: &str = "message email mail sms notification invitation invite dm tweet announcement reminder call broadcast";
const WORK: &str = "job run build execution deployment scan crawl simulation render batch invocation transcription finetune \
    training pod process container sandbox";
const FIRES: &str = "schedule trigger cron cronjob automation";
const PROGRAMS: &str = "stack resolver handler worker canary";

/// R15: what a verb means that elsewhere would mean something else.
fn in_browser(clause: &Clause, context: Context) -> Option<Meaning> {
    let acts = match clause.verb.word {
        "select" | "drop" => !clause.is_about("page tab window frame context browser") || clause.verb.word == "drop",
        "upload" | "handle" | "dismiss" | "accept" | "open" | "new" | "refresh" | "reload" | "mouse" | "move" | "manage" => {
            clause.mentions("dialog file page tab mouse url cursor pointer browser")
        }
        _ => false,
    };
    (context.is_in_browser && acts).then_some(plain(Execute, "R15", "acts on a page; the page decides what it means"))
}

fn question(context: Context) -> Meaning {
    match context.language {
        Language::Writes => weak(Execute, "R4", "a language in which anything can be said"),
        Language::Reads => plain(Read, "R4", "a language that cannot write"),
        Language::None => weak(Read, "R4", "asks a question"),
    }
}

fn choose(clause: &Clause) -> Meaning {
    if clause.verb.word == "select" {
        return weak(Write, "R17", "chooses what later calls work with");
    }
    if clause.verb.word == "use" {
        return weak(Write, "R22", "works with something");
    }
    plain(Write, "R17", "later calls work with what it chooses")
}

fn change(clause: &Clause) -> Meaning {
    // `Changes the status to paused or stopped`
    if clause.is_about("status state") && clause.goes_on_with("paused stopped running started resumed halted") {
        return plain(Execute, "R8", "steers something that runs");
    }
    let expires = matches!(clause.verb.word, "expire" | "touch") && !clause.mentions("file screen");
    if expires
        || clause.is_about("expiration expiry ttl retention lifecycle expire")
        || clause.mentions("expiration retention lifecycle ttl")
    {
        return weak(Destructive, "R6", "a setting whose purpose is deletion");
    }
    match clause.verb.word {
        "rotate" if clause.is_about("secret key password credential token") => {
            return plain(Destructive, "R14", "the old secret dies");
        }
        "upgrade" | "patch"
            if clause.mentions("software version firmware engine chart helm package plugin app extension dependency") =>
        {
            return plain(Execute, "R8", "puts another program into effect");
        }
        "upgrade"
            if clause.mentions("database cluster instance server node kernel os postgresql postgres mysql redis runtime")
                || clause.goes_on_with("migration") =>
        {
            return plain(Execute, "R8", "puts another program into effect");
        }
        "reverse" if clause.mentions("geocode lookup search dns image proxy") => return plain(Read, "R16", "gives information"),
        // What is known of somebody is looked up, or added to a record: in doubt that.
        "enrich" => return weak(Write, "R22", "what is known may be added to a record"),
        "persist" => return weak(Write, "R5", "keeps what would expire"),
        "release" if clause.mentions("address ip number") => {
            return plain(Destructive, "R6", "gives up what may not come back");
        }
        "complete" | "finalize" | "finalise" | "finish"
            if clause.is_about("migration deployment job rollout upgrade failover") =>
        {
            return plain(Execute, "R8", "lets a process come to its end");
        }
        "merge" | "combine" | "split" | "reverse" | "invert" | "concatenate" | "concat" if clause.is_about(VALUES) => {
            return plain(Read, "R19", "works out a value");
        }
        "confirm" | "approve" | "accept" if clause.mentions("deployment run job execution action command") => {
            return plain(Execute, "R8", "lets a process go on");
        }
        "translate" | "format" | "highlight" | "merge" if clause.mentions("code text json sql") => {
            return plain(Read, "R19", "gives back text");
        }
        _ => {}
    }
    if clause.is_about(PROGRAMS) || clause.is_about("code") && !clause.mentions("qr short promo discount coupon zip country area")
    {
        return plain(Execute, "R9", "puts another program into effect");
    }
    if clause.is_about(FIRES) {
        return plain(Execute, "R9", "it will act by itself");
    }
    if clause.is_about("scale replica") {
        return plain(Execute, "R8", "steers something that runs");
    }
    plain(Write, "R10", "changes something")
}

/// What is no thing of its own, but worked out and given back.
const VALUES: &str = "string array number geometry polygon linestring coordinate vector matrix hash timestamp";

fn put(clause: &Clause) -> Meaning {
    if clause.verb.word == "write" && clause.is_about("query cypher statement sql") {
        return plain(Execute, "R4", "a statement that changes data");
    }
    if clause.verb.word == "push" && clause.mentions("message notification alert") {
        return plain(Execute, "R13", "delivers a message");
    }
    plain(Write, "R7", "puts down content")
}

fn replace(clause: &Clause) -> Meaning {
    match clause.verb.word {
        "overwrite" | "clobber" => plain(Destructive, "R7", "overwrites"),
        "replace" | "rewrite"
            if clause
                .rest
                .iter()
                .take(5)
                .any(|word| words::is_one(word, "all entire entirely whole full complete contents content existing")) =>
        {
            plain(Destructive, "R7", "replaces as a whole")
        }
        "replace" | "rewrite" => plain(Write, "R7", "replaces a part"),
        "restore" if clause.mentions("database backup snapshot cluster instance table") => {
            plain(Execute, "R8", "starts a restore")
        }
        _ => plain(Write, "R5", "sets back what a further call can set again"),
    }
}

fn run(clause: &Clause, context: Context) -> Meaning {
    match clause.verb.word {
        "start" | "begin" | "initiate" if clause.mentions("auth authentication login oauth authorization") => {
            plain(Write, "R17", "later calls work with what it chooses")
        }
        "build" if clause.mentions(TEXTS) && !clause.mentions("image container app package project") => {
            plain(Read, "R19", "gives back text")
        }
        "promote" if clause.is_about("milestone label draft issue epic") => plain(Write, "R10", "changes something"),
        "run" | "execute" | "exec" | "perform" | "process" | "call" | "invoke"
            if clause.is_about(QUESTIONS) || clause.mentions("search read-only readonly") =>
        {
            question(context)
        }
        "run" | "execute" | "perform" | "process" if clause.is_about(CHECKS) => weak(Read, "R19", "runs a check and tells"),
        "execute" | "run" | "invoke" | "call" if clause.object.is_empty() || clause.is_about("operation action method") => {
            weak(Execute, "R8", "runs something")
        }
        "apply"
            if clause.is_about(
                "label tag patch diff edit filter style formatting format material texture theme permission change override \
                 effect preset discount coupon highlight color colour border transformation transform grouping sort layout font \
                 animation transition stash suggestion validation",
            ) =>
        {
            plain(Write, "R5", "changes something")
        }
        "eval" => weak(Execute, "R4", "runs code, or works out a value"),
        "bring" if !clause.rest.iter().take(3).any(|word| words::is_one(word, "up down online back")) => {
            weak(Write, "R10", "changes something")
        }
        "drain" if clause.is_about("queue") => plain(Destructive, "R18", "what is taken is gone"),
        "queue" if clause.object.is_empty() => weak(Execute, "R8", "sets something going"),
        "kill" | "call" | "wake" | "halt" => plain(Execute, "R8", "steers something that runs"),
        "sync" | "refresh" | "process" | "turn" | "command" | "control" | "play" | "skip" | "begin" => {
            weak(Execute, "R8", "sets something going")
        }
        "activate" if clause.is_about("project tab window page account user layer") => {
            plain(Write, "R17", "chooses what is worked with")
        }
        "activate" | "deactivate"
            if clause.is_about("column field attribute category label template feature coupon promotion theme") =>
        {
            plain(Write, "R5", "can be activated again")
        }
        "deactivate" | "suspend" if clause.is_about("user account member product price") => {
            plain(Write, "R14", "can be activated again")
        }
        "promote" if clause.mentions("user member") => plain(Write, "R14", "changes who may do what"),
        "mount" | "unmount" => plain(Write, "R17", "attaches"),
        _ => plain(Execute, "R8", "sets something going"),
    }
}

/// What may be asked without anything happening.
const QUESTIONS: &str = "query search question lookup aggregation find select";
const CHECKS: &str = "check analysis audit diagnostic validation lint assessment linter comparison review calculation estimate \
    inspection probe healthcheck";

fn cancel(clause: &Clause) -> Meaning {
    let waits = "downtime schedule reminder invitation appointment event meeting request booking invite";
    match clause.verb.word {
        "terminate"
            if clause.mentions(
                "query session process job execution connection backend request app application program task workflow call run \
                 thread",
            ) =>
        {
            plain(Execute, "R8", "stops something that runs")
        }
        // A name that does not say what.
        "terminate" if clause.object.iter().all(|word| clauses::is_adverb(word)) => {
            weak(Destructive, "R8", "ends something together with its data")
        }
        "terminate" => plain(Destructive, "R8", "ends something together with its data"),
        _ if clause.mentions("default") => plain(Write, "R5", "a setting goes"),
        _ if clause.is_about(waits) => plain(Write, "R8", "cancels what has not begun"),
        _ => plain(Execute, "R8", "stops something that runs"),
    }
}

fn send(clause: &Clause) -> Meaning {
    match clause.verb.word {
        _ if clause.is_about("feedback telemetry") => plain(Write, "R13", "tells the vendor"),
        "send"
            if !clause.mentions(MESSAGES)
                && clause.rest.windows(2).any(|pair| words::is_one(&pair[0], "to the") && words::is_one(&pair[1], PLACES)) =>
        {
            plain(Write, "R5", "can be moved back")
        }
        "contact" | "mail" | "email" | "message" | "text" | "alert" if clause.object.is_empty() => {
            weak(Execute, "R13", "may deliver a message")
        }
        "speak" | "say" => weak(Execute, "R12", "speaks"),
        "send" | "forward" if clause.is_about("request query prompt") && !clause.mentions("friend connection") => {
            weak(Execute, "R13", "sends something off")
        }
        _ => plain(Execute, "R13", "delivers a message"),
    }
}

/// Where what is sent has gone to nobody.
const PLACES: &str = "archive trash back front backward forward bottom top";

fn post(clause: &Clause) -> Meaning {
    let record = "pull comment note review issue ticket discussion draft annotation page worklog version notes merge";
    let shared =
        clause.mentions(record) || clause.goes_on_with("issue comment ticket discussion page file document pr review notes");
    if clause.verb.word == "comment" || (shared && !clause.mentions("channel message")) {
        return plain(Write, "R13", "an entry that can be edited, in a shared record");
    }
    match clause.verb.word {
        "post" | "respond" | "reply" if clause.object.is_empty() => weak(Execute, "R13", "may deliver a message"),
        "post" if clause.is_about("search query") => weak(Read, "R16", "asks"),
        _ => plain(Execute, "R13", "delivers a message"),
    }
}

fn page(clause: &Clause) -> Meaning {
    let records = "field cell status label value row";
    match clause.verb.word {
        "choose" | "focus" | "act" | "mouse" | "keyboard" => weak(Execute, "R15", "acts on a page"),
        "fill" if clause.mentions("color colour shape layer gap") || clause.is_about(records) && clause.mentions("cell") => {
            plain(Write, "R10", "changes something")
        }
        _ => plain(Execute, "R15", "acts on a page; the page decides what it means"),
    }
}

fn pay(clause: &Clause, context: Context) -> Meaning {
    let clear = "pay refund withdraw payout buy sell purchase reimburse repay remit liquidate donate unstake";
    if words::is_one(clause.verb.word, clear) {
        return plain(Financial, "R11", "moves money");
    }
    let of_funds = clause.object.is_empty()
        || clause
            .mentions("fund funds money token balance crypto cash coin asset payment amount usdc eth sol currency stock share");
    if context.is_about_money && (clause.verb.word != "transfer" || of_funds) {
        return plain(Financial, "R11", "moves money, or binds somebody to pay");
    }
    match clause.verb.word {
        "transfer" => weak(Write, "R14", "gives something to another owner"),
        "checkout" if clause.mentions(BASKETS) => plain(Financial, "R11", "moves money, or binds somebody to pay"),
        "checkout" => plain(Write, "R17", "chooses what is worked with"),
        "order" | "charge" | "trade" => weak(Financial, "R11", "may bind somebody to pay"),
        _ => weak(Write, "R22", "changes something"),
    }
}

fn submit(clause: &Clause) -> Meaning {
    if clause.is_about("feedback review comment issue bug report rating score request ticket") {
        return plain(Write, "R13", "an entry in a shared record");
    }
    match clause.verb.word {
        "submit" => plain(Execute, "R8", "hands something in that is acted upon"),
        _ => weak(Write, "R22", "asks somebody for something"),
    }
}

fn open(clause: &Clause) -> Meaning {
    if clause.mentions("node record document entity note section") {
        return plain(Read, "R16", "gives information");
    }
    if clause.mentions("pull issue ticket merge pr case") {
        return plain(Write, "R13", "an entry in a shared record");
    }
    weak(Execute, "R15", "opens something that runs")
}

fn close(clause: &Clause) -> Meaning {
    if clause.mentions("issue ticket pull merge pr case task incident milestone alert sprint epic conversation poll deal") {
        return plain(Write, "R5", "can be opened again");
    }
    if clause.mentions("connection file dialog") {
        return weak(Write, "R17", "later calls work without it");
    }
    plain(Execute, "R8", "ends something that runs")
}

fn reset(clause: &Clause) -> Meaning {
    match clause.verb.word {
        "undo" | "redo" => plain(Write, "R5", "can be done again"),
        _ if clause.mentions("password credential key secret token") => plain(Destructive, "R14", "the old secret dies"),
        _ if clause.mentions("database branch data table environment cluster memory statistic index account") => {
            plain(Destructive, "R6", "what was there is gone")
        }
        _ => weak(Write, "R5", "sets something back"),
    }
}

fn test(clause: &Clause) -> Meaning {
    if clause.mentions("connection connectivity credential access regex pattern auth authentication point value string") {
        return plain(Read, "R19", "tries and tells");
    }
    weak(Execute, "R8", "runs a test")
}

fn schedule(clause: &Clause) -> Meaning {
    if clause.mentions("meeting event downtime appointment") {
        return plain(Write, "R10", "an entry in a calendar");
    }
    plain(Execute, "R9", "it will act by itself")
}
