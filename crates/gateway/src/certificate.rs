//! Certificates by which clients are known.
//!
//! Whoever has the key of a certificate that an authority of ours has signed is known by what the certificate says: the names
//! in it, its subject, or all of it, as its fingerprint. That the signature is good and the key is there, TLS has found out
//! before; this module only reads. What it cannot read has no names.

use ring::digest::{SHA256, digest};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate, X509Name};

/// One of the names by which the holder of a certificate may be known.
///
/// Names of different kinds are never equal, whatever their text: who may choose an e-mail address in a certificate must not be
/// taken for whoever has an URI of that text.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CertificateName {
    /// The SHA-256 of the whole certificate.
    Fingerprint([u8; 32]),
    /// A DNS name among its alternative names, in lower case.
    Dns(String),
    /// A URI among them, such as a SPIFFE ID.
    Uri(String),
    /// An e-mail address among them.
    Email(String),
    /// Its subject in the form of RFC 4514, as `openssl x509 -noout -subject -nameopt RFC2253` prints it.
    Subject(String),
}

impl CertificateName {
    /// The alternative name that a text means: a URI where it has a scheme, an e-mail address where it has an `@`, else a DNS
    /// name.
    pub fn alternative(text: &str) -> CertificateName {
        if text.contains("://") || text.starts_with("urn:") {
            CertificateName::Uri(text.to_owned())
        } else if text.contains('@') {
            CertificateName::Email(text.to_owned())
        } else {
            CertificateName::Dns(text.to_ascii_lowercase())
        }
    }

    /// The fingerprint that 64 hexadecimal digits mean, with or without colons between pairs of them.
    pub fn fingerprint(text: &str) -> Option<CertificateName> {
        digest_of_hex(&text.replace(':', "")).map(CertificateName::Fingerprint)
    }
}

/// The digest that 64 hexadecimal digits mean.
pub(crate) fn digest_of_hex(text: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, at) in digest.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(&text[at..at + 2], 16).ok()?;
    }
    Some(digest)
}

/// A certificate that a client has shown, and has the key of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    names: Vec<CertificateName>,
    /// When it expires, in milliseconds since the Unix epoch. A connection may outlive it.
    expires: i64,
}

impl ClientCertificate {
    /// Reads a certificate; nothing where it cannot be read whole.
    pub fn read(der: &[u8]) -> Option<ClientCertificate> {
        let (rest, certificate) = X509Certificate::from_der(der).ok()?;
        if !rest.is_empty() {
            return None;
        }
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(digest(&SHA256, der).as_ref());
        let mut names = vec![CertificateName::Fingerprint(fingerprint)];
        if let Some(alternatives) = certificate.subject_alternative_name().ok()? {
            names.extend(alternatives.value.general_names.iter().filter_map(|name| match name {
                GeneralName::DNSName(name) => Some(CertificateName::Dns(name.to_ascii_lowercase())),
                GeneralName::URI(name) => Some(CertificateName::Uri((*name).to_owned())),
                GeneralName::RFC822Name(name) => Some(CertificateName::Email((*name).to_owned())),
                _ => None,
            }));
        }
        names.extend(subject(certificate.subject()).map(CertificateName::Subject));
        Some(ClientCertificate { names, expires: certificate.validity().not_after.timestamp().saturating_mul(1_000) })
    }

    /// The names by which its holder may be known.
    pub fn names(&self) -> &[CertificateName] {
        &self.names
    }

    /// When it expires, in milliseconds since the Unix epoch.
    pub fn expires(&self) -> i64 {
        self.expires
    }
}

