//! How many Network Connections there may be, and how fast they may come: in all, before CONNECT, for each listener and address.

use super::counts::Counts;
use super::listener::{Door, Peer};
use super::thread::DoorSettings;
use crate::broker::Shared;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// What all listeners of a process share.
pub(super) struct Admission {
    pending: Arc<AtomicUsize>,
    pending_max: usize,
    connections_max: usize,
    handshakes: Arc<AtomicUsize>,
    handshakes_max: usize,
    addresses: Mutex<HashMap<IpAddr, Arc<AtomicUsize>>>,
    per_address_max: usize,
    pub(super) counts: Arc<Counts>,
}

/// Addresses that are remembered before those without connections are looked for.
const ADDRESSES_KEPT: usize = 1024;
/// Bits of an IPv6 address that say which network it is in; the rest is up to the peer.
const NETWORK_BITS: u32 = 64;

impl Admission {
    pub(super) fn new(settings: &DoorSettings, counts: Arc<Counts>) -> Self {
        Self {
            pending: Arc::default(),
            pending_max: settings.connections_pending_max,
            connections_max: settings.connections_max,
            handshakes: Arc::default(),
            handshakes_max: settings.tls_handshakes_max,
            addresses: Mutex::default(),
            per_address_max: settings.connections_per_address_max,
            counts,
        }
    }

    pub(super) fn enter(&self, shared: &Shared) -> Option<Pass> {
        if shared.connections() >= self.connections_max {
            return None;
        }
        Pass::take(&self.pending, self.pending_max)
    }

    pub(super) fn begin_handshake(&self) -> Option<Pass> {
        Pass::take(&self.handshakes, self.handshakes_max)
    }

    /// Network Connections before CONNECT, and TLS handshakes under way.
    pub(super) fn pending(&self) -> (usize, usize) {
        (self.pending.load(Ordering::Relaxed), self.handshakes.load(Ordering::Relaxed))
    }

    /// One more from this address.
    fn enter_from(&self, address: IpAddr) -> Option<Pass> {
        let address = match address.to_canonical() {
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> NETWORK_BITS << NETWORK_BITS)),
            address => address,
        };
        let mut addresses = self.addresses.lock();
        if addresses.len() >= ADDRESSES_KEPT && addresses.len() == addresses.capacity() {
            addresses.retain(|_, taken| taken.load(Ordering::Relaxed) > 0);
        }
        Pass::take(addresses.entry(address).or_default(), self.per_address_max)
    }
}

/// One of a listener's bounded number of Network Connections, and one of its address's; given back when dropped.
pub(super) struct Seat {
    pub(super) door: Arc<Door>,
    address: Option<Pass>,
}

impl Seat {
    pub(super) fn take(door: &Arc<Door>, max: usize) -> Option<Self> {
        enter(&door.taken, max).then(|| Self { door: Arc::clone(door), address: None })
    }

    /// `false`: there are too many from this address.
    pub(super) fn take_address(&mut self, admission: &Admission, peer: Peer) -> bool {
        let Some(address) = peer.ip() else { return true };
        self.address = admission.enter_from(address);
        self.address.is_some()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.door.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One of a bounded number; given back when dropped.
pub(super) struct Pass {
    taken: Arc<AtomicUsize>,
}

impl Pass {
    fn take(taken: &Arc<AtomicUsize>, max: usize) -> Option<Self> {
        enter(taken, max).then(|| Self { taken: Arc::clone(taken) })
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

fn enter(taken: &AtomicUsize, max: usize) -> bool {
    let fits = taken.fetch_add(1, Ordering::Relaxed) < max;
    if !fits {
        taken.fetch_sub(1, Ordering::Relaxed);
    }
    fits
}

/// So many in a second; after a quiet second, so many at once.
pub(super) struct Rate {
    interval: Duration,
    /// When the next one would be due if they came evenly.
    due: Option<Instant>,
}

const BURST: Duration = Duration::from_secs(1);

impl Rate {
    pub(super) fn per_second(count: u32) -> Self {
        Self { interval: BURST / count.max(1), due: None }
    }

    /// Counts one at this time. `Some`: only then is there room for it.
    pub(super) fn take(&mut self, now: Instant) -> Option<Instant> {
        let due = self.due.map_or(now, |due| due.max(now)) + self.interval;
        self.due = Some(due);
        due.checked_sub(BURST).filter(|until| *until > now)
    }
}

#[cfg(test)]
mod tests {
    use super::Rate;
    use std::time::Duration;
    use tokio::time::Instant;

    #[test]
    fn a_burst_is_let_in_and_then_so_many_a_second() {
        let began = Instant::now();
        let mut rate = Rate::per_second(10);
        assert!((0..10).all(|_| rate.take(began).is_none()), "a burst of ten");
        assert_eq!(rate.take(began), Some(began + Duration::from_millis(100)));
        assert_eq!(rate.take(began), Some(began + Duration::from_millis(200)));
        let later = began + Duration::from_secs(5);
        assert!((0..10).all(|_| rate.take(later).is_none()), "another one after a pause");
        assert!(rate.take(later).is_some());
    }
}
