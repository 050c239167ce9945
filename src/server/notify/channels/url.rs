//! What of a URL is secret: the values of its query, and parts of its path that look like tokens.

/// What is shown in place of a secret in answers, and means the stored one in requests.
pub(crate) const MASK: &str = "***";

/// Letters from which on a part of a path, or a word of a template, may be a token.
const TOKEN_CHARS_MIN: usize = 20;
/// Bytes from which on a recipient's whole path is kept out of logs.
const SECRET_PATH_BYTES: usize = 16;

/// Letters from which on a part of a path behind one of [`HOOKS`] is a token, whatever it looks
/// like.
const HOOK_CHARS_MIN: usize = 16;
/// Parts of a path that tokens of incoming webhooks come after (Slack, Mattermost, Rocket.Chat,
/// Discord, Feishu).
const HOOKS: [&str; 5] = ["services", "hooks", "hook", "webhooks", "webhook"];

/// Whether a word looks like a token: long, with letters and digits, or with letters in a case that
/// no word has, as robots' and chats' are.
pub(crate) fn is_token(word: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_:.~%@+=".contains(c);
    let count = |is: fn(&char) -> bool| word.chars().filter(is).count();
    let (upper, lower) = (count(char::is_ascii_uppercase), count(char::is_ascii_lowercase));
    let mixed = upper * 4 >= word.len() && lower * 5 >= word.len();
    word.len() >= TOKEN_CHARS_MIN
        && word.chars().all(fits)
        && upper + lower > 0
        && (mixed || word.contains(|c: char| c.is_ascii_digit()))
}

/// The parts of a path, each with whether it is a token.
fn segments(path: &str) -> impl Iterator<Item = (&str, bool)> {
    let mut is_hook = false;
    path.split('/').map(move |segment| {
        let is_secret = is_token(segment) || (is_hook && segment.len() >= HOOK_CHARS_MIN);
        is_hook |= HOOKS.contains(&segment);
        (segment, is_secret)
    })
}

/// A URL in its parts: `https://host:port`, the path, the query.
struct Parts<'a> {
    origin: &'a str,
    path: &'a str,
    query: Option<&'a str>,
}

impl<'a> Parts<'a> {
    fn of(url: &'a str) -> Self {
        let (start, query) = match url.split_once('?') {
            Some((start, query)) => (start, Some(query)),
            None => (url, None),
        };
        let (origin, path) = match start.match_indices('/').nth(2) {
            Some((at, _)) => start.split_at(at),
            None => (start, ""),
        };
        Self { origin, path, query }
    }

    fn params(&self) -> impl Iterator<Item = &'a str> {
        self.query.into_iter().flat_map(|query| query.split('&'))
    }
}

/// Scheme, host and port of a URL.
pub(crate) fn origin(url: &str) -> &str {
    Parts::of(url).origin
}

/// The URL without its query: where it leads.
pub(crate) fn address(url: &str) -> &str {
    url.split_once('?').map_or(url, |(start, _)| start)
}

/// The URL with every value of its query masked, and what looks like a token in its path.
pub(crate) fn mask_url(url: &str) -> String {
    let parts = Parts::of(url);
    let shown = |(segment, is_secret)| if is_secret { MASK } else { segment };
    let path: Vec<&str> = segments(parts.path).map(shown).collect();
    let mut masked = format!("{}{}", parts.origin, path.join("/"));
    for (index, part) in parts.params().enumerate() {
        masked.push(if index == 0 { '?' } else { '&' });
        match part.split_once('=') {
            Some((name, value)) if !value.is_empty() => masked.push_str(&format!("{name}={MASK}")),
            _ => masked.push_str(part),
        }
    }
    masked
}

/// The URL's host alone: of many a webhook the path is all that a message needs.
pub(crate) fn mask_path(url: &str) -> String {
    match url.match_indices('/').nth(2) {
        Some((end, _)) if end + 1 < url.len() => format!("{}/{MASK}", &url[..end]),
        _ => url.to_owned(),
    }
}

fn is_mask(value: &str) -> bool {
    value == MASK || value.eq_ignore_ascii_case("%2a%2a%2a")
}

/// Whether a part of the path or a value of the query is a mask.
pub(crate) fn has_mask(url: &str) -> bool {
    let parts = Parts::of(url);
    parts.path.split('/').any(is_mask)
        || parts.params().any(|part| is_mask(part.split_once('=').map_or(part, |(_, value)| value)))
}

