//! `oxmon-mock report`: sends scenarios to a server, once.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::base::cli::print;
use crate::base::clock::{Clock as _, SystemClock};
use crate::base::exit::{Exit, Fatal};
use crate::base::limits::GRPC_NEW_STREAMS_PER_SEC_MAX;
use crate::mock::client::{self, Endpoint};
use crate::mock::scenario::Scenario;
use crate::model::point::Batch;
use crate::rt::stop::Stop;
use crate::wire::batch_to_proto;
use crate::wire::pb::metrics_grpc::MetricServiceClient;

/// Between two calls: the server closes a connection with more calls a second than it takes, and a
/// fast one answers more than that.
const BETWEEN_CALLS: Duration =
    Duration::from_micros(2 * 1_000_000 / GRPC_NEW_STREAMS_PER_SEC_MAX as u64);

/// What to report, and where.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// The server.
    pub endpoint: Endpoint,
    /// The scenarios.
    pub scenarios: Vec<Scenario>,
    /// Agents of the baseline.
    pub agents: usize,
    /// Whether to print a summary of each agent's batches.
    pub print_payload: bool,
    /// Lines of `agent=token`.
    pub token_file: Option<PathBuf>,
}

/// Reports, and prints what was taken.
///
/// # Errors
///
/// When the server can't be reached or refuses a batch.
pub(crate) fn run(options: &Options) -> Result<(), Fatal> {
    let tokens = match &options.token_file {
        Some(path) => read_tokens(path)?,
        None => HashMap::new(),
    };
    let env = client::environment(1);
    let channel = client::connect(&env, &options.endpoint)?;
    let service = MetricServiceClient::new(channel);
    let now_ms = SystemClock.now_ms();
    let pace = Stop::never();
    for scenario in &options.scenarios {
        let batches = scenario.batches(options.agents, now_ms);
        let mut points = 0;
        for batch in &batches {
            points += batch.points.len();
            if options.print_payload {
                print(&summary(batch));
            }
            let began = Instant::now();
            send(&service, batch, tokens.get(batch.agent_id.as_ref()).map(String::as_str))?;
            pace.wait(BETWEEN_CALLS.saturating_sub(began.elapsed()));
        }
        let name = scenario.name();
        print(&format!("{name}: {} batches with {points} points taken\n", batches.len()));
    }
    Ok(())
}

fn send(service: &MetricServiceClient, batch: &Batch, token: Option<&str>) -> Result<(), Fatal> {
    let agent = &batch.agent_id;
    let call = client::options(agent, token)?;
    let failed = |why: String| Fatal::new(Exit::Failed, format!("{agent}: {why}"));
    let reply = service
        .report_metrics_opt(&batch_to_proto(batch), call)
        .map_err(|error| failed(format!("the server does not take the batch: {error}")))?;
    if reply.success { Ok(()) } else { Err(failed(reply.message)) }
}

fn summary(batch: &Batch) -> String {
    let shown: Vec<String> = batch
        .points
        .iter()
        .take(4)
        .map(|point| format!("{}={}", point.metric, point.value))
        .collect();
    let at = crate::base::clock::rfc3339(batch.timestamp_ms);
    format!("  {at} {} ({} points): {} …\n", batch.agent_id, batch.points.len(), shown.join(" "))
}

fn read_tokens(path: &std::path::Path) -> Result<HashMap<String, String>, Fatal> {
    let fail = |why: String| Fatal::new(Exit::Failed, format!("{}: {why}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| fail(error.to_string()))?;
    let lines = text.lines().enumerate().filter(|(_, line)| {
        let line = line.trim();
        !line.is_empty() && !line.starts_with('#')
    });
    lines
        .map(|(number, line)| {
            let (agent, token) = line
                .split_once('=')
                .ok_or_else(|| fail(format!("line {} is not agent=token", number + 1)))?;
            Ok((agent.trim().to_owned(), token.trim().to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_token_file_is_lines_of_agent_and_token() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "# tokens\nmock-rate=abc\n\n cert-checker = d=e \n").unwrap();
        let tokens = read_tokens(file.path()).unwrap();
        assert_eq!(tokens["mock-rate"], "abc");
        assert_eq!(tokens["cert-checker"], "d=e");
        std::fs::write(file.path(), "mock-rate abc\n").unwrap();
        assert!(read_tokens(file.path()).unwrap_err().message.contains("line 1"));
    }
}
