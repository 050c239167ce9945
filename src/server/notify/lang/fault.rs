//! What a certificate check found wrong, in the reader's language. Checks store an English sentence
//! or several; each is taken apart by its pattern, and its values go into the pattern of the
//! language.

use std::net::IpAddr;

use jiff::tz::TimeZone;

use crate::base::clock::parse_rfc3339;
use crate::server::notify::lang::{Words, fill};
use crate::server::notify::message::local_time;

/// Between two sentences of one reason.
const AND: &str = "; ";

/// The reason in words, with times in `zone`. A sentence that no pattern fits stays as it is.
pub(crate) fn worded(reason: &str, words: &Words, zone: &TimeZone) -> String {
    let parts: Vec<&str> = reason.split(AND).collect();
    let mut out: Vec<String> = Vec::new();
    let mut from = 0;
    while from < parts.len() {
        // A value may hold what parts two sentences: then more than one part is a sentence.
        let found = (from + 1..=parts.len()).find_map(|to| {
            let sentence = parts[from..to].join(AND);
            sentence_worded(&sentence, words, zone).map(|text| (text, to))
        });
        let (text, to) = found.unwrap_or_else(|| (parts[from].to_owned(), from + 1));
        out.push(text);
        from = to;
    }
    out.join(words.and_then)
}

fn sentence_worded(sentence: &str, words: &Words, zone: &TimeZone) -> Option<String> {
    let at = sentence.strip_prefix("at ").and_then(|rest| rest.split_once(": "));
    if let Some((address, rest)) = at.filter(|(address, _)| address.parse::<IpAddr>().is_ok()) {
        let fault = sentence_worded(rest, words, zone)?;
        return Some(fill(words.at_address, &[("address", address), ("fault", &fault)]));
    }
    words.faults.iter().find_map(|(pattern, template)| {
        let values = values(pattern, sentence)?;
        let local = values.iter().map(|(name, value)| {
            let at_ms = parse_rfc3339(value).filter(|_| *name == "time");
            (*name, at_ms.map_or_else(|| (*value).to_owned(), |at_ms| local_time(at_ms, zone)))
        });
        let local: Vec<(&str, String)> = local.collect();
        let local: Vec<(&str, &str)> = local.iter().map(|(name, it)| (*name, &**it)).collect();
        Some(fill(template, &local))
    })
}

/// What stands in a sentence for each name of a pattern; `None` where the pattern does not fit.
fn values<'a>(pattern: &'static str, sentence: &'a str) -> Option<Vec<(&'static str, &'a str)>> {
    let mut found = Vec::new();
    let (start, mut names) = cut_at(pattern);
    let mut rest = sentence.strip_prefix(start)?;
    while let Some(after) = names {
        let (name, after) = after.split_once('}')?;
        let (literal, next) = cut_at(after);
        let end = match next {
            Some(_) => rest.find(literal)?,
            None => rest.strip_suffix(literal)?.len(),
        };
        found.push((name, &rest[..end]));
        rest = &rest[end + literal.len()..];
        names = next;
    }
    rest.is_empty().then_some(found)
}

/// A pattern up to its next name, and from that name on.
fn cut_at(pattern: &'static str) -> (&'static str, Option<&'static str>) {
    pattern.split_once('{').map_or((pattern, None), |(before, after)| (before, Some(after)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::notify::lang::Language;

    fn says(reason: &str, english: &str, chinese: &str) {
        let zone = TimeZone::fixed(jiff::tz::offset(8));
        let of = |language: Language| worded(reason, language.words(), &zone);
        assert_eq!([of(Language::En), of(Language::ZhCn)], [english, chinese]);
    }

    #[test]
    fn each_sentence_is_worded_in_both_languages_with_local_times() {
        says(
            "the certificate expired on 2026-02-01T00:00:00Z",
            "the certificate expired on 2026-02-01 08:00:00 +08:00",
            "证书已于 2026-02-01 08:00:00 +08:00 过期",
        );
        let names = "the certificate is for other names than `a.example`: b.example, c.example";
        says(names, names, "证书不适用于 a.example，而适用于 b.example, c.example");
        let more = format!("{names} and 3 more");
        says(&more, &more, "证书不适用于 a.example，而适用于 b.example, c.example 及另外 3 个名称");
        let port = "the port does not speak TLS; it says `220 a; b`";
        says(port, port, "该端口没有使用 TLS，其应答为 220 a; b");
    }

    #[test]
    fn several_sentences_and_addresses_are_taken_apart() {
        let two = "nothing listens on 192.0.2.1:443: the connection is refused; nothing listens on \
                   [2001:db8::1]:443: the connection is refused";
        let chinese = "192.0.2.1:443 上没有服务在监听，连接被拒绝；[2001:db8::1]:443 上没有服务在监听，连接被拒绝";
        says(two, two, chinese);
        let at = "at 2001:db8::1: the handshake took too long; at 192.0.2.1: OpenSSL: no; more";
        says(at, at, "在 2001:db8::1 上：握手超时；在 192.0.2.1 上：OpenSSL：no；more");
        says(
            "something new; the handshake took too long",
            "something new; the handshake took too long",
            "something new；握手超时",
        );
        says("", "", "");
    }

    #[test]
    fn every_pattern_fits_what_it_makes() {
        for (pattern, template) in Language::En.words().faults {
            assert_eq!(pattern, template);
            let names = pattern.split('{').skip(1).filter_map(|part| part.split('}').next());
            let values: Vec<(&str, &str)> = names.map(|name| (name, "x")).collect();
            let sentence = fill(pattern, &values);
            let chinese = worded(&sentence, Language::ZhCn.words(), &TimeZone::UTC);
            assert!(!chinese.is_ascii() && chinese != sentence, "{sentence}: {chinese}");
        }
    }
}
