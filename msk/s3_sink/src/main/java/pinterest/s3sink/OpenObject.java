package pinterest.s3sink;

import java.io.ByteArrayOutputStream;
import org.apache.kafka.connect.sink.SinkRecord;

/** The lines of one object to be: records of consecutive offsets. Line n holds offset firstOffset + n. */
final class OpenObject {

  private final String folder;
  private final long firstOffset;
  private final Long firstTimestamp;
  private final long openedAtMs;
  private final ByteArrayOutputStream lines = new ByteArrayOutputStream();
  private int records;

  OpenObject(String folder, SinkRecord first, long nowMs) {
    this.folder = folder;
    firstOffset = first.kafkaOffset();
    firstTimestamp = first.timestamp();
    openedAtMs = nowMs;
  }

  void append(byte[] value) {
    lines.write(value, 0, value.length);
    lines.write('\n');
    records++;
  }

  /** What stands for the topic in the object's name. */
  String folder() {
    return folder;
  }

  long firstOffset() {
    return firstOffset;
  }

  /** The Kafka timestamp of the first record, or null. */
  Long firstTimestamp() {
    return firstTimestamp;
  }

  /** Whether the record belongs in this folder, right behind the last one. */
  boolean takes(String folder, long offset) {
    return this.folder.equals(folder) && offset == firstOffset + records;
  }

  int records() {
    return records;
  }

  int bytes() {
    return lines.size();
  }

  long openedAtMs() {
    return openedAtMs;
  }

  /** Whether the record was made so much later than the first one that it belongs to another object. */
  boolean isOutlivedBy(SinkRecord record, long intervalMs) {
    return intervalMs > 0
        && firstTimestamp != null
        && record.timestamp() != null
        && record.timestamp() - firstTimestamp >= intervalMs;
  }

  byte[] content() {
    return lines.toByteArray();
  }
}
