package pinterest.s3sink;

import java.util.Collection;
import java.util.Comparator;
import java.util.HashMap;
import java.util.Locale;
import java.util.Map;
import java.util.function.Function;
import java.util.function.LongSupplier;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.connect.errors.ConnectException;
import org.apache.kafka.connect.errors.DataException;
import org.apache.kafka.connect.errors.RetriableException;
import org.apache.kafka.connect.sink.ErrantRecordReporter;
import org.apache.kafka.connect.sink.SinkRecord;
import org.apache.kafka.connect.sink.SinkTask;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import pinterest.s3sink.ObjectStore.OtherRecordsException;
import pinterest.s3sink.ObjectStore.StoreException;

/**
 * Buffers values by partition and puts them as objects {dir}/{topic}/partition={n}/{topic}+{n}+{first offset}.json.
 *
 * <p>What cannot be a line goes to the dead-letter topic, and, in an envelope of one line, to an object of the same kind
 * under {topic}.dead-letters: so who reads the bucket finds every offset in it, once.
 *
 * <p>An object's first offset plus a line's number is that line's offset. So an object is closed wherever offsets are
 * not consecutive. Offsets are committed only once their object is stored and the dead-letter topic has its part; what
 * a crash leaves uncommitted is read again, and may be cut into other objects.
 */
public final class S3SinkTask extends SinkTask {

  /** Stands behind the topic's name where objects hold what could not be lines. */
  static final String DEAD_LETTERS = ".dead-letters";

  private static final Logger LOG = LoggerFactory.getLogger(S3SinkTask.class);
  private static final long FIRST_RETRY_MS = 500;
  private static final long LAST_RETRY_MS = 5_000;
  private static final long LAST_OFFSET = 9_999_999_999L;
  // The last step may take 90 s more (three calls of the store), and Kafka gives the task 5 minutes between two polls.
  private static final long LONGEST_PUT_MS = 60_000;

  private final Function<S3SinkConfig, ObjectStore> makeStore;
  private final LongSupplier clock;
  private final Map<TopicPartition, PartitionState> partitions = new HashMap<>();
  private S3SinkConfig config;
  private ObjectStore store;
  private long retryMs = FIRST_RETRY_MS;
  private boolean interrupted;
  private long putSinceMs;

  public S3SinkTask() {
    this(S3ObjectStore::new, () -> System.nanoTime() / 1_000_000);
  }

  S3SinkTask(Function<S3SinkConfig, ObjectStore> makeStore, LongSupplier clock) {
    this.makeStore = makeStore;
    this.clock = clock;
  }

  @Override
  public void start(Map<String, String> properties) {
    config = new S3SinkConfig(properties);
    store = makeStore.apply(config);
  }

  @Override
  public void open(Collection<TopicPartition> opened) {
    // What an earlier assignment had buffered is delivered again from the committed offset.
    opened.forEach(partition -> partitions.put(partition, new PartitionState(partition)));
  }

  @Override
  public void close(Collection<TopicPartition> closed) {
    closed.forEach(partitions::remove);
  }

  @Override
  public void put(Collection<SinkRecord> records) {
    // After a RetriableException Connect delivers the same batch again; what was taken of it is skipped.
    boolean again = interrupted;
    interrupted = true;
    putSinceMs = clock.getAsLong();
    partitions.values().forEach(PartitionState::checkDeadLetters);
    partitions.values().forEach(this::store);
    for (SinkRecord record : records) {
      checkTime();
      PartitionState state = stateOf(record);
      if (!state.hasTaken(record.kafkaOffset())) {
        take(state, record);
      } else if (!again) {
        LOG.warn("{} comes after later offsets: was the topic made anew?", position(record));
        take(state, record);
      }
    }
    closeOldObjects();
    interrupted = false;
  }

  @Override
  public Map<TopicPartition, OffsetAndMetadata> preCommit(Map<TopicPartition, OffsetAndMetadata> delivered) {
    Map<TopicPartition, OffsetAndMetadata> safe = new HashMap<>();
    for (PartitionState state : partitions.values()) {
      long offset = state.committable();
      if (offset >= 0) {
        safe.put(state.partition(), new OffsetAndMetadata(offset));
      }
    }
    return safe;
  }

  @Override
  public void stop() {
    partitions.clear();
    if (store != null) {
      store.close();
    }
  }

  @Override
  public String version() {
    return Version.TEXT;
  }

  private PartitionState stateOf(SinkRecord record) {
    TopicPartition partition = new TopicPartition(record.topic(), record.kafkaPartition());
    PartitionState state = partitions.get(partition);
    if (state == null) {
      throw new ConnectException(
          "a record says it comes from " + partition + ", which this task does not read:"
              + " a transform must not rename topics before this sink");
    }
    return state;
  }

