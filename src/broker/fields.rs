//! The form of values on disk: numbers big endian, text and lists with their length in front. Read by [`Fields`], which gives
//! `None` for whatever is too short or is no such thing.

use crate::access::{Grants, Identity, Proof, Token};
use crate::codec::{Options, PacketId, Qos, RetainHandling};
use core::net::IpAddr;

const NO_LOCAL: u8 = 1 << 2;
const RETAIN_AS_PUBLISHED: u8 = 1 << 3;

pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn u8(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*first)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    pub(super) fn text(&mut self) -> Option<&'a str> {
        let size = self.u32()? as usize;
        let (text, rest) = self.0.split_at_checked(size)?;
        self.0 = rest;
        std::str::from_utf8(text).ok()
    }

    fn texts(&mut self) -> Option<Box<[Box<str>]>> {
        let count = self.u32()?;
        (0..count).map(|_| self.text().map(Into::into)).collect()
    }

    fn optional<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<Option<T>> {
        match self.u8()? {
            0 => Some(None),
            1 => read(self).map(Some),
            _ => None,
        }
    }

    /// Somebody as [`put_identity`] has written it. How a password was proved cannot be looked up again; that it was, is known.
    pub(super) fn identity(&mut self, client_id: &str) -> Option<Identity> {
        Some(Identity {
            client_id: client_id.into(),
            user_name: self.optional(|fields| fields.text().map(Into::into))?,
            proof: if self.u8()? == 0 { Proof::None } else { Proof::Shown },
            listener: self.optional(|fields| fields.text().map(Into::into))?,
            address: self.optional(|fields| fields.text()?.parse::<IpAddr>().ok())?,
            token: self.optional(|fields| {
                let grants = |fields: &mut Self| Some(Grants { publish: fields.texts()?, subscribe: fields.texts()? });
                let token = Token { expires_at: None, groups: fields.texts()?, grants: fields.optional(grants)? };
                Some(Box::new(token))
            })?,
        })
    }

    /// Of a subscription.
    pub(super) fn options(options: Options) -> u8 {
        options.qos.value()
            | if options.no_local { NO_LOCAL } else { 0 }
            | if options.retain_as_published { RETAIN_AS_PUBLISHED } else { 0 }
    }

    pub(super) fn read_options(&mut self) -> Option<Options> {
        let bits = self.u8()?;
        Some(Options {
            qos: Qos::from_value(bits & 3)?,
            no_local: bits & NO_LOCAL != 0,
            retain_as_published: bits & RETAIN_AS_PUBLISHED != 0,
            retain_handling: RetainHandling::DoNotSend,
        })
    }

    /// What [`put_meta`] has written.
    pub(super) fn read_meta(mut self) -> Option<(Option<PacketId>, usize, Box<[u32]>)> {
        let packet_id = PacketId::new(self.u16()?);
        let size = self.u32()? as usize;
        let mut ids = Vec::new();
        while !self.0.is_empty() {
            ids.push(self.u32()?);
        }
        Some((packet_id, size, ids.into()))
    }
}

/// Of a delivery: the Packet Identifier under which it was sent, the bytes of memory that the Message takes while it was not, and its
/// Subscription Identifiers where it has several.
pub(super) fn put_meta(out: &mut Vec<u8>, packet_id: Option<PacketId>, size: usize, subscription_ids: &[u32]) {
    out.extend_from_slice(&packet_id.map_or(0, PacketId::get).to_be_bytes());
    out.extend_from_slice(&u32::try_from(size).unwrap_or(u32::MAX).to_be_bytes());
    out.extend(subscription_ids.iter().flat_map(|id| id.to_be_bytes()));
}

pub(super) fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u32).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn put_texts(out: &mut Vec<u8>, texts: &[Box<str>]) {
    out.extend_from_slice(&(texts.len() as u32).to_be_bytes());
    texts.iter().for_each(|text| put_text(out, text));
}

fn put_optional<T>(out: &mut Vec<u8>, value: Option<T>, put: impl FnOnce(&mut Vec<u8>, T)) {
    out.push(u8::from(value.is_some()));
    if let Some(value) = value {
        put(out, value);
    }
}

/// Somebody, without the Client Identifier.
pub(super) fn put_identity(out: &mut Vec<u8>, who: &Identity) {
    put_optional(out, who.user_name.as_deref(), put_text);
    out.push(u8::from(who.proof != Proof::None));
    put_optional(out, who.listener.as_deref(), put_text);
    put_optional(out, who.address, |out, address| put_text(out, &address.to_string()));
    put_optional(out, who.token.as_deref(), |out, token| {
        put_texts(out, &token.groups);
        put_optional(out, token.grants.as_ref(), |out, grants| {
            put_texts(out, &grants.publish);
            put_texts(out, &grants.subscribe);
        });
    });
}
