//! `email`: one mail for each recipient, in text and HTML, over SMTP.

use std::io::ErrorKind;
use std::time::{Duration, UNIX_EPOCH};

use lettre::Message;
use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart};

use crate::base::ids::stable_id;
use crate::server::notify::channels::address::{ascii_host, check_address};
use crate::server::notify::channels::config::{Config, Field, FieldKind, some_text, text};
use crate::server::notify::channels::{ChannelType, RecipientKind, Sending, each_once};
use crate::server::notify::client::Attempt;
use crate::server::notify::lang::fill;
use crate::server::notify::message::{Kind, domain, escape_html, local_time};
use crate::server::notify::smtp::{MailServer, Security, SmtpError};
use crate::server::notify::timed::Late;

/// The channel type.
pub(crate) const TYPE: ChannelType = ChannelType {
    kind: "email",
    recipient: RecipientKind::Email,
    fields: &[
        Field::required("smtp_host", FieldKind::Host).address(),
        Field::required("smtp_port", FieldKind::Port).address(),
        Field::required("from_name", FieldKind::Text),
        Field::required("from_email", FieldKind::Address),
        Field::optional("smtp_username", FieldKind::Text),
        Field::optional("smtp_password", FieldKind::Secret),
        Field::optional("tls", FieldKind::Word(&["starttls", "tls", "none"])).address(),
        Field::optional("helo_name", FieldKind::Host),
        Field::LANGUAGE,
    ],
    check,
    targets: |_, recipients| each_once(recipients.iter().cloned()),
    send,
};

/// The port on which mail servers speak TLS from the first byte.
const TLS_PORT: u16 = 465;
/// Bytes of the sender's name: a header line has 998 at the most (RFC 5322), also when encoded.
const FROM_NAME_BYTES_MAX: usize = 200;
/// A mail takes so many time limits of one answer at the most.
const ANSWERS_MAX: u32 = 6;
/// Bytes of a mail's text: some hundred thousand events' worth would help nobody.
const TEXT_BYTES_MAX: usize = 4 * 1024 * 1024;

fn check(config: &Config) -> Result<(), String> {
    let (user, password) = (some_text(config, "smtp_username"), some_text(config, "smtp_password"));
    if text(config, "from_name").len() > FROM_NAME_BYTES_MAX {
        let message = format!("must have at most {FROM_NAME_BYTES_MAX} bytes");
        return Err(format!("config_json: from_name: {message}"));
    }
    match (user, password) {
        (Some(_), None) => {
            Err("config_json: smtp_password: is missing beside smtp_username".to_owned())
        }
        (None, Some(_)) => {
            Err("config_json: smtp_username: is missing beside smtp_password".to_owned())
        }
        _ => Ok(()),
    }
}

/// What EHLO says (RFC 5321, section 4.1.1.1): the configured name, the system's where it has a
/// domain, or the address that the mail server sees.
fn hello(config: &Config, host: &str, port: u16) -> String {
    if let Some(name) = some_text(config, "helo_name") {
        return ascii_host(name).unwrap_or_else(|| name.to_owned());
    }
    let own = rustix::system::uname();
    let own = own.nodename().to_str().unwrap_or_default();
    if own.contains('.') && own.is_ascii() {
        return own.to_owned();
    }
    let socket = std::net::UdpSocket::bind(("::", 0));
    let socket = socket.or_else(|_| std::net::UdpSocket::bind(("0.0.0.0", 0)));
    // Connecting a datagram socket sends nothing; it only chooses the address.
    let local = socket.and_then(|socket| {
        socket.connect((host, port))?;
        socket.local_addr()
    });
    match local.map(|address| address.ip().to_canonical()) {
        Ok(std::net::IpAddr::V4(address)) => format!("[{address}]"),
        Ok(std::net::IpAddr::V6(address)) if !address.is_unspecified() => {
            format!("[IPv6:{address}]")
        }
        _ => "[127.0.0.1]".to_owned(),
    }
}

