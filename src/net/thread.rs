//! One thread, one runtime, one shard. Two kinds of tasks: one for each Network Connection, and the tick.
//!
//! The tick is woken when the first Session has something to send or mail is written; the local queue is first in, first
//! out, so it runs after everything that was ready, and writes all of it together. A thread that sleeps is woken by mail; a
//! busy one never is.

#![expect(clippy::disallowed_methods, reason = "a door starts tasks and waits")]

use super::Clock;
use super::admission::{Admission, Seat, Share};
use super::connection::{serve, serve_moved};
use super::counts::{Cause, Counts, Doors};
use super::credentials::{Credentials, CredentialsError};
use super::listener::{Accepted, Listener, Peer};
use super::stream::{Buffers, Layered, Layers, Reader, SocketWire};
use super::tls::Tls;
use super::watch::Watch;
use crate::access::Identity;
use crate::broker::{Attachment, Request, RestoredClient, Shard, ShardId, Shared};
use crate::codec::{Moment, ReasonCode};
use crate::notice::{LINES_PER_SECOND_MAX, Limited, Outside, Permit};
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{Barrier, Semaphore, oneshot};
use tokio::time::Sleep;

/// What the doors are told by the configuration.
#[derive(Clone, Debug)]
pub struct DoorSettings {
    /// From accept to a complete CONNECT and login.
    pub connect_timeout: Duration,
    pub connections_max: usize,
    pub connections_pending_max: usize,
    pub connections_per_address_max: usize,
    /// Connections accepted from one address in a second; further ones are closed.
    pub connect_rate_per_address_max: u32,
    /// Sockets that may be open; beyond, accepting waits until one is closed.
    pub sockets_max: usize,
    /// TLS handshakes under way at the same time, of all threads.
    pub tls_handshakes_max: usize,
    /// Time of a thread that may go into them, in percent.
    pub tls_handshake_share_max: u8,
    /// How long a stop waits for the last packets to be taken.
    pub stop_timeout: Duration,
}

/// Something for a thread to do.
pub(super) enum Errand {
    /// A Network Connection has been accepted.
    Accepted(Box<Accepted>),
    /// A Client comes home from another shard.
    Moved(Box<Moved>),
    /// Other certificates are in force: look whether those of our Clients would still be accepted.
    CheckCertificates(Arc<Credentials>),
    /// Show that you live.
    Answer(oneshot::Sender<()>),
    /// Say goodbye to everybody and end.
    Stop,
}

/// A Client on its way to its home shard.
pub(super) struct Moved {
    pub(super) stream: std::net::TcpStream,
    pub(super) layers: Option<Box<Layers>>,
    pub(super) request: Box<Request>,
    pub(super) identity: Identity,
    pub(super) seat: Seat,
}

/// Bytes read at a time, for all Network Connections of a thread.
const SCRATCH_BYTES: usize = 64 << 10;
/// How long a thread that hashed a password waits for the next one, with its memory.
const IDLE_THREAD: Duration = Duration::from_secs(1);
/// How long a thread that stops waits for the others to have published their last Wills.
const FAREWELL: Duration = Duration::from_secs(1);
/// Ticks that publishing those may take.
const SETTLE_TICKS: usize = 1000;
/// Polls between two looks at the sockets.
const EVENT_INTERVAL: u32 = 61;

/// What the tasks of one thread share.
pub(super) struct Thread {
    pub(super) shard: RefCell<Shard<SocketWire>>,
    pub(super) scratch: RefCell<Box<[u8]>>,
    pub(super) buffers: Rc<Buffers>,
    pub(super) admission: Arc<Admission>,
    /// One step of one TLS handshake at a time, and not more of them than fit into their share of the time.
    pub(super) handshake_turns: Semaphore,
    pub(super) handshake_share: RefCell<Share>,
    /// Clients that have shown a certificate; some may have left.
    certified: RefCell<Vec<(Attachment, Weak<RefCell<Layered>>)>>,
    pub(super) clock: Clock,
    pub(super) settings: DoorSettings,
    others: Vec<UnboundedSender<Errand>>,
    tick: RefCell<Waker>,
    tick_is_coming: Cell<bool>,
    stopping: Cell<bool>,
}