  private void take(PartitionState state, SinkRecord record) {
    byte[] value = bytes(record);
    Fault fault = Fault.of(value);
    String folder = fault == null ? record.topic() : record.topic() + DEAD_LETTERS;
    OpenObject object = state.open();
    if (object != null
        && (!object.takes(folder, record.kafkaOffset()) || object.isOutlivedBy(record, config.rotateIntervalMs()))) {
      closeAndStore(state);
      object = null;
    }
    if (fault != null) {
      setAside(state, record, fault);
    }
    if (object == null) {
      object = new OpenObject(folder, record, clock.getAsLong());
      state.open(object);
    }
    object.append(fault == null ? value : fault.envelope(value));
    // From here on the record is ours: should storing fail, its second delivery is skipped.
    state.taken(record.kafkaOffset());
    if (object.records() >= config.flushSize() || object.bytes() >= config.objectMaxBytes()) {
      closeAndStore(state);
    }
    boundBuffers();
  }

  /** Returns the value's bytes, or null when it has none. */
  private static byte[] bytes(SinkRecord record) {
    Object value = record.value();
    if (value == null || value instanceof byte[]) {
      return (byte[]) value;
    }
    throw new ConnectException(
        "the value of " + position(record) + " is a " + value.getClass().getName() + ", not bytes: set "
            + S3SinkConfig.VALUE_CONVERTER + " to org.apache.kafka.connect.converters.ByteArrayConverter");
  }

  private void setAside(PartitionState state, SinkRecord record, Fault fault) {
    String message = position(record) + ": " + fault.text();
    ErrantRecordReporter reporter = context.errantRecordReporter();
    if (reporter == null) {
      throw new ConnectException(
          message + ". To set such records aside, set errors.tolerance to all and"
              + " errors.deadletterqueue.topic.name to a topic");
    }
    try {
      state.reported(record.kafkaOffset(), reporter.report(record, new DataException(message)));
    } catch (ConnectException e) {
      throw new ConnectException(
          message + ". To set such records aside instead of stopping, set errors.tolerance to all", e);
    }
    LOG.warn("Set aside: {}", message);
  }

  private static String position(SinkRecord record) {
    return record.topic() + "-" + record.kafkaPartition() + "@" + record.kafkaOffset();
  }

  /** Keeps the sum of all open objects within its bound. */
  private void boundBuffers() {
    long bytes = partitions.values().stream().mapToLong(S3SinkTask::openBytes).sum();
    if (bytes > config.bufferMaxBytes()) {
      partitions.values().stream()
          .max(Comparator.comparingLong(S3SinkTask::openBytes))
          .ifPresent(this::closeAndStore);
    }
  }

  private static long openBytes(PartitionState state) {
    return state.open() == null ? 0 : state.open().bytes();
  }

  /** Closes what is old enough, and asks to be called again when the next object will be. */
  private void closeOldObjects() {
    long interval = config.rotateScheduleIntervalMs();
    if (interval < 0) {
      return;
    }
    long now = clock.getAsLong();
    long soonest = Long.MAX_VALUE;
    for (PartitionState state : partitions.values()) {
      if (state.open() == null) {
        continue;
      }
      long left = state.open().openedAtMs() + interval - now;
      if (left <= 0) {
        closeAndStore(state);
      } else {
        soonest = Math.min(soonest, left);
      }
    }
    if (soonest != Long.MAX_VALUE) {
      context.timeout(soonest);
    }
  }

  /**
   * Ends a put() that has taken long, so that the consumer is polled before its group takes the task for dead.
   *
   * @throws RetriableException when it is time: Connect delivers the same records again, and put() goes on
   */
  private void checkTime() {
    long tookMs = clock.getAsLong() - putSinceMs;
    if (tookMs >= LONGEST_PUT_MS) {
      context.timeout(1);
      throw new RetriableException("storing these records has taken " + tookMs + " ms so far; going on after a poll");
    }
  }

  private void closeAndStore(PartitionState state) {
    state.close();
    store(state);
  }

  /**
   * Puts the closed object of a partition, if it has one.
   *
   * @throws RetriableException when the store does not take it: Connect then pauses and comes back, for ever
   * @throws ConnectException when its key holds other records
   */
  private void store(PartitionState state) {
    OpenObject object = state.closed();
    if (object == null) {
      return;
    }
    checkTime();
    String key = key(object.folder(), state.partition().partition(), object.firstOffset());
    try {
      store.put(key, object.content(), object.firstTimestamp());
    } catch (OtherRecordsException e) {
      throw new ConnectException(e.getMessage(), e);
    } catch (StoreException e) {
      context.timeout(retryMs);
      String message = e.getMessage() + "; trying again in " + retryMs + " ms";
      retryMs = Math.min(2 * retryMs, LAST_RETRY_MS);
      throw new RetriableException(message, e);
    }
    state.stored();
    retryMs = FIRST_RETRY_MS;
    LOG.debug("Stored {} with {} records", key, object.records());
  }

  private String key(String folder, int partition, long firstOffset) {
    if (firstOffset > LAST_OFFSET) {
      throw new ConnectException(
          folder + "-" + partition + "@" + firstOffset + ": names of objects hold offsets up to " + LAST_OFFSET
              + ", and sort by them. Use topics of another name from here on");
    }
    return String.format(
        Locale.ROOT, "%s/%2$s/partition=%3$d/%2$s+%3$d+%4$010d.json", config.topicsDir(), folder, partition, firstOffset);
  }
}
