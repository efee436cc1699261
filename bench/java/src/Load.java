import com.sun.management.OperatingSystemMXBean;
import java.lang.management.ManagementFactory;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.AtomicLongArray;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.exception.MQBrokerException;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendCallback;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.remoting.exception.RemotingException;

/**
 * Load by the official client; one JSON object on the standard output, problems on the other.
 *
 * <pre>
 *   Load send    --name-server H:P --topic T [--threads N | --async-in-flight N] [--batch M]
 *                [--size B] [--topics N] [--seconds S] [--warm-up S]
 *   Load consume --name-server H:P --topic T --count M [--seconds S] [--group G]
 * </pre>
 *
 * <p>Settings of the client are its defaults but for one: bodies are never compressed, for the bytes
 * all look alike. Only what is answered between the end of the warm-up and the end of the load counts.
 * Latencies of sends run from the call to the answer, of a whole batch where there are batches; those
 * of consuming from the message's birth to its consumption (whole ms: its stamp is no finer).
 *
 * <p>Exit status 1 when it could not begin, 0 when it ran, whatever the table of errors says.
 */
public final class Load {
    private static final OperatingSystemMXBean PROCESS =
        (OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();

    private static final int FIRST_TRIES = 5;

    private final Map<String, String> options = new HashMap<>();
    private final Latencies latencies = new Latencies();
    private final AtomicLong messages = new AtomicLong();
    private final Map<String, Long> errors = new TreeMap<>();
    private volatile long begin;
    private volatile long end;
    private long cpuNs;

    public static void main(String[] args) throws Exception {
        Load load = new Load();
        for (int i = 1; i + 1 < args.length; i += 2) {
            load.options.put(args[i], args[i + 1]);
        }
        try {
            switch (args.length == 0 ? "" : args[0]) {
                case "send":
                    load.send();
                    break;
                case "consume":
                    load.consume();
                    break;
                default:
                    throw new IllegalArgumentException("send or consume?");
            }
        } catch (Exception e) {
            e.printStackTrace();
            System.exit(1);
        }
        System.exit(0);
    }

    private void send() throws Exception {
        DefaultMQProducer producer = new DefaultMQProducer("bench_producer");
        producer.setNamesrvAddr(text("--name-server"));
        producer.setCompressMsgBodyOverHowmuch(Integer.MAX_VALUE);
        producer.start();
        for (Message first : messages(number("--topics", 1))) {
            sendFirst(producer, first);
        }
        begin = System.nanoTime() + nanoseconds("--warm-up", "3");
        end = begin + nanoseconds("--seconds", "10");
        int window = number("--async-in-flight", 0);
        List<Thread> threads = new ArrayList<>();
        for (int i = 0; i < (window > 0 ? 1 : number("--threads", 1)); i++) {
            int first = i;
            threads.add(new Thread(() -> {
                if (window > 0) {
                    sendAsync(producer, window);
                } else {
                    sendSync(producer, first);
                }
            }));
        }
        threads.forEach(Thread::start);
        waitUntil(begin);
        long cpuBefore = PROCESS.getProcessCpuTime();
        waitUntil(end);
        cpuNs = PROCESS.getProcessCpuTime() - cpuBefore;
        for (Thread thread : threads) {
            thread.join();
        }
        print(messages.get(), (end - begin) / 1e9, "");
    }

    /** Brings the route; throws where nothing can be sent, but not because a machine is busy. */
    private static void sendFirst(DefaultMQProducer producer, Message message) throws Exception {
        for (int tries = 1; ; tries++) {
            try {
                producer.send(message);
                return;
            } catch (MQClientException | RemotingException | MQBrokerException e) {
                System.err.println(e);
                if (tries == FIRST_TRIES) {
                    throw e;
                }
                Thread.sleep(500);
            }
        }
    }

    /** One thread: the next message when the last one is answered. */
    private void sendSync(DefaultMQProducer producer, int first) {
        int batch = number("--batch", 1);
        int topics = number("--topics", 1);
        for (int i = first; System.nanoTime() < end; i++) {
            long called = System.nanoTime();
            try {
                SendResult result = batch == 1
                    ? producer.send(message(i % topics))
                    : producer.send(batchOf(batch, i % topics));
                answered(called, batch, result);
            } catch (Exception e) {
                failed(e);
            }
        }
    }

    /** One thread that calls, and so many messages without an answer. */
    private void sendAsync(DefaultMQProducer producer, int window) {
        int topics = number("--topics", 1);
        Semaphore free = new Semaphore(window);
        for (int i = 0; System.nanoTime() < end; i++) {
            free.acquireUninterruptibly();
            long called = System.nanoTime();
            SendCallback callback = new SendCallback() {
                @Override
                public void onSuccess(SendResult result) {
                    answered(called, 1, result);
                    free.release();
                }

                @Override
                public void onException(Throwable e) {
                    failed(e);
                    free.release();
                }
            };
            try {
                producer.send(message(i % topics), callback);
            } catch (Exception e) {
                callback.onException(e);
            }
        }
        try {
            if (!free.tryAcquire(window, 20, TimeUnit.SECONDS)) {
                System.err.println("some callbacks never came");
            }
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }

    private void consume() throws Exception {
        int count = number("--count", 1);
        DefaultMQPushConsumer consumer =
            new DefaultMQPushConsumer(options.getOrDefault("--group", "bench_" + System.nanoTime()));
        consumer.setNamesrvAddr(text("--name-server"));
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.subscribe(text("--topic"), "*");
        CountDownLatch over = new CountDownLatch(1);
        AtomicLong first = new AtomicLong();
        end = Long.MAX_VALUE;
        consumer.registerMessageListener((MessageListenerConcurrently) (some, context) -> {
            first.compareAndSet(0, System.nanoTime());
            long now = System.currentTimeMillis();
            for (MessageExt message : some) {
                latencies.add((now - message.getBornTimestamp()) * 1000);
                if (messages.incrementAndGet() == count) {
                    end = System.nanoTime();
                    over.countDown();
                }
            }
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        begin = System.nanoTime();
        long cpuBefore = PROCESS.getProcessCpuTime();
        consumer.start();
        if (!over.await(nanoseconds("--seconds", "120"), TimeUnit.NANOSECONDS)) {
            end = System.nanoTime();
            errors.put("never came", count - messages.get());
        }
        cpuNs = PROCESS.getProcessCpuTime() - cpuBefore;
        long from = first.get() == 0 ? begin : first.get();
        print(Math.min(messages.get(), count), (end - from) / 1e9,
            String.format(Locale.ROOT, ",\"first_s\":%.3f", (from - begin) / 1e9));
    }

    private void answered(long called, int count, SendResult result) {
        long now = System.nanoTime();
        if (now < begin || now >= end) {
            return;
        }
        if (result.getSendStatus() != SendStatus.SEND_OK) {
            count(result.getSendStatus().toString());
            return;
        }
        messages.addAndGet(count);
        latencies.add((now - called) / 1000);
    }

    private void failed(Throwable e) {
        long now = System.nanoTime();
        if (now < begin || now >= end) {
            return;
        }
        String text = e.getClass().getSimpleName();
        if (e instanceof MQBrokerException) {
            text += " " + ((MQBrokerException) e).getResponseCode();
        } else if (e instanceof MQClientException) {
            text += " " + ((MQClientException) e).getResponseCode();
        }
        if (count(text) == 1) {
            System.err.println(e);
        }
    }

    private long count(String error) {
        synchronized (errors) {
            return errors.merge(error, 1L, Long::sum);
        }
    }

    private List<Message> messages(int topics) {
        List<Message> one = new ArrayList<>();
        for (int i = 0; i < topics; i++) {
            one.add(message(i));
        }
        return one;
    }

    private List<Message> batchOf(int size, int topic) {
        List<Message> batch = new ArrayList<>(size);
        for (int i = 0; i < size; i++) {
            batch.add(message(topic));
        }
        return batch;
    }

    private Message message(int topic) {
        String name = text("--topic");
        return new Message(
            number("--topics", 1) == 1 ? name : name + "-" + topic, new byte[number("--size", 128)]);
    }

    private static void waitUntil(long when) throws InterruptedException {
        TimeUnit.NANOSECONDS.sleep(when - System.nanoTime());
    }

    private String text(String option) {
        String value = options.get(option);
        if (value == null) {
            throw new IllegalArgumentException(option + " is missing");
        }
        return value;
    }

    private long nanoseconds(String option, String otherwise) {
        return (long) (Double.parseDouble(options.getOrDefault(option, otherwise)) * 1e9);
    }

    private int number(String option, int otherwise) {
        String value = options.get(option);
        return value == null ? otherwise : Integer.parseInt(value);
    }

    private void print(long count, double seconds, String more) {
        StringBuilder table = new StringBuilder();
        synchronized (errors) {
            errors.forEach((error, times) ->
                table.append(table.length() == 0 ? "" : ",")
                    .append('"').append(error).append("\":").append(times));
        }
        System.out.println(String.format(Locale.ROOT,
            "{\"messages\":%d,\"seconds\":%.3f,\"per_s\":%.1f,\"p50_us\":%d,\"p90_us\":%d,"
                + "\"p99_us\":%d,\"max_us\":%d,\"errors\":{%s},\"cpu_s\":%.2f%s}",
            count, seconds, count / seconds, latencies.at(0.5), latencies.at(0.9),
            latencies.at(0.99), latencies.max.get(), table, cpuNs / 1e9, more));
    }

    /** Counts by size, each power of two in 64 steps: values are right within 1.6 %. */
    private static final class Latencies {
        private static final int STEPS = 64;
        private final AtomicLongArray counts = new AtomicLongArray(STEPS * 58);
        private final AtomicLong max = new AtomicLong();

        void add(long value) {
            long us = Math.max(value, 0);
            counts.incrementAndGet(slot(us));
            max.accumulateAndGet(us, Math::max);
        }

        /** The value that this share of all does not exceed; 0 when there are none. */
        long at(double share) {
            long all = 0;
            for (int i = 0; i < counts.length(); i++) {
                all += counts.get(i);
            }
            long open = (long) Math.ceil(all * share);
            for (int i = 0; i < counts.length() && all > 0; i++) {
                open -= counts.get(i);
                if (open <= 0) {
                    return Math.min(lowest(i + 1) - 1, max.get());
                }
            }
            return 0;
        }

        private static int slot(long us) {
            int shift = Math.max(0, 58 - Long.numberOfLeadingZeros(us) - 1);
            return us < STEPS ? (int) us : (shift * STEPS) + (int) (us >> shift);
        }

        private static long lowest(int slot) {
            int shift = Math.max(0, slot / STEPS - 1);
            return slot < STEPS ? slot : (long) (slot - shift * STEPS) << shift;
        }
    }
}
