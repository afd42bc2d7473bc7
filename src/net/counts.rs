//! What happened at the doors since the start, and what they say of themselves to another thread.

use super::admission::Admission;
use super::credentials::{Credentials, Expiry};
use super::thread::Errand;
use crate::broker::ReasonTallies;
use crate::codec::{PacketType, ReasonCode, Sender};
use crate::notice::{Outcomes, Tally};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;

/// Why a Network Connection did not become a Client's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// There are `connections_max` or `connections_pending_max` already.
    TooMany,
    TooManyOfListener,
    TooManyOfAddress,
    TooFastOfAddress,
    TooManyHandshakes,
    UntrustedProxy,
    ProxyHeader,
    Tls,
    WebSocket,
    TooLate,
    /// The peer has closed.
    Gone,
    /// No CONNECT, or one that may not be answered.
    NotMqtt,
    /// CONNACK has said why.
    Said(ReasonCode),
}

impl Cause {
    /// Those that CONNACK does not say, with what the metrics call them.
    const SILENT: &[(Self, &str)] = &[
        (Self::TooMany, "too_many_connections"),
        (Self::TooManyOfListener, "too_many_connections_of_listener"),
        (Self::TooManyOfAddress, "too_many_connections_of_address"),
        (Self::TooFastOfAddress, "connect_rate_of_address"),
        (Self::TooManyHandshakes, "too_many_tls_handshakes"),
        (Self::UntrustedProxy, "untrusted_proxy"),
        (Self::ProxyHeader, "proxy_header"),
        (Self::Tls, "tls"),
        (Self::WebSocket, "websocket"),
        (Self::TooLate, "timeout"),
        (Self::Gone, "closed_by_peer"),
        (Self::NotMqtt, "not_mqtt"),
    ];
}

/// What has been counted.
#[derive(Default)]
pub(super) struct Counts {
    silent: [Tally; Cause::SILENT.len()],
    said: ReasonTallies,
    pub(super) handshakes: Outcomes,
    pub(super) certificate_reloads: Outcomes,
}

impl Counts {
    pub(super) fn turned(&self, cause: Cause) {
        match cause {
            Cause::Said(reason) => self.said.add(reason),
            _ => {
                let place = Cause::SILENT.iter().position(|(known, _)| *known == cause);
                place.and_then(|place| self.silent.get(place)).into_iter().for_each(Tally::add);
            }
        }
    }
}

/// What the doors say of themselves.
#[derive(Clone)]
pub struct Doors {
    pub(super) admission: Arc<Admission>,
    pub(super) credentials: Vec<Arc<Credentials>>,
    pub(super) errands: Vec<UnboundedSender<Errand>>,
}

impl Doors {
    /// Network Connections that did not become a Client's: those that CONNACK has not told why, by what the metrics call the
    /// reason.
    pub fn turned_silently(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let counts = &self.admission.counts;
        Cause::SILENT.iter().zip(&counts.silent).map(|((_, name), tally)| (*name, tally.get()))
    }

    /// The same for those that were told, by each Reason Code that there is for it.
    pub fn turned_by_reason(&self) -> impl Iterator<Item = (ReasonCode, u64)> + '_ {
        let can_say = |reason: &&ReasonCode| reason.is_error() && reason.is_of(PacketType::ConnAck, Sender::Server);
        ReasonCode::ALL.iter().filter(can_say).map(|reason| (*reason, self.admission.counts.said.get(*reason)))
    }

    /// Network Connections before CONNECT, and TLS handshakes under way.
    pub fn pending(&self) -> (usize, usize) {
        self.admission.pending()
    }

    pub fn handshakes(&self) -> &Outcomes {
        &self.admission.counts.handshakes
    }

    pub fn certificate_reloads(&self) -> &Outcomes {
        &self.admission.counts.certificate_reloads
    }

    /// When each certificate in force ends, of all listeners.
    pub fn certificate_expiries(&self) -> Vec<Expiry> {
        self.credentials.iter().flat_map(|one| one.expiries()).collect()
    }

    /// Asks each shard for a sign of life.
    ///
    /// # Errors
    /// The number of the first that gave none in time.
    pub async fn answer(&self, patience: Duration) -> Result<(), usize> {
        let ask = |errands: &UnboundedSender<Errand>| {
            let (answer, answered) = oneshot::channel();
            let _ = errands.send(Errand::Answer(answer)); // one that has ended does not answer either
            answered
        };
        let asked: Vec<_> = self.errands.iter().map(ask).collect();
        let until = tokio::time::Instant::now() + patience;
        for (shard, answered) in asked.into_iter().enumerate() {
            if !matches!(tokio::time::timeout_at(until, answered).await, Ok(Ok(()))) {
                return Err(shard);
            }
        }
        Ok(())
    }
}
