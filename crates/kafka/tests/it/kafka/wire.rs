//! What consumers that know nothing of Headwater see.

use headwater_bus::{Bus, Checkpoint, CloudEvents};
use headwater_core::{
    EventType, LogId, Metadata, Partition, PartitionCount, Position, RecordedEvent, StreamId, Version,
};
use headwater_kafka::KafkaBus;
use headwater_testkit::kafka::Kafka;
use uuid::Uuid;

use super::support::{ZERO, options};

fn event() -> RecordedEvent {
    RecordedEvent {
        id: Uuid::from_u128(0xff),
        stream_id: StreamId::new("order-\u{e9} 1").unwrap(),
        event_type: EventType::new("order created").unwrap(),
        version: Version::new(3),
        partition: Partition::ZERO,
        position: Position::new(1),
        schema_version: 7,
        content_type: "application/json".into(),
        data: br#"{"a": 1}"#.as_slice().into(),
        metadata: Metadata::new(br#"{"correlation_id":"c-1"}"#.as_slice().into()).unwrap(),
        recorded_at: "2026-01-02T03:04:05.006007Z".parse().unwrap(),
    }
}

/// The form lasts: others read it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafkas_own_consumer_sees_a_cloud_event() {
    let kafka = Kafka::shared().unwrap();
    let options = options(&kafka, PartitionCount::ONE);
    let topic = options.topic.clone();
    let wire = CloudEvents::new("shop", "orders", LogId::from_uuid(Uuid::from_u128(0x0a0b)));
    let bus = KafkaBus::new(options, wire).unwrap();
    bus.reached(ZERO, &Checkpoint::default()).await.unwrap();
    bus.publish(&[event()]).await.unwrap();
    let address = kafka.address();
    // A partition, and no group: what a message looks like does not depend on the coordinator of one.
    let mut arguments = vec!["--bootstrap-server", &address, "--topic", &topic, "--partition", "0"];
    arguments.extend(["--offset", "earliest", "--max-messages", "1", "--timeout-ms", "120000"]);
    for print in
        ["headers", "key", "partition", "offset", "timestamp"].map(|what| format!("print.{what}=true"))
    {
        arguments.extend(["--property", Box::leak(print.into_boxed_str())]);
    }
    let seen = kafka.tool("org.apache.kafka.tools.consumer.ConsoleConsumer", &arguments).unwrap();
    let fields: Vec<&str> = seen.trim_end().split('\t').collect();
    assert_eq!(fields.len(), 6, "Kafka's consumer printed {seen:?}");
    let headers: Vec<&str> = fields[3].split(',').collect();
    assert_eq!(
        headers,
        [
            "ce_specversion:1.0",
            "ce_id:00000000-0000-0000-0000-0000000000ff",
            "ce_source:/headwater/shop/orders",
            "ce_type:order created",
            "ce_subject:order-\u{e9} 1",
            "ce_time:2026-01-02T03:04:05.006007Z",
            "content-type:application/json",
            "ce_dataschema:urn:headwater:shop:orders:order%20created:7",
            "ce_partition:0",
            "ce_position:1",
            "ce_streamversion:3",
            "ce_logid:00000000-0000-0000-0000-000000000a0b",
            "ce_correlationid:c-1",
            "ce_metadata:{\"correlation_id\":\"c-1\"}",
        ]
    );
    assert_eq!(fields[..3], ["CreateTime:1767323045006", "Partition:0", "Offset:0"], "{seen}");
    assert_eq!(fields[4..], ["order-\u{e9} 1", r#"{"a": 1}"#], "{seen}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_largest_event_goes_through_kafka() {
    let kafka = Kafka::shared().unwrap();
    let wire = CloudEvents::new("shop", "orders", LogId::from_uuid(Uuid::from_u128(1)));
    let bus = KafkaBus::new(options(&kafka, PartitionCount::ONE), wire).unwrap();
    bus.reached(ZERO, &Checkpoint::default()).await.unwrap();
    let large = RecordedEvent {
        data: vec![b'x'; 1 << 20].into(),
        content_type: "text/plain".into(),
        metadata: Metadata::new(format!("{{\"correlation_id\":\"{}\"}}", "c".repeat((64 << 10) - 30)).into())
            .unwrap(),
        ..event()
    };
    bus.publish(std::slice::from_ref(&large)).await.unwrap();
    let mut consumer = bus.consume(ZERO, Position::ZERO).await.unwrap();
    assert_eq!(consumer.next().await.unwrap(), [large]);
}
