//! Fold, workers, revisions and the query API of projections.