fn send(sending: &Sending<'_>, recipient: &str) -> Attempt {
    let (mail, id) = match compose(sending, recipient) {
        Ok(made) => made,
        Err(why) => return Attempt::not_sent(why),
    };
    let server = match mail_server(sending) {
        Ok(server) => server,
        Err(why) => return Attempt::not_sent(why),
    };
    let from = text(sending.config, "from_email");
    let addresses = check_address(from).and_then(|from| Ok((from, check_address(recipient)?)));
    let (from, to) = match addresses {
        Ok(addresses) => addresses,
        Err(why) => return Attempt::not_sent(why),
    };
    let mut outcome = Attempt {
        request: format!("{} to {recipient}", sending.title(usize::MAX)),
        message_id: Some(id),
        ..Attempt::default()
    };
    let name = format!("{}:{}", text(sending.config, "smtp_host"), port(sending.config));
    let timeout = sending.client.timeout();
    let limit = timeout * ANSWERS_MAX;
    let work = move || server.send(from.as_ref(), to.as_ref(), &mail.formatted());
    match sending.client.mails().run(&name, limit, work) {
        Ok(Ok(answer)) => outcome.response = answer.text(),
        Ok(Err(error)) => {
            if let SmtpError::Refused(answer) = &error {
                outcome.error_code = Some(answer.code.to_string());
                outcome.response = answer.text();
                outcome.permanent = answer.is_permanent();
            } else if let SmtpError::Denied(why) = error {
                return Attempt { permanent: true, ..Attempt::not_sent(why) };
            } else {
                outcome.unreachable = true;
            }
            outcome.error = Some(explain(&error, timeout));
        }
        Err(late) => {
            outcome.unreachable = true;
            outcome.error = Some(match late {
                Late::Over => {
                    format!("the mail server did not finish within {} s", limit.as_secs())
                }
                Late::Busy => "the mail server is still busy with the previous message; check it, \
                     or restart oxmon-server if it is healthy"
                    .to_owned(),
            });
        }
    }
    outcome
}

fn explain(error: &SmtpError, timeout: Duration) -> String {
    let late = |kind| matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut);
    match error {
        SmtpError::Io(io) if late(io.kind()) => {
            format!("no answer from the mail server within {} s", timeout.as_secs())
        }
        other => crate::rt::thread::chain(other),
    }
}

/// The mail and its Message-ID, which is the same for every attempt: a mailbox that gets it twice
/// can tell.
fn compose(sending: &Sending<'_>, recipient: &str) -> Result<(Message, String), String> {
    let notification = sending.notification;
    let from = check_address(text(sending.config, "from_email"))?;
    let id = format!("<{}@{}>", stable_id(&[&notification.id, recipient]), from.domain());
    let from = Mailbox::new(Some(text(sending.config, "from_name").to_owned()), from);
    let now_ms = u64::try_from(sending.now_ms).unwrap_or_default();
    // So that no mail program answers with an out-of-office note (RFC 3834).
    let automatic = HeaderName::new_from_ascii_str("Auto-Submitted");
    let mail = Message::builder()
        .from(from)
        .to(Mailbox::new(None, check_address(recipient)?))
        .subject(sending.title(usize::MAX))
        .date(UNIX_EPOCH + Duration::from_millis(now_ms).min(DATE_MAX))
        .message_id(Some(id.clone()))
        .raw_header(HeaderValue::new(automatic, "auto-generated".to_owned()))
        .multipart(MultiPart::alternative_plain_html(plain(sending), html(sending)))
        .map_err(|why| why.to_string())?;
    Ok((mail, id))
}

/// The end of the year 9999, the last that a mail's date can name.
const DATE_MAX: Duration = Duration::from_secs(253_402_300_799);

fn plain(sending: &Sending<'_>) -> String {
    let lines = sending.text(str::to_owned, TEXT_BYTES_MAX);
    let link = sending.link().map(|(link, words)| format!("\n{words}: {link}\n"));
    format!("{}\n\n{lines}\n{}", sending.title(usize::MAX), link.unwrap_or_default())
}

