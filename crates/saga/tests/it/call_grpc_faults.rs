//! Participants over gRPC that are broken or mean harm.

use headwater_saga::Answer;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use crate::bank::{Bank, Reply, framed};
use crate::call_grpc::{request, send};
use crate::support::{calls, failure, part, success, unanswered};

#[tokio::test]
async fn only_the_servers_own_status_is_an_answer() {
    let (calls, _) = calls();
    let id = [0x0a, 0x03, b'd', b'-', b'1'];
    for (reply, why) in [
        (Reply::Bytes(framed(&id), None), "a message without a status"),
        (Reply::Bytes(framed(&id), Some(("x-status", "0"))), "trailers without a status"),
        (Reply::Bytes(vec![0, 0, 0, 0, 9, 1], None), "half a message"),
        (
            Reply::Bytes(vec![0, 0xff, 0xff, 0xff, 0xff, 1], Some(("grpc-status", "0"))),
            "4 GiB that never come",
        ),
        (Reply::Bytes(vec![1, 0, 0, 0, 1, 1], Some(("grpc-status", "0"))), "compressed, unasked"),
        (Reply::Bytes(b"<html>".to_vec(), None), "no gRPC"),
        (Reply::Bytes(framed(&vec![0; 5 << 20]), Some(("grpc-status", "0"))), "too large"),
        (Reply::Http(401), "a proxy's refusal"),
        (Reply::Http(404), "another server"),
        (Reply::Http(503), "a proxy without a server"),
    ] {
        let bank = Bank::start(reply).await;
        match send(&calls, request(&bank, "{}")).await {
            Answer::Unanswered { .. } => {}
            answer => panic!("{why}: {answer:?}"),
        }
    }
}

#[tokio::test]
async fn a_status_after_a_message_is_what_counts() {
    let (calls, _) = calls();
    let message = framed(&[0x0a, 0x03, b'd', b'-', b'1']);
    let bank = Bank::start(Reply::Bytes(message.clone(), Some(("grpc-status", "9")))).await;
    assert_eq!(failure(send(&calls, request(&bank, "{}")).await), "FAILED_PRECONDITION");
    let bank = Bank::start(Reply::Bytes(message, Some(("grpc-status", "14")))).await;
    assert_eq!(unanswered(send(&calls, request(&bank, "{}")).await), "UNAVAILABLE");
    // Nothing, and that it went well: nobody knows what came of it.
    let bank = Bank::start(Reply::Bytes(Vec::new(), Some(("grpc-status", "0")))).await;
    unanswered(send(&calls, request(&bank, "{}")).await);
}

#[tokio::test]
async fn what_took_effect_is_a_success_even_if_its_message_is_none() {
    let (calls, _) = calls();
    for (message, note) in [
        (vec![0x0a, 0xff], "its message is no bank.v1.DebitResponse"),
        ([vec![0x0a, 0x80, 0x80, 0x14], vec![b'x'; 0x0005_0000]].concat(), "more than 256 KiB"),
    ] {
        let bank = Bank::start(Reply::Bytes(framed(&message), Some(("grpc-status", "0")))).await;
        let response = success(send(&calls, request(&bank, "{}")).await);
        assert!(
            response.summary.starts_with("OK (") && response.summary.contains(note),
            "{}",
            response.summary
        );
        assert_eq!(part(&response, "body"), "null");
    }
}

#[tokio::test]
async fn what_is_no_grpc_server_is_no_answer() {
    let (calls, _) = calls();
    for greeting in ["", "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "SSH-2.0-x\r\n"] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.write_all(greeting.as_bytes()).await;
            }
        });
        let bank = Bank::start(Reply::Silence).await;
        let wrong = headwater_saga::GrpcRequest { address: address.clone(), ..request(&bank, "{}") };
        let reason = unanswered(send(&calls, wrong).await);
        assert!(reason.starts_with(&format!("bank.v1.Accounts/Debit at {address}: ")), "{reason}");
    }
}
