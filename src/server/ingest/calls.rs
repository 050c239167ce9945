//! The calls of the gRPC port. A batch goes to the store's queue, and its answer comes from the
//! writer, after the commit, through a oneshot that the call waits for.

use std::collections::VecDeque;
use std::io::Read as _;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use futures_channel::oneshot;
use futures_util::future::{Either, select};
use futures_util::{SinkExt as _, StreamExt as _};
use grpcio::{
    ClientStreamingSink, DuplexSink, GrpcSlice, Marshaller, MessageReader, Method, MethodType,
    RequestStream, RpcContext, RpcStatus, RpcStatusCode, Service, ServiceBuilder, UnarySink,
    WriteFlags,
};

use super::auth::WhitelistError;
use super::decode::Report;
use super::decode_packed::Packed;
use super::intake::{Caller, Intake};
use super::outcome::{Decision, Outcome};
use super::packed::Stream;
use super::senders::{Identity, Times};
use parking_lot::Mutex;
use protobuf::Message as _;

use crate::base::clock::{Clock as _, SystemClock};
use crate::model::host::HostReport;
use crate::rt::pool::Pool;
use crate::server::gate::grpc::peer;
use crate::wire::pb::health::health_check_response::ServingStatus;
use crate::wire::pb::health::{HealthCheckRequest, HealthCheckResponse};
use crate::wire::pb::metrics::{EnrollRequest, EnrollResponse, PackedAck, ReportResponse};
use crate::wire::{FEATURE_PACKED, META_AGENT_ID, META_AUTHORIZATION, META_BOOT_ID, META_INSTANCE};

// Messages come as bytes: a caller is authenticated before its message is decoded, and what is
// decoded is bounded while it is read. The library reads the message of a unary call before it
// shows who calls. So the gate has replaced that of a `ReportMetrics` without a valid token, and
// `Enroll`, which takes none, is a stream of one message here.
const REPORT_METRICS: Method<Vec<u8>, ReportResponse> = Method {
    ty: MethodType::Unary,
    name: "/oxmon.MetricService/ReportMetrics",
    req_mar: Marshaller { ser: never_sent, de: read_bytes },
    resp_mar: Marshaller { ser: grpcio::pb_ser, de: grpcio::pb_de },
};

const REPORT_PACKED: Method<Vec<u8>, PackedAck> = Method {
    ty: MethodType::Duplex,
    name: "/oxmon.MetricService/ReportPacked",
    req_mar: Marshaller { ser: never_sent, de: read_bytes },
    resp_mar: Marshaller { ser: grpcio::pb_ser, de: grpcio::pb_de },
};

const ENROLL: Method<Vec<u8>, EnrollResponse> = Method {
    ty: MethodType::ClientStreaming,
    name: "/oxmon.MetricService/Enroll",
    req_mar: Marshaller { ser: never_sent, de: read_bytes },
    resp_mar: Marshaller { ser: grpcio::pb_ser, de: grpcio::pb_de },
};

const HEALTH_CHECK: Method<HealthCheckRequest, HealthCheckResponse> = Method {
    ty: MethodType::Unary,
    name: "/grpc.health.v1.Health/Check",
    req_mar: Marshaller { ser: grpcio::pb_ser, de: grpcio::pb_de },
    resp_mar: Marshaller { ser: grpcio::pb_ser, de: grpcio::pb_de },
};

/// What `Health/Check` knows; the empty name stands for the whole server.
const SERVICES: [&str; 2] = ["", "oxmon.MetricService"];
/// The answer to a report whose token was not known when its headers came, and is now.
const RETRY: &str = "the token was not known yet, retry";
/// Enrolments that wait for their message, and those that wait for `cert.db`.
const ENROLL_QUEUE: usize = 64;

fn read_bytes(mut reader: MessageReader) -> grpcio::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(reader.len());
    let read = reader.read_to_end(&mut bytes);
    read.map_err(|error| grpcio::Error::Codec(error.to_string().into()))?;
    Ok(bytes)
}

fn never_sent(_: &Vec<u8>, _: &mut GrpcSlice) -> grpcio::Result<()> {
    Err(grpcio::Error::Codec("a server sends no requests".into()))
}

/// Calls that wait for their answer.
pub(super) struct UnderWay {
    count: AtomicUsize,
    none: (Sender<()>, Receiver<()>),
}

impl Default for UnderWay {
    fn default() -> Self {
        // Room for one word that the last one has ended; a second says nothing new.
        Self { count: AtomicUsize::new(0), none: bounded(1) }
    }
}

impl UnderWay {
    fn enter(self: &Arc<Self>) -> Entered {
        self.count.fetch_add(1, Ordering::SeqCst);
        Entered(Arc::clone(self))
    }

