package interop;

import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.PullResult;
import org.apache.rocketmq.client.consumer.PullStatus;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/**
 * Pulls every queue of a topic from its start to its end, and asks for the offsets around it.
 *
 * <p>Options: topic; group; expression; view=true (fetches each queue's first message by its id).
 */
final class Pulled {
    private Pulled() {
    }

    static void run(Step step) throws Exception {
        DefaultMQPullConsumer consumer = new DefaultMQPullConsumer(step.text("group"));
        consumer.setNamesrvAddr(step.nameServer);
        consumer.setInstanceName(step.instance());
        consumer.start();
        try {
            for (MessageQueue queue : consumer.fetchSubscribeMessageQueues(step.text("topic"))) {
                Report.event("queue", step.label,
                    "queue", queue.getQueueId(),
                    "min", consumer.minOffset(queue),
                    "max", consumer.maxOffset(queue),
                    "atTimeZero", consumer.searchOffset(queue, 0));
                drain(step, consumer, queue);
            }
        } finally {
            consumer.shutdown();
        }
    }

    private static void drain(Step step, DefaultMQPullConsumer consumer, MessageQueue queue)
        throws Exception {
        long offset = consumer.minOffset(queue);
        boolean view = step.text("view", "").equals("true");
        while (true) {
            PullResult result = consumer.pull(queue, step.text("expression", "*"), offset, 32);
            if (result.getPullStatus() == PullStatus.NO_NEW_MSG) {
                break;
            }
            offset = result.getNextBeginOffset();
            if (result.getPullStatus() != PullStatus.FOUND) {
                continue;
            }
            for (MessageExt message : result.getMsgFoundList()) {
                Pushed.received(step, message);
                if (view) {
                    viewed(step, consumer, message);
                    view = false;
                }
            }
        }
        consumer.updateConsumeOffset(queue, offset);
        consumer.getDefaultMQPullConsumerImpl().getOffsetStore().persist(queue);
        // The commit is one-way: it may still be on its way when the next request is answered.
        long fetched = consumer.fetchConsumeOffset(queue, true);
        for (int i = 0; i < 40 && fetched != offset; i++) {
            Thread.sleep(50);
            fetched = consumer.fetchConsumeOffset(queue, true);
        }
        Report.event("committed", step.label, "queue", queue.getQueueId(), "offset", offset,
            "fetched", fetched);
    }

    private static void viewed(Step step, DefaultMQPullConsumer consumer, MessageExt message)
        throws Exception {
        String id = org.apache.rocketmq.common.message.MessageDecoder.createMessageId(
            message.getStoreHost(), message.getCommitLogOffset());
        MessageExt found = consumer.viewMessage(message.getTopic(), id);
        Report.event("viewed", step.label, "id", id, "same",
            found.getMsgId().equals(message.getMsgId())
                && java.util.Arrays.equals(found.getBody(), message.getBody()));
    }
}
