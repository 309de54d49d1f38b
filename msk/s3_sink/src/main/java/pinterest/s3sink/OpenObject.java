package pinterest.s3sink;

import java.io.ByteArrayOutputStream;
import org.apache.kafka.connect.sink.SinkRecord;

/** The lines of one object to be: values of consecutive offsets. Line n holds offset firstOffset + n. */
final class OpenObject {

  private final long firstOffset;
  private final Long firstTimestamp;
  private final long openedAtMs;
  private final ByteArrayOutputStream lines = new ByteArrayOutputStream();
  private int records;

  OpenObject(SinkRecord first, long nowMs) {
    firstOffset = first.kafkaOffset();
    firstTimestamp = first.timestamp();
    openedAtMs = nowMs;
  }

  void append(byte[] value) {
    lines.write(value, 0, value.length);
    lines.write('\n');
    records++;
  }

  long firstOffset() {
    return firstOffset;
  }

  /** The one offset that the next line can hold. */
  long nextOffset() {
    return firstOffset + records;
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
