//! The kubelet's PodResources API, version 1, as far as devices go (`k8s.io/kubelet/pkg/apis/podresources/v1`).
//!
//! `Get` answers for one pod, where the kubelet serves it; `List` for all.

use std::path::Path;

use http::uri::PathAndQuery;
use meta::cluster::PodRef;
use prost::Message;
use tonic::{
    Code, Request, Status,
    client::Grpc,
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstCodec;

use crate::devices::Devices;

const GET: PathAndQuery = PathAndQuery::from_static("/v1.PodResourcesLister/Get");
const LIST: PathAndQuery = PathAndQuery::from_static("/v1.PodResourcesLister/List");
/// Largest answer, in bytes: the kubelet's own limit.
const LARGEST: usize = 16 << 20;

#[derive(Clone, PartialEq, Message)]
struct GetRequest {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    namespace: String,
}

#[derive(Clone, PartialEq, Message)]
struct GetAnswer {
    #[prost(message, optional, tag = "1")]
    pod: Option<Pod>,
}

#[derive(Clone, PartialEq, Message)]
struct ListRequest {}

#[derive(Clone, PartialEq, Message)]
struct ListAnswer {
    #[prost(message, repeated, tag = "1")]
    pods: Vec<Pod>,
}

#[derive(Clone, PartialEq, Message)]
struct Pod {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    namespace: String,
    #[prost(message, repeated, tag = "3")]
    containers: Vec<Container>,
}

#[derive(Clone, PartialEq, Message)]
struct Container {
    #[prost(message, repeated, tag = "2")]
    devices: Vec<ContainerDevices>,
}

#[derive(Clone, PartialEq, Message)]
struct ContainerDevices {
    #[prost(string, tag = "1")]
    resource: String,
    #[prost(string, repeated, tag = "2")]
    ids: Vec<String>,
}

/// Asks the kubelet; none where it knows no such pod.
pub(crate) async fn devices(socket: &Path, pod: &PodRef) -> Result<Devices, String> {
    let endpoint = Endpoint::from_shared(format!("unix://{}", socket.display())).map_err(told)?;
    let channel = endpoint.connect().await.map_err(told)?;
    let mut kubelet = Grpc::new(channel).max_decoding_message_size(LARGEST);
    let get = GetRequest { name: pod.name.clone(), namespace: pod.namespace.clone() };
    match call::<_, GetAnswer>(&mut kubelet, GET, get).await {
        Ok(answer) => return Ok(of(answer.pod.iter())),
        // Not served, by the older kubelets with another code than the younger ones.
        Err(status) => log::debug!("the kubelet's Get: {}; asking List", status.message()),
    }
    let answer: ListAnswer =
        call(&mut kubelet, LIST, ListRequest {}).await.map_err(|status| match status.code() {
            Code::ResourceExhausted | Code::OutOfRange => {
                format!("the kubelet is overloaded: {}", status.message())
            }
            code => format!("{code:?}: {}", status.message()),
        })?;
    Ok(of(answer.pods.iter().filter(|found| found.name == pod.name && found.namespace == pod.namespace)))
}

async fn call<Q, A>(kubelet: &mut Grpc<Channel>, path: PathAndQuery, request: Q) -> Result<A, Status>
where
    Q: Message + Send + Sync + 'static,
    A: Message + Default + Send + Sync + 'static,
{
    kubelet.ready().await.map_err(|error| Status::unavailable(told(error)))?;
    let codec = ProstCodec::<Q, A>::default();
    Ok(kubelet.unary(Request::new(request), path, codec).await?.into_inner())
}

fn of<'a>(pods: impl Iterator<Item = &'a Pod>) -> Devices {
    let mut devices = Devices::new();
    for found in pods.flat_map(|pod| &pod.containers).flat_map(|container| &container.devices) {
        devices.entry(found.resource.clone()).or_default().extend(found.ids.iter().cloned());
    }
    devices
}

/// The innermost cause says most.
fn told(error: tonic::transport::Error) -> String {
    let mut cause: &dyn std::error::Error = &error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
