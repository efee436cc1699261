package interop;

import java.util.ArrayList;
import java.util.List;

/**
 * Runs several lines of the Java {@code mqadmin} in one JVM: {@code Admin <line> <line> …}.
 *
 * <p>Found by name, since the driver is compiled against the client alone. Ends each line's output
 * with a line "==== end".
 */
public final class Admin {
    private Admin() {
    }

    public static void main(String[] lines) throws Exception {
        Class<?> tool = Class.forName("org.apache.rocketmq.tools.command.MQAdminStartup");
        for (String line : lines) {
            List<String> words = new ArrayList<>();
            for (String word : line.split(" ")) {
                words.add(word);
            }
            tool.getMethod("main", String[].class)
                .invoke(null, (Object) words.toArray(new String[0]));
            System.err.flush();
            System.out.println("==== end");
        }
        System.exit(0);
    }
}
