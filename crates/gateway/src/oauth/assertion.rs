//! Assertions of the platform that the gateway runs on: JWTs that say which workload it is.
//!
//! Platforms put them into a file and write that anew before they end, so each is read when it is needed. Whoever holds one can
//! show it too: it goes nowhere but to an authorization server that the operator has named, or that it names itself as its
//! audience, whatever a server says.

use super::client::Trouble;
use super::found::Found;
use crate::identity::unverified_claims;
use crate::secret::Secret;
use policy::SecretReference;
use tracing::warn;

/// Reads the assertion that is to be shown to `found` at the address `shown_at`; `now` is in milliseconds since the Unix epoch.
pub(super) async fn read(reference: &SecretReference, found: &Found, shown_at: &str, now: i64) -> Result<Secret, Trouble> {
    let place = reference.clone();
    let assertion = match tokio::task::spawn_blocking(move || Secret::of(&place)).await {
        Ok(Ok(assertion)) => Secret::new(assertion.expose().trim()),
        Ok(Err(error)) => {
            warn!(%error, "the platform's assertion of who the gateway is cannot be had");
            return Err("the platform's assertion cannot be had".into());
        }
        Err(_) => return Err("the platform's assertion cannot be had".into()),
    };
    is_for(&assertion, found, shown_at, now).map(|()| assertion).map_err(Trouble::Away)
}

/// Whether an assertion can be shown there, or why not.
fn is_for(assertion: &Secret, found: &Found, shown_at: &str, now: i64) -> Result<(), &'static str> {
    let claims = unverified_claims(assertion.expose()).map_err(|_| "the platform's assertion is no JWT")?;
    if claims.time("exp").is_some_and(|ends| ends.saturating_mul(1_000) <= now) {
        return Err("the platform's assertion has expired, and was not replaced");
    }
    let bare = |place: &str| place.trim_end_matches('/').to_owned();
    let is_meant = |audience: &String| bare(audience) == bare(&found.issuer) || audience == shown_at;
    if !found.is_named && !claims.texts("aud").iter().any(is_meant) {
        return Err("the platform's assertion is for another audience than what the server names; name that under `issuer`");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    const TOKEN: &str = "https://id/token";

    fn found(is_named: bool) -> Found {
        let (issuer, token_endpoint) = ("https://id".to_owned(), TOKEN.to_owned());
        Found { issuer, token_endpoint, is_named, ..Found::default() }
    }

    fn assertion(claims: &str) -> Secret {
        let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
        Secret::new(format!("{}.{}.{}", part(r#"{"alg":"none"}"#), part(claims), part("x")))
    }

    #[test]
    fn an_assertion_is_shown_to_its_audience_or_to_whom_the_operator_has_named() {
        for audience in [r#""https://id""#, r#""https://id/""#, r#"["https://other","https://id"]"#, r#""https://id/token""#] {
            assert_eq!(
                is_for(&assertion(&format!(r#"{{"aud":{audience},"exp":9}}"#)), &found(false), TOKEN, 8_999),
                Ok(()),
                "{audience}"
            );
        }
        for elsewhere in [r#"{"aud":"https://other"}"#, r#"{"aud":"https://id.evil"}"#, r#"{"aud":"https://id/x"}"#, "{}"] {
            assert!(is_for(&assertion(elsewhere), &found(false), TOKEN, 0).unwrap_err().contains("`issuer`"), "{elsewhere}");
            assert_eq!(is_for(&assertion(elsewhere), &found(true), TOKEN, 0), Ok(()), "{elsewhere}");
        }
        // What is meant for one endpoint is not shown at another.
        let narrow = assertion(r#"{"aud":"https://id/token"}"#);
        assert!(is_for(&narrow, &found(false), "https://id/revoke", 0).is_err());
        assert_eq!(is_for(&assertion(r#"{"aud":"https://id"}"#), &found(false), "https://id/revoke", 0), Ok(()));
    }

    #[test]
    fn what_has_expired_or_is_no_assertion_is_shown_to_nobody() {
        let over = assertion(r#"{"aud":"https://id","exp":9}"#);
        assert_eq!(is_for(&over, &found(true), TOKEN, 9_000), Err("the platform's assertion has expired, and was not replaced"));
        assert_eq!(is_for(&Secret::new("hunter2"), &found(true), TOKEN, 0), Err("the platform's assertion is no JWT"));
    }

    #[tokio::test]
    async fn an_assertion_is_read_anew_each_time() {
        let directory = std::env::temp_dir().join(format!("callgate-assertion-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("token");
        let reference = SecretReference::File(path.display().to_string());
        for round in ["one", "two"] {
            let written = assertion(&format!(r#"{{"aud":"https://id","jti":"{round}"}}"#));
            std::fs::write(&path, format!("{}\n", written.expose())).unwrap();
            assert!(read(&reference, &found(false), TOKEN, 0).await.is_ok_and(|read| read == written), "{round}");
        }
        std::fs::remove_dir_all(&directory).unwrap();
        assert!(read(&reference, &found(false), TOKEN, 0).await.is_err_and(|why| why.to_string().contains("cannot be had")));
    }
}
