//! `oxmon-mock`'s command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use lexopt::{Arg, Parser, ValueExt as _};

use crate::base::cli::{VERSION, print, usage};
use crate::base::exit::Fatal;
use crate::mock::bench::{self, Mode};
use crate::mock::client::Endpoint;
use crate::mock::report;
use crate::mock::scenario::Scenario;

const PROGRAM: &str = "oxmon-mock";

const HELP: &str = "\
oxmon-mock: reports made-up hosts to a running server

Usage: oxmon-mock report [OPTIONS]   send scenarios once
       oxmon-mock bench [OPTIONS]    send as fast as the server takes it, and measure

Options of both:
  --server HOST:PORT       the server's gRPC address [127.0.0.1:9090]
  --tls-ca FILE            speak TLS, with the authority in FILE (PEM)

Options of report:
  --scenario NAME          all, baseline, threshold, rate, trend or cert [all]
  --agent-count N          agents of the baseline [5]
  --print-payload          print a summary of each batch
  --auth-token-file FILE   lines of agent=token, for a server that asks for tokens

Options of bench:
  --agents N               simulated agents, each on a connection of its own [100]
  --points N               series of each [60]
  --seconds N              seconds that count, after --warm-up of [30]
  --warm-up N              seconds before them [2]
  --mode unary|packed      ReportMetrics, or ReportPacked with up to 500 points a message [unary]
  --step-ms N              simulated time between two ticks of an agent [1000]
  --every-ms N             time between two reports of an agent; 0: the next follows the answer [0]
  --seed N                 seed of the workload [1]
  --pid PID                the server's process, to measure its CPU time and memory
  --http URL               the server's HTTP address, to count what it holds in the end

  -h, --help               this text
  -V, --version            the version

Exit status: 0 done, 1 the server did not take it, 2 wrong command line
";

/// Does what the command line asks for.
///
/// # Errors
///
/// When it is wrong, or the server does not take what is sent.
pub fn main(args: impl IntoIterator<Item = OsString>) -> Result<(), Fatal> {
    let mut args = Parser::from_args(args);
    let wrong = |error: lexopt::Error| usage(PROGRAM, error);
    match args.next().map_err(wrong)? {
        Some(Arg::Value(word)) if word == "report" => {
            report::run(&parse_report(&mut args).map_err(wrong)?)
        }
        Some(Arg::Value(word)) if word == "bench" => {
            bench::run(&parse_bench(&mut args).map_err(wrong)?)
        }
        Some(Arg::Short('h') | Arg::Long("help")) => {
            print(HELP);
            Ok(())
        }
        Some(Arg::Short('V') | Arg::Long("version")) => {
            print(&format!("{PROGRAM} {VERSION}\n"));
            Ok(())
        }
        Some(other) => Err(wrong(other.unexpected())),
        None => Err(usage(PROGRAM, "say what: report or bench")),
    }
}

fn endpoint() -> Endpoint {
    Endpoint { server: "127.0.0.1:9090".to_owned(), tls_ca: None }
}

fn parse_report(args: &mut Parser) -> Result<report::Options, lexopt::Error> {
    let mut options = report::Options {
        endpoint: endpoint(),
        scenarios: Scenario::ALL.to_vec(),
        agents: 5,
        print_payload: false,
        token_file: None,
    };
    while let Some(arg) = args.next()? {
        match arg {
            Arg::Long("server") => options.endpoint.server = args.value()?.string()?,
            Arg::Long("tls-ca") => options.endpoint.tls_ca = Some(PathBuf::from(args.value()?)),
            Arg::Long("scenario") => {
                let name = args.value()?.string()?;
                options.scenarios = Scenario::named(&name)
                    .ok_or_else(|| format!("there is no scenario `{name}`"))?;
            }
            Arg::Long("agent-count") => options.agents = bounded(args, 1, 10_000)?,
            Arg::Long("print-payload") => options.print_payload = true,
            Arg::Long("auth-token-file") => {
                options.token_file = Some(PathBuf::from(args.value()?));
            }
            other => return Err(other.unexpected()),
        }
    }
    Ok(options)
}

fn parse_bench(args: &mut Parser) -> Result<bench::Options, lexopt::Error> {
    let mut options = bench::Options {
        endpoint: endpoint(),
        http: None,
        pid: None,
        agents: 100,
        points: 60,
        seconds: 30,
        warm_up: 2,
        mode: Mode::Unary,
        seed: 1,
        step_ms: 1_000,
        every: Duration::ZERO,
    };
    while let Some(arg) = args.next()? {
        match arg {
            Arg::Long("server") => options.endpoint.server = args.value()?.string()?,
            Arg::Long("tls-ca") => options.endpoint.tls_ca = Some(PathBuf::from(args.value()?)),
            Arg::Long("http") => options.http = Some(args.value()?.string()?),
            Arg::Long("pid") => options.pid = Some(args.value()?.parse()?),
            Arg::Long("agents") => options.agents = bounded(args, 1, 10_000)?,
            Arg::Long("points") => options.points = bounded(args, 1, 10_000)?,
            Arg::Long("seconds") => options.seconds = bounded(args, 1, 3_600)? as u64,
            Arg::Long("warm-up") => options.warm_up = bounded(args, 0, 3_600)? as u64,
            Arg::Long("step-ms") => options.step_ms = bounded(args, 1, 3_600_000)? as i64,
            Arg::Long("every-ms") => {
                options.every = Duration::from_millis(bounded(args, 0, 3_600_000)? as u64);
            }
            Arg::Long("seed") => options.seed = args.value()?.parse()?,
            Arg::Long("mode") => {
                options.mode = match args.value()?.string()?.as_str() {
                    "unary" => Mode::Unary,
                    "packed" => Mode::Packed,
                    other => return Err(format!("`{other}` is neither unary nor packed").into()),
                };
            }
            other => return Err(other.unexpected()),
        }
    }
    Ok(options)
}

fn bounded(args: &mut Parser, least: usize, most: usize) -> Result<usize, lexopt::Error> {
    let number: usize = args.value()?.parse()?;
    if (least..=most).contains(&number) {
        return Ok(number);
    }
    Err(format!("{number} is not in {least} to {most}").into())
}
