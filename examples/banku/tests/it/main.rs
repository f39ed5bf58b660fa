//! Banku against a real `headwater dev`.

mod prompt;
mod prompts_at_once;
mod sending;
mod session;
