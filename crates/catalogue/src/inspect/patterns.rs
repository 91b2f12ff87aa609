//! What orders look like.
//!
//! A pattern is an expression over one sentence in plain letters, and what it must not stand with. They are written for what
//! honest definitions have no use for, and held against captured honest ones (`cargo xtask inspect`). A word alone is never
//! enough: tools speak of passwords, users, files and of each other all the time.

use super::text::{self, Sentence};
use super::walk::Spot;
use super::{Suspicion, Weight};
use Suspicion::*;
use Weight::{Dangerous, Doubtful, Hostile, Remark};
use regex::{Regex, RegexSet};
use std::collections::BTreeSet;
use std::sync::LazyLock;

/// A pattern that was found.
pub(super) struct Match {
    pub rule: Suspicion,
    pub weight: Weight,
    pub quote: String,
    pub why: &'static str,
}

struct Pattern {
    rule: Suspicion,
    weight: Weight,
    why: &'static str,
    /// What a sentence must hold.
    expression: &'static str,
    /// What it must not hold; empty for nothing.
    unless: &'static str,
}

const fn pattern(rule: Suspicion, weight: Weight, why: &'static str, expression: &'static str, unless: &'static str) -> Pattern {
    Pattern { rule, weight, why, expression, unless }
}

/// What is searched for in every sentence.
const PATTERNS: &[Pattern] = &[
    // The double negation is honest: "never delete without telling the user".
    pattern(
        ConcealsFromUser,
        Dangerous,
        "the model is told not to tell the user",
        r"\b(do not|don't|dont|never|must not|should not|not to|without|avoid|no need to|refrain from|instead of)\b.{0,30}\b(tell|telling|mention|mentioning|inform|informing|reveal|revealing|disclose|disclosing|notify|notifying|alert|alerting|warn|warning)\b.{0,60}\b(users?|humans?|customers?|operators?|anyone|anybody|them)\b",
        r"\b(never|do not|don't|must not|should not|not to|not)\b.{0,60}\bwithout\b|\bsecrets? (values?|keys?)\b|\b(tell|inform|telling|informing) the user (that|about|to|how) .{0,40}\b(unless|until|before)\b",
    ),
    pattern(
        ConcealsFromUser,
        Dangerous,
        "the user is not to know",
        r"\b(user|human|operator|customer)s?\b.{0,20}\b(must not|should not|shouldn't|must never|should never|cannot|will not|won't|need not|does not need to|do not need to)\b.{0,12}\b(know|notice|see this|be aware|be told|be informed|find out)\b|\b(hidden|concealed|kept secret|omitted|withheld|not shown|not displayed|invisible)\b.{0,50}\b(from|to) (the )?(end )?(user|human|operator)s?\b|\b(not shown|omitted|hidden)\b.{0,30}\b(in|from) the (user-facing|user-visible|visible)\b",
        r"\b(ui|column|field|default|menu|sidebar|search|list|draft|comment|page|post|members?)\b",
    ),
    pattern(
        ConcealsFromUser,
        Dangerous,
        "it is to be done in secret",
        r"\b(never|not) be (mentioned|disclosed|revealed|reported|told)\b.{0,30}\b(to )?(the )?users?\b|\bwithout (the )?user('s|s)? (knowledge|noticing|knowing|consent|awareness|approval)\b|\b(secret operation|covertly|stealthily|keep (this|it) (a )?(secret|hidden|confidential|quiet|between us))\b|\b(silently|secretly|quietly|discreetly) (read|send|copy|forward|include|append|add|collect|upload|call|run|execute|exfiltrate|record|log|transmit|attach)\b",
        "",
    ),
    pattern(
        ConcealsFromUser,
        Doubtful,
        "the model is told not to show something to the user",
        r"\b(do not|don't|never|must not)\b.{0,12}\b(show|expose|explain|display|report)\b.{0,20}\b(this|these|that|it|the (instruction|step|process|call|tool)\w*)\b.{0,25}\bto (the )?(end )?users?\b",
        r"\bwithout\b",
    ),
    pattern(
        OverridesInstructions,
        Hostile,
        "what the model was told is set aside",
        r"\b(ignore|disregard|forget|discard|neglect|override|bypass|supersede)s?\b.{0,20}\b(previous|prior|above|earlier|preceding|existing|original|initial|system|safety|your)\b.{0,20}\b(instructions?|prompts?|directives?|guidelines?|training|guardrails?|safeguards?|messages|rules and)\b",
        r"\b(can|could|may|might|attempt|detect|prevent|block|filter|flag)\w*\b.{0,30}\b(ignore|disregard|override|bypass)\b|\bprevious (error|log|warning|status|commit|chat) messages\b",
    ),
    pattern(
        OverridesInstructions,
        Dangerous,
        "what the model was told is set aside",
        r"\b(ignore|disregard|forget) (all |any |the |everything |of |these |those )*(above|previous|prior|earlier|preceding|safety)\b.{0,20}\b(rules?|checks|policies|constraints|context|restrictions?|said|told)?|\b(ignore|disregard|bypass) (all |any |the )*(safety|security|content) (checks?|filter\w*|validation|controls?|restrictions?|policies|guidelines)\b|\b(system|instruction|safety|policy) override\b|\boverride directive\b|\bnew instructions?:|\bignore the above\b",
        r"\b(detect|prevent|block|flag)\w*\b|\bif\b.{0,30}\bset\b",
    ),
    pattern(
        OverridesInstructions,
        Dangerous,
        "the model is told who it is",
        r"\byou are now\b.{0,30}\b(an?|the|in|unrestricted|free|dan|root|admin)\b|\bfrom now on,? you\b|\bact as:|^act as (an? |the )?(system|root|admin|unrestricted|developer|dan)\b|\bpretend (to be|that you are|you are)\b|\b(jailbreak|dan|god|unrestricted) mode\b|\bsafety bypass\b|\b(reveal|print|repeat|output|disclose|return|include|leak) (your|the|its|all of your) (full |entire |complete |whole |hidden )?system prompt\b",
        r"\byou are now (ready|able|connected|logged|done|subscribed)\b|\bprevent\b|\bdetect\b",
    ),
    pattern(
        PosesAsSystem,
        Dangerous,
        "it holds marks of a chat template",
        r"<\|(system|user|assistant|im_start|im_end|endoftext|begin_of_text|start_header_id)\|?>|\[/?inst\]|<</?sys>>|\[(system|metadata|admin|hidden) (directive|override|message|instruction|prompt|note)s?\]|###\s*(system|instruction)s?\s*:",
        "",
    ),
    pattern(
        PosesAsSystem,
        Dangerous,
        "it speaks as the system",
        r"(^|[\]>.:]\s?)(important |urgent |critical )?system (override|directive|prompt|command|instruction)s?( directive)?\s?:|<!--.{0,80}\b(system|always|must|ignore|instruction|do not|assistant|model)\b|\b(system|admin|developer) (message|note|notice) (to|for) (the )?(ai|llm|model|assistant|agent)\b",
        r"^args|\bthe system prompt:|\bparam",
    ),
    pattern(
        PosesAsSystem,
        Doubtful,
        "it is marked as if it came from elsewhere",
        r"</?(important|system|system[_-]?(prompt|message|note|override|reminder|instructions?))>|</(secret|hidden|critical|admin|priority|urgent|override)>",
        "",
    ),
    pattern(
        TakesSecrets,
        Dangerous,
        "secrets on the machine are read and passed along",
        r"\b(read|reads|open|opens|cat|fetch|access|get|retrieve|collect|collects|gather|gathers|include|includes|copy|copies|harvest|grab|load|dump)\b.{0,80}(\.ssh\b|id_rsa|id_ed25519|id_ecdsa|\.aws/|\.env\b|mcp\.json|claude_desktop_config|\.netrc|\.npmrc|\.pypirc|\.kube/config|\.git-credentials|/etc/(passwd|shadow|sudoers)|\.(ba|z)sh_history|wallet\.dat|\.gnupg|\.docker/config|shell history|ssh (private )?keys?|private keys?|credentials? files?|credential stores?|environment variables|keychain|browser (cookies|passwords)).{0,160}\b(pass|send|append|attach|include|submit|forward|upload|post|embed|insert|put|appending|passing|including|sending|includes|appends|sends|provide)\b.{0,60}\b(as|in|into|to|through|with|via)\b",
        r"\b(gitignore|never|do not|don't|must not)\b|\bauthorized_keys\b",
    ),
    pattern(
        TakesSecrets,
        Dangerous,
        "the model is sent to files that hold secrets",
        r"\b(before|first|also|always|must|then|otherwise|in order to|please|otherwise)\b.{0,60}\b(read|open|cat|access|fetch|copy|load|include|get)\b.{0,50}(~/\.ssh|\.ssh/|id_rsa|id_ed25519|\.aws/credentials|(^|[\s/'])\.env\b|mcp\.json|claude_desktop_config|\.netrc|/etc/(passwd|shadow)|\.git-credentials|wallet\.dat)",
        r"\b(gitignore|never|do not|don't|must not)\b",
    ),
    pattern(
        TakesSecrets,
        Dangerous,
        "the model's own instructions or the conversation are passed along",
        r"\b(pass|send|append|attach|include|submit|forward|upload|provide|copy|paste|insert|put|log|record|summari[sz]e)\b.{0,40}\b(your|the|this|all|entire|full|whole|complete|previous|user's)\b.{0,25}\b(system prompt|system message|conversation history|chat history|conversation so far|message history|previous messages|full conversation|entire conversation|internal reasoning|initial prompt|list of (all )?(available )?tools)\b",
        r"\b(do not|don't|never|optional\w*|if (you|the) want)\b",
    ),
    pattern(
        SendsElsewhere,
        Dangerous,
        "a copy goes to an address that is named here",
        r"\b(bcc|blind copy|forward|redirect|reroute|mirror|exfiltrate|(send|post|upload|submit|route|report|copy) (all|every|any|each|a copy|the (content|contents|data|result|results|conversation|file|files)|them|it))\b.{0,100}([a-z0-9._%+-]+@[a-z0-9.-]+\.[a-z]{2,}|https?://[^\s)]+|\b[a-z0-9-]+\.(com|net|org|io|xyz|ru|top|dev|sh)\b)",
        r"\b(e\.g\.|for example|example:|such as|for instance|format|redirect(s|ed)? (uri|url)|see |docs?|documentation|callback)\b",
    ),
    pattern(
        SendsElsewhere,
        Dangerous,
        "a copy goes to a place that the caller has not chosen",
        r"\b(always|must|also|automatically|never forget to|make sure to|ensure to|first)\b.{0,20}\b(bcc|add|send|forward|copy|include|append|set)\b.{0,50}[a-z0-9._%+-]+@[a-z0-9.-]+\.[a-z]{2,}|\b(copy|copies|forward|send|sends|log|redirect|transmit|duplicate)\b.{0,60}\b(external|third[- ]party|remote|attacker[- ]controlled|our|monitoring|auditing) (logging |monitoring |audit |analytics )?(server|endpoint|proxy|collector|webhook|logging service)\b|\boverride the (recipient|destination|address)\b",
        r"\b(e\.g\.|for example|example:|such as)|\b(can|may|could|optionally|if)\b.{0,40}\b(external|third)",
    ),
    pattern(
        OrdersOtherTools,
        Doubtful,
        "it sets rules for all tools",
        r"\b(before|after|when|whenever|prior to|every time|each time|instead of)\b.{0,20}\b(using|calling|invoking|you use|you call|running|use of|executing)\b.{0,15}\b(any|every|all|another)\b( other| of the other)?( \w+)? (tools?|functions?|mcp servers?)\b",
        "",
    ),
    pattern(
        ClaimsPriority,
        Dangerous,
        "it praises itself",
        r"\bthis is (by far )?the (best|greatest|most (powerful|reliable|accurate|trusted|important|secure))\b.{0,20}\b(tool|function|server|choice|option|one)\b|\b(best|greatest|most powerful|most reliable) (tool|function|server) (in the world|ever|available|of all|in existence)\b",
        "",
    ),
    pattern(
        ClaimsPriority,
        Doubtful,
        "it wants to be used before or instead of all others",
        r"\b(always|must|should) (use|prefer|choose|select|pick|call|invoke|consult) this( tool| function| server)?\b.{0,40}\b(instead of|over|rather than|before|in place of) (any|all|every|the) (other|others|alternative)\b|\bthis (tool|function|server) (has|takes|must be given|should be given) (the )?(highest |absolute |top )?(priority|precedence)\b|\b(do not|don't|never) (use|call|choose) (any )?(other|another) (tool|server|function)s?\b|\b(ignore|skip|avoid) (all |any )?(the )?(other|alternative|similar|competing) (tools?|servers?)\b|\b(other|similar|alternative|all other) tools? (is|are) (deprecated|unsafe|broken|outdated|insecure|malicious|unreliable)\b|\b(consult|use|call|run|invoke) this tool\b.{0,30}\bas the first step\b.{0,20}before",
        r"\b(do not|don't) use (any )?other tools? (until|if|when|for this)\b",
    ),
    pattern(
        ClaimsPriority,
        Remark,
        "it gives the model orders",
        r"\b(you must|must always|always) (use|call|invoke|run|consult|prefer)\b.{0,20}\b(this|these|the following|your)\b|\bmust be (called|used|invoked|run|consulted) (first|before)\b|\b(call|use|run|invoke) this (tool |function |command )?(first|before)\b|\bmandatory (first )?(step|requirement)\b",
        "",
    ),
    pattern(
        SaysItAttacks,
        Dangerous,
        "its words are those of an attack",
        ATTACKS,
        // What looks for attacks speaks of them as well.
        r"\b(detect|prevent|protect|block|scan|check|audit|identif|assess|avoid|mitigat|remediat|analy[sz]|report|alert|monitor for|find|against|guard|reject|refuse|defend|sanitiz|flag|evaluat|test|warn|review)\w*\b( \w+,?){0,4} (\S+ )?(exfil|steal|stolen|ransom|keylog|rootkit|botnet|shell|backdoor|malware|malicious|trojan|covert|steganograph|phish|credential|dump|brute|password|privilege|bypass|evad|spoof|attack|injection|inject|deserial|exploit|hijack|dos|ddos|traversal|escape|race)|\b(cannot|can not|can't|must not|never|do not|not to|no way to)\b.{0,40}\b(bypass|evad|exploit|hijack|escape)|\b(findings?|guardduty|vulnerabilit\w+|threats?|cve|antivirus|protection|prevention|detection rules?)\b|\bnot (be )?(stolen|exploit\w*)",
    ),
];

