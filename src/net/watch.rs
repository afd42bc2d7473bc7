//! Looks at the files of all credentials now and then, and reads them again when they have changed or when it is told to.
//!
//! It has a thread of its own, so that no shard waits for a file system.

#![expect(clippy::disallowed_methods, reason = "a door starts threads and knows the time")]

use super::counts::Counts;
use super::credentials::{Credentials, CredentialsError};
use super::thread::Errand;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::UnboundedSender;

/// How often files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How often the log is told which certificates expire soon.
const WARN_EVERY: Duration = Duration::from_secs(24 * 3600);

/// The thread that watches; it ends when this is dropped.
pub(super) struct Watch {
    orders: Option<Sender<Order>>,
    handle: Option<JoinHandle<()>>,
}

/// Read everything now, and say what is wrong.
struct Order {
    answer: Sender<Vec<CredentialsError>>,
}

impl Watch {
    /// # Errors
    /// The system has no thread for us.
    pub(super) fn start(
        credentials: Vec<Arc<Credentials>>,
        errands: Vec<UnboundedSender<Errand>>,
        counts: Arc<Counts>,
    ) -> io::Result<Option<Self>> {
        if credentials.is_empty() {
            return Ok(None);
        }
        let (orders, inbox) = channel();
        let handle = std::thread::Builder::new()
            .name("waypost-watch".to_owned())
            .spawn(move || watch(&credentials, &errands, &counts, &inbox))?;
        Ok(Some(Self { orders: Some(orders), handle: Some(handle) }))
    }

    /// Reads all files again, whether they have changed or not. What is wrong is in the log, too.
    pub(super) fn reload(&self) -> Vec<CredentialsError> {
        let (answer, answered) = channel();
        let sent = self.orders.as_ref().is_some_and(|orders| orders.send(Order { answer }).is_ok());
        if sent { answered.recv().unwrap_or_default() } else { Vec::new() }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(handle) = self.handle.take() {
            let _ = handle.join(); // if it has panicked, the log says so
        }
    }
}

fn watch(
    credentials: &[Arc<Credentials>],
    errands: &[UnboundedSender<Errand>],
    counts: &Counts,
    inbox: &Receiver<Order>,
) {
    let mut warned: Option<Instant> = None;
    loop {
        if warned.is_none_or(|warned| warned.elapsed() >= WARN_EVERY) {
            warned = Some(Instant::now());
            credentials.iter().for_each(|credentials| credentials.warn_of_expiry());
        }
        match inbox.recv_timeout(LOOK_EVERY) {
            Ok(Order { answer }) => {
                let reload = |one| counts.certificate_reloads.note(reload(one, errands)).err();
                let failures = credentials.iter().filter_map(reload).collect();
                let _ = answer.send(failures); // whoever asked may have gone
            }
            Err(RecvTimeoutError::Timeout) => {
                for one in credentials.iter().filter(|one| one.has_changed()) {
                    let _ = counts.certificate_reloads.note(reload(one, errands)); // the log has it
                }
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn reload(credentials: &Arc<Credentials>, errands: &[UnboundedSender<Errand>]) -> Result<(), CredentialsError> {
    match credentials.reload() {
        Ok(()) => {
            tracing::info!(target: "waypost::listener", "certificates were read again and are in force");
            credentials.warn_of_expiry();
            for errand in errands {
                let _ = errand.send(Errand::CheckCertificates(Arc::clone(credentials)));
            }
            Ok(())
        }
        Err(error) => {
            tracing::error!(target: "waypost::listener", %error, "certificates could not be read again; the former ones stay in force");
            Err(error)
        }
    }
}
