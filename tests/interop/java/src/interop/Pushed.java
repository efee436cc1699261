package interop;

import java.nio.charset.StandardCharsets;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyContext;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.MessageExt;

/**
 * A push consumer with a concurrent listener, until `count` messages are consumed or time is up.
 *
 * <p>Options: topic; group; count (0: until told to end); timeout (s); linger (ms, to catch what is delivered too often);
 * expression; fail=once (each message is refused the first time); level (delay of the redelivery);
 * poll (name server, ms).
 */
final class Pushed {
    private Pushed() {
    }

    static void run(Step step) throws Exception {
        CountDownLatch open = new CountDownLatch(step.number("count", 1));
        DefaultMQPushConsumer consumer = new DefaultMQPushConsumer(step.text("group"));
        consumer.setNamesrvAddr(step.nameServer);
        consumer.setPollNameServerInterval(step.number("poll", 1000));
        consumer.setInstanceName(step.instance());
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.subscribe(step.text("topic"), step.text("expression", "*"));
        boolean failOnce = step.text("fail", "").equals("once");
        int level = step.number("level", 0);
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            for (MessageExt message : messages) {
                received(step, message);
                if (failOnce && message.getReconsumeTimes() == 0) {
                    return refuse(context, level);
                }
                open.countDown();
            }
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();
        Report.event("started", step.label);
        boolean endless = step.number("count", 1) == 0;
        boolean complete = (endless ? step.over : open)
            .await(step.number("timeout", endless ? 600 : 30), TimeUnit.SECONDS);
        Thread.sleep(step.number("linger", 300));
        consumer.shutdown();
        Report.event("consumed", step.label, "complete", complete);
    }

    private static ConsumeConcurrentlyStatus refuse(ConsumeConcurrentlyContext context, int level) {
        context.setDelayLevelWhenNextConsume(level);
        return ConsumeConcurrentlyStatus.RECONSUME_LATER;
    }

    static void received(Step step, MessageExt message) {
        Report.event("received", step.label,
            "body", new String(message.getBody(), StandardCharsets.UTF_8),
            "topic", message.getTopic(),
            "tags", message.getTags(),
            "keys", message.getKeys(),
            "msgId", message.getMsgId(),
            "queue", message.getQueueId(),
            "offset", message.getQueueOffset(),
            "reconsumeTimes", message.getReconsumeTimes(),
            "storeHost", message.getStoreHost());
    }
}
