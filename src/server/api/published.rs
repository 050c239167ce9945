//! Puts in force what a server takes over from the home of the configuration (`[peers]`), as a call
//! of the API would have.

use std::collections::BTreeSet;

use crate::server::alert::manage::AlertError;
use crate::server::api::app::App;
use crate::server::control::notify::silence;
use crate::server::control::profiles;
use crate::server::peers::Publish;
use crate::server::storage::StorageError;

impl Publish for App {
    fn changed(&self, tables: &BTreeSet<&'static str>, rules: &[String]) {
        for table in tables {
            let done = match *table {
                "alert_rules" => self.alerts.take_stored(rules).map_err(|error| error.to_string()),
                "host_profiles" => self.retag().map_err(|error| error.to_string()),
                "agent_whitelist" => self.whitelist.read_again().map_err(|error| error.to_string()),
                "settings" => self.auth.read_again().map_err(|error| error.to_string()),
                "ended_logins" => {
                    let now_ms = self.clock.now_ms();
                    self.auth.read_ended(now_ms).map_err(|error| error.to_string())
                }
                "silence_windows" => self.silences_changed().map_err(|error| error.to_string()),
                "notification_channels" | "notification_recipients" => {
                    self.notifier.look_now();
                    Ok(())
                }
                "cert_domains" => {
                    self.certs.look_now();
                    Ok(())
                }
                // Read whenever they are needed.
                _ => Ok(()),
            };
            if let Err(why) = done {
                log::error!("`{table}` of the home is stored and not in force yet: {why}");
            }
        }
    }

    fn is_home(&self, is_home: bool) {
        self.certs.set_active(is_home);
    }
}

impl App {
    fn retag(&self) -> Result<(), AlertError> {
        profiles::load_tags(&self.control)?;
        self.alerts.retag()?;
        self.notifier.look_now();
        Ok(())
    }

    fn silences_changed(&self) -> Result<(), StorageError> {
        let now_ms = self.clock.now_ms();
        self.control.write(move |tx| -> Result<(), StorageError> {
            Ok(silence::look_again(tx, now_ms)?)
        })?;
        self.notifier.look_now();
        Ok(())
    }
}