    /// Waits until no call waits; false when that takes longer than `within`.
    pub(super) fn wait_until_none(&self, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        while self.count.load(Ordering::SeqCst) > 0 {
            if self.none.1.recv_deadline(deadline).is_err() {
                return self.count.load(Ordering::SeqCst) == 0;
            }
        }
        true
    }
}

struct Entered(Arc<UnderWay>);

impl Drop for Entered {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::SeqCst) == 1 {
            let _ = self.0.none.0.try_send(());
        }
    }
}

/// An enrolment, where it comes from, and who waits for its answer.
type Enrolment =
    (EnrollRequest, Option<IpAddr>, oneshot::Sender<Result<EnrollResponse, RpcStatus>>);

/// What the calls have. Each completion queue has a clone.
#[derive(Clone)]
pub(super) struct Handler {
    intake: Arc<Intake>,
    enrol: Arc<Pool<Enrolment>>,
    /// Enrolments whose message has not come; the oldest gives way.
    unread: Arc<Mutex<VecDeque<oneshot::Sender<()>>>>,
    under_way: Arc<UnderWay>,
}

/// The service with all calls.
pub(super) fn service(handler: &Handler) -> Service {
    let (report, packed) = (handler.clone(), handler.clone());
    let (enrol, health) = (handler.clone(), handler.clone());
    ServiceBuilder::new()
        .add_unary_handler(&REPORT_METRICS, move |ctx, bytes, sink| {
            report.report(&ctx, bytes, sink);
        })
        .add_duplex_streaming_handler(&REPORT_PACKED, move |ctx, stream, sink| {
            packed.packed(&ctx, stream, sink);
        })
        .add_client_streaming_handler(&ENROLL, move |ctx, stream, sink| {
            enrol.enroll(&ctx, stream, sink);
        })
        .add_unary_handler(&HEALTH_CHECK, move |ctx, request, sink| {
            health.health(&ctx, &request, sink);
        })
        .build()
}

impl Handler {
    /// The calls of a server that takes reports through `intake`.
    pub(super) fn new(intake: Arc<Intake>, under_way: Arc<UnderWay>) -> Self {
        // One thread: codes are redeemed one after the other, and a completion queue must not wait
        // for the database.
        let enrol = Pool::shared("enroll", 1, ENROLL_QUEUE, |_| {
            let intake = Arc::clone(&intake);
            move |jobs: Receiver<Enrolment>| {
                for (request, from, answer) in jobs {
                    // An agent that has gone away comes again with a new code.
                    let _ = answer.send(redeem(&intake, &request, from));
                }
                Ok(())
            }
        });
        Self { intake, enrol: Arc::new(enrol), unread: Arc::default(), under_way }
    }

    fn report(&self, ctx: &RpcContext<'_>, bytes: Vec<u8>, sink: UnarySink<ReportResponse>) {
        let caller = caller(ctx);
        let admitted = self.intake.admit_caller(&caller);
        let intake = Arc::clone(&self.intake);
        let under_way = Arc::clone(&self.under_way);
        ctx.spawn(async move {
            // The call may have been given up by its agent: then nobody waits for the answer.
            if let Err(outcome) = admitted {
                let _ = sink.fail(ends_with(outcome)).await;
                return;
            }
            let _entered = under_way.enter();
            let mut about = About::default();
            let is_replaced = bytes.is_empty() && intake.requires_auth();
            let decision = match Report::parse(bytes) {
                // The gate did not know the caller's token yet.
                _ if is_replaced => Decision::Now(Outcome::Unavailable(RETRY.to_owned())),
                Err(_) => Decision::Now(undecodable(&intake)),
                Ok(_) if !intake.is_serving() => Decision::Now(Outcome::stopping()),
                Ok(mut report) => {
                    let decision = intake.report(&caller, &report);
                    let (agent, times) = (report.agent().to_owned(), times_of(&report));
                    about = About { agent, host: report.take_host(), times };
                    decision
                }
            };
            let outcome = decided(decision).await;
            let snapshot_wanted = stored(&intake, &caller, &outcome, about);
            let _ = match response(outcome) {
                Ok(mut response) => {
                    response.snapshot_wanted = snapshot_wanted;
                    sink.success(response).await
                }
                Err(status) => sink.fail(status).await,
            };
        });
    }