/// The errand channels of all threads.
pub struct Threads {
    errands: Vec<UnboundedSender<Errand>>,
    handles: Vec<std::thread::JoinHandle<()>>,
    /// Where a listener has certificates.
    watch: Option<Watch>,
    doors: Doors,
}

impl Threads {
    /// Starts one thread for each shard; the first also serves the listeners.
    ///
    /// # Errors
    /// The system has no thread or no epoll for us. Threads that run already end with this process.
    pub fn start(
        shared: &Arc<Shared>,
        clock: Clock,
        settings: &DoorSettings,
        listeners: Vec<Listener>,
        restored: Vec<Vec<RestoredClient>>,
    ) -> io::Result<Self> {
        let (errands, inboxes): (Vec<_>, Vec<_>) = shared.shards().map(|_| unbounded_channel()).unzip();
        let mut credentials: Vec<Arc<Credentials>> = Vec::new();
        for found in listeners.iter().filter_map(Listener::credentials) {
            if !credentials.iter().any(|known| Arc::ptr_eq(known, found)) {
                credentials.push(Arc::clone(found));
            }
        }
        let counts = Arc::new(Counts::default());
        let watch = Watch::start(credentials.clone(), errands.clone(), Arc::clone(&counts))?;
        let admission = Arc::new(Admission::new(settings, counts));
        let doors = Doors { admission: Arc::clone(&admission), credentials, errands: errands.clone() };
        let farewell = Arc::new(Barrier::new(errands.len()));
        let mut listeners = Some(listeners);
        let mut restored = restored.into_iter();
        let all_are_there = Arc::new(std::sync::Barrier::new(errands.len()));
        let mut handles = Vec::new();
        for (id, inbox) in shared.shards().zip(inboxes) {
            let (shared, settings, others) = (Arc::clone(shared), settings.clone(), errands.clone());
            let (admission, farewell) = (Arc::clone(&admission), Arc::clone(&farewell));
            let listeners = listeners.take().unwrap_or_default();
            let name = format!("waypost-{}", id.0);
            let (clients, all_are_there) = (restored.next().unwrap_or_default(), Arc::clone(&all_are_there));
            handles.push(std::thread::Builder::new().name(name).spawn(move || {
                let mut shard = Shard::new(id, shared, clock.now());
                shard.restore(clients, clock.now());
                all_are_there.wait(); // nobody is served before every Session is at home
                if let Err(error) = run(shard, clock, settings, admission, others, inbox, listeners, farewell) {
                    tracing::error!(target: "waypost::node", shard = id.0, %error, "shard could not start");
                }
            })?);
        }
        Ok(Self { errands, handles, watch, doors })
    }

    /// Reads the certificates, keys and revocation lists of all listeners again. Nobody is disconnected but Clients whose
    /// certificate is not accepted any more.
    ///
    /// Those that could not be read are in the answer and in the log; what was in force for their listeners stays.
    pub fn reload_certificates(&self) -> Vec<CredentialsError> {
        self.watch.as_ref().map(Watch::reload).unwrap_or_default()
    }

    /// What they say of themselves.
    pub fn doors(&self) -> &Doors {
        &self.doors
    }

    /// Says goodbye to all Clients and waits for the threads to end. `false`: one of them has panicked.
    pub fn stop(self) -> bool {
        drop(self.watch);
        for errand in &self.errands {
            let _ = errand.send(Errand::Stop);
        }
        drop((self.errands, self.doors));
        let ended: Vec<bool> = self.handles.into_iter().map(|handle| handle.join().is_ok()).collect();
        ended.iter().all(|ended| *ended)
    }
}

