package peer;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.ObjectReader;
import com.fasterxml.jackson.databind.ObjectWriter;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.time.Duration;
import java.util.Arrays;
import java.util.concurrent.atomic.LongAdder;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.JoinWindows;
import org.apache.kafka.streams.kstream.Joined;
import org.apache.kafka.streams.kstream.KGroupedStream;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.kstream.SessionWindows;
import org.apache.kafka.streams.kstream.StreamJoined;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.kstream.WindowedSerdes;
import org.apache.kafka.streams.processor.TimestampExtractor;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.WindowStore;

/** The pipelines of bench/src/pipeline.rs. */
final class Pipelines {
    private static final Duration WINDOW = Duration.ofSeconds(60);
    private static final Duration ADVANCE = Duration.ofSeconds(10);
    private static final Duration APART = Duration.ofSeconds(10);
    private static final Serde<String> TEXT = Serdes.String();

    /** One record's value, as bench/src/fleet.rs has it. */
    public static final class Telemetry {
        public String vin;
        public long ts;
        public double speed_kmh;
        public int rpm;
        public double engine_temp_c;
        public double fuel_l_per_100km;
        public double fuel_pct;
        public double lat;
        public double lon;
    }

    public static final class Consumption {
        public long count;
        public double sum;

        Consumption with(Telemetry car) {
            var next = new Consumption();
            next.count = count + 1;
            next.sum = sum + car.fuel_l_per_100km;
            return next;
        }
    }

    public static final class Enriched {
        public long ts;
        public String name;
        public double engine_temp_c;

        public Enriched() {}

        Enriched(Telemetry car, String name) {
            ts = car.ts;
            this.name = name;
            engine_temp_c = car.engine_temp_c;
        }
    }

    private static final Serde<Telemetry> CAR = json(Telemetry.class);
    private static final Serde<Consumption> CONSUMPTION = json(Consumption.class);
    private static final Serde<Enriched> ENRICHED = json(Enriched.class);

    /** Records taken from the input topics so far. */
    final LongAdder taken = new LongAdder();

    private final StreamsBuilder builder = new StreamsBuilder();
    private final String input;
    private final String beside;
    private final String output;

    Pipelines(String input, String beside, String output) {
        this.input = input;
        this.beside = beside;
        this.output = output;
    }

    Topology topology(String mode) {
        switch (mode) {
            case "filter", "latency" -> cars().filter((vin, car) -> mode.equals("latency") || car.engine_temp_c > 110.0)
                    .to(output, Produced.with(TEXT, CAR));
            case "chain" -> cars().filter((vin, car) -> car.rpm > 0)
                    .mapValues(car -> {
                        car.speed_kmh += 0.0;
                        return car;
                    })
                    .filterNot((vin, car) -> car.fuel_pct > 100.0)
                    .mapValues(car -> {
                        car.lat += 0.0;
                        return car;
                    })
                    .filter((vin, car) -> car.engine_temp_c > 110.0)
                    .to(output, Produced.with(TEXT, CAR));
            case "count" -> cars().groupByKey(Grouped.with(TEXT, CAR))
                    .count(Materialized.<String, Long, KeyValueStore<Bytes, byte[]>>as("records-by-car"))
                    .toStream()
                    .to(output, Produced.with(TEXT, Serdes.Long()));
            case "window" -> windowed(cars().groupByKey(Grouped.with(TEXT, CAR)));
            case "repartition" -> windowed(cars().groupBy((vin, car) -> car.vin, Grouped.with(TEXT, CAR)));
            case "words" -> builder.stream(input, consumed(TEXT))
                    .flatMapValues(line -> Arrays.asList(line.split(" ")))
                    .groupBy((line, word) -> word, Grouped.with(TEXT, TEXT))
                    .count()
                    .toStream()
                    .to(output, Produced.with(TEXT, Serdes.Long()));
            case "join" -> cars().join(
                            builder.table(beside, consumed(TEXT)),
                            Enriched::new,
                            Joined.with(TEXT, CAR, TEXT))
                    .to(output, Produced.with(TEXT, ENRICHED));
            case "stream-join" -> cars().join(
                            builder.stream(beside, consumed(Serdes.Long())),
                            (car, of) -> car.ts - of,
                            JoinWindows.ofTimeDifferenceWithNoGrace(APART),
                            StreamJoined.with(TEXT, CAR, Serdes.Long()))
                    .to(output, Produced.with(TEXT, Serdes.Long()));
            case "hopping" -> cars().groupByKey(Grouped.with(TEXT, CAR))
                    .windowedBy(TimeWindows.ofSizeWithNoGrace(WINDOW).advanceBy(ADVANCE))
                    .count()
                    .toStream()
                    .to(output, Produced.with(WindowedSerdes.timeWindowedSerdeFrom(String.class, WINDOW.toMillis()), Serdes.Long()));
            case "session" -> cars().groupByKey(Grouped.with(TEXT, CAR))
                    .windowedBy(SessionWindows.ofInactivityGapWithNoGrace(APART))
                    .count()
                    .toStream()
                    .to(output, Produced.with(WindowedSerdes.sessionWindowedSerdeFrom(String.class), Serdes.Long()));
            case "foreign-key" -> builder.table(input, consumed(CAR))
                    .join(
                            builder.table(beside, consumed(TEXT)),
                            car -> Input.fleetOf(car.vin),
                            Enriched::new,
                            Materialized.with(TEXT, ENRICHED))
                    .toStream()
                    .to(output, Produced.with(TEXT, ENRICHED));
            default -> throw new IllegalArgumentException("no pipeline " + mode);
        }
        return builder.build();
    }

    private void windowed(KGroupedStream<String, Telemetry> grouped) {
        grouped.windowedBy(TimeWindows.ofSizeWithNoGrace(WINDOW))
                .aggregate(
                        Consumption::new,
                        (vin, car, soFar) -> soFar.with(car),
                        Materialized.<String, Consumption, WindowStore<Bytes, byte[]>>as("consumption-by-car")
                                .withKeySerde(TEXT)
                                .withValueSerde(CONSUMPTION))
                .toStream()
                .to(output, Produced.with(WindowedSerdes.timeWindowedSerdeFrom(String.class, WINDOW.toMillis()), CONSUMPTION));
    }

    private KStream<String, Telemetry> cars() {
        return builder.stream(input, consumed(CAR));
    }

    private <V> Consumed<String, V> consumed(Serde<V> value) {
        TimestampExtractor counting = (ConsumerRecord<Object, Object> record, long partitionTime) -> {
            taken.increment();
            return record.timestamp();
        };
        return Consumed.with(TEXT, value).withTimestampExtractor(counting);
    }

    private static <T> Serde<T> json(Class<T> type) {
        var mapper = new ObjectMapper();
        ObjectReader reader = mapper.readerFor(type);
        ObjectWriter writer = mapper.writerFor(type);
        return Serdes.serdeFrom(
                (topic, value) -> {
                    try {
                        return value == null ? null : writer.writeValueAsBytes(value);
                    } catch (IOException error) {
                        throw new UncheckedIOException(error);
                    }
                },
                (topic, bytes) -> {
                    try {
                        return bytes == null ? null : reader.<T>readValue(bytes);
                    } catch (IOException error) {
                        throw new UncheckedIOException(error);
                    }
                });
    }
}