    fn packed(
        &self,
        ctx: &RpcContext<'_>,
        mut messages: RequestStream<Vec<u8>>,
        mut sink: DuplexSink<PackedAck>,
    ) {
        let caller = caller(ctx);
        let admitted = self.intake.admit_caller(&caller);
        let intake = Arc::clone(&self.intake);
        let under_way = Arc::clone(&self.under_way);
        ctx.spawn(async move {
            if let Err(outcome) = admitted {
                let _ = sink.fail(ends_with(outcome)).await;
                return;
            }
            let mut stream = Stream::default();
            // One message at a time: the next one is read when this one is answered, so that a
            // stream holds no more than one batch of the server's memory.
            while let Some(Ok(bytes)) = messages.next().await {
                let _entered = under_way.enter();
                let Ok(message) = Packed::parse(&bytes) else {
                    let _ = sink.fail(ends_with(undecodable(&intake))).await;
                    return;
                };
                drop(bytes);
                let (sequence, sent_at_ms) = (message.sequence, message.sent_at_ms);
                let host = message.host.clone();
                let taken = if intake.is_serving() {
                    stream.take(&intake, &caller, message)
                } else {
                    Ok(Decision::Now(Outcome::stopping()))
                };
                let outcome = match taken {
                    Ok(decision) => decided(decision).await,
                    Err(end) => {
                        intake.metrics.count(&end);
                        let _ = sink.fail(ends_with(end)).await;
                        return;
                    }
                };
                let times = Times { sent_at_ms, newest_ms: None };
                let about = About { agent: stream.agent_id().to_owned(), host, times };
                let snapshot_wanted = stored(&intake, &caller, &outcome, about);
                let mut ack = ack(sequence, outcome);
                ack.snapshot_wanted = snapshot_wanted;
                // A lone answer must not wait for others to fill a packet.
                if sink.send((ack, WriteFlags::default())).await.is_err() {
                    return;
                }
            }
            let _ = sink.close().await;
        });
    }

    fn enroll(
        &self,
        ctx: &RpcContext<'_>,
        mut messages: RequestStream<Vec<u8>>,
        sink: ClientStreamingSink<EnrollResponse>,
    ) {
        let given_up = self.wait_for_message();
        let from = peer::address(&ctx.peer());
        let enrol = Arc::clone(&self.enrol);
        let under_way = Arc::clone(&self.under_way);
        ctx.spawn(async move {
            let result = match select(messages.next(), given_up).await {
                Either::Left((Some(Ok(bytes)), _)) => {
                    let _entered = under_way.enter();
                    enrolled(&enrol, &bytes, from).await
                }
                Either::Left(_) => return,
                Either::Right(_) => Err(enroll_busy()),
            };
            let _ = match result {
                Ok(response) => sink.success(response).await,
                Err(status) => sink.fail(status).await,
            };
        });
    }

    /// A place among the enrolments whose message has not come. It ends when it is taken by a later
    /// one: whoever opens calls and says nothing keeps nobody from enrolling.
    fn wait_for_message(&self) -> oneshot::Receiver<()> {
        let (place, given_up) = oneshot::channel();
        let mut unread = self.unread.lock();
        unread.retain(|place| !place.is_canceled());
        if unread.len() >= ENROLL_QUEUE {
            unread.pop_front();
        }
        unread.push_back(place);
        given_up
    }

    fn health(
        &self,
        ctx: &RpcContext<'_>,
        request: &HealthCheckRequest,
        sink: UnarySink<HealthCheckResponse>,
    ) {
        let mut response = HealthCheckResponse::new();
        let serving = self.intake.is_serving();
        let status = if serving { ServingStatus::SERVING } else { ServingStatus::NOT_SERVING };
        response.status = status.into();
        let known = SERVICES.contains(&request.service.as_str());
        ctx.spawn(async move {
            let _ = if known {
                sink.success(response).await
            } else {
                sink.fail(RpcStatus::new(RpcStatusCode::NOT_FOUND)).await
            };
        });
    }
}

/// What a report says of times. Its points are looked through where it does not say when it was
/// sent.
fn times_of(report: &Report) -> Times {
    let sent_at_ms = report.sent_at_ms();
    let newest = || report.points().map(|point| point.timestamp_ms()).max();
    Times { sent_at_ms, newest_ms: if sent_at_ms == 0 { newest() } else { None } }
}

fn caller(ctx: &RpcContext<'_>) -> Caller {
    let (mut agent_id, mut authorization, mut instance, mut boot_id) = ("", "", "", "");
    for (name, value) in ctx.request_headers().iter() {
        let text = str::from_utf8(value).unwrap_or_default();
        match name {
            META_AGENT_ID => agent_id = text,
            META_AUTHORIZATION => authorization = text,
            META_INSTANCE => instance = text,
            META_BOOT_ID => boot_id = text,
            _ => {}
        }
    }
    Caller::new(agent_id, authorization).with_identity(Identity::new(instance, boot_id))
}

