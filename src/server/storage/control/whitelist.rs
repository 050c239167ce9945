//! Agents that may report, with the hashes of their tokens, and the one-time codes by which an
//! agent joins.

/// A token is stored as the SHA-256 of its text; so is an enrolment code.
pub const SCHEMA: &str = "
CREATE TABLE agent_whitelist (
  id TEXT PRIMARY KEY,
  agent_id TEXT NOT NULL UNIQUE,
  description TEXT,
  token_hash BLOB NOT NULL,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL
);
CREATE TABLE enroll_codes (
  code_hash BLOB PRIMARY KEY,
  agent_id TEXT,
  created_by TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  expires_at INTEGER NOT NULL
);
";