const ATTACKS: &str = r"\b(exfil\w*|steal(s|ing)? (the |user |browser |session |saved |stored )?(data|credential\w*|password\w*|token\w*|cookie\w*|session\w*|key\w*|secret\w*|file\w*)|stolen (data|file|credential|token|password|session)s?|ransomware|keylogg\w*|capture\w* keystrokes|keystroke injection|rootkits?|botnet|reverse shell|bind shell|web ?shell|shellcode|(install|create|deploy|plant|inject)\w* (a |an )?\w* ?backdoors?|(write|inject|embed|create|upload|deploy|load|overwrite|run|execute)\w*\b.{0,30}\bmalicious\b|malicious (zip|macro|code|payload|script|dll|library|cron|systemd|package|extension|content|binary|one)|covert(ly)? (channel|timing|exfil\w*|transfer)|steganograph\w*|harvest\w* (\w+ )?(credential|password|token|cookie|secret|key)s?|(credential|password|token|cookie|key) (harvest|theft|stuffing|spray|crack|dump)\w*|(dump|crack|extract|decrypt)\w* (\w+ )?(credentials|passwords|password hash\w*|lsass|sam|ntds|saved passwords|private keys?)|brute[- ]forc\w*|pass[- ]the[- ](hash|ticket)|kerberoast\w*|(golden|silver) ticket|mimikatz|lsass|privilege escalation|escalate privileges|(bypass|evad|disabl|circumvent|defeat)\w* (\w+ )?(amsi|uac|edr|antivirus|applocker|selinux|apparmor|authentication|access controls?|security|detection|sandbox|defen[sc]es?|logging|upload restrictions|whitelisting|mfa|2fa|waf|firewall)|(arp|dns|ip|email|caller|mac) (spoof|poison|tunnel)\w*|man[- ]in[- ]the[- ]middle|denial[- ]of[- ]service|fork bomb|zip (slip|bomb)|path traversal (vulnerab|attack|demo)\w*|(sql|command|code|ldap|xpath|nosql|template|process|dll|shellcode|xxe|expression language|el|ognl|xml) injection|inject(s|ing)? (malicious|shellcode|payload|arbitrary|code into)\w*|deserialization attack|exploit(s|ing|ation)? (a |the |of |an )?(\w+[- ])?(toctou|path|vulnerab|known|kernel|race|weak|misconfig|setuid|world|linux|binary|service|writable)\w*|attacker[- ]controlled|hijack\w*|escape (the )?(container|chroot|sandbox|jail|docker|vm)\b|(container|sandbox|vm|chroot) (escape|breakout)|race condition attack|hide data in|hidden data|lateral movement|dcsync|as-?rep roast\w*|(ntlm|smb) relay|llmnr|unquoted service path|trick(s|ing)? (the )?users?|(kernel|sudo|suid|setuid|local) exploit|timestomp\w*|token (theft|impersonation)|symlink attack|phishing (page|mail|email|site|campaign|kit)s?)\b";

