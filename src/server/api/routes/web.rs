//! The dashboard: a page, its style and its scripts, carried by the binary and served to anyone.
//! They hold no data; their scripts log in and call the API as everyone else does.

use crate::server::api::reply::{ApiError, Reply};
use crate::server::api::request::Call;
use crate::server::api::router::{Access, Gives, Route};

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// A file in the binary.
struct File {
    content_type: &'static str,
    bytes: &'static [u8],
    /// Changes with the content.
    tag: u64,
}

impl File {
    const fn new(content_type: &'static str, bytes: &'static [u8]) -> Self {
        Self { content_type, bytes, tag: fnv1a(bytes) }
    }

    fn reply(&self) -> Result<Reply, ApiError> {
        Ok(Reply::file(self.content_type, self.bytes, format!("{:016x}", self.tag)))
    }
}

/// Every file with its path and what it is for: a static, a row of the route table, and a row for
/// the tests.
macro_rules! files {
    ($($path:literal $content_type:ident $name:literal $summary:literal;)*) => {
        /// Every file, as rows of the route table.
        pub(crate) const ROUTES: &[Route] = &[$(row($path, $summary, |_| {
            static FILE: File =
                File::new($content_type, include_bytes!(concat!("../../web/", $name)));
            FILE.reply()
        }),)*];

        #[cfg(test)]
        const FILES: &[(&str, &[u8])] =
            &[$(($path, include_bytes!(concat!("../../web/", $name)).as_slice()),)*];
    };
}

files! {
    "/" HTML "index.html" "The dashboard's page.";
    "/style.css" CSS "style.css" "Its style, light and dark.";
    "/icon.svg" SVG "icon.svg" "Its icon.";
    "/app.js" JS "app.js" "Which page is shown, and when it is fetched again.";
    "/api.js" JS "api.js" "Calls of the API, the session, errors in words.";
    "/dom.js" JS "dom.js" "Elements and tables, made from text alone.";
    "/format.js" JS "format.js" "Numbers and times as people read them.";
    "/i18n.js" JS "i18n.js" "The reader's language.";
    "/lang-en.js" JS "lang-en.js" "Every text in English.";
    "/lang-zh.js" JS "lang-zh.js" "Every text in Chinese.";
    "/route.js" JS "route.js" "The address: page, range and filters.";
    "/kit.js" JS "kit.js" "Dialogs, forms, lists that the server pages.";
    "/chart.js" JS "chart.js" "Line charts.";
    "/range.js" JS "range.js" "The time that charts show.";
    "/series.js" JS "series.js" "Series in the form that charts take.";
    "/login.js" JS "login.js" "The pages for login and password.";
    "/overview.js" JS "overview.js" "The page with all hosts.";
    "/agent.js" JS "agent.js" "The page of one host.";
    "/alerttable.js" JS "alerttable.js" "A table of alerts.";
    "/alerts.js" JS "alerts.js" "The page with alerts.";
    "/alert.js" JS "alert.js" "The page of one alert.";
    "/deliveries.js" JS "deliveries.js" "Attempts to deliver, as rows of a table.";
    "/rules.js" JS "rules.js" "The pages with rules.";
    "/ruletypes.js" JS "ruletypes.js" "What each rule type's form asks for.";
    "/backtest.js" JS "backtest.js" "What a rule would have done.";
    "/channels.js" JS "channels.js" "The pages with channels.";
    "/silences.js" JS "silences.js" "The page with silences.";
    "/system.js" JS "system.js" "The pages of the server itself.";
    "/facts.js" JS "facts.js" "Facts in two columns.";
    "/hosts.js" JS "hosts.js" "How a host joins, what it is called, how it leaves.";
    "/explore.js" JS "explore.js" "The page for PromQL.";
    "/complete.js" JS "complete.js" "Completion of PromQL.";
    "/certs.js" JS "certs.js" "The page with certificates.";
}

const fn row(
    path: &'static str,
    summary: &'static str,
    handler: fn(&Call<'_>) -> Result<Reply, ApiError>,
) -> Route {
    Route { access: Access::Public, ..Route::get(path, summary, Gives::File, handler) }
}

/// FNV-1a, which can be had while compiling. It only tells versions of a file apart.
const fn fnv1a(bytes: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325;
    let mut at = 0;
    while at < bytes.len() {
        hash = (hash ^ bytes[at] as u64).wrapping_mul(0x0100_0000_01b3);
        at += 1;
    }
    hash
}

#[cfg(test)]
mod tests;
