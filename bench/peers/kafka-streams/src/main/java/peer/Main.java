package peer;

import java.lang.management.ManagementFactory;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Properties;
import java.util.UUID;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;

/** Runs one pipeline over all of its input and prints one line of JSON. */
public final class Main {
    /** It is done once nothing has been processed for so long after the last record. */
    private static final long QUIET_NS = 2_000_000_000L;
    /** It is given up once it has stood still for so long before. */
    private static final long STUCK_NS = 60_000_000_000L;

    public static void main(String[] words) throws Exception {
        var arguments = Arguments.of(words);
        var properties = new Properties();
        properties.put("bootstrap.servers", arguments.bootstrap());
        try (Admin admin = Admin.create(properties)) {
            if (arguments.mode().equals("latency")) {
                Latency.run(arguments, admin);
            } else {
                run(arguments, admin);
            }
        } catch (IllegalStateException stuck) {
            System.err.println(stuck.getMessage());
            // Its threads do not end by themselves.
            Runtime.getRuntime().halt(1);
        }
    }

    private static void run(Arguments arguments, Admin admin) throws Exception {
        var input = new Input(arguments, admin);
        String mode = arguments.mode();
        String main = input.filled(mode.equals("words") ? "lines" : "car-telemetry");
        String beside = switch (mode) {
            case "join" -> input.filled("owners");
            case "stream-join" -> input.filled("alarms");
            case "foreign-key" -> input.filled("fleets");
            default -> null;
        };
        String run = "run-" + UUID.randomUUID();
        String output = run + "-output";
        input.create(output);
        long total = ends(admin, main, arguments) + (beside == null ? 0 : ends(admin, beside, arguments));

        var pipelines = new Pipelines(main, beside, output);
        var streams = new KafkaStreams(pipelines.topology(mode), config(arguments, run));
        Sample half = null;
        Sample last = Sample.now(arguments, pipelines.taken.sum());
        Sample began = last;
        double processed = -1;
        streams.start();
        while (true) {
            Thread.sleep(20);
            // What is processed later than this sample shows in the next one.
            var now = Sample.now(arguments, pipelines.taken.sum());
            if (half == null && now.taken * 2 >= total) {
                half = now;
            }
            double soFar = processed(streams);
            if (soFar != processed) {
                processed = soFar;
                last = now;
            } else if (now.taken >= total && now.nanos - last.nanos > QUIET_NS) {
                break;
            } else if (streams.state() == KafkaStreams.State.ERROR || now.nanos - last.nanos > STUCK_NS) {
                throw new IllegalStateException(
                        "it took " + now.taken + " of " + total + " records and stands still, " + streams.state());
            }
        }
        streams.close();
        long outputs = ends(admin, output, arguments);
        double unit = mode.equals("words") ? Input.WORDS_A_LINE : 1;
        System.out.printf(
                "{\"benchmark\":\"kafka-streams\",\"mode\":\"%s\",\"records\":%d,\"outputs\":%d,\"records_per_s\":%.0f,"
                        + "\"warm_records_per_s\":%.0f,\"warm_cpu_s_per_million\":%.3f,\"warm_broker_cpu_s_per_million\":%.3f}%n",
                mode, total, outputs, unit * last.since(began).perSecond(), unit * last.since(half).perSecond(),
                last.since(half).cpuPerMillion() / unit, last.since(half).brokerPerMillion() / unit);
    }

    /** What had been done and taken at one moment, or between two. */
    record Sample(long nanos, long taken, long cpuNanos, long brokerNanos) {
        static Sample now(Arguments arguments, long taken) throws Exception {
            var system = (com.sun.management.OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();
            return new Sample(System.nanoTime(), taken, system.getProcessCpuTime(), cpuOf(arguments.brokerPid()));
        }

        Sample since(Sample before) {
            return new Sample(
                    nanos - before.nanos, taken - before.taken, cpuNanos - before.cpuNanos, brokerNanos - before.brokerNanos);
        }

        double perSecond() {
            return taken * 1e9 / nanos;
        }

        double cpuPerMillion() {
            return cpuNanos / 1e9 / taken * 1e6;
        }

        double brokerPerMillion() {
            return brokerNanos / 1e9 / taken * 1e6;
        }
    }

    /** User and system time of another process; the kernel counts in hundredths of a second. */
    private static long cpuOf(long pid) throws Exception {
        String stat = Files.readString(Path.of("/proc", Long.toString(pid), "stat"));
        String[] fields = stat.substring(stat.lastIndexOf(')') + 2).split(" ");
        return (Long.parseLong(fields[11]) + Long.parseLong(fields[12])) * 10_000_000L;
    }

    private static double processed(KafkaStreams streams) {
        return streams.metrics().values().stream()
                .filter(it -> it.metricName().name().equals("process-total")
                        && it.metricName().group().equals("stream-thread-metrics"))
                .mapToDouble(it -> (Double) it.metricValue())
                .sum();
    }

    static long ends(Admin admin, String topic, Arguments arguments) throws Exception {
        var latest = IntStream.range(0, arguments.partitions())
                .boxed()
                .collect(Collectors.toMap(it -> new TopicPartition(topic, it), it -> OffsetSpec.latest()));
        return admin.listOffsets(latest).all().get().values().stream().mapToLong(it -> it.offset()).sum();
    }

    static Properties config(Arguments arguments, String application) {
        var config = new Properties();
        config.put("application.id", application);
        config.put("bootstrap.servers", arguments.bootstrap());
        config.put("processing.guarantee", arguments.guarantee());
        config.put("commit.interval.ms", arguments.commitIntervalMs());
        config.put("num.stream.threads", arguments.threads());
        config.put("statestore.cache.max.bytes", 50L << 20);
        config.put("state.dir", arguments.stateDir());
        config.put("default.key.serde", Serdes.StringSerde.class);
        config.put("consumer.auto.offset.reset", "earliest");
        return config;
    }
}
