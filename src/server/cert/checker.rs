//! One check from its beginning to where its result stands: on the disk, and among the points
//! that alert rules evaluate.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;

use crate::base::clock::{Clock, SECOND_MS};
use crate::base::ids::new_id;
use crate::model::point::{Batch, Point};
use crate::model::series::Labels;
use crate::server::cert::assess::Assessment;
use crate::server::cert::board::Ended;
use crate::server::cert::fault::{Fault, Kind};
use crate::server::cert::metrics::Metrics;
use crate::server::cert::probe::{AtAddress, Prober, Target};
use crate::server::cert::starttls;
use crate::server::cert::tls::Shown;
use crate::server::cert::{AGENT, Details};
use crate::server::control::Control;
use crate::server::control::certs::checks::{self, CertificateRow, CheckRow};
use crate::server::control::certs::{self, DomainRow};
use crate::server::storage::{Ack, Refused, RefusedWhy, StorageError};

/// Queues a batch; see [`crate::server::storage::submit_batch`].
pub(super) type Submit = Arc<dyn Fn(Batch, Ack) -> Result<(), Refused> + Send + Sync>;

/// Takes, before the points of a check are stored, why a series reads as it does; `None` where
/// nothing is wrong.
pub(crate) type Explain = Arc<dyn Fn(&Labels, Option<&str>) + Send + Sync>;

/// What the checkers share.
pub(super) struct Checker {
    /// How a domain is looked at.
    pub prober: Prober,
    /// Where points go: the way that agents' batches take.
    pub submit: Submit,
    /// Where the reasons of what is wrong go.
    pub explain: Explain,
    /// Where the result goes.
    pub control: Control,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// How long a result is kept.
    pub keep_ms: i64,
    /// What is notified of the checks.
    pub metrics: Metrics,
}

/// The port that needs no label.
const HTTPS: i64 = 443;
/// A full queue is tried again after this, for so long.
const STORE_AGAIN: Duration = Duration::from_millis(250);
const STORE_WITHIN: Duration = Duration::from_secs(30);

impl Checker {
    /// Checks the domain with this id; `None` when it was changed meanwhile, and is to be checked
    /// again, or when the server stops.
    pub(super) fn check(&self, id: &str) -> Option<Ended> {
        let row = match self.control.read(|db| certs::get(db, id)) {
            Ok(Some(row)) => row,
            Ok(None) => return Some(Ended::Gone),
            Err(error) => {
                log::error!("the domain {id} can't be read, and is not checked: {error}");
                return Some(Ended::NotStored);
            }
        };
        let (started, now_ms) = (Instant::now(), self.clock.now_ms());
        self.metrics.running.inc();
        let assessment = Assessment::of(self.look(&row, now_ms));
        self.metrics.running.dec();
        if self.prober.stop.is_stopped() {
            // It was cut short, and says nothing of the domain, which is due at the next start.
            return None;
        }
        let kind = assessment.fault.as_ref().map_or("valid", |fault| fault.kind.name());
        self.metrics.seconds.observe(started.elapsed().as_secs_f64());
        self.metrics.checks.with_label_values(&[kind]).inc();
        log::debug!("checked {}:{}: {kind}", row.domain, row.port);
        match self.record(&row, &assessment, now_ms) {
            Ok(Some(check)) => Some(Ended::Done(Arc::new(check))),
            Ok(None) => None,
            Err(error) => {
                self.metrics.not_stored.inc();
                log::error!(
                    "the result of checking {} is not stored, it is checked again at the next \
                     tick: {error}",
                    row.domain
                );
                Some(Ended::NotStored)
            }
        }
    }

    fn look(&self, row: &DomainRow, now_ms: i64) -> Result<Vec<AtAddress>, Fault> {
        let unfit = |what: &str| Fault::new(Kind::Unreachable, format!("{what}: set another"));
        // The API lets no other in, but rows may be put in by hand.
        let port = u16::try_from(row.port).ok().filter(|port| *port > 0);
        let port = port.ok_or_else(|| unfit(&format!("{} is not a valid port", row.port)))?;
        let starttls = match row.starttls.as_deref() {
            None => None,
            Some(name) => Some(
                starttls::find(name)
                    .ok_or_else(|| unfit(&format!("`{name}` is not a STARTTLS protocol")))?,
            ),
        };
        self.prober.look(Target { host: &row.domain, port, starttls }, now_ms)
    }

    /// Stores points first, then the result: a result that stands has been evaluated by the rules.
    fn record(
        &self,
        row: &DomainRow,
        assessment: &Assessment,
        now_ms: i64,
    ) -> Result<Option<CheckRow>, StorageError> {
        let fault = assessment.fault.as_ref().map(|fault| fault.sentence.as_str());
        (self.explain)(&labels(row), fault);
        self.submit(points(row, assessment, now_ms), now_ms)?;
        let check = check_row(row, assessment, now_ms);
        let certificate = match &assessment.shown {
            Some(shown) => Some(certificate_row(row, assessment, shown, now_ms)?),
            None => None,
        };
        let state = if certificate.is_some() { certs::SEEN } else { certs::UNSEEN };
        let oldest_ms = now_ms.saturating_sub(self.keep_ms);
        let (row, saved) = (row.clone(), check.clone());
        let written = self.control.write(move |tx| -> Result<bool, StorageError> {
            if !certs::set_checked(tx, &row, state, now_ms.div_euclid(SECOND_MS))? {
                return Ok(false);
            }
            checks::insert(tx, &saved, oldest_ms)?;
            if let Some(certificate) = &certificate {
                checks::put_certificate(tx, certificate)?;
            }
            Ok(true)
        })?;
        Ok(written.then_some(check))
    }

