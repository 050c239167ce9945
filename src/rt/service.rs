//! What a daemon says to its service manager (sd_notify(3)). Without one, nothing is said.

use sd_notify::NotifyState;

/// All parts run.
pub fn ready() {
    say(&[NotifyState::Ready]);
}

/// The process ends.
pub fn stopping() {
    say(&[NotifyState::Stopping]);
}

/// The process is alive, for the watchdog.
pub fn alive() {
    say(&[NotifyState::Watchdog]);
}

/// Runs `reload` between RELOADING and READY.
pub fn reloading(reload: impl FnOnce()) {
    let since = NotifyState::monotonic_usec_now().ok();
    say(&[Some(NotifyState::Reloading), since].into_iter().flatten().collect::<Vec<_>>());
    reload();
    ready();
}

fn say(state: &[NotifyState<'_>]) {
    // The daemon does its work all the same; a manager that waits for this says so itself.
    if let Err(error) = sd_notify::notify(state) {
        log::debug!("cannot notify the service manager: {error}");
    }
}
