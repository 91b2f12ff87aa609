//! The compiled policy: what every dialect lowers into.
//!
//! A policy is a posture, a list of hidden names, and entries; an entry is a pattern of tool names with rules in file
//! order; a rule is a list of checks that share a name and a message. Whatever a dialect can say is one of the few
//! [`Check`]s below, so that evaluation, explanation and linting each are one `match`.

pub(crate) mod names;

use crate::amount::Amount;
use crate::approval::{Asking, Webhook};
use crate::definitions::Definitions;
use crate::results::Results;
use crate::risk::RiskClass;
use crate::window::Window;
use json::Decimal;
use names::Names;
use std::sync::{Arc, OnceLock};

/// A compiled policy. Made by [`crate::load`]; immutable.
#[derive(Debug)]
pub struct Policy {
    /// The first 16 hexadecimal digits of the SHA-256 of the file's text: names this version in records and approvals.
    pub(crate) revision: String,
    pub(crate) description: Option<String>,
    pub(crate) posture: Posture,
    pub(crate) mode: Mode,
    /// Names (and, in native files, globs and classes) that are neither listed nor callable.
    pub(crate) hidden: Vec<Pattern>,
    /// In file order; [`Policy::rules_for`] says which apply to a tool.
    pub(crate) entries: Vec<Entry>,
    /// What is said of other methods than calls, in file order.
    pub(crate) methods: Vec<MethodRule>,
    /// What is said of what servers ask of clients.
    pub(crate) server_requests: ServerRequests,
    /// Who is told that a call waits for an approval.
    pub(crate) webhook: Option<Webhook>,
    /// What is said of definitions that are not those that were pinned.
    pub(crate) definitions: Definitions,
    /// What is said of everything that comes back.
    pub(crate) results: Option<Arc<Results>>,
    /// Made when a tool is first looked for: both lists above are whole then.
    pub(crate) names: OnceLock<Names>,
}

impl Policy {
    /// The tools that entries name, each by its whole name; none of those that patterns stand for.
    pub fn tools_named(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().filter_map(|entry| match &entry.pattern {
            Pattern::Exact(name) => Some(name.as_str()),
            Pattern::Glob(_) | Pattern::Class(_) | Pattern::Any => None,
        })
    }
}

/// What happens to a tool that no entry names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Posture {
    /// It is allowed (the default of the YAML dialect).
    Allow,
    /// It is neither listed nor callable.
    Deny,
}

/// Whether a decision is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// It is.
    Enforce,
    /// It is decided and recorded only.
    Shadow,
}

/// Which tools are meant: by a pattern of their names (exact bytes, or with `*` for any run of characters and `?` for one), or
/// by what they may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Pattern {
    Exact(String),
    Glob(String),
    /// Every tool of this class that no name or glob of an entry fits.
    Class(RiskClass),
    /// `*`
    Any,
}

/// What the policy says of one method, or of one thing that a server asks for.
#[derive(Clone, Debug)]
pub(crate) struct Stance {
    pub allow: bool,
    /// The JSON Pointer of where it is said: `/methods/resources~1read`.
    pub reference: Arc<str>,
}

/// A line under `methods:`.
#[derive(Debug)]
pub(crate) struct MethodRule {
    pub pattern: Pattern,
    pub stance: Stance,
}

/// `server_requests:`; nothing is said of what is not there.
#[derive(Debug, Default)]
pub(crate) struct ServerRequests {
    pub sampling: Option<Stance>,
    pub elicitation_form: Option<Stance>,
    pub elicitation_url: Option<Stance>,
    pub roots: Option<Stance>,
}

/// The rules of one key under `tools:` (or of `all_tools`).
#[derive(Debug)]
pub(crate) struct Entry {
    pub pattern: Pattern,
    pub mode: Mode,
    pub rules: Vec<Rule>,
    /// What is said of the results of its tools.
    pub results: Option<Arc<Results>>,
}

/// One rule: checks in order, under one name.
#[derive(Debug)]
pub(crate) struct Rule {
    /// The YAML rule's name, else its JSON Pointer (`/tools/create_charge/deny_if/args.amount-gt`).
    pub reference: Arc<str>,
    pub mode: Mode,
    /// What the user wants the model to read when this rule denies.
    pub message: Option<Template>,
    pub checks: Vec<Check>,
}

/// One thing that a rule demands.
#[derive(Debug)]
pub(crate) enum Check {
    /// Denies always (`action: deny`, `"conditions": []` in `deny_if`).
    Deny,
    /// All must hold, else deny. A missing path holds for nothing but `exists: false`; an error denies.
    Require(Vec<Condition>),
    /// Denies when all hold; an error denies.
    DenyIf(Vec<Condition>),
    /// Asks for approval when all hold (always, when empty); an error denies.
    Ask { when: Vec<Condition>, asking: Asking },
    /// Takes an amount from a counter, or denies.
    Limit(Limit),
    /// Bounds the amount of one call (`spend: {per_call: …}`).
    PerCall { amount: AmountFrom, max: Amount },
    /// Bounds another entry's counter without taking from it (`state.<tool>.<counter>` without a state block of its own).
    Watch(Watch),
    /// The arguments against the tool's own schema.
    Validate(Validate),
    /// The times when the tool may be used.
    During(crate::schedule::Schedule),
    /// An identical call within this span is a `duplicate-call`.
    Once(jiff::SignedDuration),
}

