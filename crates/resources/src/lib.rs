//! The custom resources, their validation and digests: what dev, validate and the operator share.