async fn decided(decision: Decision) -> Outcome {
    match decision {
        Decision::Now(outcome) => outcome,
        Decision::Later(answered) => answered.await.unwrap_or_else(|_| Outcome::stopping()),
    }
}

/// What a message says of who sent it.
#[derive(Default)]
struct About {
    agent: String,
    host: HostReport,
    times: Times,
}

/// What follows from a message that is stored. Gives whether its agent is asked for a snapshot.
fn stored(intake: &Intake, caller: &Caller, outcome: &Outcome, about: About) -> bool {
    if !matches!(outcome, Outcome::Stored(_)) {
        return false;
    }
    intake.note(caller, &about.agent, about.times);
    let Some(hosts) = &intake.hosts else { return false };
    if !about.host.is_empty() {
        hosts.put(&about.agent, about.host);
    }
    hosts.asks(&about.agent)
}

fn undecodable(intake: &Intake) -> Outcome {
    let message = "invalid message: not the batch of this call, or compressed";
    let outcome = Outcome::Refused(message.to_owned());
    intake.metrics.count(&outcome);
    outcome
}

async fn enrolled(
    enrol: &Pool<Enrolment>,
    bytes: &[u8],
    from: Option<IpAddr>,
) -> Result<EnrollResponse, RpcStatus> {
    let request = EnrollRequest::parse_from_bytes(bytes).map_err(|_| {
        let message = "invalid message: not an EnrollRequest, or compressed".to_owned();
        RpcStatus::with_message(RpcStatusCode::INVALID_ARGUMENT, message)
    })?;
    let (answer, answered) = oneshot::channel();
    enrol.offer(0, (request, from, answer)).map_err(|_| enroll_busy())?;
    answered.await.unwrap_or_else(|_| Err(enroll_busy()))
}

fn enroll_busy() -> RpcStatus {
    let message = "too many agents enrol now, retry later".to_owned();
    RpcStatus::with_message(RpcStatusCode::RESOURCE_EXHAUSTED, message)
}

fn response(outcome: Outcome) -> Result<ReportResponse, RpcStatus> {
    let mut response = ReportResponse::new();
    match outcome {
        Outcome::Stored(message) => {
            response.success = true;
            response.message = message;
        }
        Outcome::Refused(message) => response.message = message,
        other => return Err(ends_with(other)),
    }
    response.features.push(FEATURE_PACKED.to_owned());
    response.server_time_ms = SystemClock.now_ms();
    Ok(response)
}

fn ack(sequence: u64, outcome: Outcome) -> PackedAck {
    let mut ack = PackedAck::new();
    ack.sequence = sequence;
    ack.server_time_ms = SystemClock.now_ms();
    match outcome {
        Outcome::Stored(message) => {
            ack.success = true;
            ack.message = message;
        }
        Outcome::Busy(message) | Outcome::Unavailable(message) => {
            ack.retry = true;
            ack.message = message;
        }
        Outcome::Refused(message)
        | Outcome::Unauthenticated(message)
        | Outcome::Denied(message) => ack.message = message,
    }
    ack
}

fn ends_with(outcome: Outcome) -> RpcStatus {
    let (code, message) = match outcome {
        Outcome::Stored(message) => (RpcStatusCode::OK, message),
        Outcome::Refused(message) => (RpcStatusCode::INVALID_ARGUMENT, message),
        Outcome::Busy(message) => (RpcStatusCode::RESOURCE_EXHAUSTED, message),
        Outcome::Unavailable(message) => (RpcStatusCode::UNAVAILABLE, message),
        Outcome::Unauthenticated(message) => (RpcStatusCode::UNAUTHENTICATED, message),
        Outcome::Denied(message) => (RpcStatusCode::PERMISSION_DENIED, message),
    };
    RpcStatus::with_message(code, message)
}

fn redeem(
    intake: &Intake,
    request: &EnrollRequest,
    from: Option<IpAddr>,
) -> Result<EnrollResponse, RpcStatus> {
    let mut response = EnrollResponse::new();
    match intake.redeem(&request.code, &request.agent_id, from) {
        Ok(token) => {
            response.success = true;
            response.token = token;
        }
        Err(WhitelistError::Storage(error)) => {
            log::error!("an agent could not enrol: {error}");
            let told = "the server's database failed; see its log".to_owned();
            return Err(RpcStatus::with_message(RpcStatusCode::UNAVAILABLE, told));
        }
        Err(WhitelistError::Away(why)) => {
            return Err(RpcStatus::with_message(RpcStatusCode::UNAVAILABLE, why));
        }
        Err(refused) => response.message = refused.to_string(),
    }
    Ok(response)
}
