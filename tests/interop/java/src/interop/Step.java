package interop;

import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.CountDownLatch;

/** One argument of the driver: {@code name,key=value,key=value}. */
final class Step {
    final String name;
    /** Stands in every line this step prints; the option {@code as}, else the name. */
    final String label;
    final String nameServer;
    /** Open until the step is told to end. */
    final CountDownLatch over = new CountDownLatch(1);
    private final Map<String, String> options = new HashMap<>();

    Step(String argument, String nameServer) {
        String[] parts = argument.split(",");
        this.name = parts[0];
        this.nameServer = nameServer;
        for (int i = 1; i < parts.length; i++) {
            int at = parts[i].indexOf('=');
            options.put(parts[i].substring(0, at), parts[i].substring(at + 1));
        }
        this.label = text("as", name);
    }

    /** A name for a client that may run beside others: those of one name share connections. */
    String instance() {
        return label + "@" + System.nanoTime();
    }

    String text(String key, String otherwise) {
        return options.getOrDefault(key, otherwise);
    }

    String text(String key) {
        String value = options.get(key);
        if (value == null) {
            throw new IllegalArgumentException("step " + name + " needs " + key + "=…");
        }
        return value;
    }

    int number(String key, int otherwise) {
        String value = options.get(key);
        return value == null ? otherwise : Integer.parseInt(value);
    }
}
