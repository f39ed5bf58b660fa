use std::time::Duration;

use headwater_core::{Error, Expected, LogId, Partition, Position, Positions, StreamId, Token, Version};
use http::StatusCode;
use tonic::{Code, Status};

use super::*;

/// Every variant, with every shape that it can have, and where it is mapped to.
fn all() -> Vec<(Error, Code, StatusCode)> {
    let stream_id = StreamId::new("konto-\u{1F3E6}/1").unwrap();
    let token = Token::new(LogId::generate(), Positions::one(Partition::new(2), Position::new(9)));
    let wrong =
        |expected| Error::WrongVersion { stream_id: stream_id.clone(), expected, current: Version::new(3) };
    let text = || "what, where and why \u{fc}".to_owned();
    vec![
        (Error::invalid("events[0].data", "no: good"), Code::InvalidArgument, StatusCode::BAD_REQUEST),
        (Error::unauthenticated(text()), Code::Unauthenticated, StatusCode::UNAUTHORIZED),
        (Error::permission_denied(text()), Code::PermissionDenied, StatusCode::FORBIDDEN),
        (Error::not_found(text()), Code::NotFound, StatusCode::NOT_FOUND),
        (wrong(Expected::Any), Code::Aborted, StatusCode::CONFLICT),
        (wrong(Expected::NoStream), Code::Aborted, StatusCode::CONFLICT),
        (wrong(Expected::Exists), Code::Aborted, StatusCode::CONFLICT),
        (wrong(Expected::Version(Version::new(7))), Code::Aborted, StatusCode::CONFLICT),
        (Error::already_exists(text()), Code::AlreadyExists, StatusCode::CONFLICT),
        (Error::failed_precondition(text()), Code::FailedPrecondition, StatusCode::CONFLICT),
        (Error::exhausted(text()), Code::ResourceExhausted, StatusCode::INSUFFICIENT_STORAGE),
        (
            Error::DeadlineExceeded { message: text(), reached: None },
            Code::DeadlineExceeded,
            StatusCode::GATEWAY_TIMEOUT,
        ),
        (
            Error::DeadlineExceeded { message: text(), reached: Some(token) },
            Code::DeadlineExceeded,
            StatusCode::GATEWAY_TIMEOUT,
        ),
        (Error::unavailable(text()), Code::Unavailable, StatusCode::SERVICE_UNAVAILABLE),
        (
            Error::Unavailable { message: text(), retry_after: Some(Duration::from_millis(1500)) },
            Code::Unavailable,
            StatusCode::SERVICE_UNAVAILABLE,
        ),
        (Error::Cancelled, Code::Unavailable, StatusCode::SERVICE_UNAVAILABLE),
        (Error::corrupt(text()), Code::DataLoss, StatusCode::INTERNAL_SERVER_ERROR),
        (Error::internal(text()), Code::Internal, StatusCode::INTERNAL_SERVER_ERROR),
    ]
}

/// Errors have no equality of their own; what they print of themselves has all their fields.
fn same(left: &Error, right: &Error) {
    assert_eq!(format!("{left:?}"), format!("{right:?}"));
}

#[test]
fn every_error_comes_back_from_grpc_as_it_went() {
    for (error, code, _) in all() {
        let status = to_status(&error);
        assert_eq!(status.code(), code, "{error}");
        // Over the wire: as headers, and back.
        let headers = status.into_http::<()>().into_parts().0.headers;
        let received = Status::from_header_map(&headers).unwrap();
        same(&from_status(&received), &error);
    }
}

#[test]
fn every_error_comes_back_from_within_a_stream_as_it_went() {
    for (error, code, _) in all() {
        let failure = to_failure(&error);
        assert_eq!(failure.code, code as i32, "{error}");
        same(&from_failure(&failure), &error);
    }
}

#[test]
fn every_error_comes_back_from_http_as_it_went() {
    for (error, _, status) in all() {
        let json = serde_json::to_string(&Problem::from(&error)).unwrap();
        let problem: Problem = serde_json::from_str(&json).unwrap();
        assert_eq!(problem.status, status.as_u16(), "{error}");
        same(&problem.into_error(), &error);
    }
}

#[test]
fn a_problem_reads_as_the_documentation_says() {
    let error = Error::WrongVersion {
        stream_id: StreamId::new("order-1").unwrap(),
        expected: Expected::NoStream,
        current: Version::new(2),
    };
    let json = serde_json::to_value(Problem::from(&error)).unwrap();
    assert_eq!(json["type"], "urn:headwater:problem:wrong-version");
    assert_eq!(json["title"], "The stream is at another version");
    assert_eq!(json["status"], 409);
    assert_eq!(json["stream_id"], "order-1");
    assert_eq!(json["expected"], "no_stream");
    assert_eq!(json["current_version"], 2);
    assert!(json["detail"].as_str().unwrap().contains("is at version 2"));
    assert!(json.get("field").is_none());
}

#[test]
fn a_long_message_is_cut_so_that_headers_hold_it() {
    let error = Error::invalid("data", "\u{fc}".repeat(100_000));
    let headers = to_status(&error).into_http::<()>().into_parts().0.headers;
    let size: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
    assert!(size < 16 << 10, "{size} bytes of headers");
    let received = from_status(&Status::from_header_map(&headers).unwrap()).to_string();
    assert!(received.starts_with("data: \u{fc}\u{fc}") && received.ends_with('…'));
}

#[test]
fn statuses_that_are_not_ours_are_told_by_their_code() {
    #[track_caller]
    fn check(status: &Status, retryable: bool, text: &str) {
        let error = from_status(status);
        assert_eq!(error.is_retryable(), retryable, "{error}");
        assert!(error.to_string().contains(text), "{error}");
    }
    check(&Status::unavailable("connection refused"), true, "connection refused");
    check(&Status::unknown("h2 protocol error"), true, "h2 protocol error");
    check(&Status::unimplemented(""), false, "as new as this client");
    check(&Status::out_of_range("message length too large"), false, "message length too large");
    check(&Status::permission_denied("no"), false, "no");
    let lost = Status::from_error(Box::new(std::io::Error::other("broken pipe")));
    check(&lost, true, "broken pipe");
}
