//! What a query may do: read. SQLite asks for leave for everything else (`sqlite3_set_authorizer`),
//! also where `query_only` has no say: `VACUUM … INTO`, `ATTACH`, pragmas.

use std::sync::{Arc, OnceLock};

use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::{Connection, Statement};

/// Pragmas that only say how things are, whatever their argument is.
const INFO: [&str; 13] = [
    "collation_list",
    "compile_options",
    "database_list",
    "foreign_key_list",
    "function_list",
    "index_info",
    "index_list",
    "index_xinfo",
    "module_list",
    "pragma_list",
    "table_info",
    "table_list",
    "table_xinfo",
];
/// Pragmas that say a setting as long as they have no argument.
const SETTINGS: [&str; 11] = [
    "application_id",
    "auto_vacuum",
    "data_version",
    "encoding",
    "freelist_count",
    "journal_mode",
    "page_count",
    "page_size",
    "query_only",
    "schema_version",
    "user_version",
];

/// A connection that from now on only reads.
pub(super) struct ReadOnly {
    /// The first thing that was refused.
    refused: Arc<OnceLock<String>>,
}

impl ReadOnly {
    /// Has the connection refuse whatever does not read.
    pub(super) fn set(connection: &mut Connection) -> rusqlite::Result<Self> {
        let refused = Arc::new(OnceLock::new());
        let first = Arc::clone(&refused);
        connection.authorizer(Some(move |context: AuthContext<'_>| {
            let Some(what) = refusal(context.action) else { return Authorization::Allow };
            first.get_or_init(|| what);
            Authorization::Deny
        }))?;
        Ok(Self { refused })
    }

    /// The sentence for a query that failed.
    pub(super) fn explain(&self, error: rusqlite::Error) -> String {
        match self.refused.get() {
            Some(what) => refused(what),
            None => error.to_string(),
        }
    }

    /// Whether a statement changes nothing.
    ///
    /// # Errors
    ///
    /// The sentence that says so, when it might.
    pub(super) fn check(&self, sql: &str, statement: &Statement<'_>) -> Result<(), String> {
        if statement.readonly() {
            return Ok(());
        }
        Err(refused(&first_word(sql)))
    }
}

fn refused(what: &str) -> String {
    format!("{what} is refused: this command only reads")
}

/// The statement's verb, such as `VACUUM`: its first word after comments.
fn first_word(sql: &str) -> String {
    let mut rest = sql.trim_start();
    loop {
        let after = match (rest.strip_prefix("--"), rest.strip_prefix("/*")) {
            (Some(comment), _) => comment.split_once('\n'),
            (_, Some(comment)) => comment.split_once("*/"),
            _ => break,
        };
        rest = after.map_or("", |(_, after)| after).trim_start();
    }
    let word: String = rest.chars().take_while(char::is_ascii_alphabetic).collect();
    if word.is_empty() { "the statement".to_owned() } else { word.to_ascii_uppercase() }
}

/// What is refused of an action; `None` where it only reads.
fn refusal(action: AuthAction<'_>) -> Option<String> {
    Some(match action {
        AuthAction::Select | AuthAction::Read { .. } | AuthAction::Recursive => return None,
        AuthAction::Function { function_name } => {
            if !function_name.eq_ignore_ascii_case("load_extension") {
                return None;
            }
            "load_extension".to_owned()
        }
        AuthAction::Pragma { pragma_name, pragma_value } => {
            let name = pragma_name.to_ascii_lowercase();
            if INFO.contains(&name.as_str())
                || (pragma_value.is_none() && SETTINGS.contains(&name.as_str()))
            {
                return None;
            }
            format!("PRAGMA {name}")
        }
        AuthAction::Attach { .. } => "ATTACH".to_owned(),
        AuthAction::Detach { .. } => "DETACH".to_owned(),
        AuthAction::Insert { table_name }
        | AuthAction::Update { table_name, .. }
        | AuthAction::Delete { table_name }
            if !table_name.starts_with("sqlite_") =>
        {
            "a change of a table".to_owned()
        }
        AuthAction::Transaction { .. } | AuthAction::Savepoint { .. } => "a transaction".to_owned(),
        _ => "a change of the schema".to_owned(),
    })
}
