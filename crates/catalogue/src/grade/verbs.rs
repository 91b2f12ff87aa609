//! What verbs mean.
//!
//! A verb has a sense, not a class: what `remove` does depends on what is removed. The senses are few, and each has its
//! rule in `rules`. Verbs that are nouns as often (`a query`, `the test`) say so, and count only where a verb is expected.

use std::collections::HashMap;
use std::sync::LazyLock;

/// What kind of thing a verb does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sense {
    /// Gives information.
    Look,
    /// Works something out and gives it back: advice, checks, plans.
    Advise,
    /// Puts a question in some language.
    Query,
    /// Brings something into being.
    Make,
    /// Alters what is there.
    Change,
    /// Puts down content.
    Put,
    /// Puts something in the place of something else.
    Replace,
    /// Sticks on or takes off what is no thing of its own.
    Label,
    /// Moves, copies, renames.
    Move,
    /// Gives or takes rights.
    Access,
    /// Chooses or opens what later calls work with.
    Context,
    /// Puts away, and could bring back.
    Undoable,
    /// Starts, stops or steers something.
    Run,
    /// Ends what has begun, or what has not.
    Cancel,
    /// Delivers a message.
    Send,
    /// Writes where people read, or where they are told.
    Post,
    /// Acts on a page or a screen.
    Page,
    /// Makes something with a model or a renderer.
    Generate,
    /// Turns one thing into another.
    Convert,
    /// Brings something out.
    Export,
    /// Brings something in.
    Import,
    /// Takes away; what, decides how bad it is.
    Remove,
    /// Deletes.
    Delete,
    /// Takes from a queue.
    Consume,
    /// Moves money.
    Pay,
    /// Hands in; to whom, decides.
    Submit,
    /// Opens; what, decides.
    Open,
    /// Closes; what, decides.
    Close,
    /// Sets back; what, decides.
    Reset,
    /// Tries out.
    Test,
    /// Does anything that can be done to a thing.
    Manage,
    /// Sets a time at which something happens by itself.
    Schedule,
}

/// A verb of the table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Verb {
    /// Its base form.
    pub word: &'static str,
    /// What it does.
    pub sense: Sense,
    /// Whether it is as often a noun or an adjective.
    pub is_noun_too: bool,
}

/// In which form a verb stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// `delete`
    Base,
    /// `deletes`
    Third,
    /// `deleting`
    Gerund,
    /// `deleted`
    Past,
}

/// The verb of which `word` is a form.
pub(super) fn find(word: &str) -> Option<(Verb, Form)> {
    if let Some(verb) = base(word) {
        return Some((verb, Form::Base));
    }
    // `auto-rebuild`, `bulk-deletes`
    if let Some((_, rest)) = word.split_once('-').filter(|(before, _)| super::words::is_one(before, MANNERS)) {
        return find(rest);
    }
    let forms = [("ies", "y", Form::Third), ("es", "", Form::Third), ("s", "", Form::Third), ("ied", "y", Form::Past)];
    let regular = forms.iter().find_map(|(ending, with, form)| {
        let stem = word.strip_suffix(ending)?;
        Some((base(&format!("{stem}{with}"))?, *form))
    });
    regular.or_else(|| stemmed(word, "ing", Form::Gerund)).or_else(|| stemmed(word, "ed", Form::Past))
}

/// What is put before a verb to say how.
const MANNERS: &str = "auto bulk batch force hard soft mass multi re";

/// `creating`, `running`, `listing`: with the `e`, without the doubled letter, or as it is.
fn stemmed(word: &str, ending: &str, form: Form) -> Option<(Verb, Form)> {
    let stem = word.strip_suffix(ending)?;
    let mut letters = stem.chars().rev();
    let doubled = letters.next().is_some_and(|last| letters.next() == Some(last));
    let undoubled = if doubled { base(&stem[..stem.len() - 1]) } else { None };
    let verb = base(stem).or_else(|| base(&format!("{stem}e"))).or(undoubled)?;
    Some((verb, form))
}

/// The verb with exactly this base form.
pub(super) fn base(word: &str) -> Option<Verb> {
    BY_WORD.get(word).copied()
}

static BY_WORD: LazyLock<HashMap<&'static str, Verb>> = LazyLock::new(|| {
    let verb = |sense: Sense, entry: &'static str| {
        let word = entry.trim_end_matches('~');
        (word, Verb { word, sense, is_noun_too: entry.ends_with('~') })
    };
    TABLE.iter().flat_map(|(sense, words)| words.split_ascii_whitespace().map(move |entry| verb(*sense, entry))).collect()
});

