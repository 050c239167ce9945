//! The OpenAPI document of this table.

use crate::server::api::openapi::document;
use crate::server::api::reply::{ApiError, Code, Reply};
use crate::server::api::request::Call;
use crate::server::api::router::{Access, Gives, Route};

/// The endpoints.
pub(crate) const ROUTES: &[Route] = &[
    Route {
        access: Access::Public,
        ..Route::get(
            "/v1/openapi.json",
            "This API as an OpenAPI document.",
            Gives::Raw("application/json"),
            json,
        )
    },
    Route {
        access: Access::Public,
        ..Route::get(
            "/v1/openapi.yaml",
            "This API as an OpenAPI document.",
            Gives::Raw("application/yaml"),
            yaml,
        )
    },
];

fn json(_: &Call<'_>) -> Result<Reply, ApiError> {
    let bytes = serde_json::to_vec_pretty(&document()).map_err(|error| failed(&error))?;
    Ok(Reply::raw("application/json", bytes))
}

fn yaml(_: &Call<'_>) -> Result<Reply, ApiError> {
    let text = yaml_serde::to_string(&document()).map_err(|error| failed(&error))?;
    Ok(Reply::raw("application/yaml", text.into_bytes()))
}

fn failed(error: &dyn std::error::Error) -> ApiError {
    log::error!("the OpenAPI document can't be written: {error}");
    ApiError::new(Code::Internal, "the OpenAPI document can't be written")
}
