package interop;

/**
 * Runs steps in order with the official client: {@code Driver <name server> <step> <step> …}.
 *
 * <p>A step that throws prints a line "failed"; the others run all the same.
 */
public final class Driver {
    private Driver() {
    }

    public static void main(String[] args) {
        for (int i = 1; i < args.length; i++) {
            Step step = new Step(args[i], args[0]);
            try {
                run(step);
            } catch (Throwable e) {
                Report.event("failed", step.label, "error", e.toString());
                e.printStackTrace();
            }
        }
        System.exit(0);
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
            case "loop":
                Loop.run(step);
                break;
            case "consume":
                Pushed.run(step);
                break;
            case "pull":
                Pulled.run(step);
                break;
            default:
                throw new IllegalArgumentException("no such step: " + step.name);
        }
    }
}
