//! What is sent to the interface: JSON objects, and nothing else in their place.

use crate::web::failure::Failure;
use axum::Json;
use axum::extract::{FromRequest, OptionalFromRequest, Request};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, Error as _};
use serde_json::{Map, Value};

/// From here on a floating-point number does not tell whole numbers apart.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

/// The body of a request.
pub(in crate::web) struct Given<T>(pub(in crate::web) T);

/// An object within what is sent. Serde by itself also takes a list of the values, in their order, which nobody means.
pub(in crate::web) struct Object<T>(pub(in crate::web) T);

impl<'de, T: DeserializeOwned> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let object = Map::deserialize(deserializer)?;
        serde_json::from_value(Value::Object(object)).map(Self).map_err(D::Error::custom)
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Given<T> {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        let given = <Json<Value> as FromRequest<S>>::from_request(request, state).await;
        let Json(mut value) = given.map_err(IntoResponse::into_response)?;
        whole(&mut value);
        if !value.is_object() {
            return Err(Failure::unfit("what is sent must be a JSON object, { … }", Vec::new()).into_response());
        }
        let read = serde_json::from_value(value).map(Self);
        read.map_err(|error| Failure::unfit(error.to_string(), Vec::new()).into_response())
    }
}

/// Writes whole numbers as such: 59.0 is one in JSON, though serde takes it for none.
fn whole(value: &mut Value) {
    match value {
        Value::Number(number) => {
            let float =
                number.as_f64().filter(|float| number.is_f64() && float.fract() == 0.0 && float.abs() < WHOLE_MAX);
            if let Some(whole) = float.and_then(|float| format!("{float:.0}").parse::<i64>().ok()) {
                *value = Value::from(whole);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(whole),
        Value::Object(object) => object.values_mut().for_each(whole),
        _ => {}
    }
}

impl<T: DeserializeOwned, S: Send + Sync> OptionalFromRequest<S> for Given<T> {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Option<Self>, Response> {
        if !request.headers().contains_key(header::CONTENT_TYPE) {
            return Ok(None);
        }
        <Self as FromRequest<S>>::from_request(request, state).await.map(Some)
    }
}
