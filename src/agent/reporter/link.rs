//! One server and the calls to it. A call is started and its reply comes as a message, so that the
//! reporter never waits for the network: while one call is under way it goes on taking sample sets.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use futures_util::{SinkExt as _, StreamExt as _};
use grpcio::{ClientDuplexSender, Environment, RpcStatusCode, WriteFlags};

use super::packed::Packer;
use super::target::{CALL_TIMEOUT, Target};
use crate::agent::buffer::SampleSet;
use crate::base::clock::{Clock as _, Now, SystemClock};
use crate::base::limits::{BATCH_POINTS_MAX, PACKED_POINTS_MAX};
use crate::model::host::{HostFacts, HostReport};
use crate::wire::pb::metrics::{PackedAck, PackedBatch, ReportResponse};
use crate::wire::pb::metrics_grpc::MetricServiceClient;
use crate::wire::{FEATURE_PACKED, facts_to_proto, points_to_proto, snapshot_to_proto};

/// What came of a call.
pub(super) struct Reply {
    to: ReplyTo,
    /// The server's clock when it answered; 0 where it did not say.
    server_time_ms: i64,
    pub(super) outcome: Result<Answer, Failure>,
}

#[derive(Clone, Copy)]
enum ReplyTo {
    /// The call with this id.
    Call(u64),
    /// Whatever is under way on the stream with this number, which has ended.
    Stream(u64),
}

impl Reply {
    fn to_call(id: u64, server_time_ms: i64, outcome: Result<Answer, Failure>) -> Self {
        Self { to: ReplyTo::Call(id), server_time_ms, outcome }
    }
}

/// What the server decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// It is stored. With what the server has to say, which is empty when all is well.
    Stored {
        message: String,
        features: Vec<String>,
        /// The server asks for a snapshot of processes.
        snapshot_wanted: bool,
    },
    /// It is not stored, and won't be.
    Refused(String),
}

/// Why there is no decision. What was sent is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) kind: FailureKind,
    pub(super) text: String,
}

/// What a failure asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FailureKind {
    /// No connection, no answer in time, or an error inside the server.
    Unreachable,
    /// The server's queue is full, or the call is too large for it.
    Busy,
    /// The token, or the agent's id, is not accepted.
    Denied,
    /// The server does not have the call.
    Unimplemented,
    /// The configuration does not allow a call at all.
    Local,
}

/// Whether the server takes packed batches.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Packed {
    NotOffered,
    Offered,
    /// It said so, but did not know the call.
    Refused,
}

/// See the module.
pub(super) struct Link {
    env: Arc<Environment>,
    target: Target,
    /// Which of its servers is reported to.
    place: usize,
    client: Option<MetricServiceClient>,
    packed: Packed,
    stream: Option<Stream>,
    streams: u64,
    replies: Sender<Reply>,
    next_id: u64,
    /// The last call: its id and when it was sent.
    sent: (u64, Now, Instant),
    /// What is said of the host beside samples.
    host: Host,
}

/// What the server is sent of the host, until it has it.
#[derive(Default)]
struct Host {
    /// The facts as they are.
    facts: Option<HostFacts>,
    /// Those that the server behind this connection does not have, and a snapshot it asked for.
    due: HostReport,
    /// The call that carries all of `due`.
    carried_by: Option<u64>,
}

/// An open stream of packed batches.
struct Stream {
    packer: Packer,
    /// Holds the sender while nothing is being sent.
    sender: Receiver<ClientDuplexSender<PackedBatch>>,
    give_back: Sender<ClientDuplexSender<PackedBatch>>,
}

impl Link {
    /// A link that is not connected, and the channel of its replies.
    pub(super) fn new(target: Target) -> (Self, Receiver<Reply>) {
        // One call is under way at a time; the rest is room for late words of one given up. What
        // does not fit is dropped: nobody waits for it any more.
        let (replies, receiver) = bounded(16);
        let env = Target::environment();
        let link = Self {
            env,
            target,
            place: 0,
            client: None,
            packed: Packed::NotOffered,
            stream: None,
            streams: 0,
            replies,
            next_id: 1,
            sent: (0, SystemClock.now(), Instant::now()),
            host: Host::default(),
        };
        (link, receiver)
    }