#[expect(clippy::too_many_arguments, reason = "what a thread is given when it starts")]
fn run(
    shard: Shard<SocketWire>,
    clock: Clock,
    settings: DoorSettings,
    admission: Arc<Admission>,
    others: Vec<UnboundedSender<Errand>>,
    inbox: UnboundedReceiver<Errand>,
    listeners: Vec<Listener>,
    farewell: Arc<Barrier>,
) -> io::Result<()> {
    let (id, shared) = (shard.id(), Arc::clone(shard.shared()));
    let mut builder = Builder::new_current_thread();
    builder.enable_io().enable_time().event_interval(EVENT_INTERVAL).thread_keep_alive(IDLE_THREAD);
    let (sleeper, waker) = (Arc::clone(&shared), Arc::clone(&shared));
    builder.on_thread_park(move || sleeper.fall_asleep(id)).on_thread_unpark(move || waker.awake(id));
    let runtime = builder.build_local(LocalOptions::default())?;
    let thread = Rc::new(Thread {
        shard: RefCell::new(shard),
        scratch: RefCell::new(vec![0; SCRATCH_BYTES].into()),
        buffers: Rc::new(Buffers::new()),
        admission: Arc::clone(&admission),
        handshake_turns: Semaphore::new(1),
        handshake_share: RefCell::new(Share::percent(settings.tls_handshake_share_max)),
        certified: RefCell::default(),
        clock,
        others: others.clone(),
        tick: RefCell::new(Waker::noop().clone()),
        tick_is_coming: Cell::new(false),
        stopping: Cell::new(false),
        settings,
    });
    runtime.block_on(async {
        let tick = tokio::task::spawn_local(Rc::clone(&thread).tick());
        for listener in listeners {
            tokio::task::spawn_local(listener.serve(
                Arc::clone(&shared),
                others.clone(),
                Arc::clone(&admission),
                clock,
            ));
        }
        drop(others);
        Rc::clone(&thread).run_errands(inbox, farewell).await;
        tick.abort();
    });
    Ok(())
}