/// A subject in the form of RFC 4514; nothing where it is empty, or holds what that has no short name for.
fn subject(name: &X509Name<'_>) -> Option<String> {
    let mut parts = Vec::new();
    for part in name.iter_rdn() {
        let mut attributes = Vec::new();
        for attribute in part.iter() {
            let kind = match attribute.attr_type().to_id_string().as_str() {
                "2.5.4.3" => "CN",
                "2.5.4.6" => "C",
                "2.5.4.7" => "L",
                "2.5.4.8" => "ST",
                "2.5.4.9" => "STREET",
                "2.5.4.10" => "O",
                "2.5.4.11" => "OU",
                "0.9.2342.19200300.100.1.1" => "UID",
                "0.9.2342.19200300.100.1.25" => "DC",
                _ => return None,
            };
            attributes.push(format!("{kind}={}", escaped(attribute.as_str().ok()?)));
        }
        parts.push(attributes.join("+"));
    }
    parts.reverse();
    (!parts.is_empty()).then(|| parts.join(","))
}

/// A value with what would end it, or be lost, escaped (RFC 4514 §2.4).
fn escaped(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    let last = value.chars().count().saturating_sub(1);
    for (at, c) in value.chars().enumerate() {
        let at_an_end = (c == ' ' && (at == 0 || at == last)) || (c == '#' && at == 0);
        match c {
            '\0' => text.push_str("\\00"),
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' => text.extend(['\\', c]),
            _ if at_an_end => text.extend(['\\', c]),
            _ => text.push(c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    fn certificate(parameters: CertificateParams) -> ClientCertificate {
        let certificate = parameters.self_signed(&KeyPair::generate().unwrap()).unwrap();
        ClientCertificate::read(certificate.der()).unwrap()
    }

    fn of_subject(attributes: &[(DnType, &str)]) -> Option<CertificateName> {
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.distinguished_name = rcgen::DistinguishedName::new();
        attributes.iter().for_each(|(kind, value)| parameters.distinguished_name.push(kind.clone(), *value));
        certificate(parameters).names().iter().find(|name| matches!(name, CertificateName::Subject(_))).cloned()
    }

    #[test]
    fn a_subject_cannot_be_written_so_that_it_looks_like_another() {
        let subject = |text: &str| Some(CertificateName::Subject(text.to_owned()));
        let (organisation, name) = (DnType::OrganizationName, DnType::CommonName);
        assert_eq!(of_subject(&[(organisation.clone(), "Example"), (name.clone(), "ci")]), subject("CN=ci,O=Example"));
        assert_eq!(of_subject(&[(name.clone(), "ci,O=Example")]), subject("CN=ci\\,O=Example"));
        assert_eq!(of_subject(&[(name.clone(), " #a+b\\ ")]), subject("CN=\\ #a\\+b\\\\\\ "));
        assert_eq!(of_subject(&[(name, "a"), (DnType::CustomDnType(vec![1, 2, 3]), "b")]), None, "not by a part of it");
        assert_eq!(of_subject(&[]), None);
    }

    #[test]
    fn alternative_names_are_told_apart_by_their_kind() {
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.subject_alt_names = vec![
            SanType::DnsName("Agent.Example.org".try_into().unwrap()),
            SanType::URI("spiffe://example.org/ci".try_into().unwrap()),
            SanType::Rfc822Name("ada@example.org".try_into().unwrap()),
            SanType::Rfc822Name("spiffe://example.org/root".try_into().unwrap()),
        ];
        let certificate = certificate(parameters);
        for (text, is_there) in [
            ("agent.example.ORG", true),
            ("spiffe://example.org/ci", true),
            ("ada@example.org", true),
            ("spiffe://example.org/root", false),
            ("example.org", false),
        ] {
            assert_eq!(certificate.names().contains(&CertificateName::alternative(text)), is_there, "{text}");
        }
    }

    #[test]
    fn a_fingerprint_is_written_with_colons_or_without() {
        let plain = "ab".repeat(32);
        let colons = vec!["AB"; 32].join(":");
        assert_eq!(CertificateName::fingerprint(&plain), Some(CertificateName::Fingerprint([0xab; 32])));
        assert_eq!(CertificateName::fingerprint(&colons), CertificateName::fingerprint(&plain));
        for bad in ["", "ab", &"zz".repeat(32), &"ab".repeat(33), &"é".repeat(32)] {
            assert_eq!(CertificateName::fingerprint(bad), None, "{bad}");
        }
        assert!(ClientCertificate::read(b"no certificate").is_none());
    }
}