    /// Takes what was found out of the host: it goes with the next call.
    pub(super) fn put_host(&mut self, found: HostReport) {
        let host = &mut self.host;
        if let Some(facts) = found.facts
            && host.facts.as_ref().is_none_or(|before| !facts.is_like(before))
        {
            host.due.facts = Some(facts.clone());
            host.facts = Some(facts);
            host.carried_by = None;
        }
        if found.snapshot.is_some() {
            host.due.snapshot = found.snapshot;
            host.carried_by = None;
        }
    }

    /// Whether a snapshot waits for a call.
    pub(super) fn has_snapshot(&self) -> bool {
        self.host.due.snapshot.is_some()
    }

    /// The server has stored what the call `id` carried.
    pub(super) fn stored(&mut self, id: u64) {
        if self.host.carried_by == Some(id) {
            self.host.due = HostReport::default();
            self.host.carried_by = None;
        }
    }

    /// Starts the call that brings `sample sets`; its reply has the id that is returned.
    pub(super) fn send(&mut self, sets: &[SampleSet]) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.sent = (id, SystemClock.now(), Instant::now());
        self.host.carried_by = (!self.host.due.is_empty()).then_some(id);
        let started = match self.packed {
            Packed::Offered => self.send_packed(id, sets),
            _ => self.send_plain(id, sets),
        };
        if let Err(failure) = started {
            let reply = Reply::to_call(id, 0, Err(failure));
            let _ = self.replies.try_send(reply);
        }
        id
    }

    /// Whether a reply is to the call `id`. A stream that has ended is forgotten here.
    pub(super) fn is_reply_to(&mut self, reply: &Reply, id: Option<u64>) -> bool {
        match reply.to {
            ReplyTo::Call(call) => Some(call) == id,
            ReplyTo::Stream(number) => {
                let current = self.stream.is_some() && number == self.streams;
                if current {
                    self.stream = None;
                }
                current && id.is_some()
            }
        }
    }

    /// How far the server's clock is ahead of this host's, milliseconds, and how far off that may
    /// be; `None` where the reply does not say.
    pub(super) fn skew_ms(&self, reply: &Reply) -> Option<(i64, i64)> {
        let (id, sent, at) = self.sent;
        let ReplyTo::Call(call) = reply.to else { return None };
        if call != id || reply.server_time_ms == 0 {
            return None;
        }
        let took_ms = i64::try_from(at.elapsed().as_millis()).unwrap_or(i64::MAX);
        let halfway_ms = sent.wall_ms.saturating_add(took_ms / 2);
        Some((reply.server_time_ms.saturating_sub(halfway_ms), took_ms / 2))
    }

    /// Notes what the server said of itself.
    pub(super) fn learn(&mut self, features: &[String]) {
        if self.packed == Packed::NotOffered && features.iter().any(|name| name == FEATURE_PACKED) {
            self.packed = Packed::Offered;
        }
    }

    /// Points that the next call should carry at most. The first message of a stream, which names
    /// its series, has one sample set.
    pub(super) fn points_max(&self) -> usize {
        match (self.packed, &self.stream) {
            (Packed::Offered, None) => 1,
            (Packed::Offered, Some(_)) => PACKED_POINTS_MAX,
            _ => BATCH_POINTS_MAX,
        }
    }

    /// The server did not know the call. True when there is another one to try.
    pub(super) fn fall_back(&mut self) -> bool {
        self.stream = None;
        let was_packed = self.packed == Packed::Offered;
        self.packed = Packed::Refused;
        was_packed
    }

    /// Gives the connection up; the next call makes a new one. Another server may stand behind it
    /// then, so what this one offered is forgotten.
    pub(super) fn reset(&mut self) {
        self.stream = None;
        self.client = None;
        self.packed = Packed::NotOffered;
        self.host.due.facts = self.host.facts.clone();
        self.host.carried_by = None;
    }

    /// Whether the server is one that says what it offers.
    pub(super) fn knows_packed(&self) -> bool {
        self.packed != Packed::NotOffered
    }

    /// Reports to another server, or as another agent, from the next call on. False when nothing
    /// changes; with TLS, the files may have.
    pub(super) fn retarget(&mut self, target: Target) -> bool {
        let changed = self.target != target || target.tls.is_some();
        if changed {
            self.target = target;
            self.place = 0;
            self.reset();
        }
        changed
    }

    /// Where it reports to.
    pub(super) fn endpoint(&self) -> &str {
        self.target.endpoint(self.place)
    }

    /// The next call goes to the next server. False when there is only one.
    pub(super) fn move_on(&mut self) -> bool {
        self.place = (self.place + 1) % self.target.endpoints.len().max(1);
        self.reset();
        self.target.endpoints.len() > 1
    }

    /// How many servers there are.
    pub(super) fn servers(&self) -> usize {
        self.target.endpoints.len().max(1)
    }

    /// Whether the server is not the first of this agent's order.
    pub(super) fn is_away(&self) -> bool {
        self.place > 0
    }

    /// The next call goes to the first server.
    pub(super) fn come_home(&mut self) {
        self.place = 0;
        self.reset();
    }

    fn client(&mut self) -> Result<MetricServiceClient, Failure> {
        if let Some(client) = &self.client {
            return Ok(client.clone());
        }
        let client = self.target.connect(self.place, &self.env).map_err(local)?;
        self.client = Some(client.clone());
        Ok(client)
    }

    fn send_plain(&mut self, id: u64, sets: &[SampleSet]) -> Result<(), Failure> {
        let client = self.client()?;
        let option = self.target.call_option(Some(CALL_TIMEOUT)).map_err(local)?;
        let timestamp_ms = sets.last().map_or(0, |set| set.timestamp_ms);
        let points = sets.iter().flat_map(|set| &set.points);
        let mut batch = points_to_proto(&self.target.agent_id, timestamp_ms, points);
        batch.sent_at_ms = self.sent.1.wall_ms;
        batch.facts = self.host.due.facts.clone().map(facts_to_proto).into();
        batch.snapshot = self.host.due.snapshot.clone().map(snapshot_to_proto).into();
        let call =
            client.report_metrics_async_opt(&batch, option).map_err(|error| failure(&error))?;
        let replies = self.replies.clone();
        client.spawn(async move {
            let reply = match call.await {
                Ok(response) => Reply::to_call(id, response.server_time_ms, Ok(answer(response))),
                Err(error) => Reply::to_call(id, 0, outcome_of(&error)),
            };
            let _ = replies.try_send(reply);
        });
        Ok(())
    }

    fn send_packed(&mut self, id: u64, sets: &[SampleSet]) -> Result<(), Failure> {
        let agent = self.target.agent_id.clone();
        let batch = self.stream()?.packer.pack(id, &agent, sets);
        let mut batch = match batch {
            Some(batch) => batch,
            None => {
                // A stream's table of series is full; a new stream starts with an empty one.
                self.stream = None;
                let fresh = self.stream()?.packer.pack(id, &agent, sets);
                fresh.ok_or_else(|| local("a batch has too many series".to_owned()))?
            }
        };
        batch.sent_at_ms = self.sent.1.wall_ms;
        batch.facts = self.host.due.facts.clone().map(facts_to_proto).into();
        batch.snapshot = self.host.due.snapshot.clone().map(snapshot_to_proto).into();
        let client = self.client()?;
        let stream = self.stream()?;
        // It is back since the batch before was acknowledged, or about to be.
        let Ok(mut sender) = stream.sender.recv_timeout(Duration::from_secs(1)) else {
            self.stream = None;
            return Err(unreached("the stream takes no more batches"));
        };
        let give_back = stream.give_back.clone();
        client.spawn(async move {
            // A stream that has ended says why in its replies.
            if sender.send((batch, WriteFlags::default())).await.is_ok() {
                let _ = give_back.try_send(sender);
            }
        });
        Ok(())
    }

    fn stream(&mut self) -> Result<&mut Stream, Failure> {
        if self.stream.is_none() {
            let client = self.client()?;
            let option = self.target.call_option(None).map_err(local)?;
            let (sender, mut acks) =
                client.report_packed_opt(option).map_err(|error| failure(&error))?;
            let replies = self.replies.clone();
            self.streams += 1;
            let number = self.streams;
            client.spawn(async move {
                loop {
                    let ended =
                        |outcome| Reply { to: ReplyTo::Stream(number), server_time_ms: 0, outcome };
                    let reply = match acks.next().await {
                        Some(Ok(ack)) => {
                            Reply::to_call(ack.sequence, ack.server_time_ms, ack_outcome(ack))
                        }
                        Some(Err(error)) => ended(outcome_of(&error)),
                        None => ended(Err(unreached("the server ended the stream"))),
                    };
                    let ended = matches!(reply.to, ReplyTo::Stream(_));
                    if replies.try_send(reply).is_err() || ended {
                        return;
                    }
                }
            });
            // Room for the one sender that goes back and forth.
            let (give_back, back) = bounded(1);
            let _ = give_back.try_send(sender);
            self.stream = Some(Stream { packer: Packer::default(), sender: back, give_back });
        }
        self.stream.as_mut().ok_or_else(|| unreached("no stream"))
    }
}

