//! Shapes of bodies and answers, for checking nothing by hand and for the OpenAPI document.

use std::borrow::Cow;

use serde::{Serialize, Serializer};
use utoipa::openapi::schema::{KnownFormat, Object, ObjectBuilder, Schema, SchemaFormat, Type};
use utoipa::openapi::{RefOr, schema::SchemaType};
use utoipa::{PartialSchema, ToSchema};

use crate::base::clock::{parse_rfc3339, rfc3339};
use crate::server::api::reply::ApiError;

/// A type's schema as a constant of the route table.
#[derive(Clone, Copy)]
pub struct Shape {
    /// The type's name in the document.
    pub name: fn() -> Cow<'static, str>,
    /// Its schema.
    pub schema: fn() -> RefOr<Schema>,
    /// The named schemas that it refers to.
    pub parts: fn(&mut Vec<(String, RefOr<Schema>)>),
    /// Fields that this use of the type demands, though the type itself can do without them: a
    /// body that makes something shares its type with the one that changes it.
    pub required: &'static [&'static str],
    /// The name in the document of a use that demands more than the type.
    pub alias: Option<&'static str>,
}

impl Shape {
    /// The shape of `T`.
    pub const fn of<T: ToSchema>() -> Self {
        Self { name: T::name, schema: T::schema, parts: T::schemas, required: &[], alias: None }
    }
}

impl Shape {
    /// The same shape as `alias`, of which `required` must be there.
    #[must_use]
    pub const fn requiring(self, alias: &'static str, required: &'static [&'static str]) -> Self {
        Self { required, alias: Some(alias), ..self }
    }
}

impl std::fmt::Debug for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&(self.name)())
    }
}

/// A time in an answer: Unix milliseconds inside, RFC 3339 in UTC outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Time(pub i64);

impl Time {
    /// The time of Unix seconds, as `cert.db` keeps them.
    pub(crate) fn from_secs(secs: i64) -> Self {
        Self(secs.saturating_mul(1_000))
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&rfc3339(self.0))
    }
}

impl PartialSchema for Time {
    fn schema() -> RefOr<Schema> {
        let object: Object = ObjectBuilder::new()
            .schema_type(SchemaType::new(Type::String))
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
            .build();
        RefOr::T(Schema::Object(object))
    }
}

impl ToSchema for Time {}

/// A text that is one of `names`, which a table holds.
pub(crate) fn words(help: &str, names: impl Iterator<Item = &'static str>) -> Object {
    ObjectBuilder::new()
        .schema_type(SchemaType::new(Type::String))
        .description(Some(help))
        .enum_values(Some(names))
        .build()
}

/// A time in a body, as Unix milliseconds.
///
/// # Errors
///
/// 1001 that names the field.
pub(crate) fn parse_time(field: &str, text: &str) -> Result<i64, ApiError> {
    parse_rfc3339(text).ok_or_else(|| {
        ApiError::bad(format!("`{field}` must be an RFC 3339 time such as 2026-02-09T08:30:00Z"))
    })
}
