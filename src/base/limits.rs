//! Every limit on what comes from outside, in one place. `docs/limits.md` is the table for users.

/// Points in one batch.
pub const BATCH_POINTS_MAX: usize = 10_000;
/// Bytes of one gRPC message. A full batch with long labels stays below it.
pub const GRPC_MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes of messages that all gRPC connections together may have in memory.
pub const GRPC_MEMORY_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Points that an agent puts into one message of a packed stream, unless a single tick has more.
/// gRPC's read buffer of a connection has 8 KB while its messages stay below about 4,900 bytes, and
/// 64 KB or more from the first larger one on: after an outage, a thousand agents with a backlog
/// would make that 64 MB.
pub const PACKED_POINTS_MAX: usize = 500;
/// Cores whose usage an agent reports one by one.
pub const CORES_MAX: usize = 1_024;
/// File systems that an agent measures.
pub const MOUNTS_MAX: usize = 128;
/// Network interfaces that an agent measures.
pub const INTERFACES_MAX: usize = 128;
/// Disks that an agent measures.
pub const DISKS_MAX: usize = 128;
/// Temperatures and fans that an agent measures.
pub const SENSORS_MAX: usize = 128;
/// Arrays of disks, and devices of btrfs, that an agent measures.
pub const ARRAYS_MAX: usize = 64;
/// Containers that an agent measures.
pub const CONTAINERS_MAX: usize = 200;
/// Processes that an agent looks through for those that `processes` names.
pub const PROCESSES_MAX: usize = 32_768;
/// Names in `units`, and in `processes`, of an agent's configuration.
pub const WATCHED_NAMES_MAX: usize = 64;
/// Files of `textfile_dir` that an agent reads.
pub const TEXTFILES_MAX: usize = 64;
/// Bytes of one of those files.
pub const TEXTFILE_BYTES_MAX: u64 = 1024 * 1024;
/// Series of all of those files together.
pub const TEXTFILE_SERIES_MAX: usize = 1_000;
/// Targets of `[[scrape]]`.
pub const SCRAPE_TARGETS_MAX: usize = 16;
/// Bytes of the answer of one target.
pub const SCRAPE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Series of all targets together in one collection.
pub const SCRAPE_SERIES_MAX: usize = 3_000;
/// Bytes of the facts of a host, and of a snapshot of its processes, in one message; what is larger
/// is left out.
pub const HOST_REPORT_BYTES_MAX: usize = 64 * 1024;
/// Bytes of one text among the facts of a host or of a process.
pub const HOST_TEXT_BYTES_MAX: usize = 256;
/// Addresses of a host that are kept.
pub const HOST_ADDRESSES_MAX: usize = 64;
/// Processes of one snapshot.
pub const SNAPSHOT_PROCESSES_MAX: usize = 30;
/// Seconds between two snapshots that the server asks a host for, at the least.
pub const SNAPSHOT_SECS_MIN: u64 = 60;
/// Snapshots that are kept of one host; the oldest goes first.
pub const SNAPSHOTS_PER_AGENT_MAX: usize = 10;
/// Snapshots that are kept of all hosts together; the oldest goes first.
pub const SNAPSHOTS_MAX: usize = 2_000;
/// Calls at the same time on one gRPC connection.
pub const GRPC_STREAMS_MAX: i32 = 256;
/// New calls a second on one gRPC connection: whoever sends a backlog makes thousands.
pub const GRPC_NEW_STREAMS_PER_SEC_MAX: u16 = 10_000;
/// Calls that a client of one gRPC connection may reset a second.
pub const GRPC_RESETS_PER_SEC_MAX: u16 = 100;
/// PING frames a second on one gRPC connection.
pub const GRPC_PINGS_PER_SEC_MAX: u16 = 50;
/// SETTINGS frames a second on one gRPC connection.
pub const GRPC_SETTINGS_PER_SEC_MAX: u16 = 10;
/// Frames without a payload a second on one gRPC connection.
pub const GRPC_EMPTY_FRAMES_PER_SEC_MAX: u16 = 20;
/// DATA frames of less than 64 bytes that end no call, a second on one gRPC connection.
pub const GRPC_SMALL_FRAMES_PER_SEC_MAX: u16 = 1_000;
/// All other frames without data a second on one gRPC connection.
pub const GRPC_CONTROL_FRAMES_PER_SEC_MAX: u16 = 10_000;
/// Bytes of the headers of a gRPC call: as sent, and as decoded with 32 a field.
pub const GRPC_HEADER_BYTES_MAX: usize = 16 * 1024;
/// Bytes of the decoded headers of all open calls of one gRPC connection.
pub const GRPC_HEADERS_OPEN_BYTES_MAX: usize = 256 * 1024;
/// Bytes of a gRPC call that carries no report: enrolment, health.
pub const GRPC_CALL_BYTES_MAX: usize = 16 * 1024;
/// Open gRPC connections.
pub const GRPC_CONNECTIONS_MAX: usize = 8_192;
/// Open gRPC connections of one address, of one /64 for IPv6.
pub const GRPC_CONNECTIONS_PER_ADDRESS_MAX: usize = 2_048;
/// Open gRPC calls of one address.
pub const GRPC_CALLS_PER_ADDRESS_MAX: usize = 4_096;
/// Open gRPC calls of all clients.
pub const GRPC_CALLS_MAX: usize = 16_384;
/// New gRPC connections, and calls that end without an answer, of one address at once.
pub const GRPC_ALLOWANCE_PER_ADDRESS_MAX: usize = 2_048;
/// New gRPC connections, and calls that end without an answer, of one address a second, once those
/// at once are used up.
pub const GRPC_ALLOWANCE_PER_ADDRESS_PER_SEC: usize = 256;
/// New gRPC connections, and calls that end without an answer, of all clients at once.
pub const GRPC_ALLOWANCE_MAX: usize = 16_384;
/// New gRPC connections, and calls that end without an answer, of all clients a second, once those
/// at once are used up.
pub const GRPC_ALLOWANCE_PER_SEC: usize = 2_048;
/// TLS handshakes under way at one port; the oldest gives way to a new one.
pub const TLS_HANDSHAKES_MAX: usize = 512;
/// Seconds for the handshake of a gRPC connection: TLS, preface, SETTINGS and their
/// acknowledgement.
pub const GRPC_HANDSHAKE_SECS_MAX: u64 = 10;
/// Seconds in which a gRPC connection, and each call, must have sent its first message.
pub const GRPC_FIRST_MESSAGE_SECS_MAX: u64 = 60;
/// Seconds without a byte of the client after which a gRPC connection is closed: clients answer the
/// PING that the server sends every 120.
pub const GRPC_SILENCE_SECS_MAX: u64 = 300;
/// Seconds in which a gRPC client must take something of what is sent to it.
pub const GRPC_ANSWER_SECS_MAX: u64 = 60;
/// Bytes of an agent id.
pub const AGENT_ID_BYTES_MAX: usize = 128;
/// Bytes of a metric's name.
pub const METRIC_NAME_BYTES_MAX: usize = 200;
/// Labels of one point.
pub const LABELS_MAX: usize = 16;
/// Bytes of a label's name.
pub const LABEL_NAME_BYTES_MAX: usize = 64;
/// Bytes of a label's value.
pub const LABEL_VALUE_BYTES_MAX: usize = 512;
/// Series that one agent may have in a day, so that one runaway host cannot fill the head.
pub const SERIES_PER_AGENT_MAX: usize = 10_000;
/// Bytes of names and labels of the series of one agent, with 128 a series.
pub const SERIES_BYTES_PER_AGENT_MAX: usize = 8 * 1024 * 1024;
/// Series of one packed stream.
pub const STREAM_SERIES_MAX: usize = 10_000;
/// How far ahead of the server's clock a point may be.
pub const FUTURE_MS_MAX: i64 = 3_600_000;

