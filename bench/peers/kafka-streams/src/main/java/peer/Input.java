package peer;

import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.Properties;
import java.util.Set;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** The input: the records of bench/src/fleet.rs and bench/src/input.rs, byte for byte. */
final class Input {
    static final long START = 1_767_225_600_000L;
    static final int FLEETS = 1_000;
    static final int WORDS_A_LINE = 10;
    private static final long SEED = 0x4845_4144_5741_5445L;
    private static final long ALARM_AFTER_MS = 500;

    private final long records;
    private final int keys;
    private final int partitions;
    private final Admin admin;
    private final Properties producer = new Properties();
    private long state;

    Input(Arguments arguments, Admin admin) {
        records = arguments.records();
        keys = arguments.keys();
        partitions = arguments.partitions();
        this.admin = admin;
        producer.put("bootstrap.servers", arguments.bootstrap());
        producer.put("key.serializer", ByteArraySerializer.class);
        producer.put("value.serializer", ByteArraySerializer.class);
        producer.put("linger.ms", 20);
        producer.put("batch.size", 1 << 19);
        producer.put("buffer.memory", 64 << 20);
    }

    /** The topic, filled unless it was there already. */
    String filled(String what) throws Exception {
        String topic = what + "-" + records + "-" + keys;
        Set<String> topics = admin.listTopics().names().get();
        if (topics.contains(topic)) {
            return topic;
        }
        create(topic);
        try (var to = new KafkaProducer<byte[], byte[]>(producer)) {
            state = SEED;
            switch (what) {
                case "lines" -> lines(to, topic);
                case "owners" -> rows(to, topic, "VIN", keys);
                case "fleets" -> rows(to, topic, "FLT", FLEETS);
                default -> readings(to, topic, what.equals("alarms"));
            }
        }
        return topic;
    }

    void create(String topic) throws Exception {
        admin.createTopics(Set.of(new NewTopic(topic, partitions, (short) 1))).all().get();
    }

    static String name(String of, int number) {
        return (of.equals("VIN") ? "owner " : "fleet ") + padded(number);
    }

    static String fleetOf(String vin) {
        return "FLT" + padded(Integer.parseInt(vin.substring(3)) % FLEETS);
    }

    private void rows(KafkaProducer<byte[], byte[]> to, String topic, String of, int count) {
        for (int number = 0; number < count; number++) {
            send(to, topic, START - 1, of + padded(number), bytes(name(of, number)));
        }
    }

    private void lines(KafkaProducer<byte[], byte[]> to, String topic) {
        for (long line = 0; line * WORDS_A_LINE < records; line++) {
            long count = Math.min(WORDS_A_LINE, records - line * WORDS_A_LINE);
            var text = new StringBuilder();
            for (long at = 0; at < count; at++) {
                long bits = next();
                long word = below(((bits >>> 32) * (bits & 0xffff_ffffL)) >>> 32, keys);
                text.append(at == 0 ? "wrd" : " wrd").append(word);
            }
            send(to, topic, START + line, Long.toString(line), bytes(text.toString()));
        }
    }

    private void readings(KafkaProducer<byte[], byte[]> to, String topic, boolean alarms) {
        for (long at = 0; at < records; at++) {
            long first = next();
            long second = next();
            long time = START + at;
            String vin = "VIN" + padded((int) below(first >>> 32, keys));
            long temp = 201 + below(first & 0xffff_ffffL, 1_000);
            if (!alarms) {
                String value = value(vin, time, temp, 300 + below(second >>> 32, 1_200), Long.rotateLeft(second, 17) ^ first);
                send(to, topic, time, vin, bytes(value));
            } else if (temp > 1_100) {
                send(to, topic, time + ALARM_AFTER_MS, vin, ByteBuffer.allocate(8).putLong(time).array());
            }
        }
    }

    private static String value(String vin, long time, long temp, long fuel, long noise) {
        long speed = part(noise, 0, 22_000);
        long rpm = 700 + part(noise, 8, 5_300);
        long full = part(noise, 16, 10_000);
        long lat = 4_700_000 + part(noise, 24, 800_000);
        long lon = 600_000 + part(noise, 32, 900_000);
        return new StringBuilder(200)
                .append("{\"vin\":\"").append(vin).append("\",\"ts\":").append(time)
                .append(",\"speed_kmh\":").append(decimal(speed, 2))
                .append(",\"rpm\":").append(rpm)
                .append(",\"engine_temp_c\":").append(decimal(temp, 1))
                .append(",\"fuel_l_per_100km\":").append(decimal(fuel, 2))
                .append(",\"fuel_pct\":").append(decimal(full, 2))
                .append(",\"lat\":").append(decimal(lat, 5))
                .append(",\"lon\":").append(decimal(lon, 5))
                .append('}')
                .toString();
    }

    private static String decimal(long units, int digits) {
        String all = Long.toString(units);
        String padded = "0".repeat(Math.max(0, digits + 1 - all.length())) + all;
        int point = padded.length() - digits;
        return padded.substring(0, point) + "." + padded.substring(point);
    }

    private static long part(long noise, int shift, long below) {
        return Long.remainderUnsigned(noise >>> shift, below);
    }

    private static long below(long bits, long limit) {
        return ((bits & 0xffff_ffffL) * limit) >>> 32;
    }

    /** SplitMix64. */
    private long next() {
        state += 0x9e37_79b9_7f4a_7c15L;
        long mixed = state;
        mixed = (mixed ^ (mixed >>> 30)) * 0xbf58_476d_1ce4_e5b9L;
        mixed = (mixed ^ (mixed >>> 27)) * 0x94d0_49bb_1331_11ebL;
        return mixed ^ (mixed >>> 31);
    }

    private static String padded(int number) {
        String all = Integer.toString(number);
        return "0".repeat(Math.max(0, 8 - all.length())) + all;
    }

    private static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    private static void send(KafkaProducer<byte[], byte[]> to, String topic, long time, String key, byte[] value) {
        to.send(new ProducerRecord<>(topic, null, time, bytes(key), value));
    }
}