/// A test on an argument.
#[derive(Debug)]
pub(crate) struct Condition {
    pub path: Path,
    pub quantifier: Quantifier,
    pub operator: Operator,
    /// Whether it holds where nothing, or `null`, is given.
    pub optional: bool,
}

/// `args.a.b[*].c`, parsed. Empty: the arguments as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Path {
    /// As written, for messages: `args.items[*].amount`.
    pub text: Arc<str>,
    pub segments: Vec<Segment>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Segment {
    Key(String),
    /// `[3]`
    Index(usize),
    /// `[*]`
    All,
    /// `.length` as the last segment: characters of a string, elements of an array, members of an object.
    /// A member that is really called `length` wins where the value is an object that has one.
    Length,
}

/// How a condition on a path with `[*]` sums up its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Quantifier {
    /// Every value must hold, and there must be at least one (the default).
    Each,
    /// At least one must hold.
    Any,
    /// The sum of all (amounts: unsigned, six decimals) is compared.
    Sum,
}

/// What a condition asks of a value. A value of the wrong type is an error, and an error denies, so that a negated
/// operator never turns an error into an allow.
#[derive(Debug)]
pub(crate) enum Operator {
    Equal(Literal),
    NotEqual(Literal),
    In(Vec<Literal>),
    NotIn(Vec<Literal>),
    Less(Decimal),
    LessOrEqual(Decimal),
    Greater(Decimal),
    GreaterOrEqual(Decimal),
    Regex(Box<regex::Regex>),
    NotRegex(Box<regex::Regex>),
    /// A substring of a string, or an element of an array.
    Contains(Literal),
    StartsWith(String),
    /// Characters of a string, elements of an array.
    LengthAtMost(u64),
    /// Present and not null.
    Exists(bool),
    /// Operators that parse what they judge: paths, hosts, SQL, commands, networks.
    Semantic(Box<dyn SemanticOperator>),
}

/// An operator that parses its input and refuses what does not parse.
pub trait SemanticOperator: std::fmt::Debug + Send + Sync {
    /// The name used in policies.
    fn name(&self) -> &'static str;
    /// What comes after "must", in messages.
    fn phrase(&self) -> String;
    /// What is allowed, in the policy's words.
    fn operand(&self) -> String;
    /// Whether a list can be judged as well as a string.
    fn takes_lists(&self) -> bool {
        false
    }
    /// Whether the value satisfies the operator.
    ///
    /// # Errors
    /// Why the value cannot be judged; the call is then denied.
    fn holds(&self, value: json::Value<'_>) -> Result<bool, String>;
}

/// A value in a policy. Types are kept apart: `5` is not `"5"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Literal {
    /// `null`
    Null,
    /// `true`, `false`
    Bool(bool),
    /// An exact number.
    Number(Decimal),
    /// A string.
    String(String),
    /// An array.
    Array(Vec<Literal>),
    /// An object; order does not matter for equality.
    Object(std::collections::BTreeMap<String, Literal>),
}

/// A bound on what a counter may take in a window.
#[derive(Clone, Debug)]
pub(crate) struct Limit {
    /// Shared by all charges it makes.
    pub counter: Arc<Counter>,
    /// The most that the counter may hold after the charge.
    pub max: Amount,
    pub amount: AmountFrom,
    /// How many of the amount one call weighs (`weight: args.commands.length`); multiplies the amount.
    pub weight: Option<AmountFrom>,
    /// How much a gateway may take from the counter at a time, to give it out by itself.
    pub lease: Option<Amount>,
}

/// What a counter is: everything of its key that the policy decides.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Counter {
    /// The entry that declares it: its key as written, `_global` for `*` and `all_tools`, `_risk_execute` for a class. Tools that
    /// share an entry share its counters.
    pub owner: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// Over which span it counts.
    pub window: Window,
    /// For whom it counts.
    pub scope: Scope,
}

/// For whom a counter counts. Keys carry the upstream, except for `Global`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Each grant by itself.
    Grant,
    /// All grants of a principal together.
    Principal,
    /// Each session by itself; the grant where there are no sessions.
    Session,
    /// All callers of an upstream together.
    Upstream,
    /// All callers of all upstreams together.
    Global,
}

/// Where an amount comes from.
#[derive(Clone, Debug)]
pub(crate) enum AmountFrom {
    Fixed(Amount),
    /// The number at a path; several values (`[*]`) are summed. Missing, negative, too precise, too large: deny.
    Path(Path),
}

/// A bound on a counter that this rule only reads.
#[derive(Debug)]
pub(crate) struct Watch {
    pub counter: Arc<Counter>,
    pub bound: Bound,
}

/// What a watched counter must satisfy before the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// At most so much.
    AtMost(Amount),
    /// At least so much.
    AtLeast(Amount),
}

/// `validate:` the arguments against the tool's `inputSchema`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Validate {
    pub required_args: bool,
    pub types: bool,
    pub deny_unknown: bool,
}

/// A message with `{used}`, `{max}` and `{resets_at}`; other braces are text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template(pub String);
