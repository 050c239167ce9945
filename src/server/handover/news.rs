//! What servers tell each other, as JSON.

use serde::{Deserialize, Serialize};

use crate::server::control::alerts::StateRow;

/// What is new at a server.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct News {
    /// Another one after each start.
    pub boot: String,
    /// Names what the answer holds, for the next question.
    pub version: u64,
    /// Whether the answer replaces all earlier ones.
    pub reset: bool,
    /// Whether there is more, which the next question gets.
    pub more: bool,
    /// The time there, Unix milliseconds.
    pub now_ms: i64,
    /// Samples that arrived there before are at the engine, Unix milliseconds.
    pub settled_ms: i64,
    /// Agents whose place has changed.
    pub agents: Vec<AgentNews>,
    /// Alerts that have changed.
    pub alerts: Vec<AlertNews>,
}

/// Where an agent is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct AgentNews {
    /// The agent.
    pub agent: String,
    /// Where it is.
    #[serde(flatten)]
    pub place: Place,
}

/// The state of an alert.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct AlertNews {
    /// Rule, agent, metric and labels.
    pub key: [String; 4],
    /// Its state; `None` when it is simply ok, or another server's.
    pub row: Option<StateRow>,
    /// Whether everybody was notified of it who is to be.
    pub is_sent: bool,
}

/// Where an agent is, as one server has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    /// Orders the stays of an agent at all servers: the greatest is the newest.
    pub claim: i64,
    /// Whether that server evaluates it.
    pub is_here: bool,
    /// When its last report arrived, Unix milliseconds.
    pub seen_ms: i64,
    /// The newest time of its samples, Unix milliseconds.
    pub newest_ms: i64,
}
