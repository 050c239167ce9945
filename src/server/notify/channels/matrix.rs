//! `matrix`: a message to rooms of a Matrix homeserver.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::json;

use crate::base::ids::stable_id;
use crate::server::notify::channels::config::{self, Field, FieldKind};
use crate::server::notify::channels::post::{self, Answers, bearer};
use crate::server::notify::channels::{ChannelType, RecipientKind, Sending, escape};
use crate::server::notify::client::Attempt;
use crate::server::notify::message::escape_html;

/// The channel type.
pub(crate) const TYPE: ChannelType = ChannelType {
    kind: "matrix",
    recipient: RecipientKind::Id,
    fields: &[
        Field::required("homeserver_url", FieldKind::Url),
        Field::required("access_token", FieldKind::Secret),
        Field::optional("room_id", FieldKind::Id),
        Field::LANGUAGE,
    ],
    check: |_| Ok(()),
    targets: |config, recipients| post::targets(config, recipients, "room_id"),
    send,
};

/// Bytes of the text, and of the body: an event has 65,536 with what the server adds to it
/// (spec.matrix.org, Client-Server API, "Size limits"). `M_LIMIT_EXCEEDED` says the milliseconds.
const BYTES_MAX: (usize, usize) = (20_000, 60_000);
const ANSWERS: Answers = Answers {
    code: "/errcode",
    text: "/error",
    id: "/event_id",
    wait: ("/retry_after_ms", 0.001),
    ..Answers::STATUS
};

fn send(sending: &Sending<'_>, room: &str) -> Attempt {
    let title = sending.title(usize::MAX);
    let link = sending.link();
    let body = post::fitting(BYTES_MAX, |bytes_max| {
        let (mut plain, mut html) =
            (sending.text(escape::plain, bytes_max), sending.text(escape::html, bytes_max));
        if let Some((link, words)) = &link {
            plain.push_str(&format!("\n{link}"));
            html.push_str(&format!("\n<a href=\"{}\">{words}</a>", escape_html(link)));
        }
        json!({
            "msgtype": "m.text",
            "body": format!("{}\n{plain}", escape::plain(&title)),
            "format": "org.matrix.custom.html",
            "formatted_body":
                format!("<strong>{}</strong><br>{}", escape::html(&title), html.replace('\n', "<br>")),
            // Nobody is mentioned, whatever the text looks like.
            "m.mentions": {},
        })
    });
    // The same for every attempt: the server takes a message once.
    let transaction = stable_id(&[&sending.notification.id, room]);
    let room = utf8_percent_encode(room, NON_ALPHANUMERIC);
    let path = format!("/_matrix/client/v3/rooms/{room}/send/m.room.message/{transaction}");
    let url = post::at(sending.config, "homeserver_url", "", &path);
    let token = bearer(config::text(sending.config, "access_token"));
    post::put_json(sending, &url, &[token], &body, &ANSWERS)
}
