//! Channel types. Each is one file with one [`ChannelType`], and one row of [`ALL`].

use crate::server::notify::client::{Attempt, Client};
use crate::server::notify::message::{Notification, cut};
use crate::server::notify::voice::Voice;

pub(crate) mod address;
pub(crate) mod config;
pub(crate) mod dingtalk;
pub(crate) mod discord;
pub(crate) mod email;
pub(crate) mod escape;
pub(crate) mod feishu;
pub(crate) mod gotify;
pub(crate) mod json;
pub(crate) mod literals;
pub(crate) mod matrix;
pub(crate) mod ntfy;
pub(crate) mod pagerduty;
pub(crate) mod post;
pub(crate) mod pushover;
pub(crate) mod robot;
pub(crate) mod slack;
pub(crate) mod sms;
pub(crate) mod sms_aliyun;
pub(crate) mod sms_tencent;
pub(crate) mod teams;
pub(crate) mod telegram;
pub(crate) mod url;
pub(crate) mod webhook;
pub(crate) mod weixin;

use config::{Config, Field};

/// What a recipient of a channel is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RecipientKind {
    /// A mail address.
    Email,
    /// A phone number.
    Phone,
    /// A URL that takes a POST.
    Url,
    /// A chat, room or topic of the channel's server.
    Id,
    /// None: the configuration says it all.
    None,
}

impl RecipientKind {
    /// The name in answers.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Email => "email",
            Self::Phone => "phone",
            Self::Url => "url",
            Self::Id => "id",
            Self::None => "none",
        }
    }

    /// Checks one recipient.
    ///
    /// # Errors
    ///
    /// Says what it should look like.
    pub(crate) fn check(self, recipient: &str) -> Result<(), String> {
        match self {
            Self::Email => address::check_address(recipient).map(drop),
            Self::Phone => {
                let digits = recipient.strip_prefix('+').unwrap_or(recipient);
                let plain = digits.chars().all(|c| c.is_ascii_digit() || c == '-' || c == ' ');
                let count = digits.chars().filter(char::is_ascii_digit).count();
                if plain && (3..=20).contains(&count) {
                    Ok(())
                } else {
                    Err(format!("`{recipient}` is not a valid phone number such as +8613800138000"))
                }
            }
            Self::Url => config::check_url(recipient),
            Self::Id => address::check_id(recipient),
            Self::None => Err("this type of channel takes no recipients".to_owned()),
        }
    }
}

/// One message on its way to one recipient.
pub(crate) struct Sending<'a> {
    /// The channel's checked configuration.
    pub config: &'a Config,
    /// What is notified.
    pub notification: &'a Notification,
    /// The language and the zone of the reader.
    pub voice: Voice<'a>,
    /// How the endpoint is reached.
    pub client: &'a Client,
    /// The time, Unix milliseconds.
    pub now_ms: i64,
}

impl Sending<'_> {
    /// The title, plain text of at most `bytes_max` bytes.
    pub(crate) fn title(&self, bytes_max: usize) -> String {
        cut(&self.voice.title(self.notification), bytes_max).to_owned()
    }

    /// A sentence for each event, each made safe by `escape`; at most `bytes_max` bytes.
    pub(crate) fn text(&self, escape: fn(&str) -> String, bytes_max: usize) -> String {
        self.voice.text(self.notification, escape, bytes_max)
    }

    /// Where the alerts are shown, and the words of a link to there.
    pub(crate) fn link(&self) -> Option<(String, &'static str)> {
        self.voice.link(self.notification)
    }
}

