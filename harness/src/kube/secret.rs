// SPDX-License-Identifier: Apache-2.0
//! What pods are told that not everybody who sees pods may see.

use k8s_openapi::api::core::v1::Secret;
use kube::Api as Objects;
use kube::api::PostParams;

use super::{Api, KubeError, Namespace};

/// Makes a Secret with one text in it. It goes with its namespace.
///
/// # Errors
/// The API server refuses.
pub async fn create_secret(
    api: &Api,
    namespace: &Namespace,
    name: &str,
    (key, text): (&str, String),
) -> Result<(), KubeError> {
    let mut object =
        Secret { string_data: Some([(key.to_owned(), text)].into()), ..Secret::default() };
    object.metadata.name = Some(name.to_owned());
    object.metadata.labels = Some(Namespace::labels(&namespace.run));
    let secrets: Objects<Secret> = Objects::namespaced(api.client(), &namespace.name);
    let created = secrets.create(&PostParams::default(), &object).await;
    created.map(drop).map_err(KubeError::api("create", format!("secret {name}")))
}
