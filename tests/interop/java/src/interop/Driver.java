package interop;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;

/**
 * Runs steps in order with the official client: {@code Driver <name server> <step> <step> …}.
 *
 * <p>A step that throws prints a line "failed"; the others run all the same. With the one step
 * "-" they come line by line from the standard input and run side by side; the line
 * {@code stop <label>} ends one that goes on by itself, and each prints a line "end".
 */
public final class Driver {
    private Driver() {
    }

    public static void main(String[] args) throws IOException {
        if (args.length == 2 && args[1].equals("-")) {
            converse(args[0]);
        } else {
            for (int i = 1; i < args.length; i++) {
                attempt(new Step(args[i], args[0]));
            }
        }
        System.exit(0);
    }

    private static void converse(String nameServer) throws IOException {
        Map<String, Step> running = new ConcurrentHashMap<>();
        BufferedReader lines = new BufferedReader(
            new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line; (line = lines.readLine()) != null; ) {
            if (line.startsWith("stop ")) {
                running.get(line.substring("stop ".length())).over.countDown();
                continue;
            }
            Step step = new Step(line, nameServer);
            running.put(step.label, step);
            new Thread(() -> {
                attempt(step);
                Report.event("end", step.label);
            }).start();
        }
    }

    private static void attempt(Step step) {
        try {
            run(step);
        } catch (Throwable e) {
            Report.event("failed", step.label, "error", e.toString());
            e.printStackTrace();
        }
    }

    private static void run(Step step) throws Exception {
        switch (step.name) {
            case "produce":
                Sending.sync(step);
                break;
            case "async":
                Sending.async(step);
                break;
            case "oneway":
                Sending.oneway(step);
                break;
            case "batch":
                Sending.batch(step);
                break;
            case "stream":
                Sending.stream(step);
                break;
            case "loop":
                Loop.run(step);
                break;
            case "consume":
                Pushed.run(step);
                break;
            case "pull":
                Pulled.run(step);
                break;
            case "find":
                Found.run(step);
                break;
            default:
                throw new IllegalArgumentException("no such step: " + step.name);
        }
    }
}