/// A channel type: its fields, and how it sends.
pub(crate) struct ChannelType {
    /// The name in `channel_type`.
    pub kind: &'static str,
    /// What its recipients are.
    pub recipient: RecipientKind,
    /// The configuration's fields: which are needed, what they must be, which are masked.
    pub fields: &'static [Field],
    /// What a look at each field alone can't tell.
    pub check: fn(&Config) -> Result<(), String>,
    /// Whom a notification goes to, one message each.
    pub targets: fn(&Config, &[String]) -> Vec<String>,
    /// Sends to one of them.
    pub send: fn(&Sending<'_>, &str) -> Attempt,
}

/// Every channel type.
pub(crate) const ALL: &[ChannelType] = &[
    email::TYPE,
    webhook::TYPE,
    sms::TYPE,
    sms_aliyun::TYPE,
    sms_tencent::TYPE,
    dingtalk::TYPE,
    weixin::TYPE,
    feishu::TYPE,
    slack::TYPE,
    discord::TYPE,
    teams::TYPE,
    telegram::TYPE,
    ntfy::TYPE,
    gotify::TYPE,
    pushover::TYPE,
    matrix::TYPE,
    pagerduty::TYPE,
    json::TYPE,
];

/// The channel type with this name.
pub(crate) fn find(kind: &str) -> Option<&'static ChannelType> {
    ALL.iter().find(|spec| spec.kind == kind)
}

/// The names of all channel types, for messages.
pub(crate) fn kinds() -> String {
    ALL.iter().map(|spec| spec.kind).collect::<Vec<_>>().join(", ")
}

/// Recipients without what is named twice, in their order.
fn each_once(urls: impl Iterator<Item = String>) -> Vec<String> {
    let mut seen = Vec::new();
    for url in urls {
        if !seen.contains(&url) {
            seen.push(url);
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_registry_has_each_type_once_with_its_needed_fields() {
        let needed: Vec<(&str, Vec<&str>, &str)> = ALL
            .iter()
            .map(|spec| {
                let fields = spec.fields.iter().filter(|field| field.required);
                (spec.kind, fields.map(|field| field.name).collect(), spec.recipient.name())
            })
            .collect();
        assert_eq!(
            needed,
            [
                ("email", vec!["smtp_host", "smtp_port", "from_name", "from_email"], "email"),
                ("webhook", vec![], "url"),
                ("sms", vec!["gateway_url", "api_key"], "phone"),
                (
                    "sms_aliyun",
                    vec!["access_key_id", "access_key_secret", "sign_name", "template_code"],
                    "phone"
                ),
                (
                    "sms_tencent",
                    vec!["secret_id", "secret_key", "sdk_app_id", "sign_name", "template_id"],
                    "phone"
                ),
                ("dingtalk", vec!["webhook_url"], "url"),
                ("weixin", vec!["webhook_url"], "url"),
                ("feishu", vec!["webhook_url"], "url"),
                ("slack", vec!["webhook_url"], "url"),
                ("discord", vec!["webhook_url"], "url"),
                ("teams", vec!["webhook_url"], "url"),
                ("telegram", vec!["bot_token"], "id"),
                ("ntfy", vec![], "id"),
                ("gotify", vec!["url", "token"], "none"),
                ("pushover", vec!["token", "user_key"], "none"),
                ("matrix", vec!["homeserver_url", "access_token"], "id"),
                ("pagerduty", vec!["routing_key"], "none"),
                ("json", vec![], "url"),
            ]
        );
        assert!(find("pager").is_none());
    }

    #[test]
    fn recipients_are_checked_by_their_kind() {
        assert!(RecipientKind::Email.check("ops@example.com").is_ok());
        assert!(RecipientKind::Email.check("ops@@example.com").is_err());
        assert!(RecipientKind::Email.check("a@example.com\r\nBcc: b@example.com").is_err());
        assert!(RecipientKind::Phone.check("+86 138-0013-8000").is_ok());
        assert!(RecipientKind::Phone.check("call me").is_err());
        assert!(RecipientKind::Url.check("https://example.com/hook").is_ok());
        assert!(RecipientKind::Url.check("ftp://example.com/").is_err());
        assert!(RecipientKind::Id.check("-1001234567890").is_ok());
        assert!(RecipientKind::Id.check("a b").is_err());
        assert!(RecipientKind::None.check("x").is_err());
    }
}