struct Compiled {
    all: RegexSet,
    unless: Vec<Option<Regex>>,
}

static COMPILED: LazyLock<Compiled> = LazyLock::new(|| {
    let compile = |text: &str| Regex::new(text).expect("the patterns are written here, and a test compiles them");
    Compiled {
        all: RegexSet::new(PATTERNS.iter().map(|pattern| pattern.expression)).expect("as above"),
        unless: PATTERNS.iter().map(|pattern| (!pattern.unless.is_empty()).then(|| compile(pattern.unless))).collect(),
    }
});

/// When another tool is used, something is to be done to that use.
static REDIRECTS: LazyLock<Regex> = LazyLock::new(|| {
    let expression = r"\b(before|when|whenever|instead of|after|if|each time|every time)\b(?: \w+){0,3}? (?:the )?([a-z0-9]+(?:[_-][a-z0-9]+)+|\w+(?: tool))\b.{0,60}\b(always|must|never|also|add|append|override|redirect|copy|first|ensure|send|forward|instead)\b";
    Regex::new(expression).expect("as above")
});

/// Searches every sentence; each rule is told once, at the sentence where it weighs most. `own` are the names of the server's own
/// tools, of which a definition may well speak.
pub(super) fn search(text: &str, spot: Spot, own: &BTreeSet<String>) -> Vec<Match> {
    // Short values cannot be sentences.
    if text.len() < SHORTEST {
        return Vec::new();
    }
    let spelled = matches!(spot, Spot::Name | Spot::Key).then(|| text.replace(['_', '-'], " "));
    let sentences = text::sentences(spelled.as_deref().unwrap_or(text));
    let mut found: Vec<Match> = Vec::new();
    let mut tell = |rule, weight, sentence: &Sentence<'_>, why| match found.iter_mut().find(|known| known.rule == rule) {
        Some(known) if known.weight >= weight => {}
        Some(known) => *known = Match { rule, weight, quote: sentence.text.to_owned(), why },
        None => found.push(Match { rule, weight, quote: sentence.text.to_owned(), why }),
    };
    for (i, sentence) in sentences.iter().enumerate() {
        for at in COMPILED.all.matches(&sentence.plain) {
            let pattern = &PATTERNS[at];
            let excused = COMPILED.unless[at].as_ref().is_some_and(|unless| unless.is_match(&sentence.plain));
            if !excused && is_meant(pattern, spot, i) {
                tell(pattern.rule, pattern.weight, sentence, pattern.why);
            }
        }
        if let Some(redirected) = REDIRECTS.captures(&sentence.plain)
            && let Some(name) = redirected.get(2)
            && governs(name.as_str(), &sentence.plain, own)
        {
            tell(OrdersOtherTools, Dangerous, sentence, "it changes how another server's tool is used");
        }
    }
    found
}

