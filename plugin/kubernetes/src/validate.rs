//! Names that become part of a URL are checked before.

use meta::cluster::{ClusterError, PodRef};

use crate::errors::{INVALID, failure, one_line};

/// Checks the pod that a request names.
pub(crate) fn pod(pod: &PodRef) -> Result<(), ClusterError> {
    name("pod namespace", &pod.namespace)?;
    name("pod name", &pod.name)?;
    let fits = pod.uid.len() <= 128 && pod.uid.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if fits { Ok(()) } else { Err(refused("pod uid", &pod.uid)) }
}

/// Checks a namespace or an object name: a DNS subdomain.
pub(crate) fn name(what: &str, name: &str) -> Result<(), ClusterError> {
    let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
    let bytes = name.as_bytes();
    if bytes.len() <= 253 && edge(bytes.first()) && edge(bytes.last()) && name.bytes().all(inner) {
        Ok(())
    } else {
        Err(refused(what, name))
    }
}

fn refused(what: &str, value: &str) -> ClusterError {
    failure(
        INVALID,
        "INVALID_REQUEST",
        &format!("{what} {:?} is not a valid Kubernetes name: correct it", one_line(value, 80)),
    )
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_cannot_leave_their_url() {
        for bad in ["", ".", "..", "a/b", "a?b", "A", "a%2fb", "-a", "a b", &"a".repeat(254)] {
            assert!(super::name("name", bad).is_err(), "{bad:?}");
        }
        for good in ["a", "kube-system", "net.1", "0"] {
            assert!(super::name("name", good).is_ok(), "{good:?}");
        }
    }
}
