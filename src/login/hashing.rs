//! Passwords are hashed beside the shards, on threads for work that blocks, and only so many at a time.

use super::waiting::Waiting;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use tokio::sync::Semaphore;

/// A bounded number of hashes at work, and of logins that wait for their turn, first come first served.
pub struct Hashing {
    at_work: Arc<Semaphore>,
    waiting: AtomicUsize,
    waiting_max: usize,
}

/// Too many wait already, or the node is stopping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy;

impl Hashing {
    pub fn new(at_work_max: usize, waiting_max: usize) -> Self {
        let at_work = Arc::new(Semaphore::new(at_work_max.clamp(1, Semaphore::MAX_PERMITS)));
        Self { at_work, waiting: AtomicUsize::new(0), waiting_max }
    }

    /// Waits for a turn, asks `wanted` whether it is still worth it, and does the work where it blocks nobody. A login that is
    /// given up while it waits gives up its turn; once begun, the work ends by itself.
    ///
    /// # Errors
    /// [`Busy`]; nothing was done.
    pub async fn run<T: Send + 'static>(
        &self,
        wanted: impl FnOnce() -> bool,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<Option<T>, Busy> {
        let turn = {
            let _waiting = Waiting::among(&self.waiting, self.waiting_max).ok_or(Busy)?;
            Arc::clone(&self.at_work).acquire_owned().await.map_err(|_| Busy)?
        };
        if !wanted() {
            return Ok(None);
        }
        let done = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            work()
        });
        done.await.map(Some).map_err(|_| Busy)
    }
}

#[cfg(test)]
mod tests {
    use super::{Busy, Hashing};
    use std::future::Future;
    use std::pin::pin;
    use std::sync::mpsc::channel;
    use std::task::{Context, Poll, Waker};

    #[test]
    fn so_many_work_so_many_wait_and_the_rest_is_refused() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let hashing = Hashing::new(1, 2);
            let (release, held) = channel::<()>();
            let mut nothing = Context::from_waker(Waker::noop());
            let mut first = pin!(hashing.run(|| true, move || held.recv()));
            assert!(first.as_mut().poll(&mut nothing).is_pending());
            let mut unwanted = pin!(hashing.run(|| false, || unreachable!("nobody wants it any more")));
            assert!(unwanted.as_mut().poll(&mut nothing).is_pending());
            {
                let mut given_up = pin!(hashing.run(|| true, || ()));
                assert!(given_up.as_mut().poll(&mut nothing).is_pending());
                let mut refused = pin!(hashing.run(|| true, || ()));
                assert!(matches!(refused.as_mut().poll(&mut nothing), Poll::Ready(Err(Busy))));
            }
            let mut last = pin!(hashing.run(|| true, || 7));
            assert!(last.as_mut().poll(&mut nothing).is_pending());
            drop(release);
            assert!(first.await.expect("it had its turn").expect("it was wanted").is_err());
            assert_eq!(unwanted.await, Ok(None::<()>));
            assert_eq!(last.await, Ok(Some(7)));
        });
    }
}
