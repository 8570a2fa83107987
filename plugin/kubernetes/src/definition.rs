//! A NetworkAttachmentDefinition, as small as the cache can use it.

use std::{borrow::Cow, collections::BTreeMap};

use k8s_openapi::{NamespaceResourceScope, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use meta::cluster::{Network, NetworkRef};
use serde::Deserialize;

/// Resource name with its group, as RBAC and messages write it.
pub(crate) const RESOURCE: &str = "network-attachment-definitions.k8s.cni.cncf.io";

const ANNOTATIONS: &str = "k8s.v1.cni.cncf.io/";

/// What the API server sends. `spec` stays untyped: a CRD without a schema may hold anything, and one odd object
/// must not stop the list of all others.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct Definition {
    #[serde(default)]
    pub(crate) metadata: ObjectMeta,
    #[serde(default)]
    spec: serde_json::Value,
}

/// What the cache keeps.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    /// Tells a definition from its namesake that was deleted before.
    pub(crate) uid: String,
    /// The answer.
    pub(crate) network: Network,
}

impl Definition {
    /// The key of this definition.
    pub(crate) fn key(&self) -> NetworkRef {
        NetworkRef {
            namespace: self.metadata.namespace.clone().unwrap_or_default(),
            name: self.metadata.name.clone().unwrap_or_default(),
        }
    }

    /// Drops all that no plugin needs.
    pub(crate) fn shrink(self) -> Known {
        let NetworkRef { namespace, name } = self.key();
        let annotations: BTreeMap<_, _> = self
            .metadata
            .annotations
            .unwrap_or_default()
            .into_iter()
            .filter(|(key, _)| key.starts_with(ANNOTATIONS))
            .collect();
        let config = match self.spec.get("config") {
            Some(serde_json::Value::String(text)) => text.clone(),
            _ => String::new(),
        };
        Known {
            uid: self.metadata.uid.unwrap_or_default(),
            network: Network { namespace, name, config, annotations },
        }
    }
}

impl kube::Resource for Definition {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        "NetworkAttachmentDefinition".into()
    }

    fn group((): &()) -> Cow<'_, str> {
        "k8s.cni.cncf.io".into()
    }

    fn version((): &()) -> Cow<'_, str> {
        "v1".into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        "network-attachment-definitions".into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_config_and_own_annotations_only() {
        let definition: Definition = serde_json::from_str(
            r#"{"metadata":{"namespace":"a","name":"b","uid":"u","annotations":{
                "k8s.v1.cni.cncf.io/resourceName":"x/y","other":"z"}},"spec":{"config":"{ \"a\": 1 }"}}"#,
        )
        .unwrap();
        let known = definition.shrink();
        assert_eq!(known.uid, "u");
        assert_eq!(known.network.config, r#"{ "a": 1 }"#);
        assert_eq!(known.network.annotations.len(), 1);
    }

    #[test]
    fn odd_specs_are_no_error() {
        for spec in ["null", "{}", "[]", r#"{"config":5}"#, r#"{"config":null}"#] {
            let definition: Definition =
                serde_json::from_str(&format!(r#"{{"metadata":{{"name":"b"}},"spec":{spec}}}"#)).unwrap();
            assert_eq!(definition.shrink().network.config, "", "{spec}");
        }
    }
}
