package peer;

import java.util.HashMap;
import java.util.Map;

/** The command line: `--name value` pairs. */
record Arguments(
        String bootstrap,
        String mode,
        String guarantee,
        long records,
        int keys,
        int partitions,
        int threads,
        long commitIntervalMs,
        String stateDir,
        long brokerPid,
        long rate,
        long seconds) {
    static Arguments of(String[] words) {
        Map<String, String> given = new HashMap<>();
        for (int at = 0; at + 1 < words.length; at += 2) {
            given.put(words[at], words[at + 1]);
        }
        return new Arguments(
                needed(given, "--bootstrap"),
                needed(given, "--mode"),
                given.getOrDefault("--guarantee", "exactly_once_v2"),
                Long.parseLong(given.getOrDefault("--records", "5000000")),
                Integer.parseInt(given.getOrDefault("--keys", "100000")),
                Integer.parseInt(given.getOrDefault("--partitions", "4")),
                Integer.parseInt(given.getOrDefault("--threads", "2")),
                Long.parseLong(given.getOrDefault("--commit-interval", "100")),
                needed(given, "--state-dir"),
                Long.parseLong(needed(given, "--broker-pid")),
                Long.parseLong(given.getOrDefault("--rate", "50000")),
                Long.parseLong(given.getOrDefault("--seconds", "20")));
    }

    private static String needed(Map<String, String> given, String name) {
        String value = given.get(name);
        if (value == null) {
            throw new IllegalArgumentException(name + " is missing");
        }
        return value;
    }
}
