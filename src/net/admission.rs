//! How many Network Connections there may be, and how fast they may come: in all, before CONNECT, for each listener and address.

use super::counts::{Cause, Counts};
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
    addresses: Mutex<HashMap<IpAddr, Place>>,
    per_address_max: usize,
    pub(super) counts: Arc<Counts>,
    rate_per_address: u32,
    /// Network Connections of all listeners that have a descriptor.
    sockets: Arc<AtomicUsize>,
    sockets_max: usize,
}

/// An address that Network Connections come from.
struct Place {
    taken: Arc<AtomicUsize>,
    rate: Rate,
}

/// Addresses that are remembered before those without connections, now and in the last second, are looked for.
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
            rate_per_address: settings.connect_rate_per_address_max,
            sockets: Arc::default(),
            sockets_max: settings.sockets_max,
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

    pub(super) fn sockets(&self) -> &Arc<AtomicUsize> {
        &self.sockets
    }

    /// Whether one more socket leaves enough descriptors for everything else.
    pub(super) fn has_room_for_socket(&self) -> bool {
        self.sockets.load(Ordering::Relaxed) < self.sockets_max
    }

    /// One more from this address.
    fn enter_from(&self, address: IpAddr, now: Instant) -> Result<Pass, (Cause, &'static str)> {
        let address = match address.to_canonical() {
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> NETWORK_BITS << NETWORK_BITS)),
            address => address,
        };
        let mut addresses = self.addresses.lock();
        if addresses.len() >= ADDRESSES_KEPT && addresses.len() == addresses.capacity() {
            addresses.retain(|_, place| place.taken.load(Ordering::Relaxed) > 0 || place.rate.is_spent(now));
        }
        let place = addresses
            .entry(address)
            .or_insert_with(|| Place { taken: Arc::default(), rate: Rate::per_second(self.rate_per_address) });
        if !place.rate.admits(now) {
            return Err((Cause::TooFastOfAddress, "connections from this address come too fast"));
        }
        let too_many = (Cause::TooManyOfAddress, "too many connections from this address");
        Pass::take(&place.taken, self.per_address_max).ok_or(too_many)
    }
}

/// One of a listener's bounded number of Network Connections, and one of its address's; given back when dropped.
pub(super) struct Seat {
    pub(super) door: Arc<Door>,
    address: Option<Pass>,
}

impl Seat {
    pub(super) fn take(door: &Arc<Door>, max: usize) -> Option<Self> {
        enter(&door.taken, max).then(|| {
            door.sockets.fetch_add(1, Ordering::Relaxed);
            Self { door: Arc::clone(door), address: None }
        })
    }

    /// # Errors
    /// There are too many from this address, or they come too fast.
    pub(super) fn take_address(&mut self, admission: &Admission, peer: Peer) -> Result<(), (Cause, &'static str)> {
        if let Some(address) = peer.ip() {
            self.address = Some(admission.enter_from(address, Instant::now())?);
        }
        Ok(())
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.door.taken.fetch_sub(1, Ordering::Relaxed);
        self.door.sockets.fetch_sub(1, Ordering::Relaxed);
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

    /// Counts one at this time if there is room for it.
    fn admits(&mut self, now: Instant) -> bool {
        let due = self.due.map_or(now, |due| due.max(now)) + self.interval;
        let has_room = due <= now + BURST;
        if has_room {
            self.due = Some(due);
        }
        has_room
    }

    /// Whether it matters that there were some.
    fn is_spent(&self, now: Instant) -> bool {
        self.due.is_some_and(|due| due > now)
    }
}

/// A share of a thread's time for one kind of work, which is held back beyond it.
pub(super) struct Share {
    percent: u32,
    /// When what was done would end if it had been done evenly.
    paid: Instant,
}

/// Time of a thread that its share of work may take in advance.
const SHARE_BURST: Duration = Duration::from_millis(100);

impl Share {
    pub(super) fn percent(percent: u8) -> Self {
        Self { percent: u32::from(percent.clamp(1, 100)), paid: Instant::now() }
    }

    /// When the next step may begin.
    pub(super) fn due(&self) -> Instant {
        self.paid.checked_sub(SHARE_BURST).unwrap_or(self.paid)
    }

    /// A step was begun then and has taken so long.
    pub(super) fn spend(&mut self, began: Instant, took: Duration) {
        self.paid = self.paid.max(began) + took * 100 / self.percent;
    }
}

#[cfg(test)]
mod tests {
    use super::{Rate, SHARE_BURST, Share};
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

    #[test]
    fn who_is_refused_is_not_counted() {
        let began = Instant::now();
        let mut rate = Rate::per_second(10);
        assert!((0..10).all(|_| rate.admits(began)), "a burst of ten");
        assert!((0..1000).all(|_| !rate.admits(began)) && rate.is_spent(began));
        let later = began + Duration::from_millis(100);
        assert!(rate.admits(later) && !rate.admits(later), "the next one is due as if nobody had tried");
        assert!(!rate.is_spent(began + Duration::from_secs(3)));
    }

    #[test]
    fn work_beyond_its_share_waits() {
        let mut share = Share::percent(25);
        let mut now = Instant::now();
        let began = now;
        let (step, mut worked) = (Duration::from_millis(10), Duration::ZERO);
        while now < began + Duration::from_secs(4) {
            now = now.max(share.due());
            share.spend(now, step);
            (now, worked) = (now + step, worked + step);
        }
        assert!(
            (worked - SHARE_BURST / 4).abs_diff(Duration::from_secs(1)) <= 2 * step,
            "a quarter of four seconds: {worked:?}"
        );
    }
}
