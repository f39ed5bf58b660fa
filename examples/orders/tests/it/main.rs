//! Orders against a real `headwater dev`.

mod article;
mod demo;
mod http;
mod saga;
mod shop;