fn answer(response: ReportResponse) -> Answer {
    if response.success {
        let ReportResponse { message, features, snapshot_wanted, .. } = response;
        Answer::Stored { message, features, snapshot_wanted }
    } else {
        Answer::Refused(response.message)
    }
}

fn ack_outcome(ack: PackedAck) -> Result<Answer, Failure> {
    match (ack.success, ack.retry) {
        (true, _) => {
            let PackedAck { message, snapshot_wanted, .. } = ack;
            Ok(Answer::Stored { message, features: Vec::new(), snapshot_wanted })
        }
        (false, true) => Err(Failure { kind: FailureKind::Busy, text: ack.message }),
        (false, false) => Ok(Answer::Refused(ack.message)),
    }
}

fn local(text: String) -> Failure {
    Failure { kind: FailureKind::Local, text }
}

fn unreached(text: &str) -> Failure {
    Failure { kind: FailureKind::Unreachable, text: text.to_owned() }
}

/// What a gRPC error decides: a server that finds the batch itself wrong won't like it later.
fn outcome_of(error: &grpcio::Error) -> Result<Answer, Failure> {
    match error {
        grpcio::Error::RpcFailure(status) if status.code() == RpcStatusCode::INVALID_ARGUMENT => {
            Ok(Answer::Refused(status.message().to_owned()))
        }
        other => Err(failure(other)),
    }
}

/// What a gRPC error means here.
pub(super) fn failure(error: &grpcio::Error) -> Failure {
    let status = match error {
        grpcio::Error::RpcFailure(status) | grpcio::Error::RpcFinished(Some(status)) => status,
        other => return unreached(&other.to_string()),
    };
    let kind = match status.code() {
        RpcStatusCode::RESOURCE_EXHAUSTED => FailureKind::Busy,
        RpcStatusCode::UNAUTHENTICATED | RpcStatusCode::PERMISSION_DENIED => FailureKind::Denied,
        RpcStatusCode::UNIMPLEMENTED => FailureKind::Unimplemented,
        _ => FailureKind::Unreachable,
    };
    let text = match (status.code(), status.message()) {
        (RpcStatusCode::DEADLINE_EXCEEDED, _) => {
            format!("no answer within {} s", CALL_TIMEOUT.as_secs())
        }
        (code, "") => code.to_string(),
        (_, message) => message.to_owned(),
    };
    Failure { kind, text }
}
