//! Notifications: channels, silence windows, outbox, deliveries.

/// Channels, silence windows and the outbox.
pub struct Notifier;