    /// Gives points to the store and waits until they are on the disk.
    fn submit(&self, points: Vec<Point>, now_ms: i64) -> Result<(), StorageError> {
        let batch = Batch { agent_id: AGENT.into(), timestamp_ms: now_ms, points };
        let give_up = Instant::now() + STORE_WITHIN;
        loop {
            let (reply, answer) = bounded(1);
            let ack = Box::new(move |outcome| {
                // The checker waits for it below.
                let _ = reply.send(outcome);
            });
            match (self.submit)(batch.clone(), ack) {
                Ok(()) => {
                    let stored = answer.recv().unwrap_or(Err(StorageError::Stopping))?;
                    if stored.rejected > 0 {
                        let why = format!("the store rejected {} points", stored.rejected);
                        return Err(StorageError::Invalid(why));
                    }
                    return Ok(());
                }
                Err(refused) if refused.error == RefusedWhy::Stopping => {
                    return Err(StorageError::Stopping);
                }
                Err(_) if Instant::now() >= give_up => {
                    return Err(StorageError::Invalid("the store's queue stays full".to_owned()));
                }
                Err(_) if self.prober.stop.wait(STORE_AGAIN) => return Err(StorageError::Stopping),
                Err(_) => {}
            }
        }
    }
}

/// The labels of a domain's points.
pub(crate) fn labels(row: &DomainRow) -> Labels {
    let mut pairs = vec![("domain", row.domain.clone())];
    if row.port != HTTPS {
        pairs.push(("port", row.port.to_string()));
    }
    Labels::from_pairs(pairs)
}

fn points(row: &DomainRow, assessment: &Assessment, now_ms: i64) -> Vec<Point> {
    let labels = labels(row);
    let point = |metric: &str, value: f64| Point {
        metric: metric.into(),
        labels: labels.clone(),
        timestamp_ms: now_ms,
        value,
    };
    let days = assessment.shown.as_ref().map(|shown| shown.leaf.days_left(now_ms) as f64);
    let valid = if assessment.is_valid { 1.0 } else { 0.0 };
    let days = days.map(|days| point("certificate.days_until_expiry", days));
    days.into_iter().chain([point("certificate.is_valid", valid)]).collect()
}

fn check_row(row: &DomainRow, assessment: &Assessment, now_ms: i64) -> CheckRow {
    let leaf = assessment.shown.as_ref().map(|shown| &shown.leaf);
    let resolved: Vec<String> = assessment.addresses.iter().map(|at| at.address.clone()).collect();
    CheckRow {
        id: new_id(),
        domain_id: row.id.clone(),
        domain: row.domain.clone(),
        is_valid: assessment.is_valid,
        chain_valid: assessment.chain_valid,
        not_before_ms: leaf.map(|leaf| leaf.not_before_ms),
        not_after_ms: leaf.map(|leaf| leaf.not_after_ms),
        days_until_expiry: leaf.map(|leaf| leaf.days_left(now_ms)),
        issuer: leaf.map(|leaf| leaf.issuer.clone()),
        subject: leaf.map(|leaf| leaf.subject.clone()),
        san_list: leaf.map(|leaf| leaf.subject_alt_names.clone()),
        resolved_ips: Some(resolved).filter(|resolved| !resolved.is_empty()),
        error_kind: assessment.fault.as_ref().map(|fault| fault.kind.name().to_owned()),
        error: assessment.fault.as_ref().map(|fault| fault.sentence.clone()),
        addresses: assessment.addresses.clone(),
        checked_at_ms: now_ms,
    }
}

fn certificate_row(
    row: &DomainRow,
    assessment: &Assessment,
    shown: &Shown,
    now_ms: i64,
) -> Result<CertificateRow, StorageError> {
    let details = Details {
        leaf: shown.leaf.clone(),
        tls_version: shown.tls_version.clone(),
        cipher_suite: shown.cipher_suite.clone(),
        chain_depth: shown.chain_depth,
    };
    let details = serde_json::to_string(&details)
        .map_err(|error| StorageError::Invalid(format!("the certificate's details: {error}")))?;
    let now_secs = now_ms.div_euclid(SECOND_MS);
    Ok(CertificateRow {
        id: new_id(),
        domain_id: row.id.clone(),
        domain: row.domain.clone(),
        not_after_ms: shown.leaf.not_after_ms,
        issuer: shown.leaf.issuer.clone(),
        ip_addresses: assessment.serving.clone(),
        chain_valid: assessment.chain_valid,
        chain_error: assessment.chain_fault.as_ref().map(|fault| fault.sentence.clone()),
        details,
        last_checked_ms: now_ms,
        created_at: now_secs,
        updated_at: now_secs,
    })
}
