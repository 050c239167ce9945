//! Enrolment codes are redeemed at the home: a server where an agent shows one passes it on.

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::server::control::shared::Rank;
use crate::server::peers::Peers;

/// The path.
pub(crate) const PATH: &str = "/v1/peers/enroll";
/// Time for the home's answer: an agent waits.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// The agent's id can't be one.
pub(crate) const INVALID: u8 = 1;
/// The code is for new agents, and this one is known.
pub(crate) const BOUND: u8 = 2;
/// The code is not good for this agent.
pub(crate) const BAD_CODE: u8 = 3;

/// A code that an agent shows.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Enrol {
    /// The code.
    pub(crate) code: String,
    /// The agent.
    pub(crate) agent_id: String,
    /// Where it calls from.
    pub(crate) address: Option<IpAddr>,
}

/// What the home says to it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Enrolled {
    /// Whose rows the home has.
    pub(crate) of: Rank,
    /// Their version after this.
    pub(crate) version: i64,
    /// The token; or why there is none, and the text that belongs to it.
    pub(crate) outcome: Result<String, (u8, String)>,
}

impl Peers {
    /// Has the home redeem a code; `None` where this server does it.
    ///
    /// # Errors
    ///
    /// The sentence that names the home and says why it can't.
    #[allow(clippy::type_complexity, reason = "two answers, and no answer")]
    pub(crate) fn enroll(
        &self,
        asked: &Enrol,
    ) -> Option<Result<Result<String, (u8, String)>, String>> {
        let home = self.home()?;
        let outcome = self.reachable(&home).and_then(|sister| {
            let answer = self.client().post::<Enrolled>(sister, PATH, asked, ANSWER_WITHIN);
            answer.map_err(|error| self.away(&home, &error))
        });
        Some(outcome.map(|enrolled| {
            // So that the agent can report here at once.
            self.wait_until_seen(&enrolled.of, enrolled.version);
            enrolled.outcome
        }))
    }
}