/// Bytes of an HTTP request line.
pub const HTTP_URL_BYTES_MAX: usize = 8 * 1024;
/// Bytes of all headers of an HTTP request.
pub const HTTP_HEADER_BYTES_MAX: usize = 16 * 1024;
/// Bytes of an HTTP request's body.
pub const HTTP_BODY_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of the body of a request that brings samples (remote write, OTLP, line protocol), as sent.
pub const HTTP_SAMPLES_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Open HTTP connections.
pub const HTTP_CONNECTIONS_MAX: usize = 4_096;
/// Seconds in which a whole request must have arrived.
pub const HTTP_REQUEST_SECS_MAX: u64 = 15;
/// Seconds that an idle kept-alive connection stays open.
pub const HTTP_IDLE_SECS_MAX: u64 = 75;
/// Seconds in which a client must have taken the whole of an answer.
pub const HTTP_ANSWER_SECS_MAX: u64 = 60;
/// Bytes of requests and answers that all HTTP connections together may have in memory.
pub const HTTP_MEMORY_BYTES_MAX: usize = 128 * 1024 * 1024;

/// Percent of the HTTP workers, and of the requests that wait for one, that one address (of IPv6:
/// one /64) may have.
pub const HTTP_ADDRESS_SHARE_PERCENT: usize = 75;

