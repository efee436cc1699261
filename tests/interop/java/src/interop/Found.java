package interop;

import java.nio.charset.StandardCharsets;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.TimeUnit;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.common.message.MessageDecoder;
import org.apache.rocketmq.common.message.MessageExt;

/**
 * Looks messages up by key, then each of them by both of its ids.
 *
 * <p>Options: topic; keys (A;B); count (at least so many per key, 1); timeout (s; the index follows
 * the log).
 */
final class Found {
    private Found() {
    }

    static void run(Step step) throws Exception {
        DefaultMQPullConsumer consumer = new DefaultMQPullConsumer("interop_finder");
        consumer.setNamesrvAddr(step.nameServer);
        consumer.setInstanceName(step.instance());
        consumer.start();
        try {
            for (String key : step.text("keys").split(";")) {
                for (MessageExt message : byKey(step, consumer, key)) {
                    found(step, consumer, key, message);
                }
            }
        } finally {
            consumer.shutdown();
        }
    }

    private static List<MessageExt> byKey(Step step, DefaultMQPullConsumer consumer, String key)
        throws Exception {
        int count = step.number("count", 1);
        long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(step.number("timeout", 5));
        while (true) {
            boolean last = System.nanoTime() > end;
            try {
                long tomorrow = System.currentTimeMillis() + TimeUnit.DAYS.toMillis(1);
                List<MessageExt> messages = consumer
                    .queryMessage(step.text("topic"), key, 64, 0, tomorrow).getMessageList();
                if (messages.size() >= count || last) {
                    return messages;
                }
            } catch (MQClientException e) {
                // This is how it says that there is none.
                if (last) {
                    return Collections.emptyList();
                }
            }
            Thread.sleep(50);
        }
    }

    // viewMessage with a unique key first takes it for an offset id, and 5.x waits 3 s for the host
    // that it reads in it; then it asks as is done here.
    private static void found(
        Step step, DefaultMQPullConsumer consumer, String key, MessageExt message) throws Exception {
        String topic = message.getTopic();
        String offsetId = MessageDecoder.createMessageId(
            message.getStoreHost(), message.getCommitLogOffset());
        Report.event("found", step.label,
            "key", key,
            "body", text(message),
            "keys", message.getKeys(),
            "tags", message.getTags(),
            "queue", message.getQueueId(),
            "offset", message.getQueueOffset(),
            "msgId", message.getMsgId(),
            "offsetMsgId", offsetId,
            "byUniqueKey", text(consumer.getDefaultMQPullConsumerImpl()
                .queryMessageByUniqKey(topic, message.getMsgId())),
            "byOffsetId", text(consumer.viewMessage(topic, offsetId)));
    }

    private static String text(MessageExt message) {
        return new String(message.getBody(), StandardCharsets.UTF_8);
    }
}
