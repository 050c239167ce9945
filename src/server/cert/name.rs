//! What a person may give as a domain, brought into one form.

use std::borrow::Cow;
use std::net::IpAddr;

use idna::AsciiDenyList;
use idna::uts46::{DnsLength, Hyphens, Uts46};

/// A host name, or an IP address, in its one form, and the port where one stood behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named {
    /// Lower case, internationalised labels as `xn--…`, no dot at the end.
    pub host: String,
    /// The port of `host:port`.
    pub port: Option<i64>,
}

/// Reads `Example.com.`, `bücher.example`, `example.com:8443`, `192.0.2.1`, `2001:db8::1` or
/// `[2001:db8::1]:8443`. The error says what it is instead.
///
/// # Errors
///
/// What is not a valid host name: a URL, a wildcard, a name with other signs than letters, digits
/// and hyphens, or one that is too long.
pub(crate) fn normalise(text: &str) -> Result<Named, String> {
    let text = text.trim();
    if text.is_empty() {
        return Err("a domain must not be empty".to_owned());
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(Named { host: canonical(address), port: None });
    }
    let (host, port) = split_port(text)?;
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    if let Some(inner) = bracketed {
        let address = inner.parse::<std::net::Ipv6Addr>();
        let address =
            address.map_err(|_| format!("`{}` is not a valid IPv6 address", shown(inner)))?;
        return Ok(Named { host: canonical(address.into()), port });
    }
    if host.contains("://") || host.contains('/') {
        return Err(format!("`{}` is a URL: give its host name alone", shown(text)));
    }
    if host.contains('*') {
        let message = "is a pattern: name each host that is to be checked";
        return Err(format!("`{}` {message}", shown(text)));
    }
    Ok(Named { host: host_name(host)?, port })
}

/// An address in its one form. IPv4 that is wrapped in IPv6 is that IPv4.
fn canonical(address: IpAddr) -> String {
    address.to_canonical().to_string()
}

fn split_port(text: &str) -> Result<(&str, Option<i64>), String> {
    // A URL's colon is not one of a port, and neither is one in brackets.
    let none = text.contains('/') || text.ends_with(']');
    let Some((host, port)) = text.rsplit_once(':').filter(|_| !none) else {
        return Ok((text, None));
    };
    let digits = !port.is_empty() && port.len() < 10 && port.bytes().all(|b| b.is_ascii_digit());
    let port = port.parse::<i64>().ok().filter(|_| digits);
    let port = port.ok_or_else(|| format!("`{}` is not a valid host name", shown(text)))?;
    Ok((host, Some(port)))
}

/// All ASCII but letters, digits, hyphens and dots, and underscores, which host names on the wire
/// do have.
const DENIED: AsciiDenyList = AsciiDenyList::new(true, " !\"#$%&'()*+,/:;<=>?@[\\]^`{|}~");

fn host_name(host: &str) -> Result<String, String> {
    let refuse = |why: &str| format!("`{}` is not a valid host name: {why}", shown(host));
    let ascii = Uts46::new()
        .to_ascii(
            host.as_bytes(),
            DENIED,
            Hyphens::CheckFirstLast,
            DnsLength::VerifyAllowRootDot,
        )
        .map(Cow::into_owned)
        .map_err(|_| {
            refuse(
                "labels have letters, digits, underscores and inner hyphens, 63 signs at the most, and the \
                 whole 253",
            )
        })?;
    let ascii = ascii.strip_suffix('.').unwrap_or(&ascii);
    // Mapping may have made plain digits of wide ones.
    if let Ok(address) = ascii.parse::<IpAddr>() {
        return Ok(canonical(address));
    }
    let last = ascii.rsplit('.').next().unwrap_or_default();
    if last.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(refuse("it ends in a number, and is not an IP address"));
    }
    Ok(ascii.to_owned())
}

fn shown(text: &str) -> String {
    text.chars().filter(|sign| !sign.is_control()).take(100).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn one_name_has_one_form() {
        let cases = [
            ("example.com", "example.com", None),
            ("  Example.COM. ", "example.com", None),
            ("LocalHost", "localhost", None),
            ("bücher.example", "xn--bcher-kva.example", None),
            ("BÜCHER.example.", "xn--bcher-kva.example", None),
            ("例子。测试", "xn--fsqu00a.xn--0zwm56d", None),
            ("XN--BCHER-KVA.example", "xn--bcher-kva.example", None),
            ("_dmarc.under_score.example", "_dmarc.under_score.example", None),
            ("r3---sn-x.example", "r3---sn-x.example", None),
            ("example.com:8443", "example.com", Some(8443)),
            ("Example.com.:443", "example.com", Some(443)),
            ("192.0.2.1", "192.0.2.1", None),
            ("192.0.2.1:70000", "192.0.2.1", Some(70_000)),
            ("１９２.0.2.1", "192.0.2.1", None),
            ("2001:DB8:0::1", "2001:db8::1", None),
            ("[2001:db8::1]", "2001:db8::1", None),
            ("[2001:db8::1]:636", "2001:db8::1", Some(636)),
            ("::ffff:192.0.2.1", "192.0.2.1", None),
        ];
        for (given, host, port) in cases {
            let named = normalise(given).unwrap();
            assert_eq!((named.host.as_str(), named.port), (host, port), "{given}");
            assert_eq!(normalise(host).unwrap().host, host, "{given} again");
        }
    }

    #[test]
    fn what_is_no_host_name_is_refused_with_the_reason() {
        let long_label = format!("{}.example", "a".repeat(64));
        let long_name = vec!["abcdefgh"; 30].join(".");
        let cases = [
            ("", "empty"),
            (" . ", "not a valid host name"),
            ("not a host", "not a valid host name"),
            ("https://example.com/", "is a URL"),
            ("example.com/path", "is a URL"),
            ("*.example.com", "is a pattern"),
            ("-a.example", "not a valid host name"),
            ("a-.example", "not a valid host name"),
            ("a..example", "not a valid host name"),
            (".example", "not a valid host name"),
            ("256.1.1.1", "ends in a number"),
            ("1.2.3", "ends in a number"),
            ("example.com:", "not a valid host name"),
            ("example.com:https", "not a valid host name"),
            ("[2001:db8::1", "not a valid host name"),
            ("[example.com]", "not a valid IPv6 address"),
            ("fe80::1%eth0", "not a valid host name"),
            ("a\0b.example", "not a valid host name"),
            ("xn--a.example", "not a valid host name"),
            (&long_label, "not a valid host name"),
            (&long_name, "not a valid host name"),
        ];
        for (given, reason) in cases {
            let error = normalise(given).unwrap_err();
            assert!(error.contains(reason), "{given}: {error}");
        }
    }
}
