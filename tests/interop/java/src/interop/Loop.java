package interop;

import java.io.PrintWriter;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Paths;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.common.message.Message;

/**
 * Endless synchronous sends from several threads; ends after `seconds`, or by SIGTERM.
 *
 * <p>Options: those of {@link Sending}, and threads (10); seconds (0: endless); pause
 * (ms after each send, 0); file (every
 * acknowledged message: body, message id, queue id, queue offset, broker, separated by tabs).
 */
final class Loop {
    private Loop() {
    }

    static void run(Step step) throws Exception {
        DefaultMQProducer producer = Sending.started(step);
        AtomicInteger next = new AtomicInteger();
        AtomicLong good = new AtomicLong();
        AtomicLong bad = new AtomicLong();
        PrintWriter acked = new PrintWriter(
            Files.newBufferedWriter(Paths.get(step.text("file")), StandardCharsets.UTF_8));
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            synchronized (acked) {
                acked.flush();
            }
        }));
        for (int i = 0; i < step.number("threads", 10); i++) {
            Thread thread = new Thread(() -> {
                while (true) {
                    Message message = Sending.message(step, next.getAndIncrement());
                    try {
                        write(acked, message, producer.send(message));
                        good.incrementAndGet();
                        pause(step.number("pause", 0));
                    } catch (Exception e) {
                        if (bad.getAndIncrement() == 0) {
                            Report.event("error", step.label, "error", e.toString());
                        }
                        // Without a leader a send fails within a millisecond: do not spin on it.
                        pause(10);
                    }
                }
            });
            thread.setDaemon(true);
            thread.start();
        }
        int seconds = step.number("seconds", 0);
        for (int second = 1; seconds == 0 || second <= seconds; second++) {
            Thread.sleep(1000);
            synchronized (acked) {
                acked.flush();
            }
            Report.event("second", step.label, "ok", good.getAndSet(0), "failed", bad.getAndSet(0));
        }
    }

    private static void write(PrintWriter acked, Message message, SendResult result) {
        if (result.getSendStatus() != SendStatus.SEND_OK) {
            throw new IllegalStateException(result.toString());
        }
        String line = String.join("\t",
            new String(message.getBody(), StandardCharsets.UTF_8),
            result.getMsgId(),
            String.valueOf(result.getMessageQueue().getQueueId()),
            String.valueOf(result.getQueueOffset()),
            result.getMessageQueue().getBrokerName());
        synchronized (acked) {
            acked.println(line);
        }
    }

    private static void pause(int ms) {
        try {
            Thread.sleep(ms);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }
}