fn html(sending: &Sending<'_>) -> String {
    let (notification, voice) = (sending.notification, sending.voice);
    let words = voice.words;
    let mut text = format!(
        "<!DOCTYPE html>\n<html><body style=\"font-family:sans-serif\">\n<h2>{}</h2>\n\
         <table cellpadding=\"4\" style=\"border-collapse:collapse\">\n\
         <tr><th align=\"left\">{}</th><th align=\"left\">{}</th>\
         <th align=\"left\">{}</th></tr>\n",
        escape_html(&sending.title(usize::MAX)),
        words.host,
        words.message,
        words.since,
    );
    for (index, item) in notification.items.iter().enumerate() {
        let mut message = escape_html(&voice.sentence(item, notification.kind));
        if let Some(link) = voice.event_link(item).filter(|_| notification.kind != Kind::Test) {
            message = format!("<a href=\"{}\">{message}</a>", escape_html(&link));
        }
        let row = format!(
            "<tr><td>{}</td><td>{message}</td><td>{}</td></tr>\n",
            escape_html(&domain(item).unwrap_or_else(|| item.agent_id.clone())),
            local_time(item.first_triggered_at_ms, voice.zone)
        );
        if text.len() + row.len() > TEXT_BYTES_MAX {
            let more = (notification.items.len() - index).to_string();
            let more = fill(words.more, &[("count", &more)]);
            text.push_str(&format!("<tr><td colspan=\"3\">{more}</td></tr>\n"));
            break;
        }
        text.push_str(&row);
    }
    text.push_str("</table>\n</body></html>\n");
    text
}

fn port(config: &Config) -> u16 {
    let port = config.get("smtp_port").and_then(serde_json::Value::as_u64);
    port.and_then(|port| port.try_into().ok()).unwrap_or_default()
}

fn mail_server(sending: &Sending<'_>) -> Result<MailServer, String> {
    let config = sending.config;
    let host = text(config, "smtp_host");
    let host = ascii_host(host).ok_or_else(|| format!("smtp_host: `{host}` is not a host name"))?;
    let port = port(config);
    let user = some_text(config, "smtp_username");
    let security = match (some_text(config, "tls"), user) {
        (Some("none"), _) => Security::None,
        (Some("tls"), _) => Security::Wrapped,
        (None, _) if port == TLS_PORT => Security::Wrapped,
        // A password never goes over a line that someone could have kept from being encrypted.
        (Some(_), _) | (None, Some(_)) => Security::Required,
        (None, None) => Security::Offered,
    };
    Ok(MailServer {
        hello: hello(config, &host, port),
        host,
        port,
        security,
        authorities: sending.client.authorities().to_vec(),
        login: user.map(|user| (user.to_owned(), text(config, "smtp_password").to_owned())),
        timeout: sending.client.timeout(),
        denied: sending.client.denied().clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_delivered_is_taken_and_the_rest_is_refused() {
        let domain = |text| check_address(text).map(|address| address.domain().to_owned());
        assert_eq!(domain("ops@example.com").as_deref(), Ok("example.com"));
        assert_eq!(domain("ops@b\u{fc}cher.example").as_deref(), Ok("xn--bcher-kva.example"));
        for (text, why) in [
            ("ops", "such as"),
            ("ops@@example.com", "such as"),
            ("\"a b\"@example.com", "quoted"),
            ("ops@[192.0.2.1]", "not an address"),
            ("\u{fc}@example.com", "must be ASCII"),
        ] {
            let error = check_address(text).err().unwrap_or_default();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn ehlo_says_a_name_with_a_domain_or_an_address() {
        let config = serde_json::json!({"helo_name": "mx.example.com"});
        let config = config.as_object().cloned().unwrap_or_default();
        assert_eq!(hello(&config, "127.0.0.1", 25), "mx.example.com");
        let own = hello(&Config::new(), "127.0.0.1", 25);
        assert!(own.contains('.') && (own == "[127.0.0.1]" || !own.starts_with('[')), "{own}");
    }
}
