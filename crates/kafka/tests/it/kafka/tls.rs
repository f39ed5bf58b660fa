//! A broker that speaks only TLS, and asks who comes by certificate and by SCRAM.

use headwater_bus::{Bus, Checkpoint, Last, Reached};
use headwater_core::{Error, PartitionCount};
use headwater_kafka::{Identity, KafkaOptions, Password, Sasl, SaslMechanism, Tls};
use headwater_testkit::kafka::{Kafka, USER};
use headwater_testkit::proofs::Authority;

use super::support::{Log, ZERO, bus, options};

async fn asked(options: KafkaOptions) -> Result<Reached, Error> {
    bus(options, Log::new().id()).reached(ZERO, &Checkpoint::default()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_is_spoken_to_by_tls_and_scram() {
    let authority = Authority::new().unwrap();
    let (certificate, key) = authority.issue("kafka", &["127.0.0.1"]).unwrap();
    let (kafka, address) = Kafka::start_with_tls(&certificate, &key, &authority.pem()).unwrap();
    let identity = |of: &Authority| {
        let (certificate, key) = of.issue("store", &[]).unwrap();
        Some(Identity { certificate, key: Password(key) })
    };
    let good = KafkaOptions {
        bootstrap_servers: vec![address],
        sasl: Some(Sasl {
            mechanism: SaslMechanism::ScramSha256,
            username: USER.0.to_owned(),
            password: Password(USER.1.to_owned()),
        }),
        tls: Some(Tls {
            authorities: Some(authority.pem()),
            verify_host: true,
            identity: identity(&authority),
        }),
        ..options(&kafka, PartitionCount::ONE)
    };
    assert_eq!(asked(good.clone()).await.unwrap(), Reached::UpTo(Last::default()));

    let stranger = Authority::new().unwrap();
    let tls = good.tls.clone().unwrap();
    let wrong_password =
        good.sasl.clone().map(|sasl| Sasl { password: Password("wrong".to_owned()), ..sasl });
    for (what, options) in [
        ("a wrong password", KafkaOptions { sasl: wrong_password, ..good.clone() }),
        (
            "another authority",
            KafkaOptions {
                tls: Some(Tls { authorities: Some(stranger.pem()), ..tls.clone() }),
                ..good.clone()
            },
        ),
        (
            "another's certificate",
            KafkaOptions { tls: Some(Tls { identity: identity(&stranger), ..tls.clone() }), ..good.clone() },
        ),
        ("no certificate", KafkaOptions { tls: Some(Tls { identity: None, ..tls }), ..good.clone() }),
        ("plain text", KafkaOptions { tls: None, ..good }),
    ] {
        let refused = asked(options).await;
        assert!(
            matches!(refused, Err(Error::Unavailable { .. } | Error::FailedPrecondition { .. })),
            "{what}: {refused:?}"
        );
    }
}
