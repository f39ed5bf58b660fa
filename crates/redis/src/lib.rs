//! Read models in Redis, as hashes that people and programs read directly.
//!
//! ```text
//! worker ──apply──▶ ONE script a batch: checks all that it was folded from, then writes ──▶ {accounts}:g3:accounts:ID, checkpoint, …
//! query ──────────▶ one script: rollout, checkpoints and rows of one moment             ──▶ sorted sets ─▶ rows
//! a person ───────▶ redis-cli HGETALL '{accounts}:g3:accounts:ID'                         3 = GET '{accounts}:active'
//! ```
//!
//! Redis runs one script at a time and does not roll one back. So a script of ours first checks all that could be otherwise than the caller
//! thinks, then all that could fail, and only then writes. Rows, versions and checkpoints lie in one slot and are set back together, if a server is:
//! whoever folds finds the checkpoint behind and goes on from there.
//!
//! What a decision of a person is written with is as durable as the server's append-only file: `appendfsync always` is before the answer, `everysec`
//! within two seconds. From Redis 7.2 on a decision is waited for.

mod batch;
mod call;
mod cells;
mod keys;
mod leases;
mod link;
mod order;
mod parked;
mod query;
mod removal;
mod rollout;
mod scripts;
mod server;
mod versions;
mod view;

pub use removal::remove;
pub use view::RedisView;
