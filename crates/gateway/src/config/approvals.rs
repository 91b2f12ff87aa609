//! `approvals`: who is told that a call waits for a person.

use super::reading::{Reading, code};
use policy::{Node, SecretReference, Webhook, WebhookForm, WebhookUrl};

/// Who is told of every call that waits, besides those whom its policy names.
#[derive(Clone, Debug, Default)]
pub struct ApprovalsConfig {
    /// Told in this order, all at once.
    pub webhooks: Vec<Webhook>,
}

/// The keys of `approvals`.
pub(crate) const KEYS: &[&str] = &["webhooks"];
/// The keys of a webhook.
pub(crate) const WEBHOOK_KEYS: &[&str] = &["url", "secret", "form"];

pub(super) fn read(reading: &mut Reading<'_>, node: &Node) -> ApprovalsConfig {
    let Some(fields) = reading.fields(node, "`approvals`", KEYS) else { return ApprovalsConfig::default() };
    let nodes = fields.get("webhooks").map(|node| reading.list(node, "`webhooks`")).unwrap_or_default();
    ApprovalsConfig { webhooks: nodes.iter().filter_map(|node| webhook(reading, node)).collect() }
}

fn webhook(reading: &mut Reading<'_>, node: &Node) -> Option<Webhook> {
    let fields = reading.fields(node, "a webhook", WEBHOOK_KEYS)?;
    let url = reading.required(&fields, "url", "a webhook").and_then(|node| url(reading, node));
    let secret = fields.get("secret").map(|node| reference(reading, node, "the secret of a webhook"));
    let form = fields.get("form").map(|node| reading.word(node, "`form`", &WebhookForm::WORDS));
    Some(Webhook { url: url?, secret: secret.unwrap_or(Some(None))?, form: form.unwrap_or(Some(WebhookForm::Json))? })
}

fn url(reading: &mut Reading<'_>, node: &Node) -> Option<WebhookUrl> {
    match node.as_str() {
        Some(text) if text.starts_with("https://") || text.starts_with("http://") => Some(WebhookUrl::Literal(text.to_owned())),
        Some(text) if SecretReference::parse(text).is_some() => {
            reference(reading, node, "the address of a webhook").flatten().map(WebhookUrl::Reference)
        }
        _ => {
            // It may hold a secret: nothing of it is repeated.
            reading.error(code::VALUE, &node.at, "the address of a webhook is not one").help =
                Some("write `url: https://…`, or `url: env:NAME` where the address itself is a secret".into());
            None
        }
    }
}

/// A reference to something that is there now. It is looked up again whenever it is needed.
fn reference(reading: &mut Reading<'_>, node: &Node, what: &str) -> Option<Option<SecretReference>> {
    reading.secret(node, what)?;
    let reference = node.as_str().and_then(SecretReference::parse)?;
    Some(Some(reading.beside(reference)))
}