/// Rows of a list where the caller names no `limit`.
pub const PAGE_DEFAULT: usize = 20;
/// Rows of a list at the most.
pub const PAGE_MAX: usize = 1_000;
/// Series whose newest values one request gives at the most, and without `limit`.
pub const LATEST_ROWS_MAX: usize = 1_000;
/// Series of agents in one answer of `GET /metrics`.
pub const EXPOSITION_SERIES_MAX: usize = 100_000;
/// Bytes of the series of agents in one answer of `GET /metrics`. One answer is made at a time.
pub const EXPOSITION_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Points that a list of points passes over: it remembers as many to find those that follow.
pub const POINTS_OFFSET_MAX: usize = 1_000_000;
/// Buckets of one range query.
pub const RANGE_BUCKETS_MAX: i64 = 11_000;
/// Buckets with points that one range query gives over all of its series.
pub const RANGE_ROWS_MAX: usize = 200_000;
/// Bytes of a PromQL query.
pub const PROMQL_BYTES_MAX: usize = 64 * 1024;
/// Levels of a PromQL query: calls and parentheses inside of each other, or operators in a row.
pub const PROMQL_DEPTH_MAX: usize = 128;
/// Steps of a PromQL range query.
pub const PROMQL_STEPS_MAX: i64 = 11_000;
/// Steps of one PromQL subquery.
pub const PROMQL_SUBQUERY_STEPS_MAX: i64 = 100_000;
/// Samples that one PromQL query reads or makes.
pub const PROMQL_SAMPLES_MAX: u64 = 200_000_000;
/// Series that one PromQL query reads.
pub const PROMQL_SERIES_MAX: u64 = 200_000;
/// Bytes of series that one PromQL query holds at a time.
pub const PROMQL_MEMORY_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Seconds that one PromQL query takes at the most; its `timeout` may be shorter.
pub const PROMQL_SECS_MAX: u64 = 60;

/// Bytes of a remote write or remote read request, once it is unpacked.
pub const RECEIVE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Symbols of one remote write 2.0 request.
pub const RECEIVE_SYMBOLS_MAX: usize = 200_000;
/// Series of remote write that are remembered, so that their names are not looked up each time.
pub const RECEIVE_SERIES_CACHED: usize = 65_536;
/// Bytes of the answer to one PromQL query, before it is packed.
pub const PROMQL_ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Servers of an agent's `server_endpoints`.
pub const ENDPOINTS_MAX: usize = 16;
/// URLs of `remote.write_urls`, and of `remote.read_urls`.
pub const REMOTE_URLS_MAX: usize = 64;
/// Labels of `remote.labels`: with those of a series an engine must take all of them.
pub const REMOTE_LABELS_MAX: usize = 8;
/// Samples that wait in memory for the engine; more of them are read from the store later.
pub const REMOTE_QUEUED_SAMPLES_MAX: usize = 500_000;
/// Samples of agents that are new to a server and that wait until the state of their alerts is
/// there.
pub const MOVED_POINTS_HELD_MAX: usize = 200_000;
/// Bytes of an engine's answer to one read.
pub const REMOTE_ANSWER_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Servers of `peers.sisters`.
pub const PEERS_MAX: usize = 16;
/// Bytes of a server's name in `[peers]`.
pub const PEER_NAME_BYTES_MAX: usize = 64;
/// Bytes of a request that one server of `[peers]` sends to another.
pub const PEERS_REQUEST_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Bytes of the answer of one server of `[peers]` to another.
pub const PEERS_ANSWER_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Changed rows that the home of `[peers]` remembers; who lacks more gets everything.
pub const SHARED_CHANGES_MAX: i64 = 100_000;
/// Seconds that a request for changes waits for one.
pub const PEERS_WAIT_SECS_MAX: u64 = 20;

