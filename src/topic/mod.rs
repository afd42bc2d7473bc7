//! Subscriptions and retained messages as data structures, without policy.
