//! `cert_expiration`: a certificate ends soon; how bad it is follows from the days that are left.

use crate::model::alert::Cause;
use crate::model::severity::Severity;
use crate::server::alert::evaluate::{
    Condition, Evaluation, Evaluator, MetricField, RuleType, Sample, Subject, number,
};
use crate::server::alert::fields::{Field, FieldError, Fields};
use crate::server::alert::window::Window;

/// The type's row in the table.
pub(crate) const RULE_TYPE: RuleType = RuleType {
    name: "cert_expiration",
    help: "A certificate ends soon; how bad it is follows from the days that are left.",
    fields: &[
        Field::optional("warning_days", "A warning from this many days left. Default: 30."),
        Field::optional("critical_days", "Critical from this many days left. Default: 7."),
    ],
    metric: MetricField::Named,
    parse,
};

#[derive(Debug)]
struct CertExpiration {
    warning_days: f64,
    critical_days: f64,
}

fn parse(fields: &Fields<'_>) -> Result<Box<dyn Evaluator>, FieldError> {
    let warning = fields.whole("warning_days", (0, 3_650), 30)?;
    let critical = fields.whole("critical_days", (0, 3_650), 7)?;
    if critical > warning {
        let message = format!("must be at most `warning_days` ({warning}), is {critical}");
        return Err(FieldError::new("critical_days", message));
    }
    Ok(Box::new(CertExpiration { warning_days: warning as f64, critical_days: critical as f64 }))
}

impl Evaluator for CertExpiration {
    fn evaluate(&self, sample: Sample, _window: &Window) -> Evaluation {
        let days = sample.value;
        if days <= self.critical_days {
            let plain = Evaluation::plain(Condition::Breach, days, self.critical_days);
            return Evaluation { severity: Some(Severity::Critical), ..plain };
        }
        let breach = days <= self.warning_days;
        let condition = if breach { Condition::Breach } else { Condition::Clear };
        let plain = Evaluation::plain(condition, days, self.warning_days);
        Evaluation { severity: Some(Severity::Warning), ..plain }
    }

    fn cause(&self, _: Subject<'_>, _: &Evaluation) -> Cause {
        Cause::CertExpiry
    }

    fn firing(&self, subject: Subject<'_>, evaluation: &Evaluation) -> String {
        let domain = subject.labels.get("domain").unwrap_or(subject.agent);
        if evaluation.value < 0.0 {
            return format!("The certificate of {domain} expired {} ago", days(-evaluation.value));
        }
        format!("The certificate of {domain} expires in {}", days(evaluation.value))
    }

    fn recovered(&self, subject: Subject<'_>, evaluation: &Evaluation, _lasted_ms: i64) -> String {
        let domain = subject.labels.get("domain").unwrap_or(subject.agent);
        format!("The certificate of {domain} is valid for another {}", days(evaluation.value))
    }
}

fn days(count: f64) -> String {
    if count == 1.0 { "1 day".to_owned() } else { format!("{} days", number(count)) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::model::series::Labels;
    use crate::server::alert::evaluate::evaluator;
    use serde_json::json;

    #[test]
    fn severity_follows_from_what_is_left() {
        let evaluator = evaluator(
            &RULE_TYPE,
            json!({"warning_days": 30, "critical_days": 7}).as_object().unwrap(),
        )
        .unwrap();
        let read = |value| evaluator.evaluate(Sample { at_ms: 0, value }, &Window::none());
        assert_eq!(read(31.0).condition, Condition::Clear);
        let cases = [
            (30.0, Severity::Warning, 30.0),
            (8.0, Severity::Warning, 30.0),
            (7.0, Severity::Critical, 7.0),
            (-1.0, Severity::Critical, 7.0),
        ];
        for (left, severity, threshold) in cases {
            let evaluation = read(left);
            assert_eq!(evaluation.condition, Condition::Breach, "{left}");
            assert_eq!((evaluation.severity, evaluation.threshold), (Some(severity), threshold));
        }
        let labels = Labels::one("domain", "example.com");
        let metric = "certificate.days_until_expiry";
        let subject = Subject { agent: "cert-checker", metric, labels: &labels };
        let say = |value| evaluator.firing(subject, &read(value));
        assert_eq!(say(6.0), "The certificate of example.com expires in 6 days");
        assert_eq!(say(-1.0), "The certificate of example.com expired 1 day ago");
    }

    #[test]
    fn critical_comes_after_warning() {
        let config = json!({"warning_days": 7, "critical_days": 30});
        let error = evaluator(&RULE_TYPE, config.as_object().unwrap()).unwrap_err();
        assert_eq!(error.to_string(), "`critical_days` must be at most `warning_days` (7), is 30");
    }
}
