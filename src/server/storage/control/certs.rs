//! Domains whose certificates are checked, what was served, and every check's result.

/// `cert_domains` keeps the seed's columns, so that its SQL examples go on working.
pub const SCHEMA: &str = "
CREATE TABLE cert_domains (
  id TEXT PRIMARY KEY,
  domain TEXT NOT NULL UNIQUE,
  port INTEGER NOT NULL DEFAULT 443,
  enabled INTEGER NOT NULL DEFAULT 1,
  check_interval_secs INTEGER,
  note TEXT,
  starttls TEXT,
  last_checked_at INTEGER,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL
);
CREATE TABLE cert_checks (
  id TEXT PRIMARY KEY,
  domain_id TEXT NOT NULL REFERENCES cert_domains(id) ON DELETE CASCADE,
  domain TEXT NOT NULL,
  is_valid INTEGER NOT NULL,
  chain_valid INTEGER NOT NULL,
  not_before INTEGER,
  not_after INTEGER,
  days_until_expiry INTEGER,
  issuer TEXT,
  subject TEXT,
  san_list TEXT,
  resolved_ips TEXT,
  error TEXT,
  error_kind TEXT,
  addresses TEXT,
  checked_at INTEGER NOT NULL
);
CREATE INDEX cert_checks_domain ON cert_checks (domain_id, checked_at);
CREATE TABLE certificates (
  id TEXT PRIMARY KEY,
  domain_id TEXT NOT NULL UNIQUE REFERENCES cert_domains(id) ON DELETE CASCADE,
  domain TEXT NOT NULL,
  not_before INTEGER NOT NULL,
  not_after INTEGER NOT NULL,
  issuer_cn TEXT,
  ip_addresses TEXT NOT NULL,
  details TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL
);
";