/// The verbs by sense; `~` marks what is a noun or an adjective as often.
const TABLE: &[(Sense, &str)] = &[
    (
        Sense::Look,
        "paginate get list~ read fetch retrieve search~ find describe show view~ lookup look~ inspect check~ \
         count~ browse discover explore monitor~ watch~ wait~ poll~ detect display~ print~ observe see peek~ \
         tail~ head~ grep cat~ stat~ ls dir~ whoami ping~ scan~ sample~ enumerate return~ lists~ access~ \
         obtain orient load~ locate trace~ crawl~ scrape ask~ answer~ chat~ status~ info~ history~ help~ learn \
         download~ snapshot~ screenshot~ capture~ take~ glob~ filter~ subscribe~ unsubscribe follow~ receive~ \
         collect~ gather aggregate~ group~ summarize summarise identify recall provide~ hgetall hget lrange \
         smembers zrange xrange mget exists~ contains~ sleep~ fetches demonstrate has~ is~ stats~ details~ \
         echo~ report~ introspect visit~ examine pull~ lookups tree~ blame~ log~ diff~ match~ dump~ think~ \
         track~ walk~ traverse drill~ surface~ expose~ include~ perform~ extract~ hydrate stream~ listen~ survey~ nslookup \
         whois traceroute await recognize recognise consult skim obtener obtiene listar lista~ buscar busca \
         consultar consulta~ obter pesquisar obtenir lister rechercher",
    ),
    (
        Sense::Advise,
        "decompile disassemble design~ map~ inform deobfuscate validate verify lint analyze analyse assess \
         evaluate~ estimate~ calculate compute~ compare preview~ suggest recommend explain plan~ review~ \
         diagnose troubleshoot audit~ optimize optimise predict forecast~ rank~ rerank score~ classify \
         geocode simulate measure~ parse~ guide~ advise solve reason~ debug~ benchmark~ profile~ prettify \
         resolve~ determine research~ investigate correlate infer brainstorm outline~ visualize visualise \
         plot~ graph~ chart~ bootstrap~ tokenize hash~ embed sum~ dedupe deduplicate sort~ interpret proofread critique~ derive approximate \
         paraphrase spellcheck geolocate triage~ clarify elaborate extrapolate deduce justify simplify distill contrast quantify",
    ),
    (Sense::Query, "query~ sql~ cypher~ gremlin~ graphql~ promql~"),
    (
        Sense::Make,
        "create add insert append make~ register define~ provision new~ init initialize initialise setup~ \
         fork~ branch~ stage~ commit~ establish mint~ allocate upsert prepend introduce draft~ compose~ \
         scaffold hset sadd zadd lpush rpush xadd record~ seed~ instantiate bookmark~ remember note~ reserve~ \
         book~ recreate onboard enroll enrol construct~ issue~ crear crea criar agregar agrega adicionar ajouter",
    ),
    (
        Sense::Change,
        "update~ set~ edit~ modify change~ patch~ configure alter adjust enable disable toggle~ switch~ mark~ \
         increment decrement incr decr resize rotate~ extend transition~ merge~ rebase~ squash adapt enrich \
         annotate correct~ fix~ mute unmute lock~ unlock hide unhide prioritize sign~ accept approve unapprove unsuspend reject \
         dismiss acknowledge ack xack snooze reopen complete~ finish finalize finalise uncomplete customize \
         tune reorder unstage upgrade~ downgrade expire~ touch~ persist confirm emulate override~ refactor \
         manipulate claim~ release~ draw~ place~ position~ highlight~ maximize minimize unresolve recolor \
         paint~ align distribute reassign reallocate relabel reclassify reorganize reorganise rearrange organize organise \
         renumber refine~ improve~ cherry-pick cherrypick repair~ decrease increase renew consolidate reconcile \
         retire revise reverse~ shuffle substitute transpose standardize standardise subdivide flatten extrude uncheck fulfill prolong \
         protect reroute remap suppress brighten dim nullify localize raise actualizar actualiza modificar modifica editar \
         atualizar modifier unmark decline deny rsvp restrict tweak~ bump~ stash~ amend crop~ split~ blur~ \
         flip~ overlay~ watermark~ redact mask~ stitch concatenate concat invert sharpen colorize populate \
         style~ restyle recolour indent~ freeze~ unfreeze silence~ postpone defer redefine reconfigure bind~ unbind",
    ),
    (Sense::Put, "write save~ store~ put upload~ push~ ingest index~ backup~ paste~"),
    (Sense::Replace, "overwrite replace restore~ rewrite clobber revert~"),
    (
        Sense::Label,
        "tag~ untag label~ unlabel star~ unstar pin~ unpin assign unassign react~ favorite~ unfavorite like~ \
         unlike vote~ watchlist~ link~ unlink associate disassociate flag~ unflag upvote downvote categorize unfollow categorise",
    ),
    (Sense::Move, "move~ rename copy~ clone~ duplicate~ relocate"),
    (
        Sense::Access,
        "grant~ revoke attach detach share~ unshare permit~ allow~ block~ unblock authorize demote ban~ unban \
         assume kick~ expel whitelist~ blacklist~ allowlist~ denylist~ blocklist~ authorise deauthorize offboard \
         impersonate exchange~",
    ),
    (Sense::Context, "select connect~ disconnect login~ logout authenticate use~ join~ leave~ signin reconnect"),
    (Sense::Undoable, "archive~ unarchive trash~ untrash undelete unpublish deprecate undeprecate recover reinstate"),
    (
        Sense::Run,
        "build~ run~ execute exec start stop~ restart reboot pause~ resume~ retry~ rerun replay~ trigger~ \
         invoke call~ deploy redeploy rollback~ scale~ failover~ apply launch~ spawn kill~ sync~ synchronize \
         refresh~ reload reindex rebuild activate deactivate migrate install train~ orchestrate drain~ cordon \
         uncordon suspend promote rollout~ initiate begin boot~ halt shutdown~ eval process~ automate \
         dispatch~ enqueue command~ control~ operate steer play~ skip~ turn~ mount~ unmount compile~ \
         transact~ bash~ shell~ console~ delegate handoff wake~ hibernate warm~ reprocess requeue redrive queue~ \
         recrawl fire~ fuzz attack exploit recompile relaunch rescan power~ disarm undeploy unpause vacuum~ compact~ defragment unload deallocate \
         spin tear quarantine~ emit bring reanalyze recompute",
    ),
    (Sense::Cancel, "cancel abort terminate end~ interrupt~"),
    (
        Sense::Send,
        "send notify email~ mail~ message~ dm broadcast~ invite~ forward~ text~ dial sms~ whatsapp~ tweet~ \
         retweet remind escalate contact~ alert~ nudge speak say~ greet resend transmit enviar envia envía envoyer",
    ),
    (Sense::Post, "post~ publish reply~ comment~ respond announce~ repost crosspost"),
    (
        Sense::Page,
        "click~ hover type~ press~ drag~ navigate scroll~ tap~ swipe~ fill~ keypress mouse~ goto act~ \
         interact keyboard~ dblclick choose~ focus~ pinch~ longpress keydown keyup rightclick doubleclick",
    ),
    (
        Sense::Generate,
        "isolate generate render~ synthesize synthesise imagine produce animate upscale~ inpaint outpaint \
         transcode dub~ regenerate illustrate narrate sketch~",
    ),
    (
        Sense::Convert,
        "expand~ shorten format~ convert transform~ translate~ transcribe encode~ decode~ compress decompress zip~ unzip \
         package~ bundle~ minify gzip~ normalize normalise slugify escape~ unescape serialize deserialize beautify \
         encrypt decrypt",
    ),
    (Sense::Export, "export~"),
    (Sense::Import, "import"),
    (
        Sense::Remove,
        "remove clear~ clean~ cleanup~ trim~ prune evict deregister unregister unset deprovision uninstall \
         discard~ strip~ eject~",
    ),
    (
        Sense::Delete,
        "delete scrub~ scrap~ zap~ drop~ purge truncate flush~ wipe~ erase destroy~ rm rmdir del flushall flushdb nuke~ shred \
         empty~ obliterate hdel srem zrem lrem xdel ltrim xtrim arrtrim forget~ expunge retract yank eliminar elimina borrar excluir deletar supprimer decommission teardown~ invalidate \
         eradicate",
    ),
    (Sense::Consume, "pop~ lpop rpop spop dequeue consume blpop brpop zpopmin zpopmax"),
    (
        Sense::Pay,
        "pay~ refund~ charge~ transfer~ withdraw deposit~ payout~ buy~ sell~ purchase~ trade~ swap~ checkout~ \
         donate~ tip~ bid~ stake~ unstake liquidate spend void~ exercise~ invest reimburse repay borrow~ lend order~ \
         remit wire~ short~ redeem settle~ airdrop~ topup~ wager~",
    ),
    (Sense::Submit, "submit request~ file~ propose"),
    (Sense::Open, "open~"),
    (Sense::Close, "close~ quit~ exit~"),
    (Sense::Reset, "reset~ undo~ redo~ reinitialize"),
    (Sense::Test, "test~ try~ probe~"),
    (Sense::Manage, "work~ administer manage handle~ maintain crud~"),
    (Sense::Schedule, "schedule~ reschedule cron~"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_verb_is_found_in_all_its_forms() {
        for (word, expected, form) in [
            ("delete", "delete", Form::Base),
            ("deletes", "delete", Form::Third),
            ("deleting", "delete", Form::Gerund),
            ("running", "run", Form::Gerund),
            ("applies", "apply", Form::Third),
            ("searches", "search", Form::Third),
            ("listed", "list", Form::Past),
            ("dropped", "drop", Form::Past),
        ] {
            let (verb, found) = find(word).unwrap();
            assert_eq!((verb.word, found), (expected, form), "{word}");
        }
        assert!(find("weather").is_none());
    }

    #[test]
    fn no_verb_stands_twice() {
        let mut seen = BTreeSet::new();
        for word in TABLE.iter().flat_map(|(_, words)| words.split_ascii_whitespace()) {
            assert!(seen.insert(word.trim_end_matches('~')), "{word}");
        }
    }
}
