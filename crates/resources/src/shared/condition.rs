//! Conditions and their reasons. Both are API: people and tools wait for them by name.

use std::fmt;

macro_rules! names {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
        }

        impl $name {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// As it is written in a status.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

names!(
    /// What a condition is about.
    ConditionType {
        /// What the spec asks for is in force.
        Ready = "Ready",
        /// The operator is at work, or waits for something that may come by itself. Never True together with `Stalled`.
        Reconciling = "Reconciling",
        /// Something is wrong that will not mend by itself.
        Stalled = "Stalled",
        /// Every reference leads somewhere.
        ResolvedRefs = "ResolvedRefs",
        /// The event stream's database answers.
        DatabaseReady = "DatabaseReady",
        /// The event stream's bus answers and has what was relayed.
        BusReady = "BusReady",
        /// The projection is at the head of its event stream.
        CaughtUp = "CaughtUp",
        /// A candidate revision is being built.
        Rebuilding = "Rebuilding",
        /// A person has to look.
        NeedsAttention = "NeedsAttention",
        /// The annotation `headwater.dev/reconcile: disabled` stops the operator's work on the resource.
        ReconciliationPaused = "ReconciliationPaused",
    }
);

names!(
    /// Why a condition is as it is.
    Reason {
        /// Ready: it answers.
        Available = "Available",
        /// Ready: stopped, as asked.
        Stopped = "Stopped",
        /// Ready: paused, as asked.
        Paused = "Paused",
        /// Not Ready: what it depends on is not.
        DependencyNotReady = "DependencyNotReady",
        /// Not Ready: pods are being started.
        Deploying = "Deploying",
        /// Not Ready: it does not answer.
        Unavailable = "Unavailable",
        /// Not Ready, and Stalled: the spec asks for what cannot be.
        InvalidSpec = "InvalidSpec",
        /// Reconciling: at work.
        Progressing = "Progressing",
        /// Reconciling: something that it refers to is not there yet.
        WaitingForDependency = "WaitingForDependency",
        /// Stalled: an object of that name belongs to somebody else.
        Conflict = "Conflict",
        /// Stalled: the schema belongs to another resource.
        SchemaOwned = "SchemaOwned",
        /// Stalled: the tables could not be brought up to date.
        MigrationFailed = "MigrationFailed",
        /// Stalled: pods did not become ready in time.
        ProgressDeadlineExceeded = "ProgressDeadlineExceeded",
        /// ResolvedRefs: all lead somewhere.
        Resolved = "Resolved",
        /// ResolvedRefs: a Secret is missing.
        SecretNotFound = "SecretNotFound",
        /// ResolvedRefs: a Secret lacks a key.
        SecretKeyMissing = "SecretKeyMissing",
        /// ResolvedRefs: a ConfigMap, or a key of it, is missing.
        ConfigMapNotFound = "ConfigMapNotFound",
        /// ResolvedRefs: the EventStream is missing.
        StreamNotFound = "StreamNotFound",
        /// ResolvedRefs: the EventStream has no address or no database yet.
        StreamNotReady = "StreamNotReady",
        /// ResolvedRefs: a certificate is out of date.
        CertificateExpired = "CertificateExpired",
        /// ResolvedRefs: scaling by lag needs KEDA.
        AutoscalerNotInstalled = "AutoscalerNotInstalled",
        /// DatabaseReady, BusReady: it answers.
        Connected = "Connected",
        /// DatabaseReady, BusReady: it cannot be reached.
        Unreachable = "Unreachable",
        /// DatabaseReady, BusReady: it refuses the credentials.
        AuthenticationFailed = "AuthenticationFailed",
        /// DatabaseReady, BusReady: the TLS handshake fails.
        TlsFailed = "TLSFailed",
        /// BusReady: the bus lacks messages that were relayed.
        MessagesLost = "MessagesLost",
        /// CaughtUp: at the head.
        Current = "Current",
        /// CaughtUp: behind the head.
        Lagging = "Lagging",
        /// Rebuilding: the candidate reads the past.
        Replaying = "Replaying",
        /// Rebuilding: the candidate waits to be promoted by hand.
        AwaitingPromotion = "AwaitingPromotion",
        /// Not Rebuilding: the candidate was promoted.
        Promoted = "Promoted",
        /// Not Rebuilding: the candidate failed.
        Failed = "Failed",
        /// NeedsAttention: events were set aside.
        EventsParked = "EventsParked",
        /// NeedsAttention: an event could not be folded, and `onError` is Halt.
        Halted = "Halted",
        /// NeedsAttention: the read model was given a newer spec than this one.
        Outdated = "Outdated",
        /// NeedsAttention: instances of the saga cannot go on.
        InstancesStuck = "InstancesStuck",
    }
);