/// The URL with the stored one's secrets where `given` has masks; `None` where the rest of its
/// address is not the stored one's, or the stored one has no such secret.
pub(crate) fn restored(given: &str, stored: &str) -> Option<String> {
    let (new, old) = (Parts::of(given), Parts::of(stored));
    if new.origin != old.origin {
        return None;
    }
    let (given, kept): (Vec<_>, Vec<_>) =
        (new.path.split('/').collect(), segments(old.path).collect());
    let same = |(one, (other, is_secret)): (&&str, &(&str, bool))| {
        one == other || (is_mask(one) && *is_secret)
    };
    if given.len() != kept.len() || !given.iter().zip(&kept).all(same) {
        return None;
    }
    let mut url = format!("{}{}", old.origin, old.path);
    let mut used: Vec<&str> = Vec::new();
    for (index, part) in new.params().enumerate() {
        url.push(if index == 0 { '?' } else { '&' });
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        if is_mask(value) {
            // A name that comes twice has its values in their order.
            let turn = used.iter().filter(|known| **known == name).count();
            let mut values = old.params().filter_map(|part| part.split_once('='));
            let (_, value) = values.by_ref().filter(|(known, _)| *known == name).nth(turn)?;
            url.push_str(&format!("{name}={value}"));
            used.push(name);
        } else {
            url.push_str(part);
        }
    }
    Some(url)
}

/// The values of a URL's query, also as they read when they are decoded, and the tokens of its
/// path.
pub(crate) fn secrets(url: &str) -> Vec<String> {
    let parts = Parts::of(url);
    let values = parts.params().filter_map(|part| Some(part.split_once('=')?.1));
    let tokens = segments(parts.path).filter(|(_, is_secret)| *is_secret).map(|(it, _)| it);
    let mut found = Vec::new();
    for secret in values.chain(tokens) {
        let decoded = percent_encoding::percent_decode_str(secret).decode_utf8_lossy();
        if decoded != secret {
            found.push(decoded.into_owned());
        }
        found.push(secret.to_owned());
    }
    found
}

/// What must not be shown of a URL that is a recipient: [`secrets`], and its path where that is
/// long enough to be one.
pub(crate) fn recipient_secrets(url: &str) -> Vec<String> {
    let path = Parts::of(url).path.trim_start_matches('/');
    let path = (path.len() >= SECRET_PATH_BYTES).then(|| path.to_owned());
    path.into_iter().chain(secrets(url)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_the_query_and_tokens_of_the_path_are_masked() {
        for (url, masked) in [
            ("https://a.example/send?k=tok&x=&y", "https://a.example/send?k=***&x=&y"),
            ("https://a.example", "https://a.example"),
            ("https://a.example?k=v", "https://a.example?k=***"),
            (
                "https://chat.example/services/T01/B02/abcDEF0123456789abcdefgh",
                "https://chat.example/services/T01/B02/***",
            ),
            // One in seventy tokens of Slack has no digit.
            (
                "https://chat.example/services/T00000001/B00000002/abcDEFghiJKLmnoPQRstuVWX",
                "https://chat.example/services/T00000001/B00000002/***",
            ),
            ("https://a.example/x/abcDEFghiJKLmnoPQRstuVWX", "https://a.example/x/***"),
            ("https://chat.example/hooks/xyzgdabcknoptoqaz", "https://chat.example/hooks/***"),
            (
                "https://a.example/TheNotificationsOfOurTeam/to-the-people-on-call",
                "https://a.example/TheNotificationsOfOurTeam/to-the-people-on-call",
            ),
            (
                "https://bot.example/bot123456789:AAabcdefghijklmnop/sendMessage",
                "https://bot.example/***/sendMessage",
            ),
        ] {
            assert_eq!(mask_url(url), masked);
            assert_eq!(restored(masked, url).as_deref(), Some(url));
        }
    }

    #[test]
    fn a_mask_comes_back_only_where_nothing_else_has_changed() {
        let stored = "https://a.example/send?k=tok1&k=tok2&n=1";
        let same = |given: &str| restored(given, stored);
        assert_eq!(
            same("https://a.example/send?k=***&k=***&n=2").as_deref(),
            Some("https://a.example/send?k=tok1&k=tok2&n=2")
        );
        assert_eq!(
            same("https://a.example/send?k=%2A%2a%2A").as_deref(),
            Some("https://a.example/send?k=tok1")
        );
        for given in [
            "https://b.example/send?k=***",
            "http://a.example/send?k=***",
            "https://a.example:444/send?k=***",
            "https://a.example/sent?k=***",
            "https://a.example/send?other=***",
            "https://a.example/send?k=***&k=***&k=***",
            "https://a.example/***?k=1",
        ] {
            assert!(has_mask(given), "{given}");
            assert_eq!(same(given), None, "{given}");
        }
        assert!(!has_mask(stored) && !has_mask("https://a.example/a***b?c=x***"));
    }

    #[test]
    fn what_a_log_must_not_show_has_decoded_forms_too() {
        let found = recipient_secrets("https://a.example/services/x/secret?sign=a%2Bb");
        assert_eq!(found, ["services/x/secret", "a+b", "a%2Bb"]);
    }
}
