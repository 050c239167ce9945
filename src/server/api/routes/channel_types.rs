//! The types of channels with their fields, from which forms are made.

use serde::Serialize;
use utoipa::ToSchema;

use crate::server::api::reply::{ApiError, Reply};
use crate::server::api::request::Call;
use crate::server::api::router::{Gives, Route};
use crate::server::api::schema::Shape;
use crate::server::notify::channels::config::{Field, FieldKind};
use crate::server::notify::channels::{ALL, ChannelType};

/// The endpoints.
pub(crate) const ROUTES: &[Route] = &[Route::get(
    "/v1/notifications/channel-types",
    "Types of channels, with the fields of each one's `config_json`.",
    Gives::Many(Shape::of::<Type>()),
    list,
)];

/// A type of channel.
#[derive(Serialize, ToSchema)]
#[schema(as = ChannelType)]
struct Type {
    channel_type: &'static str,
    /// What its recipients are: `email`, `phone` or `url`.
    recipient_type: &'static str,
    fields: Vec<TypeField>,
}

/// A field of a type's `config_json`.
#[derive(Serialize, ToSchema)]
#[schema(as = ChannelField)]
struct TypeField {
    name: &'static str,
    /// `text`, `template` (of any lines), `texts` (a list of them), `host`, `port`, `number`,
    /// `address`, `word` (one of `options`), `secret`, `url` or `headers` (an object of names and
    /// values).
    kind: &'static str,
    required: bool,
    /// The words that it may be; null where it is not one of some words.
    options: Option<&'static [&'static str]>,
    /// Of a number, the least; null elsewhere.
    minimum: Option<u64>,
    /// Of a number, the most; null elsewhere.
    maximum: Option<u64>,
}

impl From<&ChannelType> for Type {
    fn from(spec: &ChannelType) -> Self {
        Self {
            channel_type: spec.kind,
            recipient_type: spec.recipient.name(),
            fields: spec.fields.iter().map(TypeField::from).collect(),
        }
    }
}

impl From<&Field> for TypeField {
    fn from(field: &Field) -> Self {
        let (minimum, maximum) = match field.kind {
            FieldKind::Number(least, most) => (Some(least), Some(most)),
            _ => (None, None),
        };
        let options = match field.kind {
            FieldKind::Word(words) => Some(words),
            _ => None,
        };
        let kind = kind_name(field.kind);
        Self { name: field.name, kind, required: field.required, options, minimum, maximum }
    }
}

/// What a form asks for: `text`, `template` and so on.
pub(super) fn kind_name(kind: FieldKind) -> &'static str {
    match kind {
        // An id is asked for in one line, as a text is.
        FieldKind::Text | FieldKind::Id => "text",
        FieldKind::Template => "template",
        FieldKind::Texts => "texts",
        FieldKind::Host => "host",
        FieldKind::Port => "port",
        FieldKind::Number(..) => "number",
        FieldKind::Address => "address",
        FieldKind::Word(_) => "word",
        FieldKind::Secret => "secret",
        FieldKind::Url => "url",
        FieldKind::Headers => "headers",
    }
}

fn list(_: &Call<'_>) -> Result<Reply, ApiError> {
    let types: Vec<Type> = ALL.iter().map(Type::from).collect();
    Ok(Reply::ok(&types))
}
