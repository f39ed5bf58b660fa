//! Whose a log is: the resource's that came first, until a person has another adopt it.
//!
//! ```text
//! nobody's ──the first who comes──▶ its own ──another, which is to adopt this log──▶ the other's
//! ```

use std::fmt;

use headwater_core::{BackendFault, Error, LogId, Result};
use sqlx::{Connection, Row};

use super::database::code;
use super::pool::Pool;

/// What the refusal of a log that is another resource's begins with.
pub const SCHEMA_OWNED: &str = "database.schema: it is another resource's";
/// Its two parts.
const FIELD: &str = "database.schema";
const IT: &str = BackendFault::Owned.words();

/// A resource that has a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Its namespace.
    pub namespace: String,
    /// Its kind, such as `EventStream`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// What tells it from another that had its name before. `None`: not known.
    pub uid: Option<String>,
}

/// Who comes to a log, and has it from then on if nobody else does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Who it is.
    pub owner: Owner,
    /// The log that it takes over, whoever has it.
    pub adopt: Option<LogId>,
}

impl Owner {
    /// Whether it is the same resource, as far as is known.
    pub fn is(&self, other: &Self) -> bool {
        let is_called_so =
            (&self.namespace, &self.kind, &self.name) == (&other.namespace, &other.kind, &other.name);
        let uids = self.uid.as_ref().zip(other.uid.as_ref());
        is_called_so && uids.is_none_or(|(one, other)| one == other)
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { namespace, kind, name, uid } = self;
        write!(f, "{kind} \"{name}\" of namespace \"{namespace}\"")?;
        uid.as_ref().map_or(Ok(()), |uid| write!(f, " (uid {uid})"))
    }
}

/// What there is to do until a log is the claimant's.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taking {
    /// It is.
    Nothing,
    /// It is nobody's, or it was not known who exactly has it.
    Record,
    /// It is this one's until now.
    Adopt(Owner),
}

/// What there is to do until the log of this id is the claimant's.
///
/// # Errors
/// `Invalid`, by [`SCHEMA_OWNED`], when it is another's.
pub(super) async fn look(pool: &Pool, claim: &Claim, log_id: LogId) -> Result<Taking> {
    let Some(known) = find(pool).await? else { return Ok(Taking::Record) };
    let Claim { owner, adopt } = claim;
    if known.is(owner) {
        let is_news = known.uid.is_none() && owner.uid.is_some();
        return Ok(if is_news { Taking::Record } else { Taking::Nothing });
    }
    // The log of a saga is of no use to an event stream.
    let is_of_its_kind = known.kind == owner.kind;
    if is_of_its_kind && *adopt == Some(log_id) {
        return Ok(Taking::Adopt(known));
    }
    let asks = match adopt {
        Some(other) if *other != log_id => format!("{owner} asks for it, and is to adopt log {other}"),
        _ => format!("{owner} asks for it"),
    };
    let remedy = match owner.kind.as_str() {
        "EventStream" => format!(
            "give another schema, or, where this log is meant, have it adopted, by the annotation headwater.dev/adopt: {log_id} on the \
             EventStream, or headwater-eventstore --adopt {log_id}"
        ),
        kind => format!(
            "give another name or database, or, where this log is meant, have it adopted, by the annotation headwater.dev/adopt: {log_id} \
             on the {kind}"
        ),
    };
    let remedy = if is_of_its_kind { remedy } else { "give another schema".to_owned() };
    let message = format!(
        "{IT}: {} holds log {log_id} of {known}, and {asks}; nothing was changed: {remedy}",
        pool.place
    );
    Err(Error::invalid(FIELD, message))
}

/// Who has it, if somebody does.
pub(crate) async fn find(pool: &Pool) -> Result<Option<Owner>> {
    let row = pool
        .read("find the owner", |mut connection| async move {
            sqlx::query("SELECT namespace, kind, name, uid FROM log_owner")
                .fetch_optional(&mut *connection)
                .await
        })
        .await;
    let owner = |row: sqlx::postgres::PgRow| -> sqlx::Result<Owner> {
        Ok(Owner {
            namespace: row.try_get(0)?,
            kind: row.try_get(1)?,
            name: row.try_get(2)?,
            uid: row.try_get(3)?,
        })
    };
    match row {
        Ok(row) => row.map(owner).transpose().map_err(|error| pool.explain("reading", &error)),
        // Made by an older Headwater, and not yet brought up to date.
        Err(error) if code(&error).as_deref() == Some("42P01") => Ok(None),
        Err(error) => Err(pool.explain("opening", &error)),
    }
}

/// Makes the log of this id the claimant's.
///
/// # Errors
/// As [`look`]: another may have been faster.
pub(super) async fn take(pool: &Pool, claim: &Claim, log_id: LogId) -> Result<()> {
    loop {
        let before = match look(pool, claim, log_id).await? {
            Taking::Nothing => return Ok(()),
            Taking::Record => None,
            Taking::Adopt(before) => Some(before),
        };
        let Owner { namespace, kind, name, uid } = &claim.owner;
        let old_name = before.as_ref().map(|before| before.name.as_str());
        pool.read("own", |mut connection| async move {
            let mut transaction = connection.begin().await?;
            sqlx::query(include_str!("log/own.sql"))
                .bind(namespace)
                .bind(kind)
                .bind(name)
                .bind(uid)
                .bind(old_name.is_some())
                .execute(&mut *transaction)
                .await?;
            // The log of an event stream has its name.
            sqlx::query("UPDATE log SET name = $1 WHERE name = $2")
                .bind(name)
                .bind(old_name)
                .execute(&mut *transaction)
                .await?;
            transaction.commit().await
        })
        .await
        .map_err(|error| pool.explain("taking over", &error))?;
        if let Some(before) = before {
            tracing::warn!(%log_id, before = %before, now = %claim.owner, place = pool.place, "the log is adopted");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(namespace: &str, name: &str, uid: Option<&str>) -> Owner {
        let uid = uid.map(str::to_owned);
        Owner { namespace: namespace.into(), kind: "EventStream".into(), name: name.into(), uid }
    }

    #[test]
    fn the_same_is_who_is_called_so_and_is_not_known_to_be_another() {
        let known = owner("shop", "orders", Some("a"));
        for same in [owner("shop", "orders", Some("a")), owner("shop", "orders", None)] {
            assert!(known.is(&same) && same.is(&known), "{same}");
        }
        let saga = Owner { kind: "Saga".into(), ..known.clone() };
        for other in [
            owner("other", "orders", None),
            owner("shop", "bills", None),
            owner("shop", "orders", Some("b")),
            saga,
        ] {
            assert!(!known.is(&other), "{other}");
        }
    }

    #[test]
    fn a_refusal_begins_with_the_words_that_others_know_it_by() {
        assert_eq!(Error::invalid(FIELD, IT).to_string(), SCHEMA_OWNED);
    }
}
