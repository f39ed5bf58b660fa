//! Business transactions over several services that finish or are voided.

mod call;
mod json;

pub use call::{
    Answer, AppendRequest, Call, Caller, Calls, GrpcRequest, HeaderValue, HttpRequest, Request, Response,
    Surroundings, Trace,
};
pub use json::Json;
