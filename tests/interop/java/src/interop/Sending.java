package interop;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendCallback;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageQueue;

/**
 * The producer's ways to send.
 *
 * <p>Options: topic; count; group; body (prefix, default the label); tags (A;B are used in turn);
 * keys (prefix); size (bytes the body is filled up to); timeout (ms); poll (name server, ms); settle
 * (ms between the start and the first message of a synchronous producer).
 */
final class Sending {
    private Sending() {
    }

    static DefaultMQProducer started(Step step) throws Exception {
        DefaultMQProducer producer = new DefaultMQProducer(step.text("group", "interop_producer"));
        producer.setNamesrvAddr(step.nameServer);
        producer.setSendMsgTimeout(step.number("timeout", 3000));
        producer.setPollNameServerInterval(step.number("poll", 30000));
        producer.setInstanceName(step.instance());
        producer.start();
        return producer;
    }

    static Message message(Step step, int i) {
        StringBuilder body = new StringBuilder(step.text("body", step.label)).append('-').append(i);
        for (int size = step.number("size", 0); body.length() < size; ) {
            body.append('.');
        }
        String[] tags = step.text("tags", "TagA").split(";");
        byte[] bytes = body.toString().getBytes(StandardCharsets.UTF_8);
        return new Message(
            step.text("topic"), tags[i % tags.length], step.text("keys", "key") + i, bytes);
    }

    static void sync(Step step) throws Exception {
        DefaultMQProducer producer = started(step);
        Thread.sleep(step.number("settle", 0));
        try {
            for (int i = 0; i < step.number("count", 1); i++) {
                Message message = message(step, i);
                sent(step, message, producer.send(message));
            }
        } finally {
            producer.shutdown();
        }
    }

    static void async(Step step) throws Exception {
        DefaultMQProducer producer = started(step);
        int count = step.number("count", 1);
        CountDownLatch open = new CountDownLatch(count);
        try {
            for (int i = 0; i < count; i++) {
                Message message = message(step, i);
                producer.send(message, new SendCallback() {
                    @Override
                    public void onSuccess(SendResult result) {
                        sent(step, message, result);
                        open.countDown();
                    }

                    @Override
                    public void onException(Throwable e) {
                        Report.event("error", step.label, "error", e.toString());
                        open.countDown();
                    }
                });
            }
            if (!open.await(30, TimeUnit.SECONDS)) {
                throw new TimeoutException(open.getCount() + " callbacks never came");
            }
        } finally {
            producer.shutdown();
        }
    }

    static void oneway(Step step) throws Exception {
        DefaultMQProducer producer = started(step);
        try {
            for (int i = 0; i < step.number("count", 1); i++) {
                producer.sendOneway(message(step, i));
            }
        } finally {
            producer.shutdown();
        }
    }

    static void batch(Step step) throws Exception {
        DefaultMQProducer producer = started(step);
        try {
            List<Message> messages = new ArrayList<>();
            for (int i = 0; i < step.number("count", 1); i++) {
                messages.add(message(step, i));
            }
            sent(step, messages.get(0), producer.send(messages));
        } finally {
            producer.shutdown();
        }
    }

    /** Sends a message every {@code pause} ms (20) until told to end. */
    static void stream(Step step) throws Exception {
        DefaultMQProducer producer = started(step);
        try {
            for (int i = 0; !step.over.await(step.number("pause", 20), TimeUnit.MILLISECONDS); i++) {
                Message message = message(step, i);
                try {
                    sent(step, message, producer.send(message));
                } catch (Exception e) {
                    Report.event("error", step.label, "error", e.toString());
                }
            }
        } finally {
            producer.shutdown();
        }
    }

    private static void sent(Step step, Message message, SendResult result) {
        MessageQueue queue = result.getMessageQueue();
        Report.event("sent", step.label,
            "body", new String(message.getBody(), StandardCharsets.UTF_8),
            "status", result.getSendStatus(),
            "msgId", result.getMsgId(),
            "offsetMsgId", result.getOffsetMsgId(),
            "broker", queue.getBrokerName(),
            "queue", queue.getQueueId(),
            "offset", result.getQueueOffset(),
            "text", result);
    }
}
