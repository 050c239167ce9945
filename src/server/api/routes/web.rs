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

static INDEX: File = File::new(HTML, include_bytes!("../../web/index.html"));
static STYLE: File = File::new(CSS, include_bytes!("../../web/style.css"));
static ICON: File = File::new(SVG, include_bytes!("../../web/icon.svg"));
static APP: File = File::new(JS, include_bytes!("../../web/app.js"));
static API: File = File::new(JS, include_bytes!("../../web/api.js"));
static DOM: File = File::new(JS, include_bytes!("../../web/dom.js"));
static FORMAT: File = File::new(JS, include_bytes!("../../web/format.js"));
static CHART: File = File::new(JS, include_bytes!("../../web/chart.js"));
static LOGIN: File = File::new(JS, include_bytes!("../../web/login.js"));
static OVERVIEW: File = File::new(JS, include_bytes!("../../web/overview.js"));
static AGENT: File = File::new(JS, include_bytes!("../../web/agent.js"));
static ALERTS: File = File::new(JS, include_bytes!("../../web/alerts.js"));
static CERTS: File = File::new(JS, include_bytes!("../../web/certs.js"));

/// Every file, as rows of the route table.
pub(crate) const ROUTES: &[Route] = &[
    row("/", "The dashboard's page.", |_| INDEX.reply()),
    row("/style.css", "Its style, light and dark.", |_| STYLE.reply()),
    row("/icon.svg", "Its icon.", |_| ICON.reply()),
    row("/app.js", "Which page is shown, and when it is fetched again.", |_| APP.reply()),
    row("/api.js", "Calls of the API, the session, errors in words.", |_| API.reply()),
    row("/dom.js", "Elements and tables, made from text alone.", |_| DOM.reply()),
    row("/format.js", "Numbers and times as people read them.", |_| FORMAT.reply()),
    row("/chart.js", "Line charts.", |_| CHART.reply()),
    row("/login.js", "The pages for login and password.", |_| LOGIN.reply()),
    row("/overview.js", "The page with all agents.", |_| OVERVIEW.reply()),
    row("/agent.js", "The page of one agent.", |_| AGENT.reply()),
    row("/alerts.js", "The page with alerts.", |_| ALERTS.reply()),
    row("/certs.js", "The page with certificates.", |_| CERTS.reply()),
];

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
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const FILES: [&File; 13] = [
        &INDEX, &STYLE, &ICON, &APP, &API, &DOM, &FORMAT, &CHART, &LOGIN, &OVERVIEW, &AGENT,
        &ALERTS, &CERTS,
    ];
    /// What all files may weigh together, before gzip.
    const BYTES_MAX: usize = 60 * 1_024;

    fn text(file: &File) -> &'static str {
        std::str::from_utf8(file.bytes).unwrap()
    }

    #[test]
    fn all_that_a_file_names_is_a_row_of_the_table() {
        assert_eq!(ROUTES.len(), FILES.len());
        let has = |path: &str| ROUTES.iter().any(|route| route.path == path);
        for file in FILES {
            for (at, _) in text(file).match_indices("from \"./") {
                let name = text(file)[at + 8..].split('"').next().unwrap();
                assert!(has(&format!("/{name}")), "{name} is imported and not served");
            }
        }
        for part in ["href=\"/", "src=\"/"] {
            for (at, _) in text(&INDEX).match_indices(part) {
                let rest = &text(&INDEX)[at + part.len() - 1..];
                let path = rest.split('"').next().unwrap();
                assert!(has(path), "the page names {path}, which is not served");
            }
        }
    }

    #[test]
    fn the_files_are_small_and_their_lines_short() {
        let bytes: usize = FILES.iter().map(|file| file.bytes.len()).sum();
        assert!(bytes <= BYTES_MAX, "the dashboard has {bytes} bytes, over {BYTES_MAX}");
        for file in FILES {
            for line in text(file).lines() {
                assert!(line.chars().count() <= 100, "over 100 columns: {line}");
            }
        }
    }

    #[test]
    fn no_text_becomes_markup_and_nothing_comes_from_elsewhere() {
        let unwanted = [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "DOMParser",
            "eval(",
            "Function(",
            "style=",
            "https://",
            "//cdn",
            "@import",
        ];
        for file in FILES {
            for word in unwanted {
                assert!(!text(file).contains(word), "a file of the dashboard has `{word}`");
            }
        }
        assert!(!text(&INDEX).contains(" on"), "a handler in the markup");
        assert_eq!(text(&INDEX).matches("<script").count(), 1);
    }

    #[test]
    fn tags_differ_when_contents_do() {
        let mut tags: Vec<u64> = FILES.iter().map(|file| file.tag).collect();
        tags.sort_unstable();
        tags.dedup();
        assert_eq!(tags.len(), FILES.len());
        assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c, "the published value for `a`");
    }
}
