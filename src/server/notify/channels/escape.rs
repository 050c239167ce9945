//! Names of hosts, labels and rules as plain text in each kind of message.

use crate::server::notify::message::escape_html;

/// For a text without markup whose readers make links and mentions of what looks like one.
pub(crate) fn plain(text: &str) -> String {
    text.replace('@', "＠").replace("://", ": //")
}

/// For HTML, of which a chat takes a subset.
pub(crate) fn html(text: &str) -> String {
    escape_html(&plain(text))
}

/// For Slack's mrkdwn: three characters are escaped as entities; for `*`, `_`, `~` and the
/// backtick there is no escape, so letters that look alike take their place.
pub(crate) fn slack(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let text = text.replace('*', "＊").replace('~', "～").replace('`', "'");
    words(&plain(&text))
}

/// `_` that could begin or end something slanted; within a word it does not.
fn words(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut before = ' ';
    let mut letters = text.chars().peekable();
    while let Some(c) = letters.next() {
        let after = letters.peek().copied().unwrap_or(' ');
        let inside = before.is_alphanumeric() && after.is_alphanumeric();
        out.push(if c == '_' && !inside { '＿' } else { c });
        before = c;
    }
    out
}

/// For Discord's Markdown: a backslash before whatever could be markup, a mention or a link.
pub(crate) fn discord(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    for (index, c) in text.chars().enumerate() {
        let starts_list = index == 0 && matches!(c, '-' | '+' | '=');
        if starts_list || "\\*_~`|<>#@:[]()".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const BAD: &str = "@all <!here> [x](http://evil) *b* _i_ used_percent `c` & #1";

    #[test]
    fn what_hosts_send_is_plain_text_everywhere() {
        assert_eq!(
            slack(BAD),
            "＠all &lt;!here&gt; [x](http: //evil) ＊b＊ ＿i＿ used_percent 'c' &amp; #1"
        );
        assert_eq!(
            discord(BAD),
            "\\@all \\<!here\\> \\[x\\]\\(http\\://evil\\) \\*b\\* \\_i\\_ used\\_percent \\`c\\` & \\#1"
        );
        assert_eq!(
            html(BAD),
            "＠all &lt;!here&gt; [x](http: //evil) *b* _i_ used_percent `c` &amp; #1"
        );
        assert_eq!(discord("- a"), "\\- a");
    }
}