/// Bytes of a name, a note or a description given over the API.
pub const TEXT_BYTES_MAX: usize = 1_024;
/// Bytes of a rule's or a channel's `config_json`.
pub const CONFIG_JSON_BYTES_MAX: usize = 64 * 1024;
/// Alert rules that are in force at once.
pub const RULES_MAX: usize = 1_000;
/// Seconds of any duration, window or horizon of an alert rule: 30 days.
pub const RULE_SECS_MAX: u64 = 30 * 86_400;
/// Series that the expression of one `promql` rule may give.
pub const PROMQL_RULE_SERIES_MAX: usize = 10_000;
/// Seconds that one evaluation of a `promql` rule takes at the most.
pub const PROMQL_RULE_SECS_MAX: u64 = 10;
/// Seconds between two evaluations of a `promql` rule at the most.
pub const PROMQL_RULE_INTERVAL_SECS_MAX: u64 = 86_400;
/// Bytes of the `message` of a `promql` rule, and of each of its `alert_labels`.
pub const RULE_MESSAGE_BYTES_MAX: usize = 4_096;
/// Alerts that a backtest lists.
pub const BACKTEST_ALERTS_MAX: usize = 1_000;
/// Points that a backtest evaluates before it asks for a shorter time.
pub const BACKTEST_POINTS_MAX: u64 = 20_000_000;
/// Seconds that a backtest may take; one runs at a time.
pub const BACKTEST_SECS_MAX: u64 = 15;
/// Domains whose certificates are checked.
pub const DOMAINS_MAX: u64 = 10_000;
/// Checks that are kept of one domain, whatever `retention_days` says.
pub const CERT_CHECKS_PER_DOMAIN_MAX: i64 = 10_000;
/// Addresses of one name that a check looks at.
pub const CERT_ADDRESSES_MAX: usize = 16;
/// Seconds between two checks of a domain at the most.
pub const CERT_INTERVAL_SECS_MAX: i64 = 365 * 86_400;
/// Seconds that a call waits for the checks that it asked for. They go on without it.
pub const CERT_WAIT_SECS_MAX: u64 = 60;
/// Domains in one batch.
pub const DOMAIN_BATCH_MAX: usize = 1_000;
/// Recipients of one channel.
pub const RECIPIENTS_MAX: usize = 200;
/// Bytes of a password.
pub const PASSWORD_BYTES_MAX: usize = 256;
/// Bytes of a new password at the least.
pub const PASSWORD_BYTES_MIN: usize = 8;
/// Bytes of a user's name.
pub const USERNAME_BYTES_MAX: usize = 64;
/// Users.
pub const USERS_MAX: u64 = 1_000;
/// API tokens of one user.
pub const API_TOKENS_MAX: u64 = 100;
/// Failed logins of one user before each further one must wait.
pub const LOGIN_FAILURES_USER_FREE: u32 = 5;
/// Failed logins from one address (of IPv6: one /64) before each further one must wait.
pub const LOGIN_FAILURES_ADDRESS_FREE: u32 = 20;
/// Seconds that a login must wait at the most.
pub const LOGIN_WAIT_SECS_MAX: i64 = 60;
/// Addresses and users whose failed logins are remembered, and as many whose logins are.
pub const LOGIN_THROTTLE_ENTRIES_MAX: usize = 8_192;
/// Logins that were ended by signing out and have not expired yet. When there are as many, signing
/// out ends every login of the user.
pub const ENDED_LOGINS_MAX: usize = 65_536;
/// Entries of the audit log; the oldest go, those of failed logins first.
pub const AUDIT_ROWS_MAX: i64 = 100_000;
/// Days that the audit log goes back.
pub const AUDIT_DAYS_MAX: i64 = 400;
/// Alerts that one notification lists; more of them become another notification.
pub const NOTIFICATION_EVENTS_MAX: usize = 10_000;
/// Notification channels.
pub const CHANNELS_MAX: u64 = 200;
/// Comments on one alert.
pub const ALERT_COMMENTS_MAX: u64 = 200;
/// Tags of one host.
pub const TAGS_MAX: usize = 20;
/// Bytes of a tag.
pub const TAG_BYTES_MAX: usize = 64;
/// Seconds of a silence that is given as a duration: a year.
pub const SILENCE_SECS_MAX: u64 = 366 * 86_400;
/// Silence windows.
pub const SILENCE_WINDOWS_MAX: u64 = 500;
/// Bytes of a receiver's response kept in the delivery log.
pub const RESPONSE_BYTES_KEPT_MAX: usize = 2_048;
/// Bytes of a file that holds one secret.
pub const SECRET_FILE_BYTES_MAX: u64 = 4 * 1024;
/// Bytes read of a configuration or seed file.
pub const CONFIG_FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

const _: () = assert!(PAGE_DEFAULT <= PAGE_MAX);
const _: () = assert!(PASSWORD_BYTES_MIN < PASSWORD_BYTES_MAX);
const _: () = assert!(HTTP_URL_BYTES_MAX < HTTP_HEADER_BYTES_MAX);
const _: () = assert!(
    BATCH_POINTS_MAX * (METRIC_NAME_BYTES_MAX + AGENT_ID_BYTES_MAX) < GRPC_MESSAGE_BYTES_MAX
);
const _: () = assert!(GRPC_CONNECTIONS_PER_ADDRESS_MAX < GRPC_CONNECTIONS_MAX);
const _: () = assert!(GRPC_HEADER_BYTES_MAX < GRPC_HEADERS_OPEN_BYTES_MAX);
