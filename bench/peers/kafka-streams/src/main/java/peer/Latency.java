package peer;

import java.time.Duration;
import java.util.Arrays;
import java.util.List;
import java.util.Properties;
import java.util.UUID;
import java.util.concurrent.locks.LockSupport;
import java.util.stream.IntStream;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.streams.KafkaStreams;

/** From the moment a record was due to be sent until its output is read under read_committed, at a fixed rate. */
final class Latency {
    static void run(Arguments arguments, Admin admin) throws Exception {
        var input = new Input(arguments, admin);
        String run = "run-" + UUID.randomUUID();
        String from = run + "-input";
        String output = run + "-output";
        input.create(from);
        input.create(output);
        var streams = new KafkaStreams(new Pipelines(from, null, output).topology("latency"), Main.config(arguments, run));
        streams.start();
        while (streams.state() != KafkaStreams.State.RUNNING) {
            Thread.sleep(10);
        }
        long total = arguments.rate() * arguments.seconds();
        var sender = new Thread(() -> send(arguments, from, total));
        sender.start();
        long[] latencies = receive(arguments, output, total);
        sender.join();
        streams.close();
        // The first half is the JVM's warm-up.
        long[] warm = Arrays.copyOfRange(latencies, latencies.length / 2, latencies.length);
        Arrays.sort(warm);
        System.out.printf(
                "{\"benchmark\":\"kafka-streams\",\"mode\":\"latency\",\"commit_interval_ms\":%d,\"rate\":%d,\"p50_ms\":%.2f,\"p99_ms\":%.2f,\"max_ms\":%.2f}%n",
                arguments.commitIntervalMs(), arguments.rate(), at(warm, 0.5), at(warm, 0.99), at(warm, 1.0));
    }

    private static double at(long[] sorted, double share) {
        return sorted[(int) Math.min(sorted.length - 1, (long) (sorted.length * share))] / 1e6;
    }

    private static void send(Arguments arguments, String topic, long total) {
        var config = new Properties();
        config.put("bootstrap.servers", arguments.bootstrap());
        config.put("key.serializer", ByteArraySerializer.class);
        config.put("value.serializer", ByteArraySerializer.class);
        config.put("linger.ms", 1);
        try (var to = new KafkaProducer<byte[], byte[]>(config)) {
            long began = System.nanoTime();
            for (long sent = 0; sent < total; ) {
                long due = (System.nanoTime() - began) * arguments.rate() / 1_000_000_000L;
                for (; sent < Math.min(due, total); sent++) {
                    long at = began + sent * 1_000_000_000L / arguments.rate();
                    String vin = String.format("VIN%08d", sent % arguments.keys());
                    String value = "{\"vin\":\"" + vin + "\",\"ts\":" + at + ",\"speed_kmh\":50.25,\"rpm\":2100,"
                            + "\"engine_temp_c\":90.5,\"fuel_l_per_100km\":5.25,\"fuel_pct\":50.00,\"lat\":48.00000,\"lon\":11.00000}";
                    to.send(new ProducerRecord<>(topic, vin.getBytes(), value.getBytes()));
                }
                LockSupport.parkNanos(1_000_000);
            }
        }
    }

    private static long[] receive(Arguments arguments, String topic, long total) {
        var config = new Properties();
        config.put("bootstrap.servers", arguments.bootstrap());
        config.put("key.deserializer", ByteArrayDeserializer.class);
        config.put("value.deserializer", ByteArrayDeserializer.class);
        config.put("isolation.level", "read_committed");
        var latencies = new long[(int) total];
        try (var from = new KafkaConsumer<byte[], byte[]>(config)) {
            List<TopicPartition> all =
                    IntStream.range(0, arguments.partitions()).mapToObj(it -> new TopicPartition(topic, it)).toList();
            from.assign(all);
            from.seekToBeginning(all);
            for (int taken = 0; taken < total; ) {
                var records = from.poll(Duration.ofMillis(100));
                long now = System.nanoTime();
                for (var record : records) {
                    latencies[taken++] = now - sentAt(record.value());
                }
            }
        }
        return latencies;
    }

    /** The number after {@code "ts":}. */
    private static long sentAt(byte[] value) {
        String text = new String(value);
        int start = text.indexOf("\"ts\":") + 5;
        return Long.parseLong(text.substring(start, text.indexOf(',', start)));
    }
}
