//! Rules that most servers want, for a page that offers them with one click.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::model::severity::Severity;
use crate::server::api::reply::{ApiError, Code, Reply};
use crate::server::api::request::Call;
use crate::server::api::router::{Gives, Route};
use crate::server::api::schema::Shape;

/// The same file that `oxmon-server init-rules` takes.
const STOCK: &str = include_str!("../../../../config/rules.stock.json");

/// The endpoints.
pub(crate) const ROUTES: &[Route] = &[Route::get(
    "/v1/alerts/stock-rules",
    "Rules that most servers want, none of them in force: POST one to /v1/alerts/rules.",
    Gives::Many(Shape::of::<StockRule>()),
    list,
)];

#[derive(Deserialize)]
struct Stock {
    rules: Vec<Given>,
}

/// A rule as the file has it.
#[derive(Deserialize)]
struct Given {
    name: String,
    rule_type: String,
    metric: String,
    agent_pattern: Option<String>,
    severity: Severity,
    silence_secs: Option<u64>,
    config_json: Value,
}

/// A rule that can be made as it is.
#[derive(Serialize, ToSchema)]
struct StockRule {
    name: String,
    rule_type: String,
    metric: String,
    /// Glob over agent ids.
    agent_pattern: String,
    #[schema(inline)]
    severity: Severity,
    /// Seconds for which the same alert does not notify again.
    silence_secs: u64,
    /// A string that holds the type's fields as a JSON object.
    config_json: String,
}

impl From<Given> for StockRule {
    fn from(given: Given) -> Self {
        Self {
            name: given.name,
            rule_type: given.rule_type,
            metric: given.metric,
            agent_pattern: given.agent_pattern.unwrap_or_else(|| "*".to_owned()),
            severity: given.severity,
            silence_secs: given.silence_secs.unwrap_or(600),
            config_json: given.config_json.to_string(),
        }
    }
}

fn list(_: &Call<'_>) -> Result<Reply, ApiError> {
    let broken = |error| ApiError::new(Code::Internal, format!("rules.stock.json: {error}"));
    let stock: Stock = serde_json::from_str(STOCK).map_err(broken)?;
    let rules: Vec<StockRule> = stock.rules.into_iter().map(StockRule::from).collect();
    Ok(Reply::ok(&rules))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::{Map, Value};

    use super::*;
    use crate::server::alert::rule::{Draft, Origin, Rule};

    #[test]
    fn every_stock_rule_can_be_made_as_it_is() {
        let file: Map<String, Value> = serde_json::from_str(STOCK).unwrap();
        let rules = file["rules"].as_array().unwrap();
        assert_eq!(rules.len(), 22);
        for rule in rules {
            let draft = Draft::from_map(rule.as_object().unwrap()).unwrap();
            Rule::build("id".to_owned(), draft, Origin::Api, (0, 0)).unwrap();
        }
        let stock: Stock = serde_json::from_str(STOCK).unwrap();
        assert_eq!(stock.rules.len(), rules.len());
    }
}
