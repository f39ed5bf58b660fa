// Reads messages of a broker as CloudEvents, by the CloudEvents SDK, and prints each as JSON: one a line.
//
//	cloudevents nats URL STREAM COUNT
//	cloudevents kafka ADDRESS TOPIC PARTITION COUNT
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/IBM/sarama"
	"github.com/cloudevents/sdk-go/protocol/kafka_sarama/v2"
	"github.com/cloudevents/sdk-go/protocol/nats_jetstream/v2"
	"github.com/cloudevents/sdk-go/v2/binding"
	"github.com/nats-io/nats.go"
)

const patience = time.Minute

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 4 && args[0] == "nats":
		return fromNats(args[1], args[2], args[3])
	case len(args) == 5 && args[0] == "kafka":
		return fromKafka(args[1], args[2], args[3], args[4])
	default:
		return fmt.Errorf("cloudevents nats URL STREAM COUNT | cloudevents kafka ADDRESS TOPIC PARTITION COUNT")
	}
}

func fromNats(url, stream, count string) error {
	most, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	connection, err := nats.Connect(url)
	if err != nil {
		return err
	}
	defer connection.Close()
	jetstream, err := connection.JetStream()
	if err != nil {
		return err
	}
	subscription, err := jetstream.SubscribeSync("", nats.BindStream(stream), nats.OrderedConsumer())
	if err != nil {
		return err
	}
	for range most {
		message, err := subscription.NextMsg(patience)
		if err != nil {
			return err
		}
		if err := print(nats_jetstream.NewMessage(message)); err != nil {
			return err
		}
	}
	return nil
}

func fromKafka(address, topic, partition, count string) error {
	most, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	number, err := strconv.ParseInt(partition, 10, 32)
	if err != nil {
		return err
	}
	config := sarama.NewConfig()
	// To ask for a topic that is still to be made would make it, as the broker thinks fit.
	config.Metadata.AllowAutoTopicCreation = false
	consumer, err := sarama.NewConsumer([]string{address}, config)
	if err != nil {
		return err
	}
	defer consumer.Close()
	messages, err := consume(consumer, topic, int32(number))
	if err != nil {
		return err
	}
	defer messages.Close()
	for range most {
		select {
		case message := <-messages.Messages():
			if err := print(kafka_sarama.NewMessageFromConsumerMessage(message)); err != nil {
				return err
			}
		case <-time.After(patience):
			return fmt.Errorf("no message within %v", patience)
		}
	}
	return nil
}

// Consumes a partition from its beginning. The brokers of a topic that was made a moment ago may not all know of it yet: the client itself
// asks anew once, and then leaves it to its user.
func consume(consumer sarama.Consumer, topic string, partition int32) (sarama.PartitionConsumer, error) {
	deadline := time.Now().Add(patience)
	for {
		messages, err := consumer.ConsumePartition(topic, partition, sarama.OffsetOldest)
		isNew := errors.Is(err, sarama.ErrUnknownTopicOrPartition) ||
			errors.Is(err, sarama.ErrLeaderNotAvailable) ||
			errors.Is(err, sarama.ErrNotLeaderForPartition)
		if !isNew || time.Now().After(deadline) {
			return messages, err
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func print(message binding.Message) error {
	event, err := binding.ToEvent(context.Background(), message)
	if err != nil {
		return err
	}
	if err := event.Validate(); err != nil {
		return err
	}
	line, err := json.Marshal(event)
	if err != nil {
		return err
	}
	fmt.Println(string(line))
	return nil
}
