//! What a Client's certificate says about who it is.
//!
//! rustls has checked signature, dates and revocation before anything here looks at it. Names are strings of strangers all
//! the same: one that could be taken for something else is no name.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::arithmetic_side_effects)]

use crate::access::Certificate;
use aws_lc_rs::digest::{SHA256, digest};
use std::fmt::Write;
use x509_cert::der::{Decode, asn1};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

/// Which part of a Client's certificate is its user name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientIdentity {
    None,
    CommonName,
    SanDns,
    SanEmail,
    SanUri,
    Subject,
    Sha256,
}

/// Longest name that is taken.
const NAME_BYTES_MAX: usize = 1024;
/// Names of one kind that are kept.
const NAMES_MAX: usize = 64;
/// `id-at-commonName`
const COMMON_NAME: &str = "2.5.4.3";

/// Reads a certificate in DER.
///
/// # Errors
/// It is none, or says no usable name where `identity` asks for one.
pub(super) fn read(der: &[u8], identity: ClientIdentity) -> Result<Certificate, &'static str> {
    let parsed = x509_cert::Certificate::from_der(der).map_err(|_| "a certificate that cannot be read")?;
    let subject = &parsed.tbs_certificate.subject;
    let mut certificate = Certificate {
        common_name: subject
            .0
            .iter()
            .flat_map(|relative| relative.0.iter())
            .rfind(|attribute| attribute.oid.to_string() == COMMON_NAME)
            .and_then(|attribute| text(&attribute.value)),
        subject: subject.to_string().into(),
        sha256: hexadecimal(digest(&SHA256, der).as_ref()),
        ..Certificate::default()
    };
    if let Ok(Some((_, SubjectAltName(names)))) = parsed.tbs_certificate.get::<SubjectAltName>() {
        for name in names.iter().take(NAMES_MAX) {
            match name {
                GeneralName::DnsName(name) => certificate.san_dns.push(name.as_str().into()),
                GeneralName::Rfc822Name(name) => certificate.san_email.push(name.as_str().into()),
                GeneralName::UniformResourceIdentifier(name) => certificate.san_uri.push(name.as_str().into()),
                _ => {}
            }
        }
    }
    choose(&mut certificate, identity)?;
    Ok(certificate)
}

/// What a proxy says that has checked the certificate itself: a Common Name and nothing else.
///
/// # Errors
/// `identity` asks for a name and this is not a usable one.
pub(super) fn of_common_name(name: Box<str>, identity: ClientIdentity) -> Result<Certificate, &'static str> {
    let mut certificate = Certificate { common_name: Some(name), ..Certificate::default() };
    choose(&mut certificate, identity)?;
    Ok(certificate)
}

fn choose(certificate: &mut Certificate, identity: ClientIdentity) -> Result<(), &'static str> {
    let chosen = match identity {
        ClientIdentity::None => return Ok(()),
        ClientIdentity::CommonName => certificate.common_name.as_deref(),
        ClientIdentity::SanDns => certificate.san_dns.first().map(AsRef::as_ref),
        ClientIdentity::SanEmail => certificate.san_email.first().map(AsRef::as_ref),
        ClientIdentity::SanUri => certificate.san_uri.first().map(AsRef::as_ref),
        ClientIdentity::Subject => Some(&*certificate.subject),
        ClientIdentity::Sha256 => Some(&*certificate.sha256),
    };
    match chosen {
        Some(name) if is_name(name) => certificate.user_name = Some(name.into()),
        _ => return Err("a certificate without a usable name"),
    }
    Ok(())
}

/// A name becomes part of rules and Topics: nothing in it may mean something there or be invisible.
fn is_name(name: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len()) && !name.contains(|c: char| c.is_control() || c == '+' || c == '#')
}

/// In the kinds of string that certificates use.
fn text(value: &asn1::Any) -> Option<Box<str>> {
    if let Ok(text) = value.decode_as::<asn1::Utf8StringRef<'_>>() {
        return Some(text.as_str().into());
    }
    if let Ok(text) = value.decode_as::<asn1::PrintableStringRef<'_>>() {
        return Some(text.as_str().into());
    }
    value.decode_as::<asn1::Ia5StringRef<'_>>().ok().map(|text| text.as_str().into())
}

fn hexadecimal(bytes: &[u8]) -> Box<str> {
    let mut text = String::new();
    for byte in bytes {
        let _ = write!(text, "{byte:02x}"); // writing to a String does not fail
    }
    text.into()
}