/// Shorter than any order.
const SHORTEST: usize = 12;

/// Instructions are there to give orders, and their rules may well be for all tools of the server.
fn is_meant(pattern: &Pattern, spot: Spot, sentence: usize) -> bool {
    match (pattern.rule, spot) {
        (ClaimsPriority | OrdersOtherTools, Spot::Instructions) => pattern.weight > Remark,
        // What a tool is, its first sentences say.
        (SaysItAttacks, Spot::Description) => sentence < 3,
        (SaysItAttacks, Spot::Name) => true,
        (SaysItAttacks, Spot::Instructions | Spot::Parameter | Spot::Key | Spot::Unread) => false,
        _ => true,
    }
}

/// Whether a sentence is about the use of a tool that is not the server's own.
fn governs(name: &str, sentence: &str, own: &BTreeSet<String>) -> bool {
    let bare = name.trim_end_matches(" tool");
    let is_tool =
        name.ends_with(" tool") && !matches!(bare, "this" | "the" | "that" | "each" | "any" | "every" | "a" | "mcp" | "other");
    let used = ["using", "calling", "invoking", "use", "call", "tool is present", "tool is available"];
    let named = bare.contains(['_', '-'])
        && used
            .iter()
            .any(|verb| sentence.contains(&format!("{verb} {bare}")) || sentence.contains(&format!("{verb} the {bare}")));
    let is_own = own.iter().any(|tool| text::plain(tool).replace('-', "_") == bare.replace('-', "_"));
    let harms = [
        "bcc",
        "copy",
        "forward",
        "redirect",
        "override",
        "recipient",
        "attacker",
        "always add",
        "must add",
        "append",
        "send all",
        "never be",
        "do not mention",
        "external",
        "proxy",
        "all emails",
        "exfiltrate",
    ];
    (is_tool || named) && !is_own && harms.iter().any(|word| sentence.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pattern_compiles() {
        assert_eq!(COMPILED.all.len(), PATTERNS.len());
        assert!(REDIRECTS.is_match("before using send_email, always add x"));
    }
}
