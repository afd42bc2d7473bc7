//! Checks that tests leave out on purpose, one at a time, to find out whether anybody would notice.
//!
//! With the feature `seeded-faults` only, which is for one test and never for a release. Without it the question is answered by
//! the compiler, and nothing can be left out.

/// One check on one path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// May a Client receive what comes while it is there?
    Live,
    /// What is retained.
    Retained,
    /// What has waited for it while it was away.
    Queued,
    /// What is sent again after a resumption.
    Resent,
    /// What comes by a shared subscription.
    Shared,
    /// The bytes that the receiver before it got.
    Repeated,
    /// May a Client that connects publish its Will?
    WillAtConnect,
    /// May it still, when it has gone?
    Will,
    /// And when the delay is over?
    DelayedWill,
    /// May a Client subscribe?
    Subscribe,
    SubscribeShared,
    PublishQos0,
    PublishQos1,
    PublishQos2,
    /// Was a decision made under the rights in force?
    DecisionVersion,
    /// Was it made about this act?
    DecisionAct,
    /// Is a Client that may receive all it subscribes to one still, after this subscription?
    ReadsAll,
    /// May who retained a Message still publish it?
    RetainedWriter,
    /// Whose is a Session of somebody who is away?
    Owner,
    /// And of somebody who is there?
    OwnerConnected,
    /// Does an account that has gone end the Session of a Client that is there?
    Account,
    /// And of one that is away?
    AccountAway,
    /// Is it still there when a login ends?
    AccountAtLogin,
    /// Do subscriptions of a Client that is there go with the right to them?
    Review,
    /// And of one that is away?
    ReviewAway,
    /// And shared ones?
    ReviewShared,
    /// Has a token run out?
    Token,
    /// Does a ban end the Session of a Client that is there?
    Ban,
    /// And of one that is away?
    BanAway,
    /// Does it keep out who comes?
    BanAtConnect,
    /// And its Will?
    BanWill,
    /// Is the journal on the disk before it says so?
    StoreSync,
    /// Is the segment before it, when a new one begins?
    StoreSyncAtEnd,
    /// Is the name of a new segment?
    StoreSyncFolder,
    /// Is a new segment whole when it gets its name?
    StoreWholeFirst,
    /// Does a record's checksum cover its batch?
    StoreChecksum,
    /// And where it lies?
    StorePosition,
    /// Does a segment end where the next one begins?
    StoreEnd,
    /// Does the journal end at a hole that a crash left?
    StoreHole,
    /// Is a file that failed left alone?
    StoreBeginAnew,
    /// Is what outlives a segment at rest before the segment goes?
    StoreRestFirst,
    /// Does rest say how far it includes the journal, and no further?
    StoreRestPosition,
    /// Is it asked after a failure?
    StoreRestAgain,
    /// Does a blob go when nothing refers to it?
    StoreReferences,
    /// Does an entry take as many leaves as it entered?
    StoreCount,
}

#[cfg(not(feature = "seeded-faults"))]
#[inline(always)]
pub(crate) const fn is_left_out(_: Fault) -> bool {
    false
}

#[cfg(feature = "seeded-faults")]
pub(crate) use seeded::is_left_out;
#[cfg(feature = "seeded-faults")]
pub use seeded::leave_out;

#[cfg(feature = "seeded-faults")]
mod seeded {
    use super::Fault;
    use std::cell::Cell;

    thread_local! {
        static LEFT_OUT: Cell<Option<Fault>> = const { Cell::new(None) };
    }

    pub(crate) fn is_left_out(check: Fault) -> bool {
        LEFT_OUT.get() == Some(check)
    }

    /// Leaves a check out, in brokers of this thread.
    pub fn leave_out(check: Option<Fault>) {
        LEFT_OUT.set(check);
    }

    impl Fault {
        /// Of the store, which tests/store is to notice.
        pub const STORE: &[Self] = &[
            Self::StoreSync,
            Self::StoreSyncAtEnd,
            Self::StoreSyncFolder,
            Self::StoreWholeFirst,
            Self::StoreChecksum,
            Self::StorePosition,
            Self::StoreEnd,
            Self::StoreHole,
            Self::StoreBeginAnew,
            Self::StoreRestFirst,
            Self::StoreRestPosition,
            Self::StoreRestAgain,
            Self::StoreReferences,
            Self::StoreCount,
        ];

        /// Of rights, which tests/rights_model is to notice.
        pub const ALL: &[Self] = &[
            Self::Live,
            Self::Retained,
            Self::Queued,
            Self::Resent,
            Self::Shared,
            Self::Repeated,
            Self::WillAtConnect,
            Self::Will,
            Self::DelayedWill,
            Self::Subscribe,
            Self::SubscribeShared,
            Self::PublishQos0,
            Self::PublishQos1,
            Self::PublishQos2,
            Self::DecisionVersion,
            Self::DecisionAct,
            Self::ReadsAll,
            Self::RetainedWriter,
            Self::Owner,
            Self::OwnerConnected,
            Self::Account,
            Self::AccountAway,
            Self::AccountAtLogin,
            Self::Review,
            Self::ReviewAway,
            Self::ReviewShared,
            Self::Token,
            Self::Ban,
            Self::BanAway,
            Self::BanAtConnect,
            Self::BanWill,
        ];
    }
}
