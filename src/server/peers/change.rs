//! A change that was asked for at a server that is not home: it is passed on to the home, with who
//! asks, and the answer comes back.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::model::role::Role as UserRole;
use crate::server::control::shared::Rank;
use crate::server::peers::client::PeerError;
use crate::server::peers::lead::Role;
use crate::server::peers::{Peers, Sister};

/// The path.
pub(crate) const PATH: &str = "/v1/peers/change";
/// Time for a change at the home.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);
/// Time where the home did not answer the last time that it was asked.
const ANSWER_WITHIN_AWAY: Duration = Duration::from_secs(3);
/// Time for a check of certificates.
const CHECKED_WITHIN: Duration = Duration::from_secs(70);
/// How long a change is waited for, so that whoever made it reads it here.
const SEEN_WITHIN: Duration = Duration::from_secs(5);

/// A call that is passed on.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Passed {
    /// The server through which it came.
    pub(crate) through: String,
    /// The method.
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    /// The content type.
    pub(crate) content_type: Option<String>,
    /// The body, in Base64.
    pub(crate) body: String,
    /// The value of `X-Oxmon-Page`.
    pub(crate) page: Option<String>,
    /// The client's address.
    pub(crate) client: String,
    /// The request's trace id.
    pub(crate) trace_id: String,
    /// The agent of the path, where that server knows it.
    pub(crate) agent: Option<String>,
    /// Who asks.
    pub(crate) who: Who,
}

/// Who asks, as the server through which the call came has made sure.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Who {
    /// The user's id.
    pub(crate) user_id: String,
    /// The user's name.
    pub(crate) username: String,
    /// What the caller may do at most; the home looks again.
    pub(crate) is_admin: bool,
    /// Whether an API token was shown.
    pub(crate) by_token: bool,
    /// Id and end of the login.
    pub(crate) session: Option<(String, i64)>,
}

impl Who {
    /// What the caller may do at most.
    pub(crate) fn role(&self) -> UserRole {
        if self.is_admin { UserRole::Admin } else { UserRole::Viewer }
    }
}

/// What the home answers to the caller.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Answered {
    /// Whose rows the home has.
    pub(crate) of: Rank,
    /// Their version after the change.
    pub(crate) version: i64,
    /// The answer.
    pub(crate) outcome: Outcome,
}

/// An answer without its form.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Outcome {
    /// It was done.
    Done {
        /// The HTTP status.
        status: u16,
        /// `data` of the envelope.
        data: Box<RawValue>,
        /// All matches of a list.
        total: Option<u64>,
        /// Whether the dashboard's browser forgets its session.
        ends_session: bool,
    },
    /// It was refused.
    Refused {
        /// The error code.
        code: u16,
        /// The sentence.
        message: String,
        /// Seconds after which to retry.
        retry_after_secs: Option<u64>,
        /// The HTTP status where it is not that of the code.
        status: Option<u16>,
    },
}

impl Peers {
    /// The server that makes changes; `None` where this one does, or none does.
    pub(crate) fn home(&self) -> Option<Rank> {
        match self.lead.role() {
            Role::Follower(lead) => Some(lead),
            Role::Home | Role::Behind => None,
        }
    }

    /// Passes a call on to the home, and waits until what it changed is here.
    ///
    /// # Errors
    ///
    /// The sentence that names the home and says why it can't.
    pub(crate) fn pass(&self, home: &Rank, passed: &Passed) -> Result<Outcome, String> {
        let sister = self.reachable(home)?;
        let within = if !sister.seen().is_up() {
            ANSWER_WITHIN_AWAY
        } else if passed.target.ends_with("/check") {
            CHECKED_WITHIN
        } else {
            ANSWER_WITHIN
        };
        let answered: Result<Answered, _> = self.client().post(sister, PATH, passed, within);
        self.metrics.passed(answered.is_ok());
        let answered = answered.map_err(|error| self.away(home, &error))?;
        if passed.method != "GET" {
            self.wait_until_seen(&answered.of, answered.version);
        }
        Ok(answered.outcome)
    }

    /// The home among the sisters.
    pub(super) fn reachable(&self, home: &Rank) -> Result<&Sister, String> {
        let unknown = || {
            format!(
                "changes are made at the server `{}`, which is not in peers.sisters of this one",
                home.home
            )
        };
        self.sister(&home.home).map(AsRef::as_ref).ok_or_else(unknown)
    }

    /// The sentence where the home did not do it.
    pub(super) fn away(&self, home: &Rank, error: &PeerError) -> String {
        let home = &home.home;
        match error {
            PeerError::Away { why, sent: false } => format!(
                "changes are made at the server `{home}`, which does not answer ({why}); nothing \
                 was changed. Retry later, or promote another server"
            ),
            PeerError::Away { why, sent: true } => format!(
                "changes are made at the server `{home}`, which gave no answer ({why}); it may \
                 have made this one. Look before you retry"
            ),
            PeerError::Refused { message, .. } => {
                format!("changes are made at the server `{home}`, which refuses: {message}")
            }
            PeerError::Unusable(why) => {
                format!("changes are made at the server `{home}`; {why}. Look before you retry")
            }
        }
    }

    /// Waits until this version is here, for a moment.
    pub(super) fn wait_until_seen(&self, of: &Rank, version: i64) {
        let deadline = Instant::now() + SEEN_WITHIN;
        let mut here = self.in_force.lock();
        let is_there = |here: &(Rank, i64)| here.0 == *of && here.1 >= version;
        while !is_there(&here) && self.lead.state().lead == *of && !self.stop.is_stopped() {
            if self.is_new.wait_until(&mut here, deadline).timed_out() {
                return;
            }
        }
    }
}
