package interop;

/** Prints one JSON object a line: what the Python side reads. */
final class Report {
    private Report() {
    }

    /** Prints an event with its fields, given as name, value, name, value. */
    static synchronized void event(String event, String step, Object... fields) {
        StringBuilder line = new StringBuilder("{\"event\":");
        text(line, event);
        line.append(",\"step\":");
        text(line, step);
        for (int i = 0; i < fields.length; i += 2) {
            line.append(',');
            text(line, (String) fields[i]);
            line.append(':');
            value(line, fields[i + 1]);
        }
        System.out.println(line.append('}'));
        System.out.flush();
    }

    private static void value(StringBuilder line, Object value) {
        if (value == null || value instanceof Number || value instanceof Boolean) {
            line.append(value);
        } else {
            text(line, value.toString());
        }
    }

    private static void text(StringBuilder line, String text) {
        line.append('"');
        for (char c : text.toCharArray()) {
            if (c == '"' || c == '\\') {
                line.append('\\').append(c);
            } else if (c < ' ' || c > '~') {
                line.append(String.format("\\u%04x", (int) c));
            } else {
                line.append(c);
            }
        }
        line.append('"');
    }
}
