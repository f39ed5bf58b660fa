//! Orders against a real `headwater dev`.

mod article;
mod choreography;
mod demo;
mod http;
mod shop;
