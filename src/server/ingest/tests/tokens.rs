//! Who may report as whom.

use super::*;
use crate::wire::pb::metrics::EnrollRequest;

const UNAUTHENTICATED: RpcStatusCode = RpcStatusCode::UNAUTHENTICATED;
const PERMISSION_DENIED: RpcStatusCode = RpcStatusCode::PERMISSION_DENIED;

fn guarded() -> Bench {
    Bench::start(|config| config.require_agent_auth = true)
}

fn told(bench: &Bench, sent: &MetricBatchProto, metadata: &[(&str, &str)]) -> RpcStatusCode {
    match bench.report_with(sent, metadata) {
        Ok(reply) if reply.success => RpcStatusCode::OK,
        Ok(reply) => panic!("refused for good: {}", reply.message),
        Err(status) => status.code(),
    }
}

#[test]
fn a_token_is_good_for_its_agent_alone() {
    let bench = guarded();
    let (_, token) = bench.whitelist.create("web-01", None).unwrap();
    let (_, foreign) = bench.whitelist.create("web-02", None).unwrap();
    let bearer = format!("Bearer {token}");
    let sent = batch("web-01", vec![point("m", 1.0)]);
    let foreign = format!("Bearer {foreign}");
    let id = ("agent-id", "web-01");
    for (metadata, expected) in [
        (vec![], UNAUTHENTICATED),
        (vec![id], UNAUTHENTICATED),
        (vec![("authorization", bearer.as_str())], UNAUTHENTICATED),
        (vec![id, ("authorization", token.as_str())], UNAUTHENTICATED),
        (vec![id, ("authorization", "Bearer ")], UNAUTHENTICATED),
        (vec![id, ("authorization", "Bearer x")], UNAUTHENTICATED),
        (vec![id, ("authorization", foreign.as_str())], UNAUTHENTICATED),
        (vec![("agent-id", "web-02"), ("authorization", bearer.as_str())], UNAUTHENTICATED),
        (vec![("agent-id", "nobody"), ("authorization", bearer.as_str())], UNAUTHENTICATED),
        (vec![("agent-id", "web-02"), ("authorization", foreign.as_str())], PERMISSION_DENIED),
        (vec![id, ("authorization", bearer.as_str())], RpcStatusCode::OK),
    ] {
        assert_eq!(told(&bench, &sent, &metadata), expected, "{metadata:?}");
    }
    let right = [id, ("authorization", bearer.as_str())];
    let mut mixed = batch("web-01", vec![point("m", 1.0), point("n", 1.0)]);
    mixed.data_points[1].agent_id = "web-02".to_owned();
    assert_eq!(told(&bench, &mixed, &right), PERMISSION_DENIED);
    assert_eq!(bench.latest("web-01").len(), 1, "nothing of a foreign batch is stored");
    assert!(bench.latest("web-02").is_empty());
}

#[test]
fn a_token_that_is_replaced_or_withdrawn_ends_at_once() {
    let bench = guarded();
    let (row, token) = bench.whitelist.create("web-01", None).unwrap();
    let sent = batch("web-01", vec![point("m", 1.0)]);
    let told = |token: &str| {
        let bearer = format!("Bearer {token}");
        told(&bench, &sent, &[("agent-id", "web-01"), ("authorization", &bearer)])
    };
    assert_eq!(told(&token), RpcStatusCode::OK);
    let (_, new) = bench.whitelist.regenerate(&row.id).unwrap();
    assert_eq!((told(&token), told(&new)), (UNAUTHENTICATED, RpcStatusCode::OK));
    bench.whitelist.delete(&row.id).unwrap();
    assert_eq!(told(&new), UNAUTHENTICATED);
}

#[test]
fn a_code_is_exchanged_for_a_token_once() {
    let bench = guarded();
    let (code, _) = bench.whitelist.create_code(None, "admin").unwrap();
    let enroll = |code: &str| {
        let mut request = EnrollRequest::new();
        request.code = code.to_owned();
        request.agent_id = "web-01".to_owned();
        bench.client().enroll_opt(&request, options(&[])).unwrap()
    };
    let wrong = enroll("wrong");
    assert!(!wrong.success && wrong.token.is_empty() && !wrong.message.is_empty());
    let right = enroll(&code);
    assert!(right.success, "{}", right.message);
    let bearer = format!("Bearer {}", right.token);
    let sent = batch("web-01", vec![point("m", 1.0)]);
    let metadata = [("agent-id", "web-01"), ("authorization", bearer.as_str())];
    assert_eq!(told(&bench, &sent, &metadata), RpcStatusCode::OK);
    assert!(!enroll(&code).success);
}
