//! From what the API server or the network answers to one line that says what to do.

use meta::cluster::ClusterError;

/// CNI code of a request that can never work as it is.
pub(crate) const INVALID: u32 = 7;
/// CNI code of what may work when tried again.
pub(crate) const RETRY: u32 = 11;

/// Longest message that leaves the daemon, in characters.
const LONGEST: usize = 299;
/// Longest name in a message, in characters.
pub(crate) const SHORT: usize = 48;

/// A failure with its message cut to one line of an event or a CNI error.
#[must_use]
pub fn failure(code: u32, reason: &str, message: &str) -> ClusterError {
    ClusterError { code, reason: reason.to_owned(), message: one_line(message, LONGEST) }
}

/// `text` on one line of at most `longest` characters.
#[must_use]
pub fn one_line(text: &str, longest: usize) -> String {
    let mut line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.retain(|c| !c.is_control());
    if line.chars().count() > longest {
        line = line.chars().take(longest.saturating_sub(1)).collect();
        line.push('…');
    }
    line
}

/// The object a call is about, as messages name it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    /// RBAC verb.
    pub(crate) verb: &'static str,
    /// RBAC resource, with its group.
    pub(crate) resource: &'static str,
    /// Namespace of the object.
    pub(crate) namespace: &'a str,
    /// Name of the object.
    pub(crate) name: &'a str,
}

impl Asked<'_> {
    /// Namespace and name, cut so that a message keeps its end, which says what to do.
    fn short(&self) -> (String, String) {
        (one_line(self.namespace, SHORT), one_line(self.name, SHORT))
    }
}

/// Whether trying again in a moment may help.
pub(crate) fn transient(error: &kube::Error) -> bool {
    match error {
        kube::Error::Api(status) => status.code == 429 || status.code >= 500,
        kube::Error::HyperError(_) | kube::Error::Service(_) | kube::Error::ReadEvents(_) => true,
        _ => false,
    }
}

/// The status that the API server answered with, if it answered at all.
pub(crate) fn status(error: &kube::Error) -> Option<&kube::core::Status> {
    match error {
        kube::Error::Api(status) => Some(status),
        _ => None,
    }
}

/// What every call has in common; what is particular to one call is decided before.
pub(crate) fn map(asked: Asked<'_>, error: &kube::Error) -> ClusterError {
    let Asked { verb, resource, .. } = asked;
    let (namespace, name) = asked.short();
    match status(error) {
        Some(status) if status.code == 403 => failure(
            INVALID,
            "FORBIDDEN",
            &format!(
                "the API server forbids multus to {verb} {resource} ({namespace}/{name}): allow {verb} on it in the \
                 ClusterRole of its service account, as the chart does"
            ),
        ),
        Some(status) if status.code == 401 => failure(
            RETRY,
            "UNAUTHORIZED",
            &format!(
                "the API server does not accept the token of multus ({verb} {resource} {namespace}/{name}): it expired \
                 or was revoked; check its service account and the node's clock"
            ),
        ),
        Some(status) if !transient(error) => failure(
            INVALID,
            "API_REFUSED",
            &format!(
                "the API server refused to {verb} {resource} {namespace}/{name} ({}): {}",
                status.code,
                one_line(&status.message, 120)
            ),
        ),
        _ => match cause(error) {
            why if why.contains("certificate") => failure(
                RETRY,
                "API_UNTRUSTED",
                &format!(
                    "cannot {verb} {resource} {namespace}/{name}: the API server's certificate is not accepted ({}); check \
                     that it names the address asked and that the CA given to multus is the cluster's",
                    one_line(&why, 80)
                ),
            ),
            why => unavailable(asked, &one_line(&why, 60)),
        },
    }
}

/// The API server gave no usable answer.
pub(crate) fn unavailable(asked: Asked<'_>, why: &str) -> ClusterError {
    let Asked { verb, resource, .. } = asked;
    let (namespace, name) = asked.short();
    failure(
        RETRY,
        "API_UNAVAILABLE",
        &format!(
            "cannot {verb} {resource} {namespace}/{name}: no answer from the API server ({why}); this is retried, \
             check that the node reaches the API server"
        ),
    )
}

/// The innermost cause says most: "connection refused" rather than "client error (Connect)".
pub(crate) fn cause(error: &kube::Error) -> String {
    if let Some(status) = status(error) {
        return format!("{} {}", status.code, status.message);
    }
    let mut source: &dyn std::error::Error = error;
    while let Some(inner) = source.source() {
        source = inner;
    }
    source.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_one_short_line() {
        let failure = failure(7, "X", &format!("a\nb\u{7} {}", "ü".repeat(400)));
        assert!(failure.message.starts_with("a b ü"));
        assert_eq!(failure.message.chars().count(), LONGEST);
    }

    #[test]
    fn forbidden_names_verb_and_resource() {
        let status = kube::core::Status::failure("no", "Forbidden").with_code(403);
        let asked = Asked { verb: "get", resource: "pods", namespace: "a", name: "b" };
        let failure = map(asked, &kube::Error::Api(status.boxed()));
        assert_eq!((failure.code, failure.reason.as_str()), (7, "FORBIDDEN"));
        assert!(failure.message.contains("to get pods (a/b)"), "{}", failure.message);
    }

    #[test]
    fn the_longest_names_still_say_what_to_do() {
        let long = "n".repeat(253);
        let asked = Asked { verb: "get", resource: "pods", namespace: &long, name: &long };
        let message = unavailable(asked, "x").message;
        assert!(message.ends_with("check that the node reaches the API server"), "{message}");
        assert!(message.chars().count() <= LONGEST);
    }
}
