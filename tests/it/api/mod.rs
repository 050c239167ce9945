//! HTTP: the endpoints, the protocol, the documents.

// Roles, tokens, logins.
mod access;
// Agents and what the server knows of them.
mod agents;
// Secrets of channels: masks, addresses that change, the delivery log.
mod channel_secrets;
// What scripts of earlier releases send and read; pages of other origins.
mod compatible;
// The OpenAPI document by schemathesis, the exposition by promtool and Prometheus.
mod conformance;
// The examples of docs/api-reference.md, run with sh, curl and jq.
mod examples;
// Slow, broken and malicious clients.
mod hostile;
// Names that the server answers to, HSTS.
mod hosts;
// HTTP/1.1: keep-alive, chunked bodies, pipelining.
mod http;
// Logins: the default password, signing out, tokens of others, guesses, names, the audit's bounds.
mod logins;
// Points, summaries, names of metrics.
mod metrics;
// Range queries for charts.
mod range;
// What one client leaves for the others.
mod shares;
// Configuration in force, storage, clean-up.
mod system;
// Users, roles, passwords, API tokens, the audit log.
mod users;
// The whitelist of agents and enrolment codes.
mod whitelist;