impl Thread {
    async fn run_errands(self: Rc<Self>, mut inbox: UnboundedReceiver<Errand>, farewell: Arc<Barrier>) {
        let connections = Rc::new(Cell::new(0_usize));
        while let Some(errand) = inbox.recv().await {
            let count = Counted::new(&connections);
            match errand {
                Errand::Accepted(accepted) => drop(tokio::task::spawn_local(serve(Rc::clone(&self), accepted, count))),
                Errand::Moved(moved) => serve_moved(Rc::clone(&self), *moved, count),
                Errand::CheckCertificates(credentials) => self.check_certificates(&credentials),
                Errand::Answer(answer) => drop(answer.send(())), // whoever asked may have gone
                Errand::Stop => break,
            }
        }
        self.stopping.set(true);
        self.publish_last_wills(&farewell).await;
        self.shard.borrow_mut().stop(ReasonCode::ServerShuttingDown, self.clock.now());
        self.see_to_tick();
        let _ = tokio::time::timeout(self.settings.stop_timeout, async {
            while connections.get() > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }

    /// Wills reach whoever subscribes to them before anybody is told to go: every thread has posted its own before the first
    /// says goodbye.
    async fn publish_last_wills(&self, farewell: &Barrier) {
        self.shard.borrow_mut().publish_last_wills(self.clock.now());
        self.settle();
        let _ = tokio::time::timeout(FAREWELL, farewell.wait()).await; // a thread that has failed does not come
        self.settle();
    }

    /// Ticks until there is nothing left to do, or nobody takes it.
    fn settle(&self) {
        let mut shard = self.shard.borrow_mut();
        for _ in 0..SETTLE_TICKS {
            shard.tick(self.clock.now());
            if !shard.wants_tick() {
                return;
            }
        }
    }

    /// A Client that may have to be looked at when other certificates come into force.
    pub(super) fn note_certified(&self, me: Attachment, reader: &Reader) {
        let Some(layered) = reader.certified() else { return };
        self.check_certificate(me, &layered, |tls| tls.is_outdated());
        let mut certified = self.certified.borrow_mut();
        if certified.len() == certified.capacity() {
            certified.retain(|(_, layered)| layered.strong_count() > 0);
        }
        certified.push((me, layered));
    }

    fn check_certificates(&self, credentials: &Arc<Credentials>) {
        let mut certified = std::mem::take(&mut *self.certified.borrow_mut());
        certified.retain(|(me, layered)| {
            self.check_certificate(*me, layered, |tls| Arc::ptr_eq(tls.credentials(), credentials));
            layered.strong_count() > 0
        });
        self.certified.borrow_mut().append(&mut certified);
        self.see_to_tick();
    }

    /// Ends the Network Connection of a Client whose certificate is not accepted any more.
    fn check_certificate(&self, me: Attachment, layered: &Weak<RefCell<Layered>>, concerns: impl Fn(&Tls) -> bool) {
        let Some(layered) = layered.upgrade() else { return };
        let failure = match &layered.borrow().layers.tls {
            Some(tls) if concerns(tls) => tls.check_again().err(),
            _ => None,
        };
        if let Some(error) = failure {
            let error = error.to_string();
            tracing::info!(target: "waypost::client", "disconnected: the certificate is not accepted any more: {}", Outside::of(&error));
            self.shard.borrow_mut().say_and_end(
                me,
                ReasonCode::NotAuthorized,
                Some("the certificate is not accepted any more"),
            );
        }
    }

    pub(super) fn send(&self, to: ShardId, errand: Errand) {
        let _ = self.others[usize::from(to.0)].send(errand); // a thread that has ended takes nobody in
    }

    /// Whatever was done to the shard may want a tick: see that one comes, once.
    pub(super) fn see_to_tick(&self) {
        if !self.tick_is_coming.get() && self.shard.borrow().wants_tick() {
            self.tick_is_coming.set(true);
            self.tick.borrow().wake_by_ref();
        }
    }

    async fn tick(self: Rc<Self>) {
        let mut sleep: Option<(Moment, Pin<Box<Sleep>>)> = None;
        poll_fn(move |context: &mut Context<'_>| -> Poll<()> {
            if !self.tick.borrow().will_wake(context.waker()) {
                self.tick.replace(context.waker().clone());
                let shard = self.shard.borrow();
                shard.shared().set_waker(shard.id(), context.waker().clone());
            }
            loop {
                let mut shard = self.shard.borrow_mut();
                shard.tick(self.clock.now());
                let again = shard.wants_tick();
                self.tick_is_coming.set(again);
                if again {
                    if shard.has_long_work() {
                        // Woken by the runtime when it has looked at the sockets, and not only at every EVENT_INTERVAL-th.
                        return pin!(tokio::task::yield_now()).poll(context);
                    }
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                let Some(deadline) = shard.deadline() else { return Poll::Pending };
                drop(shard);
                let until = tokio::time::Instant::from_std(self.clock.instant(deadline));
                match &mut sleep {
                    Some((set, _)) if *set == deadline => {}
                    Some((set, sleep)) => {
                        *set = deadline;
                        sleep.as_mut().reset(until);
                    }
                    None => sleep = Some((deadline, Box::pin(tokio::time::sleep_until(until)))),
                }
                if let Some((set, timer)) = &mut sleep {
                    if timer.as_mut().poll(context).is_pending() {
                        return Poll::Pending;
                    }
                    *set = Moment::from_millis(u64::MAX);
                }
            }
        })
        .await;
    }

    /// Counts a connection that never became a Client; one line about it, but not more of them than anyone can read.
    pub(super) fn note_turned(&self, peer: Peer, cause: Cause, why: &str) {
        self.admission.counts.turned(cause);
        log_refused(self.clock.now(), peer, why);
    }
}

/// Peers can have themselves refused as often as they like.
static REFUSED: Limited = Limited::new(LINES_PER_SECOND_MAX);

pub(super) fn log_refused(now: Moment, peer: Peer, why: &str) {
    if let Permit::Log { suppressed } = REFUSED.permit(now.as_millis()) {
        if suppressed > 0 {
            tracing::info!(target: "waypost::listener", "suppressed {suppressed} lines about connections that were refused");
        }
        tracing::info!(target: "waypost::listener", %peer, "connection refused: {why}");
    }
}

/// Counts tasks that run.
pub(super) struct Counted(Rc<Cell<usize>>);

impl Counted {
    fn new(count: &Rc<Cell<usize>>) -> Self {
        count.set(count.get() + 1);
        Self(Rc::clone(count))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}
