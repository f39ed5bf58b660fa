//! What the operator is told about itself and the cluster.

/// What pods of the operator are called by their label `app.kubernetes.io/name`.
pub const PROGRAM: &str = "headwater-operator";

/// For whom a token must be that workers accept, and that they get.
pub const AUDIENCE: &str = "headwater";

/// For whom a token is that the operator shows to workers of `namespace`, and nobody else accepts.
pub fn audience_in(namespace: &str) -> String {
    format!("{AUDIENCE}:{namespace}")
}

/// What children are made with, beside their resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The image of the workers, which has all programs.
    pub image: String,
    /// When nodes pull it: `IfNotPresent`, `Always`, `Never`.
    pub image_pull_policy: String,
    /// Secrets of the resource's own namespace with which nodes pull it.
    pub image_pull_secrets: Vec<String>,
    /// The operator's own namespace and service account, which asks workers how they are.
    pub operator: ServiceAccount,
}

/// A service account of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceAccount {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// How the cluster's service-account tokens are checked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TokenIssuer {
    /// The claim `iss`.
    pub issuer: String,
    /// The keys, a JSON Web Key Set.
    pub jwks: String,
}
